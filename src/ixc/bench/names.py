"""What the options of `ixc bench speed` may name, without torch."""

from __future__ import annotations

from collections.abc import Sequence

from ixc.errors import UsageError
from ixc.model.sizes import BITS as SMALL_BITS

HDS = (1, 4, 9, 16, 25, 55)
"""Settings of the sweep; `--hd 81` goes beyond."""

SIZES = {1: (336, 336), 4: (672, 672), 9: (1008, 1008), 16: (1344, 1344), 25: (1680, 1680), 36: (2016, 2016),
         55: (3840, 2160), 81: (3024, 3024)}  # fmt: skip
"""HD -> picture that uses it, pixels; HD-55 is the 4K screen."""

BITS = "bits"
"""The section that compares weights of several bits; it alone is measured for 8 and 4."""

SECTIONS = ("phases", "second", "changed", "beams", "batch", "memory")
"""The other sections, in their order."""

GEOMETRIES = ("7b", "nano")
"""Widths of random weights."""

WHOLE = 32
"""Bits of weights that are not small."""


def check_names(
    *, geometry: str | None = None, bits: Sequence[int] = (), only: Sequence[str] = (), hds: Sequence[int] = ()
) -> None:
    """Raises: UsageError: a name that is none, or an HD without a picture."""
    if geometry is not None and geometry not in GEOMETRIES:
        raise UsageError(f"no geometry {geometry!r}; use one of {', '.join(GEOMETRIES)}")
    if other := sorted(set(bits) - {WHOLE, *SMALL_BITS}):
        raise UsageError(f"no weights of {other[0]} bits; use {', '.join(map(str, (WHOLE, *SMALL_BITS)))}")
    if unknown := sorted(set(only) - {*SECTIONS, BITS}):
        raise UsageError(f"no section {', '.join(unknown)}; use {BITS}, {', '.join(SECTIONS)}")
    if wrong := sorted(set(hds) - set(SIZES)):
        raise UsageError(f"no picture for HD {wrong}; use {', '.join(map(str, SIZES))}")
