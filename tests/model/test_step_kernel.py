"""One pass of a whole small decoder in one call: the scores of the layers called one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ixc.inference.engine import Engine, load
from ixc.inference.prefix_cache import preallocated_cache
from ixc.model.kernels import step
from ixc.model.kernels.step import Base, StepKernel
from ixc.model.transformers_contract import CACHE_NAME

pytestmark = pytest.mark.skipif(step.library() is None, reason="no C compiler")

TOLERANCE = {"atol": 5e-5, "rtol": 1e-5}
"""float32 sums in another order; scores of the embedded model go to 21."""


@pytest.fixture(scope="module", params=["tiny", "embedded"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """The tiny model has two query heads a key head, the embedded one a key head each."""
    return load(request.getfixturevalue("tiny_folder") if request.param == "tiny" else None, device="cpu")


def drawn_ids(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 90, (1, count), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def scores(model: Any, ids: torch.Tensor, cache: Any) -> torch.Tensor:
    return model(ids, image_spans=(), use_cache=True, **{CACHE_NAME: cache}).logits[0]


@torch.inference_mode()
def read(model: Any, ids: torch.Tensor) -> Any:
    cache = preallocated_cache()
    scores(model, ids, cache)
    return cache


@torch.inference_mode()
def test_run_equals_the_layers_with_and_without_a_base(engine: Engine) -> None:
    model, shared, own = engine.model, drawn_ids(70), drawn_ids(20, seed=1)
    kernel = StepKernel(model)
    cache = read(model, shared)
    base = Base(layers=[(layer.keys, layer.values) for layer in cache.layers], shared=70)
    wanted = scores(model, torch.cat([shared, own], 1), preallocated_cache())[70:]
    alone = scores(model, own, preallocated_cache())
    one, two, free = kernel.tail(20, base), kernel.tail(20, base), kernel.tail(20, None)
    found = kernel.run([(free, own[0, :7].tolist()), (one, own[0, :12].tolist()), (two, own[0, :1].tolist())])
    for row, expected in zip(found, (alone[6], wanted[11], wanted[0]), strict=True):
        torch.testing.assert_close(row, expected, **TOLERANCE)
    # the order of the rows changes, and single tokens follow several
    found = kernel.run([(two, own[0, 1:3].tolist()), (free, own[0, 7:8].tolist()), (one, own[0, 12:13].tolist())])
    for row, expected in zip(found, (wanted[2], alone[7], wanted[12]), strict=True):
        torch.testing.assert_close(row, expected, **TOLERANCE)
    assert (one.length, two.length, free.length) == (83, 73, 8)


@torch.inference_mode()
def test_run_more_rows_on_a_base_than_are_read_at_once(engine: Engine) -> None:
    model, shared = engine.model, drawn_ids(40)
    kernel, cache = StepKernel(model), read(engine.model, shared)
    base = Base(layers=[(layer.keys, layer.values) for layer in cache.layers], shared=40)
    found = kernel.run([(kernel.tail(1, base), [token]) for token in range(3, 3 + 19)])
    for token, row in enumerate(found, start=3):
        ids = torch.cat([shared, torch.tensor([[token]])], 1)
        torch.testing.assert_close(row, scores(model, ids, preallocated_cache())[-1], **TOLERANCE)


@torch.inference_mode()
def test_tail_layer_holds_the_keys_of_the_layers(engine: Engine) -> None:
    ids, kernel = drawn_ids(9), StepKernel(engine.model)
    tail = kernel.tail(9, None)
    kernel.run([(tail, ids[0].tolist())])
    for index, layer in enumerate(read(engine.model, ids).layers):
        for found, wanted in zip(tail.layer(index), (layer.keys, layer.values), strict=True):
            torch.testing.assert_close(found, wanted, **TOLERANCE)


def test_usable_refuses_other_weights(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert step.usable(engine.model)
    monkeypatch.setattr(step, "MAX_WEIGHTS", 100)
    assert not step.usable(engine.model)
    monkeypatch.undo()
    parameters = engine.model.config.text_config.rope_parameters
    monkeypatch.setitem(parameters, "rope_type", "dynamic")
    assert not step.usable(engine.model)
    monkeypatch.undo()
    monkeypatch.setattr(engine.model.output, "_forward_hooks", {0: print})
    assert not step.usable(engine.model)
