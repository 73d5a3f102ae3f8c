"""Where an answer looked. Oracle: the whole conversation read at once with attention written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ixc.core import chat_format
from ixc.errors import UsageError
from ixc.inference import attention_maps
from ixc.inference.engine import Engine, load

ANSWER = "Delivery Note"


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return load(tiny_folder, device="cpu")


@pytest.fixture(scope="module")
def inputs(engine: Engine, page: Path) -> dict[str, Any]:
    turns = [
        chat_format.Message("user", (chat_format.Image(str(page)), "Title?")),
        chat_format.Message("assistant", (ANSWER,)),
    ]
    segments = chat_format.render(turns, continue_final_message=True)
    return dict(engine.processor.encode_segments([segments], hd=4, partition="native", return_tensors="pt"))


def whole(engine: Engine, inputs: dict[str, Any]) -> torch.Tensor:
    """(T,) mean over layers, heads and the positions that chose the answer's tokens."""
    decoder = engine.model.model.language_model
    found: list[torch.Tensor] = []
    hooks = [each.attention.register_forward_hook(lambda *given: found.append(given[2][1])) for each in decoder.layers]
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(decoder.config, "_attn_implementation", "eager")
        engine.model(**inputs)
    for hook in hooks:
        hook.remove()
    return torch.stack([layer[0, :, -len(ANSWER) - 1 : -1].mean((0, 1)) for layer in found]).mean(0)


def test_attention_maps_equal_those_of_the_whole_sequence(
    engine: Engine, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_maps, "QUERIES", 5)  # the answer in three parts
    before = engine.model.model.language_model.config._attn_implementation
    (found,) = attention_maps.compute(engine, inputs, answer_tokens=len(ANSWER))
    assert engine.model.model.language_model.config._attn_implementation == before
    image = whole(engine, inputs)[inputs["mm_token_type_ids"][0] == 1]
    rows, columns = found.local.shape
    assert (rows, columns) == (12 * found.grid[0], 12 * found.grid[1])
    local = image[157:].view(rows, columns + 1)[:, :-1]
    assert found.overview is not None
    # float32, products of other shapes: the parts differ by rounding only
    torch.testing.assert_close(found.local, local, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(found.overview, image[:156].view(12, 13)[:, :-1], rtol=1e-4, atol=1e-7)
    assert 0 < float(found.local.sum() + found.overview.sum()) < 1


def test_attention_maps_prefill_the_prompt_once(engine: Engine, inputs: dict[str, Any], page: Path) -> None:
    engine.ask([page], "Title?", hd=4)
    before = engine.generator.prefixes.tokens_reused
    attention_maps.compute(engine, inputs, answer_tokens=len(ANSWER))
    length = inputs["input_ids"].shape[1] - len(ANSWER)
    assert engine.generator.prefixes.tokens_reused - before == 2 * (length - 1)  # for the prompt, and for the answer


def test_attention_maps_refusals(engine: Engine, inputs: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="0 of"):
        attention_maps.compute(engine, inputs, answer_tokens=0)
    blind = Engine(model=engine.model, processor=engine.processor, prefix_cache=0)
    assert not attention_maps.is_supported(blind)
    with pytest.raises(UsageError, match="prefix_cache"):
        attention_maps.compute(blind, inputs, answer_tokens=1)
