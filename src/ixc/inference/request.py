"""One conversation before the model runs: open the pictures, count their tokens, encode, check the context.

    images, question, history --prepare--> Request --generate--> tokens --answer--> Answer

Every way to ask goes through `RequestPreparer`: `Engine.ask` and `stream`, `standalone.py`, `batch.py`, the server and
the command line's early checks. So there is one context check with one message, and one rule for where an answer ends.
Pictures belong to the first turn of a conversation and stand before its text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

from PIL import Image

from ixc.core import chat_format
from ixc.core.tiling import Budget, resolve_hd
from ixc.core.tiling import partition as partition_of
from ixc.errors import ContextError, UsageError
from ixc.inference.confidence import Calibration, confidence
from ixc.inference.evidence import Evidence
from ixc.inference.query import History, Picture, Query, QueryOptions
from ixc.inference.stop_texts import first_stop
from ixc.processing.image_io import open_image, to_rgb

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS = chat_format.CHAT_DEFAULTS.max_new_tokens
"""Longest answer where neither the caller nor the folder's generation config sets one: the original chat's (spec i)."""

NO_SYSTEM_TURNS = "this model was never taught system turns, so a system text has no effect; leave it out"
"""Message about a system text for such a model (`core/turn_rules.py`)."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of `Engine.ask` with the sizes of its prompt."""

    text: str
    """The answer, without stop tokens."""
    hd: int
    """Most tiles an image was allowed."""
    partition: str
    """Partition rule."""
    grids: tuple[tuple[int, int], ...]
    """(grid_h, grid_w) of every image, in tiles."""
    image_tokens: tuple[int, ...]
    """Tokens of every image, overview, separator and newlines included."""
    prompt_tokens: int
    """Tokens of the whole prompt, images included."""
    new_tokens: int
    """Tokens generated, the stop token not counted."""
    seconds: float
    """Wall time from pictures to text, without loading the model."""
    confidence: float | None = None
    """0 to 1: how probable the answer is to be right where the folder is calibrated, else how probable the model finds
    it (`confidence.py`). None for beam search."""
    evidence: tuple[Evidence, ...] | None = None
    """Boxes that the answer was copied from, only where they were asked for (`Query.evidence`)."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-ready mapping; without `evidence` where it was not asked for."""
        found = asdict(self)
        return {name: value for name, value in found.items() if name != "evidence" or value is not None}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Answer:
        """Return the answer of `as_dict`, also after JSON, which has lists for tuples."""
        grids, tokens = tuple(map(tuple, fields["grids"])), tuple(fields["image_tokens"])
        boxes = fields.get("evidence")
        evidence = None if boxes is None else tuple(Evidence(**{**each, "box": tuple(each["box"])}) for each in boxes)
        return cls(**{**fields, "grids": grids, "image_tokens": tokens, "evidence": evidence})


@dataclass(frozen=True, kw_only=True)
class Request:
    """An encoded request that fits the context."""

    inputs: dict[str, torch.Tensor]
    """What `generate` takes, one row, on the CPU."""
    hd: int
    """Most tiles an image may have."""
    partition: str
    """Partition rule."""
    image_tokens: tuple[int, ...]
    """Tokens of every image."""
    prompt_tokens: int
    """Tokens of the whole prompt, images included."""
    max_new_tokens: int
    """Longest answer; prompt and answer together fit the context."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer."""


@dataclass(frozen=True, kw_only=True)
class RequestPreparer:
    """Prepares requests for one model, and reads its answers."""

    processor: Any
    """Encodes, counts image tokens and holds the default tiling: an `IxcProcessor` or a `StandaloneProcessor`."""
    context_length: int
    """Most positions of prompt and answer together."""
    max_new_tokens: int
    """Longest answer where the caller does not set one."""
    stop_ids: frozenset[int] = frozenset()
    """Ids that end an answer: </s> and the end of a turn (spec i)."""
    calibration: Calibration | None = None
    """Of the model folder, for the confidence in an answer."""

    def prepare(
        self, images: Sequence[Picture], question: str, *, return_tensors: str = "pt", **options: Unpack[QueryOptions]
    ) -> Request:
        """Open, count, encode and check one conversation.

        Args, Raises: as `Engine.ask`. return_tensors: "pt", or "np" where torch is not imported yet.
        """
        return self.prepare_query(Query(images, question, **options), return_tensors=return_tensors)

    def prepare_query(self, query: Query, *, return_tensors: str = "pt") -> Request:
        """Open, count, encode and check one conversation; arguments and errors as `prepare`."""
        self.check_system(query.system)
        pictures = [open_picture(image) for image in query.images]
        turns = conversation(pictures, query.question, query.history)

        def encode(**tiling: Any) -> Mapping[str, Any]:
            return self.processor.encode(turns, system=query.system, return_tensors=return_tensors, **tiling)

        request = self._encoded(
            encode, pictures, hd=query.hd, partition=query.partition, max_new_tokens=query.max_new_tokens
        )
        return replace(request, stop=tuple(query.stop))

    def check_system(self, system: str | None) -> None:
        """Refuse a system text for a model that was never taught system turns. Raises: UsageError."""
        if system and not self.processor.rules.system_turns:
            raise UsageError(NO_SYSTEM_TURNS)

    def prepare_segments(
        self,
        segments: Sequence[chat_format.Segment],
        *,
        hd: Budget | None = None,
        partition: str | None = None,
        max_new_tokens: int | None = None,
        bos_once: bool = False,
    ) -> Request:
        """Count, encode and check a prompt given as segments, for callers with a prompt format of their own.

        Args:
            segments: their images hold RGB pictures.
            hd, partition, max_new_tokens: None = the folder's setting.
            bos_once: put `<s>` once before the whole prompt, as published benchmark prompts have it.

        Raises:
            GeometryError: no partition. ContextError: more tokens than positions. UsageError: a number out of range.
        """
        pictures = [segment.image.source for segment in segments if segment.image is not None]

        def encode(**tiling: Any) -> Mapping[str, Any]:
            return self.processor.encode_segments([segments], bos_once=bos_once, return_tensors="pt", **tiling)

        return self._encoded(encode, pictures, hd=hd, partition=partition, max_new_tokens=max_new_tokens)

    def _encoded(
        self,
        encode: Callable[..., Mapping[str, Any]],
        pictures: Sequence[Image.Image],
        *,
        hd: Budget | None,
        partition: str | None,
        max_new_tokens: int | None,
    ) -> Request:
        rule: str = self.processor.image_processor.partition if partition is None else partition
        wanted: Budget = self.processor.image_processor.hd if hd is None else hd
        budget = resolve_hd(wanted, [picture.size for picture in pictures], rule=rule)
        image_tokens = self.count_image_tokens(pictures, hd=budget, partition=rule)
        # Checked before a canvas is made: a huge hd would ask for a canvas of gigabytes.
        self.answer_length(sum(image_tokens), hd=budget)
        inputs = dict(encode(hd=budget, partition=rule))
        length = inputs["input_ids"].shape[1]
        return Request(
            inputs=inputs,
            hd=budget,
            partition=rule,
            image_tokens=image_tokens,
            prompt_tokens=length,
            max_new_tokens=self.answer_length(length, max_new_tokens, hd=budget),
        )

    def count_image_tokens(self, pictures: Sequence[Image.Image], *, hd: int, partition: str) -> tuple[int, ...]:
        """Return the tokens of each picture. Raises: GeometryError: a picture has no partition."""
        grids = [partition_of(each.width, each.height, hd=hd, rule=partition) for each in pictures]
        return tuple(self.processor.num_image_tokens(grid.grid_h, grid.grid_w) for grid in grids)

    def answer_length(self, prompt_tokens: int, wanted: int | None = None, *, hd: int | None = None) -> int:
        """Return how many tokens may follow a prompt: the one context check.

        Args:
            prompt_tokens: tokens of the prompt, or as many as are known so far.
            wanted: longest answer; None = the model's default, cut to what the context leaves.
            hd: tile budget of the request, for the remedy in the error.

        Raises:
            UsageError: fewer than 1 token is wanted. ContextError: prompt and answer do not fit the context.
        """
        if wanted is not None and wanted < 1:
            raise UsageError(f"max_new_tokens is {wanted}, at least 1 needed")
        left = self.context_length - prompt_tokens
        if left < (wanted or 1):
            shorter = f" or at most {left:,} of answer" if left > 0 else ""
            raise ContextError(
                f"{prompt_tokens:,} tokens of prompt and {wanted or 1:,} of answer, but the model has "
                f"{self.context_length:,} positions; {lower_hd(hd)}, fewer images, a shorter text{shorter}"
            )
        return min(left, self.max_new_tokens) if wanted is None else wanted

    def before_stop(self, tokens: Sequence[int]) -> list[int]:
        """Return the tokens before the first stop token."""
        end = next((i for i, token in enumerate(tokens) if token in self.stop_ids), len(tokens))
        return list(tokens[:end])

    def answer(
        self, request: Request, tokens: Sequence[int], *, seconds: float, logprobs: Sequence[float] | None = None
    ) -> Answer:
        """Return the answer made of the tokens generated, up to the first stop token; `logprobs` are those of each."""
        found = self.before_stop(tokens)
        counted = [] if logprobs is None else logprobs[: len(found) + 1]
        text = self.processor.decode_answer(found)
        grids = request.inputs["image_grids"].tolist() if request.image_tokens else []
        return Answer(
            text=text[: first_stop(text, request.stop)],
            hd=request.hd,
            partition=request.partition,
            grids=tuple((int(h), int(w)) for h, w in grids),
            image_tokens=request.image_tokens,
            prompt_tokens=request.prompt_tokens,
            new_tokens=len(found),
            seconds=round(seconds, 3),
            confidence=confidence(counted, self.calibration),
        )


def open_picture(image: Picture) -> Image.Image:
    """Return an RGB picture. Raises: ImageError: it cannot be read."""
    return to_rgb(image) if isinstance(image, Image.Image) else open_image(image)


def conversation(pictures: Sequence[Image.Image], question: str, history: History) -> list[chat_format.Message]:
    """Return the turns of a conversation; the pictures stand before the text of the first one."""
    turns: list[chat_format.Message] = []
    for asked, answered in (*history, (question, None)):
        shown = () if turns else tuple(map(chat_format.Image, pictures))
        turns.append(chat_format.Message("user", (*shown, asked)))
        if answered is not None:
            turns.append(chat_format.Message("assistant", (answered,)))
    return turns


def lower_hd(hd: int | None) -> str:
    """Return the remedy for a request that is too large; `hd` is named without dashes, being a field over the API."""
    return "use a lower hd" if hd is None else f"use a lower hd ({hd} now)"
