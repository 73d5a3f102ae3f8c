"""Valid values of the options of `ixc bench speed`; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from ixc.errors import UsageError
from ixc.model.sizes import BITS as SMALL_BITS

HDS = (1, 4, 9, 16, 25, 55)
"""HD settings of the default sweep; 36 and 81 are possible too."""

SIZES = {1: (336, 336), 4: (672, 672), 9: (1008, 1008), 16: (1344, 1344), 25: (1680, 1680), 36: (2016, 2016),
         55: (3840, 2160), 81: (3024, 3024)}  # fmt: skip
"""HD -> image size (width, height) that uses it, pixels; HD-55 is a 4K screen."""

BITS = "bits"
"""Section that compares weights of several bits; only this one measures 8 and 4 bits."""

SECTIONS = ("phases", "second", "changed", "beams", "batch", "memory")
"""Other sections, in their order."""

GEOMETRIES = ("7b", "nano")
"""Model sizes for random weights."""

UNQUANTIZED = 32
"""Value of `--bits` for weights that are not quantised."""


def check_names(
    *, geometry: str | None = None, bits: Sequence[int] = (), only: Sequence[str] = (), hds: Sequence[int] = ()
) -> None:
    """Check option values. Raises: UsageError: an unknown value, or an HD without an image size."""
    if geometry is not None and geometry not in GEOMETRIES:
        raise UsageError(f"no geometry {geometry!r}; use one of {', '.join(GEOMETRIES)}")
    if other := sorted(set(bits) - {UNQUANTIZED, *SMALL_BITS}):
        raise UsageError(f"no weights of {other[0]} bits; use {', '.join(map(str, (UNQUANTIZED, *SMALL_BITS)))}")
    if unknown := sorted(set(only) - {*SECTIONS, BITS}):
        raise UsageError(f"no section {', '.join(unknown)}; use {BITS}, {', '.join(SECTIONS)}")
    if wrong := sorted(set(hds) - set(SIZES)):
        raise UsageError(f"no image for HD {wrong}; use {', '.join(map(str, SIZES))}")
