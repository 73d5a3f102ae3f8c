"""LoRA adapters by name on vLLM, beside the model itself, in one batch.

Oracle: our own engine with the adapter merged by `ixc merge`; for the kernels, the products written out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from vllm_ask import Question, own_tokens, tokens
from vllm_process import Vllm, vllm_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not here; see dev/vllm_cpu.sh"),
]

QUESTIONS = (
    Question("What is the value of tea?"),
    Question("How much is 2 and 2?"),
    Question("What is on line 2?", ((336, 336),)),
    Question("What is the title?", ((1024, 700),), hd=4),
    Question("Compare them.", ((336, 336), (800, 500))),
)

STRENGTHS = {"weak": 0.03, "strong": 0.2}
"""Deviation of B by the name of an adapter; the strong one changes almost every answer."""


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What a run of a recipe with an adapter leaves, with random weights."""
    from ixc.inference.model_folder import EMBEDDED
    from ixc.model.loading import load
    from ixc.train.config import Adapter
    from ixc.train.export import save_adapter
    from ixc.train.param_groups import add_adapter

    found = {}
    for seed, (name, deviation) in enumerate(STRENGTHS.items()):
        torch.manual_seed(seed)
        model = add_adapter(load(EMBEDDED), Adapter(r=8, alpha=8, dropout=0.0))
        with torch.no_grad():
            for key, weight in model.named_parameters():
                if "lora_B" in key:
                    weight.normal_(std=deviation)
        found[name] = tmp_path_factory.mktemp("runs") / name
        save_adapter(model, found[name] / "adapter", base=None, record={})
    return found


@pytest.fixture(scope="module")
def merged(adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from ixc.inference.model_folder import EMBEDDED, read_processor
    from ixc.train.adapter_files import find_adapter
    from ixc.train.export import merge_adapter

    folder, processor = tmp_path_factory.mktemp("merged"), read_processor(EMBEDDED)
    return {
        name: merge_adapter(find_adapter(adapter), EMBEDDED, processor, folder / name)
        for name, adapter in adapters.items()
    }


@pytest.fixture(scope="module")
def wanted(merged: dict[str, Path]) -> dict[str, list[list[int]]]:
    """Token ids of our own answers, by the name of the model."""
    return {"nano": own_tokens(None, QUESTIONS), **{n: own_tokens(folder, QUESTIONS) for n, folder in merged.items()}}


@pytest.fixture(scope="module")
def server(adapters: dict[str, Path], wanted: dict[str, list[list[int]]]) -> Iterator[Vllm]:
    """`ixc serve --engine vllm`; our own answers are made first, while its memory is free."""
    options = [word for name, folder in adapters.items() for word in ("--lora", f"{name}={folder}")]
    options += ["--name", "nano", "--max-hd", "9", "--max-images", "2", "--dtype", "float32"]
    command = [sys.executable, "-m", "ixc", "serve", "--engine", "vllm", *options]
    with vllm_command(lambda port: [*command, "--port", str(port)], environment={"CUDA_VISIBLE_DEVICES": ""}) as found:
        yield found


def test_vllm_adapters_by_name_answer_as_the_merged_models(server: Vllm, wanted: dict[str, list[list[int]]]) -> None:
    assert all(one != other for one, other in zip(wanted["nano"], wanted["strong"], strict=True))
    bodies = [question.body(model=name) for question in QUESTIONS for name in wanted]
    with ThreadPoolExecutor(len(bodies)) as pool:  # all models in one batch
        found = [tokens(answer) for answer in pool.map(server.post, bodies)]
    assert found == [wanted[name][place] for place in range(len(QUESTIONS)) for name in wanted]


def test_vllm_model_without_adapter_answers_the_same_alone(server: Vllm, wanted: dict[str, list[list[int]]]) -> None:
    assert [tokens(server.post(question.body())) for question in QUESTIONS] == wanted["nano"]


def _products(wrapper: type, *, slots: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the results of a layer for tokens of slot 0, without an adapter and of the last slot, and what is right.

    Returns:
        (3, 4) each.
    """
    from vllm.lora.layers import LoRAMapping

    torch.manual_seed(0)
    a, b = torch.randn(slots, 1, 2, 5), torch.randn(slots, 1, 4, 2)
    x, y = torch.randn(3, 5), torch.randn(3, 4)
    punica = wrapper(max_num_batched_tokens=8, max_batches=8, device="cpu")
    ids: list[int | None] = [slot + 10 for slot in range(slots)]
    mapping = LoRAMapping((10, 0, 10 + slots - 1), (10, 0, 10 + slots - 1), is_prefill=True)
    punica.update_metadata(mapping, ids, slots, 100)
    right = torch.stack([y[0] + b[0, 0] @ a[0, 0] @ x[0], y[1], y[2] + b[-1, 0] @ a[-1, 0] @ x[2]])
    punica.add_lora_linear(y, x, (a,), (b,), 1.0, (4,))
    return y, right


@pytest.mark.parametrize("slots", [1, 2])
def test_ixc_punica_cpu_adds_nothing_without_an_adapter(slots: int) -> None:
    from ixc.serving.vllm.cpu_adapters import IxcPunicaCpu

    found, right = _products(IxcPunicaCpu, slots=slots)
    torch.testing.assert_close(found, right)


@pytest.mark.parametrize("slots", [1, 2])
def test_ixc_punica_cpu_is_needed_by_this_vllm(slots: int) -> None:
    """vLLM's own kernels give a token without an adapter the last slot's; where this fails, ours can go."""
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    found, right = _products(PunicaWrapperCPU, slots=slots)
    torch.testing.assert_close(found[[0, 2]], right[[0, 2]])
    assert not torch.allclose(found[1], right[1])
