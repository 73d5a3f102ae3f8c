"""Segments of a prompt -> ids: where `<s>` goes, and how contents are tokenised. Spec (i).

    published   <s> 146 system..user\\n  [image]  <s> question 145 .. assistant\\n      <s> before each run of text
                <s> <s> 146 user\\n question 145 ..                                     twice where there is no image
    clean       <s> 146 user\\n  [image]  question 145 .. assistant\\n                  <s> once, first of all

Before that, `PromptEncoder.arrange` brings the turns into the form the model was trained on: `core/turn_rules.py`.

A *run* is the text between two images. An image token is `image_token_id` with type 1, everything else has type 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ixc.core import turn_rules
from ixc.core.chat_format import IMAGE_PLACEHOLDER, TURN_END, TURN_START, Message, Segment, TurnIds
from ixc.core.turn_rules import TAUGHT, TurnRules
from ixc.errors import DataError, UsageError
from ixc.processing.plain_text import broken, raw_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PUBLISHED_IMAGE_PIECE = "[UNUSED_TOKEN_140]"
"""The published vocabulary has no piece for an image; this one, id 92537, no release gave a role."""


@dataclass
class EncodedRow:
    """One conversation in ids, and which of them are image tokens."""

    ids: list[int] = field(default_factory=list)
    types: list[int] = field(default_factory=list)

    def add(self, ids: Sequence[int], *, image: bool = False) -> None:
        self.ids += ids
        self.types += [int(image)] * len(ids)


class PromptEncoder:
    """A tokenizer and the format's rules.

    Args:
        tokenizer: of the model.
        published_quirks: see `IxcProcessor`.
        rules: what the model was taught about its turns.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, published_quirks: bool, rules: TurnRules = TAUGHT
    ) -> None:
        self.tokenizer = tokenizer
        self.published_quirks = published_quirks
        self.rules = rules
        self.image_token_id = _id(tokenizer, IMAGE_PLACEHOLDER, PUBLISHED_IMAGE_PIECE)
        self.turn_end_id = _id(tokenizer, TURN_END)
        self.bos_id, self.eos_id, self.pad_id = (
            _id(tokenizer, str(token)) for token in (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)
        )
        tags = {self.image_token_id, self.turn_end_id, _id(tokenizer, TURN_START)}
        self._reserved = tags | {self.bos_id, self.eos_id, self.pad_id}

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptEncoder:
        return self  # never changes; processors are copied to be saved, and a copied tokenizer takes seconds

    def arrange(self, messages: Iterable[Message | Mapping[str, Any]]) -> list[Message]:
        """Return messages in the form that the model was trained on; every way to ask passes through here.

        Raises:
            UsageError: as `chat_format.parse_messages`.
        """
        return turn_rules.arrange(messages, self.rules)

    @property
    def turn_ids(self) -> TurnIds:
        """The ids `chat.labels` looks for."""
        header = tuple(raw_ids(self.tokenizer, f"{TURN_START}assistant\n"))
        return TurnIds(end=self.turn_end_id, eos=self.eos_id, header=header)

    def row(self, prompt: Sequence[Segment], *, counts: Iterator[int], bos: bool, bos_once: bool) -> EncodedRow:
        """One prompt in ids.

        Args:
            counts: tokens of each image, in order; one is taken for each image of the prompt.
            bos: put `<s>` at all.
            bos_once: only one `<s>`, first of all, whatever the quirks say.

        Raises:
            DataError: a content that this tokenizer turns into a tag.
        """
        row, first = EncodedRow(), [self.bos_id] if bos else []
        once = bos_once or not self.published_quirks
        row.add(first if once or all(segment.kind != "image" for segment in prompt) else [])
        for run in _runs(prompt):
            if isinstance(run, Segment):
                row.add([self.image_token_id] * next(counts), image=True)
            else:
                row.add([] if once else first)
                row.add(self._text_ids(run))
        return row

    def _text_ids(self, run: Sequence[Segment]) -> list[int]:
        """Ids of a run.

        With quirks it is one string to the tokenizer, as in the original, cut only inside the markers a content holds
        (`tokenizer.broken`); a marker cannot lie across the border of content and markup, because markup begins with
        a marker's first character or ends with a newline. Without quirks every segment is tokenised apart.
        """
        parts = [""]
        for segment in run:
            pieces = broken(segment.text) if segment.kind == "content" else [segment.text]
            if not self.published_quirks:
                parts.append("")
            parts[-1] += pieces[0] if pieces else ""
            parts += pieces[1:]
        ids = [token for part in parts if part for token in raw_ids(self.tokenizer, part)]
        self._check(run, ids)
        return ids

    def _check(self, run: Sequence[Segment], ids: Sequence[int]) -> None:
        """A second lock: some other tokenizer may normalise letters into a tag."""
        written = "".join(segment.text for segment in run if segment.kind == "markup")
        expected, found = self._count_reserved(raw_ids(self.tokenizer, written)), self._count_reserved(ids)
        if found != expected:
            raise DataError(
                f"a text becomes {found - expected} tags in this tokenizer, 0 expected; use this package's tokenizers"
            )

    def _count_reserved(self, ids: Sequence[int]) -> int:
        return sum(token in self._reserved for token in ids)


def _id(tokenizer: PreTrainedTokenizerBase, *pieces: str) -> int:
    """The id of the first of these pieces that the tokenizer has."""
    for piece in pieces:
        found = tokenizer.convert_tokens_to_ids(piece)
        if isinstance(found, int) and tokenizer.convert_ids_to_tokens(found) == piece:
            return found
    raise UsageError(f"the tokenizer's {len(tokenizer)} pieces have no {' or '.join(pieces)}; take this model's own")


def _runs(prompt: Iterable[Segment]) -> Iterator[Segment | list[Segment]]:
    """Images as they are, the texts between two of them as one list."""
    run: list[Segment] = []
    for segment in prompt:
        if segment.kind != "image":
            run.append(segment)
            continue
        if run:
            yield run
        yield segment
        run = []
    if run:
        yield run
