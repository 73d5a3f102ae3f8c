"""Where an answer looked: attention from its tokens to the tokens of the images, averaged over layers and heads.

    prompt --read once, kept (prefix.py)--> cache --answer read behind it, attention written out--> weights --> Gaze

Attention is written out for the answer's tokens only, a few at a time: for a prompt of 8,000 it would take gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ixc.core.token_layout import Layout
from ixc.errors import UsageError
from ixc.inference.prefix_cache import prefix_key
from ixc.inference.vision_cache import grids_of, image_keys, weights_identity
from ixc.model.decoder import Attention
from ixc.model.plora import spans_of

if TYPE_CHECKING:
    from ixc.inference.engine import Engine

QUERIES = 32
"""Tokens of the answer whose attention is written out at one time: 32 heads x 32 x 8,000 numbers a layer at 7B."""


@dataclass(frozen=True, kw_only=True)
class AttentionMaps:
    """How one image was looked at."""

    grid: tuple[int, int]
    """(grid_h, grid_w) in tiles."""
    local: torch.Tensor
    """(rows, columns) float32: share of an answer token's attention that a token of the tiles got, mean over all."""
    overview: torch.Tensor | None
    """(side, side) float32, the same for the overview; None where the model has none."""


def is_supported(engine: Engine) -> bool:
    """Whether `look` works: kept prefixes are needed, and a decoder whose attention is ours."""
    return engine.compiled is None and engine.generator.prefixes.limit > 0


@torch.inference_mode()
def compute(engine: Engine, inputs: Mapping[str, torch.Tensor], *, answer_tokens: int) -> list[AttentionMaps]:
    """Where the last tokens of a conversation looked.

    Args:
        inputs: of one row, prompt and answer, as the processor's `encode` gives them.
        answer_tokens: how many of them are the answer, >= 1.

    Returns:
        One an image, in order; none without images.

    Raises:
        UsageError: no answer, or the engine keeps no prefixes. CapacityError: too little memory.
    """
    if not is_supported(engine):
        raise UsageError("attention needs kept prefixes (prefix_cache above 0) and steps that are not compiled")
    length = inputs["input_ids"].shape[1]
    if not 0 < answer_tokens < length:
        raise UsageError(f"the answer has {answer_tokens} of {length} tokens; 1 to {length - 1} are needed")
    if "image_grids" not in inputs:
        return []
    first = length - answer_tokens
    prompt = {name: value if name in _IMAGES else value[:, :first] for name, value in inputs.items()}
    engine.generate(prompt, max_new_tokens=1)
    totals = _weights(engine, inputs, first) / answer_tokens  # (T,)
    return list(_split(engine, inputs, totals))


_IMAGES = ("pixel_values", "image_grids")


def _weights(engine: Engine, inputs: Mapping[str, torch.Tensor], first: int) -> torch.Tensor:
    """Attention to every position, summed over the answer's tokens, mean over layers and heads. (T,) float32"""
    ids, who = inputs["input_ids"], weights_identity([engine.model])
    decoder, store = engine.model.model.language_model, engine.generator.prefixes
    numbers = _numbers(engine, inputs)
    cache = store.take(who, numbers[:first])
    held = cache.get_seq_length()
    if held < first - 1:
        raise UsageError(
            f"{held} of {first} tokens of the prompt are kept; attention needs them all: raise prefix_cache "
            f"({store.limit:,} bytes now)"
        )
    totals = torch.zeros(ids.shape[1], device=engine.model.device)
    with _written_out(decoder, totals):
        for start in range(held, ids.shape[1] - 1, QUERIES):  # the token before the first one chose it
            stop = min(start + QUERIES, ids.shape[1] - 1)
            decoder(input_ids=ids[:, start:stop].to(totals.device), cache=cache, use_cache=True)
    store.put(who, numbers[: cache.get_seq_length()], cache)
    return totals.cpu()


def _numbers(engine: Engine, inputs: Mapping[str, torch.Tensor]) -> Any:
    spans = spans_of(inputs["mm_token_type_ids"].cpu())
    assert spans is not None  # one row
    counts = [engine.processor.num_image_tokens(*grid) for grid in grids_of(inputs["image_grids"])]
    keys = image_keys(inputs["pixel_values"], inputs["image_grids"])
    return prefix_key(inputs["input_ids"][0].tolist(), spans, keys, counts)


@contextmanager
def _written_out(decoder: Any, totals: torch.Tensor) -> Iterator[None]:
    """Attention through the kernel that gives its weights; they are added to `totals`."""
    layers = [module for module in decoder.modules() if isinstance(module, Attention)]

    def add(_: Any, __: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        weights = output[1]  # (1, H, T, S)
        totals[: weights.shape[-1]] += weights[0].float().mean(0).sum(0) / len(layers)

    before = decoder.config._attn_implementation
    hooks = [layer.register_forward_hook(add) for layer in layers]
    decoder.config._attn_implementation = "eager"
    try:
        yield
    finally:
        decoder.config._attn_implementation = before
        for hook in hooks:
            hook.remove()


def _split(engine: Engine, inputs: Mapping[str, torch.Tensor], totals: torch.Tensor) -> Iterator[AttentionMaps]:
    """Positions -> rows and columns of each image; newlines and separators are left out."""
    seen = totals[inputs["mm_token_type_ids"][0].cpu() == 1]
    looks, start = engine.processor, 0
    for grid in grids_of(inputs["image_grids"]):
        layout = Layout(
            grid_h=grid[0], grid_w=grid[1], tokens_per_side=looks.tokens_per_side, newline=looks.newline,
            overview=looks.overview,
        )  # fmt: skip
        part = seen[start : start + layout.num_tokens]
        side, wide = layout.tokens_per_side, layout.cols + layout.newline
        local = part[layout.local_start :].view(layout.rows, wide)[:, : layout.cols]
        whole = part[: layout.num_overview_tokens].view(side, -1)[:, :side] if layout.overview else None
        yield AttentionMaps(grid=grid, local=local, overview=whole)
        start += layout.num_tokens
