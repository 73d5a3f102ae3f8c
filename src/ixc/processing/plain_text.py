"""Ids of a person's text: nothing in it passes for a tag, an image or a control token. Spec (i).

Any tokenizer with the call of transformers' serves; nothing here imports the library.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from ixc.core.chat_format import IMAGE_PLACEHOLDER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKER = re.compile(rf"\[UNUSED_TOKEN_[0-9]+\]|{IMAGE_PLACEHOLDER}")
"""What must stay letters in a person's text. No marker holds another's first character but at its own start."""


def broken(text: str) -> list[str]:
    """Parts of a text that each hold no whole marker: every marker is cut behind its first character.

    Tokenised one by one they give the text back when decoded, and a text without markers stays in one part, with the
    very ids of raw text.
    """
    cuts = [0, *(match.start() + 1 for match in MARKER.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(cuts) if start < end]


def raw_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of text in which tags count and control tokens (`<s>`, `</s>`) do not; no BOS."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a person's text: nothing in it is a tag, an image or a control token."""
    return [token for part in broken(text) for token in raw_ids(tokenizer, part)]
