"""Weights of a smaller model for a larger one of the same kind, so that it answers as the smaller does and learns on.

    weights --deepened--> more blocks, those between silent --widened--> a wider decoder, its new channels silent

Shapes: c, C widths of the smaller and the larger decoder.
"""

from __future__ import annotations

from torch import Tensor

BLOCKS = ("model.language_model.layers.", "model.vision_tower.encoder.layers.")
"""Where the blocks of the decoder and of the tower stand among the weights."""
BEHIND = 2
"""Blocks that stay before those that are added."""
DECODER = "model.language_model."
TABLE = f"{DECODER}tok_embeddings.weight"
READS = ("wqkv.base.weight", "w1.base.weight", "w3.base.weight", "vision_proj.0.weight")
"""Ends of the names of maps whose new rows and columns begin as any: nothing that they say is heard yet."""
WIDENED = (DECODER, "model.vision_proj.", "output.")
"""What the names of weights that may be wider begin with; the tower grows in depth alone."""
LOW_READS = tuple(f"{name}.Plora_A.weight" for name in ("wqkv", "w1", "w3"))
"""The same of their additions: what they read in new channels is still zero."""


def grown(found: dict[str, Tensor], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a smaller model for a larger one; those of an equal one as they are.

    Args:
        found: of the smaller model. fresh: of the larger one as training begins, its residual branches silent.

    What cannot grow, a tower's width for one, is left as it was found; loading then names it.
    """
    return widened(deepened(found, fresh), fresh)


def deepened(found: dict[str, Tensor], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """New blocks come behind the second, as they begin. Arguments as `grown`."""
    for prefix in BLOCKS:
        old, new = _depth(found, prefix), _depth(fresh, prefix)
        if new <= old:
            continue
        behind, moved = min(BEHIND, old), {}
        for name, value in found.items():
            if name.startswith(prefix):
                number, rest = name.removeprefix(prefix).split(".", 1)
                name = f"{prefix}{int(number) + (new - old) * (int(number) >= behind)}.{rest}"
            moved[name] = value
        added = tuple(f"{prefix}{behind + i}." for i in range(new - old))
        found = moved | {name: value for name, value in fresh.items() if name.startswith(added)}
    return found


def widened(found: dict[str, Tensor], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """New channels, heads and units of the decoder stand behind the old ones and say nothing yet.

    What they read begins as any, as loud as what the old ones read; what they write begins at zero. One of the two must
    not be zero, or neither would learn.
    Norms see the same sum over more channels: their weights become sqrt(c / C) of what they were. Arguments as `grown`.
    """
    old, new = found[TABLE].shape[1], fresh[TABLE].shape[1]
    return {name: _widened(name, value, fresh.get(name, value), old / new) for name, value in found.items()}


def _widened(name: str, value: Tensor, fresh: Tensor, share: float) -> Tensor:
    if any(a > b for a, b in zip(value.shape, fresh.shape, strict=True)):
        return value  # a smaller model than the one found
    if name.startswith(DECODER) and name.endswith("norm.weight") and share < 1:
        wide = fresh.new_full(fresh.shape, share**0.5)
        wide[: len(value)] = value * share**0.5
        return wide
    if value.shape == fresh.shape or not name.startswith(WIDENED):
        return value
    wide = fresh.clone() if name.endswith((*READS, *LOW_READS)) else fresh.new_zeros(fresh.shape)
    if name.endswith(READS) and len(wide) > len(value):
        new = wide[len(value) :]
        new *= value.norm(dim=1).mean() / new[:, : value.shape[1]].norm(dim=1).mean()
    wide[tuple(slice(n) for n in value.shape)] = value
    return wide


def _depth(weights: dict[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})


__all__ = ["BLOCKS", "deepened", "grown", "widened"]
