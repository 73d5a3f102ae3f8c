"""Checks of the options for loading and tiling. Imports no torch, so a wrong option is refused at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from ixc.core.tiling import RULES, Budget, check_budget, check_hd
from ixc.errors import UsageError

TILE_CACHE_BYTES = 512 << 20
"""Default size of the tile cache: features of 227 tiles in float32 at the 7B's widths, 455 in bfloat16."""

PREFIX_CACHE_BYTES = 2 << 30
"""Default size of the prefix cache: 16,384 tokens of the 7B in bfloat16, half as many in float32."""

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


class CacheOptions(TypedDict, total=False):
    """Options of both caches as `load` takes them, in bytes; see `CacheSizes`."""

    tile_cache: int | None
    """Bytes of tile features kept, >= 0; default: 512 MB, or all of `cache_memory`."""
    prefix_cache: int | None
    """Bytes of keys and values kept, >= 0; default: 2 GB, or all of `cache_memory`; 0 with compile."""
    cache_memory: int | None
    """Bytes of both together, >= 0; default: their sum."""


class EngineOptions(CacheOptions, total=False):
    """Keyword arguments of `ixc.load` about speed and memory."""

    plora: str
    """"separate" (default), "merged" (a second copy of the decoder's matrices, PLoRA included), or "auto"."""
    compile: bool
    """Compile vision encoder, prefill and decode step at the first answer."""


@dataclass(frozen=True, kw_only=True)
class CacheSizes:
    """Limits of both caches, bytes."""

    tile_cache: int
    """Most bytes of tile features."""
    prefix_cache: int
    """Most bytes of keys and values."""
    cache_memory: int
    """Most bytes of both together."""

    @classmethod
    def of(
        cls,
        *,
        tile_cache: int | None = None,
        prefix_cache: int | None = None,
        cache_memory: int | None = None,
        compile: bool = False,
    ) -> CacheSizes:
        """Check the options and fill in those that are not given.

        Args:
            tile_cache: bytes of tile features, >= 0. None = all of `cache_memory`, or 512 MB where that is None too.
            prefix_cache: bytes of keys and values, >= 0. None = likewise, or 2 GB; 0 with compile.
            cache_memory: bytes of both together, >= 0. None = their sum.
            compile: whether steps are compiled: their static cache cannot be cut to a prefix.

        Raises:
            UsageError: a number below 0, one cache above the limit of both, a prefix cache and compile together.
        """
        if compile and prefix_cache:
            raise UsageError(
                f"prefix_cache is {prefix_cache:,} bytes, but compiled steps keep none; leave one of them out"
            )
        given = {"tile_cache": tile_cache, "prefix_cache": prefix_cache, "cache_memory": cache_memory}
        for name, value in given.items():
            if value is not None and value < 0:
                raise UsageError(f"{name} is {value}, at least 0 bytes needed; 0 keeps nothing")
            if value is not None and cache_memory is not None and value > cache_memory:
                raise UsageError(
                    f"{name} is {value:,} bytes, but cache_memory allows {cache_memory:,} for both caches; "
                    "raise cache_memory or leave one of them out"
                )
        tiles = TILE_CACHE_BYTES if cache_memory is None else cache_memory
        prefixes = 0 if compile else PREFIX_CACHE_BYTES if cache_memory is None else cache_memory
        tiles = tiles if tile_cache is None else tile_cache
        prefixes = prefixes if prefix_cache is None else prefix_cache
        both = tiles + prefixes if cache_memory is None else cache_memory
        return cls(tile_cache=tiles, prefix_cache=prefixes, cache_memory=both)


def check_tiling(hd: Budget | None, partition: str | None, *, auto: bool = False) -> None:
    """Check the tile budget and the name of the partition rule; None stands for the folder's setting.

    Args:
        hd: most tiles.
        partition: rule.
        auto: "auto" may stand for the tiles.

    Raises:
        GeometryError: not 1 to `core.tiling.MAX_HD` tiles. UsageError: an unknown rule.
    """
    if hd is not None:
        (check_budget if auto else check_hd)(hd)  # type: ignore[operator]
    if partition is not None and partition not in RULES:
        raise UsageError(f"no partition rule {partition!r}; use one of {', '.join(RULES)}")
