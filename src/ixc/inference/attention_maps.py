"""Attention maps: attention from an answer's tokens to the tokens of the images, averaged over layers and heads.

    prompt --prefilled, kept in the prefix cache--> cache --answer behind it, eager attention--> weights --> maps

The attention weights are materialized for the answer's tokens only, a few at a time: for a prompt of 8,000 tokens they
would take gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ixc.core.token_layout import Layout
from ixc.errors import UsageError
from ixc.inference.generation import PromptKeys
from ixc.inference.vision_cache import weights_identity
from ixc.model.decoder import Attention

if TYPE_CHECKING:
    from ixc.inference.engine import Engine

QUERIES = 32
"""Tokens of the answer whose weights are materialized at once: 32 heads x 32 x 8,000 numbers a layer at 7B."""


@dataclass(frozen=True, kw_only=True)
class AttentionMaps:
    """The attention that one image received."""

    grid: tuple[int, int]
    """(grid_h, grid_w) in tiles."""
    local: torch.Tensor
    """(rows, columns) float32: share of an answer token's attention on each local token, mean over the answer."""
    overview: torch.Tensor | None
    """(side, side) float32, the same for the overview; None where the model has none."""
    tokens: torch.Tensor
    """(A, rows, columns) float32: attention of each of the answer's A tokens on the local tokens."""


def is_supported(engine: Engine) -> bool:
    """Return whether `compute` works: it needs the prefix cache, and a decoder whose steps are not compiled."""
    return engine.compiled is None and engine.generator.prefixes.limit > 0


@torch.inference_mode()
def compute(engine: Engine, inputs: Mapping[str, torch.Tensor], *, answer_tokens: int) -> list[AttentionMaps]:
    """Return the attention from the last tokens of a conversation to its images.

    Args:
        engine: the model and its caches.
        inputs: of one row, prompt and answer, as the processor's `encode` returns them.
        answer_tokens: how many of them are the answer, >= 1.

    Returns:
        One an image, in order; none without images.

    Raises:
        UsageError: no answer, or the engine keeps no prefixes. CapacityError: too little memory.
    """
    prompt = _prefilled(engine, inputs, answer_tokens)
    if prompt is None:
        return []
    return list(_split(engine, inputs, prompt, _attention(engine, inputs["input_ids"], prompt)))


@dataclass(frozen=True, kw_only=True)
class _Prompt:
    """A prompt with images whose keys and values are kept."""

    keys: PromptKeys
    """Of prompt and answer."""
    grids: list[tuple[int, int]]
    """Of the images."""
    length: int
    """Tokens of the prompt."""


def _prefilled(engine: Engine, inputs: Mapping[str, torch.Tensor], answer_tokens: int) -> _Prompt | None:
    """Prefill the prompt where it is not kept; None without images."""
    if not is_supported(engine):
        raise UsageError("attention needs kept prefixes (prefix_cache above 0) and steps that are not compiled")
    length = inputs["input_ids"].shape[1]
    if not 0 < answer_tokens < length:
        raise UsageError(f"the answer has {answer_tokens} of {length} tokens; 1 to {length - 1} are needed")
    keys = engine.generator.prompt_keys(inputs)
    if keys is None or keys.images is None:
        return None
    first = length - answer_tokens
    prompt = {name: value if name in _IMAGES else value[:, :first] for name, value in inputs.items()}
    engine.generate(prompt, max_new_tokens=1, keys=keys.prefix(first))
    return _Prompt(keys=keys, grids=keys.images.grids, length=first)


_IMAGES = ("pixel_values", "image_grids")


def _attention(engine: Engine, ids: torch.Tensor, prompt: _Prompt) -> torch.Tensor:
    """Return the attention of the positions that chose the answer's A tokens on all T positions. (A, T)"""
    identity, first, length = weights_identity([engine.model]), prompt.length, ids.shape[1]
    decoder, prefixes = engine.model.model.language_model, engine.generator.prefixes
    cache = prefixes.take(identity, prompt.keys.positions[:first])
    held = cache.get_seq_length()
    if held < first - 1:
        raise UsageError(
            f"{held} of {first} tokens of the prompt are kept; attention needs them all: raise prefix_cache "
            f"({prefixes.limit:,} bytes now) or cache_memory ({engine.generator.cache_memory.limit:,} bytes now)"
        )
    whole = torch.zeros(length - first, length, device=engine.model.device)
    for start in range(first - 1, length - 1, QUERIES):  # the token before the answer chose its first token
        stop = min(start + QUERIES, length - 1)
        with _eager_attention(decoder, whole[start - first + 1 : stop - first + 1]):
            decoder(input_ids=ids[:, start:stop].to(whole.device), cache=cache, use_cache=True)
    prefixes.put(identity, prompt.keys.positions[: cache.get_seq_length()], cache)
    return whole.cpu()


@contextmanager
def _eager_attention(decoder: Any, rows: torch.Tensor) -> Iterator[None]:
    """Switch to the kernel that returns its weights, and add their mean over layers and heads to `rows`."""
    layers = [module for module in decoder.modules() if isinstance(module, Attention)]

    def add(_: Any, __: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        weights = output[1]  # (1, H, T, S)
        rows[:, : weights.shape[-1]] += weights[0].float().mean(0) / len(layers)

    before = decoder.config._attn_implementation
    hooks = [layer.register_forward_hook(add) for layer in layers]
    decoder.config._attn_implementation = "eager"
    try:
        yield
    finally:
        decoder.config._attn_implementation = before
        for hook in hooks:
            hook.remove()


def _split(
    engine: Engine, inputs: Mapping[str, torch.Tensor], prompt: _Prompt, whole: torch.Tensor
) -> Iterator[AttentionMaps]:
    """Arrange positions as rows and columns of each image; newlines and separators are left out."""
    received = whole[:, inputs["mm_token_type_ids"][0].cpu() == 1]  # (A, image tokens)
    settings, start = engine.processor, 0
    for grid_h, grid_w in prompt.grids:
        layout = Layout(
            grid_h=grid_h,
            grid_w=grid_w,
            tokens_per_side=settings.tokens_per_side,
            newline=settings.newline,
            overview=settings.overview,
        )
        part = received[:, start : start + layout.num_tokens]
        side = layout.tokens_per_side
        tokens = part[:, layout.local_start :].unflatten(1, (layout.rows, -1))[..., : layout.cols]
        seen = part[:, : layout.num_overview_tokens].mean(0).view(side, -1)[:, :side] if layout.overview else None
        yield AttentionMaps(grid=(grid_h, grid_w), local=tokens.mean(0), overview=seen, tokens=tokens)
        start += layout.num_tokens
