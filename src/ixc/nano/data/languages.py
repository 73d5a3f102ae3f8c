"""The language of a page, told from its most frequent words."""

from __future__ import annotations

import re

WORDS = {
    "en": "the of and to in is that for with are be this as on which by an not can you it from",
    "de": "der die und das den von zu ist mit für ein eine werden des im auf nicht dem sich wird",
    "fr": "le les des est une dans pour que qui sur par avec sont du au cette ou pas il ce",
    "es": "el los las del una que para con por es se como más esta son lo al su este",
    "it": "il di che la per una del della con sono gli nel non le è da alla come questo",
    "pt": "o os as uma que para com não do da em por se dos um ao mais é são",
    "nl": "de het een van en is voor met dat niet op zijn worden te deze aan wordt ook",
    "pl": "i w na się z do nie jest że o jak dla po które przez od może",
}
"""Frequent words of some languages of Latin script."""
_SETS = {name: frozenset(words.split()) for name, words in WORDS.items()}
LEAST = 0.08
"""Least share of a text's words that are frequent ones of its language."""


def language_of(text: str) -> str:
    """ISO 639-1 code, or "" where the words tell none."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    if len(words) < 20:
        return ""
    shares = {name: sum(word in known for word in words) / len(words) for name, known in _SETS.items()}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= LEAST else ""
