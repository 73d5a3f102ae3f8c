"""Will a stage fit: memory of one device, with its arithmetic, before anything is rented.

Mixed precision as FSDP2 has it: what learns is kept in float32 with its gradient and AdamW's two moments, what is
frozen in bfloat16, both spread over all devices; blocks are gathered in bfloat16 when their turn comes, all that is no
block (tower, projector, embeddings, head) for a whole pass. Activations are checkpointed: each block keeps its input
and is computed again in the backward pass, one at a time.

    S tokens of a pack, V views of its pictures, D and F width and MLP of the decoder, C and M of the tower

An estimate: allocators waste, kernels differ. Counts of values kept inside a block are rounded up (see `_BLOCK_D`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ixc.model.configuration import IxcVisionConfig
from ixc.train.config import Part, TrainConfig

STATE = 4 + 4 + 8
"""Bytes of a weight that learns: itself, its gradient, AdamW's moments, all float32."""

STATE_8_BIT = 4 + 4 + 2
"""The same with the moments in 8 bit."""

HALF = 2
"""Bytes of a bfloat16 value."""

SUMMED = 2 + 4
"""Bytes of a gathered gradient: as computed, and the float32 copy that is summed over the ranks."""

NF4 = 0.516
"""Bytes of a weight in nf4 with scales quantised too (QLoRA, arXiv 2305.14314, section 3: 4.127 bits)."""

_BLOCK_D, _BLOCK_F = 21, 6
"""Values of widths D and F that a decoder block keeps for its backward pass: inputs of norms and linears, of PLoRA's
dropouts, queries, keys, values, and the products of the gated MLP; counted by hooks, 20.3 and 6.0 (tested). The
tower's block keeps at most half as many of D, not counted."""

_LOGIT = 2 + 4 + 4
"""Bytes of a logit: as computed, in float32, its gradient."""

CHUNK = 1024
"""Positions whose logits are there at once (`loss.cross_entropy`)."""

RESERVE = 2e9
"""Context of the device, communication buffers, pictures, waste: a guess, bytes."""


@dataclass(frozen=True, kw_only=True)
class MemoryItem:
    """One line of the sum."""

    what: str
    """What needs it."""
    formula: str
    """Its arithmetic in numbers."""
    size: float
    """Bytes on one device."""


def estimate(
    stage: TrainConfig,
    counts: Mapping[Part, tuple[int, int]],
    *,
    gpus: int = 8,
    labels: int = CHUNK,
    eight_bit: bool = False,
) -> list[MemoryItem]:
    """Memory of one device.

    Args:
        counts: part -> (weights that learn, all weights), of `groups.counts`.
        gpus: devices the weights are spread over, >= 1.
        labels: positions whose logits are there at once.
        eight_bit: AdamW's moments in 8 bit.
    """
    return [*_weights(stage, counts, gpus, eight_bit), *_activations(stage, counts, labels)]


def _weights(
    stage: TrainConfig, counts: Mapping[Part, tuple[int, int]], gpus: int, eight_bit: bool
) -> list[MemoryItem]:
    learning = sum(some for some, _ in counts.values())
    frozen = sum(every - some for some, every in counts.values())
    state = STATE_8_BIT if eight_bit else STATE
    items = [_item("what learns", f"{learning:,} x {state} B / {gpus}", learning * state / gpus)]
    quantised = 0
    if stage.adapter is not None and stage.adapter.weight_bits == 4:
        some, every = counts["LLM"]
        quantised = every - some
        items.append(_item("frozen, nf4", f"{quantised:,} x {NF4} B / {gpus}", quantised * NF4 / gpus))
    rest = frozen - quantised
    items.append(_item("frozen, bfloat16", f"{rest:,} x {HALF} B / {gpus}", rest * HALF / gpus))
    return items + (_gathered(stage, counts) if gpus > 1 else [])


IN_BLOCKS: tuple[Part, ...] = ("LLM", "PLoRA", "LoRA")
"""Parts that are sharded by decoder block (`parallel.shard`); the others are gathered once a pass, all together."""


def _gathered(stage: TrainConfig, counts: Mapping[Part, tuple[int, int]]) -> list[MemoryItem]:
    """What FSDP2 holds whole: two blocks, this and the next, and all that is no block; gradients as they are summed."""
    inside = {part: counts[part] for part in IN_BLOCKS if part in counts}
    block = sum(every for _, every in inside.values()) // stage.model.text_config.num_hidden_layers
    learning = sum(some for some, _ in inside.values()) // stage.model.text_config.num_hidden_layers
    others = [counts[part] for part in counts if part not in IN_BLOCKS]
    rest, rest_learning = sum(every for _, every in others), sum(some for some, _ in others)
    return [
        _item(
            "gathered blocks, a gradient",
            f"2 x {block:,} x {HALF} B + {learning:,} x {SUMMED} B",
            2 * block * HALF + learning * SUMMED,
        ),
        _item(
            "gathered all the while, gradients",
            f"{rest:,} x {HALF} B + {rest_learning:,} x {SUMMED} B",
            rest * HALF + rest_learning * SUMMED,
        ),
    ]


def _activations(stage: TrainConfig, counts: Mapping[Part, tuple[int, int]], labels: int) -> list[MemoryItem]:
    text, vision, tokens = stage.model.text_config, stage.model.vision_config, stage.budget
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
        items += _tower(tokens, vision)
    vocab = text.vocab_size
    items.append(
        _item("logits of one chunk of labels", f"{labels:,} x {vocab:,} x {_LOGIT} B", labels * vocab * _LOGIT)
    )
    items.append(_item("reserve", "context, communication, pictures, waste", RESERVE))
    return items


def _tower(tokens: int, vision: IxcVisionConfig) -> list[MemoryItem]:
    """A pack full of pictures: a view for every 144 tokens."""
    merged = vision.patches_per_side**2 // 4
    views, places = tokens // merged, vision.patches_per_side**2 + 1
    wide, layers = vision.hidden_size, vision.num_hidden_layers
    inside = _BLOCK_D // 2 * wide + 2 * vision.intermediate_size
    passed = min(views, 16)  # model.TILES_PER_PASS
    return [
        _item(
            "inputs of tower blocks",
            f"{layers} x {views} views x {places} x {wide:,} x {HALF} B",
            layers * views * places * wide * HALF,
        ),
        _item(
            "inside one tower block",
            f"{passed} views x {places} x ({_BLOCK_D // 2} x {wide:,} + 2 x {vision.intermediate_size:,}) x {HALF} B",
            passed * places * inside * HALF,
        ),
    ]


def _item(what: str, formula: str, size: float) -> MemoryItem:
    return MemoryItem(what=what, formula=formula, size=size)
