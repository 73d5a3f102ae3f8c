"""The characters that the vision encoder learns to name: Latin-1, the signs of Windows-1252 and a few arrows.

A class of its own, `OTHER`, stands for every visible character outside the alphabet (Greek, mathematics, CJK), so that
the encoder learns that something is there. Ligatures are split into their letters; presentation forms, hyphens and
spaces that look alike share one class.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np

from ixc.processing.tokenization import LATIN_1, TYPOGRAPHIC

ASCII = "".join(map(chr, range(0x21, 0x7F)))
ALPHABET = ASCII + LATIN_1 + TYPOGRAPHIC
NOTHING = 0
"""Class of an empty slot."""
OTHER = len(ALPHABET) + 1
"""Class of a visible character outside the alphabet."""
CLASSES = len(ALPHABET) + 2

_SAME = str.maketrans(
    {
        "\u00ad": "-",
        "\u2010": "-",
        "\u2011": "-",
        "\u2012": "–",
        "\u2015": "—",
        "\u2212": "−",
        "\u2215": "/",
        "\u2044": "/",
        "\u2217": "*",
        "\u2219": "·",
        "\u22c5": "·",
        "\u2223": "|",
        "\u2022": "•",
        "\u25cf": "•",
        "\u2032": "'",
        "\u02c6": "ˆ",
        "\u02dc": "˜",
        "\u223c": "~",
        "\u03bc": "µ",
        "\u2126": "Ω",
        "\u0192": "ƒ",
    }
)
"""Characters of one shape; the slash of fractions and the operators that print as ASCII signs do."""
_LIGATURES = {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st"}
_LIGATURES |= {"\ufb06": "st", "\u0133": "ij", "\u0132": "IJ", "\u01c9": "lj", "\u01cc": "nj"}


@cache
def letters_of(character: str) -> str:
    """What a character of a text layer shows: one character, or the letters of a ligature; "" for blanks.

    Control and private-use characters come back as U+FFFD.
    """
    if character in _LIGATURES:
        return _LIGATURES[character]
    character = character.translate(_SAME)
    category = unicodedata.category(character)
    if category in ("Zs", "Zl", "Zp", "Cf"):
        return ""
    if category in ("Cc", "Co", "Cn", "Cs"):
        return "\ufffd"
    return character


_CLASS = {character: number + 1 for number, character in enumerate(ALPHABET)}


def class_of(character: str) -> int:
    """Class of a character: 1 to `OTHER`."""
    return _CLASS.get(character, OTHER)


_TABLE = np.full(0x2400, OTHER, np.int64)
_TABLE[[ord(character) for character in ALPHABET]] = np.arange(len(ALPHABET)) + 1


def classes_of(codepoints: np.ndarray) -> np.ndarray:
    """Classes (n,) int64 of Unicode code points (n,)."""
    return np.where(codepoints < len(_TABLE), _TABLE[np.minimum(codepoints, len(_TABLE) - 1)], OTHER)


def text_of(classes: np.ndarray) -> str:
    """The characters of classes; nothing is left out, U+FFFD stands for `OTHER`."""
    return "".join(ALPHABET[c - 1] if c < OTHER else "\ufffd" for c in classes.tolist() if c != NOTHING)
