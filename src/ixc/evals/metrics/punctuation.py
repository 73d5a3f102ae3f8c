"""The VQA evaluation's treatment of punctuation, used by the VQA score and by the reading of yes and no."""

from __future__ import annotations

import re

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""Punctuation that is removed or becomes a space, in the order of the original; ' : & $ % # * are kept."""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
LONE_PERIOD = re.compile(r"(?<!\d)\.(?!\d)")
"""VLMEvalKit removes a period without a digit on either side."""
PERIOD_BEFORE_NO_DIGIT = re.compile(r"\.(?!\d)")
"""lmms-eval's look-behind has a typo and never applies, so the period of "10." is removed too."""

_PERIODS = 32
"""Most periods removed: the original passes re.UNICODE (= 32) where `re.sub` expects a count."""


def without_punctuation(text: str, *, period: re.Pattern[str] = LONE_PERIOD) -> str:
    """Remove punctuation next to a space and replace other punctuation by a space; a text with a "1,000" loses all."""
    done = text
    remove_all = _COMMA_IN_NUMBER.search(text) is not None
    for character in PUNCTUATION:
        beside_space = f"{character} " in text or f" {character}" in text
        done = done.replace(character, "" if remove_all or beside_space else " ")
    return period.sub("", done, count=_PERIODS)
