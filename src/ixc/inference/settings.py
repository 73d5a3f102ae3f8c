"""Checks of the options for loading and tiling. Imports no torch, so a wrong option is refused at once."""

from __future__ import annotations

from typing import TypedDict

from ixc.core.tiling import RULES, check_hd
from ixc.errors import UsageError


class EngineOptions(TypedDict, total=False):
    """Keyword arguments of `ixc.load` about speed and memory."""

    tile_cache: int
    """Bytes of tile features kept, >= 0; default: 512 MB."""
    prefix_cache: int | None
    """Bytes of keys and values kept, >= 0; default: 2 GB, or 0 with compile."""
    plora: str
    """"separate" (default), "merged" (a second copy of the decoder's matrices, PLoRA included), or "auto"."""
    compile: bool
    """Compile vision encoder, prefill and decode step at the first answer."""


MAX_BEAMS = 8
"""Widest beam search of a command or a request: each beam holds a copy of the prompt's keys and values."""

MAX_SEED = 2**63 - 1
"""Largest seed: torch takes it on every device."""

PLORA = ("separate", "merged", "auto")
"""How `load` may run PLoRA: as low-rank products, merged into a second copy of the matrices, or whichever fits."""

RENAMED_PLORA = {"low_rank": "separate", "folded": "merged"}
"""Former values of `plora` -> the present ones; accepted for one release."""


def check_plora(value: str, *, compile: bool) -> str:
    """The value of the option `plora` under its present name.

    Raises:
        UsageError: an unknown value; "merged" together with compiled steps, which receive the image positions as a
            mask and therefore cannot choose between two weights by token.
    """
    value = RENAMED_PLORA.get(value, value)
    if value not in PLORA:
        raise UsageError(f"plora is {value!r}; use one of {', '.join(PLORA)}")
    if value == "merged" and compile:
        raise UsageError("plora is 'merged', but compiled steps use low-rank products; leave one of them out")
    return value


def check_prefix_cache(value: int | None, *, compile: bool) -> None:
    """Refuse a prefix cache together with compiled steps, whose static cache cannot be cut to a prefix.

    Raises:
        UsageError: both were asked for.
    """
    if compile and value:
        raise UsageError(f"prefix_cache is {value} bytes, but compiled steps keep none; leave one of them out")


def check_tiling(hd: int | None, partition: str | None) -> None:
    """Check the tile budget and the name of the partition rule; None stands for the folder's setting.

    Raises:
        UsageError: not 1 to `core.tiling.MAX_HD` tiles, or an unknown rule.
    """
    if hd is not None:
        check_hd(hd)
    if partition is not None and partition not in RULES:
        raise UsageError(f"no partition rule {partition!r}; use one of {', '.join(RULES)}")
