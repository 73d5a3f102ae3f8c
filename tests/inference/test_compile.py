"""Compiled: the goldens of the original hold, one graph serves every layout, and caches are powers of two."""

from pathlib import Path

import pytest
import torch
from parity.model_goldens import FOLDER, INFERENCE, inputs
from PIL import Image
from torch._dynamo.utils import counters

from ixc.core.token_layout import num_image_tokens
from ixc.inference.compile import CompiledSteps, cache_length
from ixc.inference.engine import load
from ixc.inference.generation import CachedGenerator
from ixc.model.loading import load as load_model

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's compiler of its own parts

SIZES = ((300, 400), (900, 300), (700, 700), (300, 1200), (1000, 1000))
"""Pictures of five layouts."""

GRAPHS = 3
"""Tower, reading, decode step, for pictures of every layout."""

OF_TEXT = 2
"""Reading and decode step once more, without a picture."""


class Counts:
    """What the reader asks of a processor."""

    num_image_tokens = staticmethod(num_image_tokens)


def test_cache_length_is_a_power_of_two() -> None:
    assert [cache_length(tokens, 32_768) for tokens in (1, 1024, 1025, 8200, 32_768)] == [
        1024,
        1024,
        2048,
        16384,
        32_768,
    ]
    assert cache_length(100, 512) == 512
    assert cache_length(40_000, 32_768) == 40_000


@pytest.mark.slow
def test_compiled_steps_one_graph_for_every_layout(tiny_folder: Path) -> None:
    plain = load(tiny_folder, device="cpu", tile_cache=0, prefix_cache=0)
    compiled = load(tiny_folder, device="cpu", compile=True)
    torch._dynamo.reset()
    counters.clear()
    for size in SIZES:
        picture = Image.effect_noise(size, 50).convert("RGB")
        for question in ("What is the title?", "x"):
            assert compiled.ask([picture], question).text == plain.ask([picture], question).text
    assert counters["stats"]["unique_graphs"] <= GRAPHS
    assert compiled.ask([], "x").text == plain.ask([], "x").text
    assert counters["stats"]["unique_graphs"] <= GRAPHS + OF_TEXT
    assert not counters["graph_break"]


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("kept", [0, 1 << 30], ids=["uncached", "cached"])
def test_cached_generator_gives_the_golden_tokens(compiled: bool, kept: int) -> None:
    """Through the stores of the engine; asked twice, so that the second answer comes from what was kept."""
    model = load_model(FOLDER).eval()
    model.generation_config.eos_token_id = None  # the golden answers run on
    steps = CompiledSteps(model) if compiled else None
    reader = CachedGenerator(model, Counts(), tile_cache=kept, prefix_cache=0 if compiled else kept, by_mask=compiled)
    for name, case in INFERENCE.items():
        given = inputs(case)
        for _ in range(2):
            more = steps.arguments(given["input_ids"].shape[1] + 16, rows=1) if steps else {}
            found = reader.generate(given, max_new_tokens=16, do_sample=False, **more)
            assert found[0, given["input_ids"].shape[1] :].tolist() == case["greedy_tokens"], name
    if kept and not compiled:
        assert reader.prefixes.tokens_reused > 0
