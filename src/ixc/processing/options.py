"""What one call of the processor may set, under transformers' own names where it has one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ixc.core.tiling import check_hd
from ixc.errors import UsageError

GROUPS = ("common_kwargs", "text_kwargs", "images_kwargs")
"""Transformers' nested groups of keyword arguments; their contents count as if given flat."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of one call."""

    hd: int | None = None
    """At most this many tiles per image; None: the image processor's own setting."""
    partition: str | None = None
    """Rule that lays out the tiles; None: the image processor's own setting."""
    max_length: int | None = None
    """Context in tokens; a longer conversation is an error, because cutting would cut an image. None: no limit."""
    padding: bool | str = True
    """Fill up to the longest conversation of the batch; False leaves the lengths as they are."""
    padding_side: str | None = None
    """"left" or "right"; None: the tokenizer's own setting (left)."""
    return_tensors: str | None = None
    """"pt", "np" or None for lists."""
    add_special_tokens: bool = True
    """Put `<s>` where the model expects it."""

    def __post_init__(self) -> None:
        if self.hd is not None:
            check_hd(self.hd)
        if self.padding not in (True, False, "longest"):
            raise UsageError(f"padding is {self.padding!r}; use True (to the longest) or False")
        if self.padding_side not in (None, "left", "right"):
            raise UsageError(f"padding_side is {self.padding_side!r}; use left or right")


def options(kwargs: Mapping[str, Any]) -> Options:
    """Keyword arguments -> `Options`.

    Raises:
        UsageError: an option there is not, or `truncation`.
    """
    given = {key: value for group in GROUPS for key, value in (kwargs.get(group) or {}).items()}
    given.update({key: value for key, value in kwargs.items() if key not in GROUPS})
    given.pop("return_mm_token_type_ids", None)  # they always are
    if given.pop("truncation", None):
        raise UsageError("truncation would cut an image in two; leave it out and give max_length to be told the length")
    unknown = sorted(set(given) - set(Options.__dataclass_fields__))
    if unknown:
        raise UsageError(f"no option {', '.join(unknown)}; there are {', '.join(Options.__dataclass_fields__)}")
    return Options(**given)
