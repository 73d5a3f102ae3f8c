"""Estimate the memory a run needs on one device, with its arithmetic, before anything is rented.

Mixed precision as in FSDP2: trained weights are kept in float32 with their gradient and AdamW's two moments, frozen
weights in bfloat16, both sharded over all devices. Decoder blocks are gathered in bfloat16 one at a time; everything
else (vision tower, projector, embeddings, head) is gathered for a whole pass. Activations are checkpointed: each block
keeps its input and is computed again in the backward pass, one at a time.

    S tokens of a pack, V tiles and overviews of its images, D and F width and MLP width of the decoder, C and M of the
    vision tower

An estimate: allocators fragment and kernels differ. Counts of values kept inside a block are rounded up (`_BLOCK_D`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ixc.model.configuration import IxcVisionConfig
from ixc.train.config import Part, TrainConfig

STATE = 4 + 4 + 8
"""Bytes per trained weight: weight, gradient and AdamW's two moments, all float32."""

STATE_8_BIT = 4 + 4 + 2
"""The same with moments in 8 bit."""

HALF = 2
"""Bytes of a bfloat16 value."""

GRADIENT = 2 + 4
"""Bytes per gathered gradient: bfloat16 as computed, and the float32 copy that is reduced over the ranks."""

NF4 = 0.516
"""Bytes per weight in nf4 with double quantisation (QLoRA, arXiv 2305.14314, section 3: 4.127 bits)."""

_BLOCK_D, _BLOCK_F = 21, 6
"""Values of widths D and F per token that a decoder block keeps for its backward pass: inputs of norms and linear maps,
inputs of PLoRA's dropouts, queries, keys, values, and the products of the gated MLP. Measured with autograd hooks as
20.3 and 6.0 (tested). A vision block is taken to keep at most half as many of D, which is not measured."""

_LOGIT = 2 + 4 + 4
"""Bytes per logit: bfloat16 as computed, float32 copy, gradient."""

CHUNK = 1024
"""Positions whose logits are in memory at once (`loss.cross_entropy`)."""

RESERVE = 2e9
"""Device context, communication buffers, images, fragmentation: a guess, bytes."""


@dataclass(frozen=True, kw_only=True)
class MemoryItem:
    """One line of the estimate."""

    what: str
    """What the memory is for."""
    formula: str
    """The arithmetic in numbers."""
    size: float
    """Bytes on one device."""


def estimate(
    config: TrainConfig,
    counts: Mapping[Part, tuple[int, int]],
    *,
    gpus: int = 8,
    labels: int = CHUNK,
    eight_bit: bool = False,
) -> list[MemoryItem]:
    """Return the memory of one device, item by item.

    Args:
        counts: part -> (trained weights, all weights), of `param_groups.count_weights`.
        gpus: devices the weights are sharded over, >= 1.
        labels: positions whose logits are in memory at once.
        eight_bit: AdamW's moments in 8 bit.
    """
    return [*_weights(config, counts, gpus, eight_bit), *_activations(config, counts, labels)]


def _weights(
    config: TrainConfig, counts: Mapping[Part, tuple[int, int]], gpus: int, eight_bit: bool
) -> list[MemoryItem]:
    learning = sum(trained for trained, _ in counts.values())
    frozen = sum(total - trained for trained, total in counts.values())
    state = STATE_8_BIT if eight_bit else STATE
    items = [_item("what learns", f"{learning:,} x {state} B / {gpus}", learning * state / gpus)]
    quantised = 0
    if config.adapter is not None and config.adapter.weight_bits == 4:
        trained, total = counts["LLM"]
        quantised = total - trained
        items.append(_item("frozen, nf4", f"{quantised:,} x {NF4} B / {gpus}", quantised * NF4 / gpus))
    rest = frozen - quantised
    items.append(_item("frozen, bfloat16", f"{rest:,} x {HALF} B / {gpus}", rest * HALF / gpus))
    return items + (_gathered(config, counts) if gpus > 1 else [])


IN_BLOCKS: tuple[Part, ...] = ("LLM", "PLoRA", "LoRA")
"""Parts that are sharded by decoder block (`distributed.shard`); the others are gathered once per pass, together."""


def _gathered(config: TrainConfig, counts: Mapping[Part, tuple[int, int]]) -> list[MemoryItem]:
    """FSDP2 gathers two blocks, the current and the next, all outside the blocks, and gradients while reduced."""
    inside = {part: counts[part] for part in IN_BLOCKS if part in counts}
    block = sum(total for _, total in inside.values()) // config.model.text_config.num_hidden_layers
    learning = sum(trained for trained, _ in inside.values()) // config.model.text_config.num_hidden_layers
    others = [counts[part] for part in counts if part not in IN_BLOCKS]
    rest, rest_learning = sum(total for _, total in others), sum(trained for trained, _ in others)
    return [
        _item(
            "gathered blocks, a gradient",
            f"2 x {block:,} x {HALF} B + {learning:,} x {GRADIENT} B",
            2 * block * HALF + learning * GRADIENT,
        ),
        _item(
            "gathered all the while, gradients",
            f"{rest:,} x {HALF} B + {rest_learning:,} x {GRADIENT} B",
            rest * HALF + rest_learning * GRADIENT,
        ),
    ]


def _activations(config: TrainConfig, counts: Mapping[Part, tuple[int, int]], labels: int) -> list[MemoryItem]:
    text, vision, tokens = config.model.text_config, config.model.vision_config, config.max_tokens_per_batch
    layers, wide, mlp = text.num_hidden_layers, text.hidden_size, text.intermediate_size
    inside = _BLOCK_D * wide + _BLOCK_F * mlp
    items = [
        _item(
            "inputs of decoder blocks", f"{layers} x {tokens:,} x {wide:,} x {HALF} B", layers * tokens * wide * HALF
        ),
        _item(
            "inside one decoder block",
            f"{tokens:,} x ({_BLOCK_D} x {wide:,} + {_BLOCK_F} x {mlp:,}) x {HALF} B",
            tokens * inside * HALF,
        ),
    ]
    if counts["vision tower"][0]:
        items += _vision_tower(tokens, vision)
    vocab = text.vocab_size
    items.append(
        _item("logits of one chunk of labels", f"{labels:,} x {vocab:,} x {_LOGIT} B", labels * vocab * _LOGIT)
    )
    items.append(_item("reserve", "context, communication, pictures, waste", RESERVE))
    return items


def _vision_tower(tokens: int, vision: IxcVisionConfig) -> list[MemoryItem]:
    """Activations of the vision tower for a pack full of images: one tile per 144 tokens."""
    merged = vision.patches_per_side**2 // 4
    views, positions = tokens // merged, vision.patches_per_side**2 + 1
    wide, layers = vision.hidden_size, vision.num_hidden_layers
    inside = _BLOCK_D // 2 * wide + 2 * vision.intermediate_size
    batch = min(views, 16)  # modeling.TILES_PER_PASS
    return [
        _item(
            "inputs of tower blocks",
            f"{layers} x {views} views x {positions} x {wide:,} x {HALF} B",
            layers * views * positions * wide * HALF,
        ),
        _item(
            "inside one tower block",
            f"{batch} views x {positions} x ({_BLOCK_D // 2} x {wide:,} + 2 x {vision.intermediate_size:,}) x {HALF} B",
            batch * positions * inside * HALF,
        ),
    ]


def _item(what: str, formula: str, size: float) -> MemoryItem:
    return MemoryItem(what=what, formula=formula, size=size)
