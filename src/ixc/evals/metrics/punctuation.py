"""The VQA evaluation's treatment of punctuation, used by the VQA score and by the reading of yes and no."""

from __future__ import annotations

import re

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""Marks that vanish or become a blank, in the order of the original; ' : & $ % # * stay."""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
LONE_PERIOD = re.compile(r"(?<!\d)\.(?!\d)")
"""VLMEvalKit's period: no digit on either side."""
PERIOD_BEFORE_NO_DIGIT = re.compile(r"\.(?!\d)")
"""lmms-eval's: its look-behind is misspelt and never holds, so "10." loses its period too."""

_PERIODS = 32
"""Periods taken out at most: the original passes re.UNICODE (= 32) where `sub` expects a count."""


def without_punctuation(text: str, *, period: re.Pattern[str] = LONE_PERIOD) -> str:
    """A mark beside a blank vanishes, another becomes a blank; with any "1,000" in the text every mark vanishes."""
    done = text
    every = _COMMA_IN_NUMBER.search(text) is not None
    for mark in PUNCTUATION:
        beside_blank = f"{mark} " in text or f" {mark}" in text
        done = done.replace(mark, "" if every or beside_blank else " ")
    return period.sub("", done, count=_PERIODS)
