"""The goldens' training cases through the whole path: file -> encoder -> pack -> loss -> gradients."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from ixc.core.chat_format import IGNORED
from ixc.data.batching import collate
from ixc.data.encoding import Encoded, Encoder
from ixc.data.records import JsonLines
from ixc.model.key_mapping import published_name
from ixc.model.loading import load
from ixc.processing import IxcImageProcessorPil, IxcProcessor, IxcTokenizer
from ixc.train.loss import LossModule
from parity.model_goldens import FOLDER, IMAGE_ID, RECORD, REFERENCE, ROUNDING, TENSORS, assert_close

CASES = RECORD["training_cases"]


@pytest.fixture(scope="module")
def encoded(published_tokenizer: IxcTokenizer, tmp_path_factory: pytest.TempPathFactory) -> list[Encoded]:
    """All cases from a file, in the ids of the golden model's small vocabulary."""
    path = tmp_path_factory.mktemp("talks") / "talks.jsonl"
    path.write_text("\n".join(json.dumps(record_of(case)) for case in CASES))
    records = JsonLines(path, images=REFERENCE)
    encoder = Encoder(IxcProcessor(IxcImageProcessorPil(), published_tokenizer), max_seq_length=1024)
    found = [encoder.encode(records[i], hd=2) for i in range(len(CASES))]
    ids: dict[int, int] = {}
    for case, one in zip(CASES, found, strict=True):
        wanted = TENSORS[f"{case['name']}.input_ids"].tolist()
        for kind, mine, golden in zip(one.text.types, one.text.ids, wanted, strict=True):
            assert bool(kind) == (golden == -1)
            assert kind or ids.setdefault(mine, golden) == golden  # one id of theirs for one of ours, everywhere
    return [replace(one, text=translated(one.text, ids)) for one in found]


def record_of(case: dict[str, Any]) -> dict[str, Any]:
    turns = [{"from": who, "value": text} for who, text in case["conversation"]]
    return {"image": [image["processed"] for image in case.get("images", [])], "conversations": turns}


def translated(text: Any, ids: dict[int, int]) -> Any:
    return replace(
        text,
        ids=[IMAGE_ID if kind else ids[token] for token, kind in zip(text.ids, text.types, strict=True)],
        labels=[label if label == IGNORED else ids[label] for label in text.labels],
    )


def step(encoded: Sequence[Encoded], *, chunk: int = 1024) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of conversations packed into one pass; no dropout."""
    model: nn.Module = load(FOLDER)
    loss_module = LossModule(model, chunk=chunk).eval()
    divisor = sum(one.text.num_labels for one in encoded)
    loss = loss_module(collate(encoded), divisor=divisor)
    loss.backward()
    return loss.item(), {published_name(k): v.grad for k, v in model.named_parameters() if v.grad is not None}


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case["name"] for case in CASES])
def test_loss_module_gives_the_golden_gradients(encoded: list[Encoded], number: int) -> None:
    case, one = CASES[number], encoded[number]
    name = case["name"]
    assert one.text.num_labels == case["num_label_tokens"]
    assert one.text.labels == TENSORS[f"{name}.labels"].tolist()
    loss, gradients = step([one], chunk=3)  # several chunks
    assert loss == pytest.approx(case["loss"], rel=1e-5)
    for key, wanted in case["grad_norms"].items():
        if "post_layernorm" not in key and "position_ids" not in key:
            found = gradients[key].norm().item() if key in gradients else 0.0
            assert found == pytest.approx(wanted or 0.0, rel=1e-3, abs=ROUNDING), key
    total = sum(value.norm().item() ** 2 for value in gradients.values()) ** 0.5
    assert total == pytest.approx(case["total_grad_norm"], rel=1e-3)
    for key, wanted in TENSORS.items():
        if key.startswith(f"{name}.grad."):
            assert_close(gradients[key.removeprefix(f"{name}.grad.")], wanted, tolerance=1e-3)


def test_loss_module_pack_of_eight_is_the_mean_of_eight_steps(encoded: list[Encoded]) -> None:
    """Equally many labels each: the plain mean; else weighted by labels, as one long batch would have it."""
    uneven = [*encoded, *encoded[2:] * 5]  # two with pictures, six of text
    even = [with_labels(one, 7) for one in uneven]
    for eight in (even, uneven):
        packed_loss, packed = step(eight)
        singles = {id(one): step([one]) for one in eight}
        labels = sum(one.text.num_labels for one in eight)
        shares = [(one.text.num_labels / labels, *singles[id(one)]) for one in eight]
        assert packed_loss == pytest.approx(sum(share * loss for share, loss, _ in shares), rel=1e-5)
        for key, found in packed.items():
            parts = [share * gradients[key] for share, _, gradients in shares if key in gradients]
            wanted = torch.stack(parts).sum(0)
            # Biases of keys shift every score alike: their gradients are zero but for rounding, hence the floor.
            assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max() + 1e-7, key
    assert [one.text.num_labels for one in even] == [7] * 8
    assert len({one.text.num_labels for one in uneven}) == 3


def with_labels(one: Encoded, count: int) -> Encoded:
    """The same conversation with its first labels only."""
    left, labels = count, []
    for label in one.text.labels:
        labels.append(label if left > 0 else IGNORED)
        left -= label != IGNORED
    return replace(one, text=replace(one.text, labels=labels))
