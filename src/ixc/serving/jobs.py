"""One conversation answered token by token, with stop texts, log probabilities and a way to end it.

    messages with pictures --prepare--> Job (encoded, counted) --pieces--> Piece, Piece, ... the last one with a reason

Every answer goes through `Engine.generate` and its stores: of a second question on an image only the text is read.
Turns may hold images anywhere. Spec (i). With beams there is one piece only, the last; it carries the other beams'
answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import torch
from transformers import StoppingCriteria

from ixc.core import chat_format
from ixc.core.tiling import partition as partition_of
from ixc.errors import ContextError
from ixc.inference.engine import MAX_NEW_TOKENS, Engine
from ixc.inference.sampling import LogprobRecorder, Sampling
from ixc.inference.streaming import token_stream
from ixc.inference.text_pieces import text_pieces

HEADER = f"{chat_format.TURN_START}assistant\n"
"""Before an answer."""


@dataclass(frozen=True, kw_only=True)
class PromptFormat:
    """How messages become a prompt."""

    continued: bool = False
    """The last message is an answer continued: its turn stays open."""
    published: bool = False
    """As the prompts of the published benchmark runs: images before the first turn, no system text but the
    conversation's own, `<s>` once."""
    assistant: str = "assistant"
    """The name in the header before the answer; one published prompt has blanks before it."""


CHAT_FORMAT = PromptFormat()
"""A conversation as everybody has it."""


@dataclass(frozen=True, kw_only=True)
class GenerationJob:
    """A checked and encoded request."""

    inputs: dict[str, torch.Tensor]
    """What `generate` takes."""
    prompt_tokens: int
    """Tokens of the prompt, images included."""
    image_tokens: tuple[int, ...]
    """Tokens of every image."""
    max_new_tokens: int
    """Longest answer."""
    sampling: Sampling
    """How tokens are chosen."""
    hd: int
    """Most tiles of an image."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer."""
    top_logprobs: int | None = None
    """None = no log probabilities; else how many alternatives."""

    @property
    def tokens(self) -> int:
        """What the job may cost: prompt and longest answer, for every beam."""
        return self.sampling.num_beams * (self.prompt_tokens + self.max_new_tokens)


@dataclass(frozen=True, kw_only=True)
class TokenLogprob:
    """A token of the answer before temperature and top_p."""

    token: str
    """Its text; parts of a character are U+FFFD."""
    logprob: float
    """Natural logarithm of its probability."""
    top: tuple[tuple[str, float], ...] = ()
    """The likeliest tokens instead, with theirs."""


@dataclass(frozen=True, kw_only=True)
class TextDelta:
    """A piece of the answer."""

    text: str
    """May be empty in the last piece."""
    new_tokens: int
    """Tokens made so far, the stop token not counted."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens since the last piece."""
    finish: str | None = None
    """Set in the last piece: "stop" or "length"."""
    cached_tokens: int = 0
    """Tokens of the prompt that had been read before, for another answer."""
    others: tuple[TextDelta, ...] = ()
    """In the last piece: the whole answers of the other beams, the likelier first."""


def prepare(
    engine: Engine,
    messages: Sequence[chat_format.Message],
    *,
    sampling: Sampling,
    hd: int,
    partition: str,
    max_tokens: int | None = None,
    stop: tuple[str, ...] = (),
    top_logprobs: int | None = None,
    prompt_format: PromptFormat = CHAT_FORMAT,
) -> GenerationJob:
    """Everything that can be wrong with a conversation is found here, before the model runs.

    Args:
        messages: turns whose images hold PIL pictures.
        max_tokens: longest answer; None = the folder's setting, cut to what the context leaves.

    Raises:
        GeometryError: no partition. ContextError: more tokens than positions. ImageError: a picture's mode.
    """
    pictures = [part.source for turn in messages for part in turn.content if isinstance(part, chat_format.Image)]
    # Counted before a canvas is made: a huge hd would ask for a canvas of gigabytes.
    grids = [partition_of(p.width, p.height, hd=hd, rule=partition) for p in pictures]
    image_tokens = tuple(engine.processor.num_image_tokens(grid.grid_h, grid.grid_w) for grid in grids)
    _room(engine, sum(image_tokens), None)
    inputs = engine.processor.encode_segments(
        [prompt(messages, prompt_format, system=engine.processor.system)],
        bos_once=prompt_format.published,
        hd=hd,
        partition=partition,
        return_tensors="pt",
    )
    length = inputs["input_ids"].shape[1]
    return GenerationJob(
        inputs=dict(inputs),
        prompt_tokens=length,
        image_tokens=image_tokens,
        max_new_tokens=_room(engine, length, max_tokens),
        sampling=sampling,
        hd=hd,
        stop=stop,
        top_logprobs=top_logprobs,
    )


def prompt(
    messages: Sequence[chat_format.Message], prompt_format: PromptFormat, *, system: str
) -> list[chat_format.Segment]:
    """Messages in the wanted prompt_format, as segments."""
    found = chat_format.render(
        messages, system="" if prompt_format.published else system, continue_final_message=prompt_format.continued
    )
    if not prompt_format.published:
        return found
    if not prompt_format.continued:
        header = f"{found[-1].text.removesuffix(HEADER)}{chat_format.TURN_START}{prompt_format.assistant}\n"
        found[-1] = chat_format.Segment("markup", header)
    return [*(s for s in found if s.kind == "image"), *(s for s in found if s.kind != "image")]


def _room(engine: Engine, prompt_tokens: int, wanted: int | None) -> int:
    """How many tokens may follow the prompt."""
    left = engine.context - prompt_tokens
    if left < (wanted or 1):
        raise ContextError(
            f"{prompt_tokens:,} tokens of prompt and {wanted or 1:,} of answer, but the model has {engine.context:,} "
            "positions; use a smaller hd, fewer images, a shorter text or a smaller max_tokens"
        )
    return wanted or min(left, engine.model.generation_config.max_new_tokens or MAX_NEW_TOKENS)


def pieces(engine: Engine, job: GenerationJob, *, cancelled: Event) -> Iterator[TextDelta]:
    """The answer while it is made; closing the iterator ends generation at the next token.

    Args:
        cancelled: set by the reader's side to end it too.

    Raises:
        CapacityError: too little memory.
    """
    run = _Run(engine, job, cancelled)
    if job.sampling.num_beams > 1:
        yield run.beams()
        return
    with closing(run.texts()) as texts:
        held = ""
        for text in texts:
            held += text
            if (end := _first_stop(held, job.stop)) is not None:
                yield run.piece(held[:end], finish="stop")
                return
            keep = _possible_stop(held, job.stop)
            if ready := held[: len(held) - keep]:
                yield run.piece(ready)
            held = held[len(held) - keep :]
        yield run.piece(held, finish=run.finish)


class _Run:
    """One generation: the tokens so far and why it ended."""

    def __init__(self, engine: Engine, job: GenerationJob, cancelled: Event) -> None:
        self.engine, self.job, self.cancelled = engine, job, cancelled
        self.count, self.finish = 0, "length"
        self.record = None if job.top_logprobs is None else LogprobRecorder()
        self.fresh: list[TokenLogprob] = []
        self._reused = engine.reader.prefixes.tokens_reused

    @property
    def cached(self) -> int:
        """Tokens of this prompt that were not read again; only one answer is made at a time."""
        return self.engine.reader.prefixes.tokens_reused - self._reused

    def texts(self) -> Iterator[str]:
        return text_pieces(self._tokens(), decode=self.engine.processor.decode_answer)

    def piece(self, text: str, *, finish: str | None = None) -> TextDelta:
        fresh, self.fresh = tuple(self.fresh), []
        return TextDelta(text=text, new_tokens=self.count, logprobs=fresh, finish=finish, cached_tokens=self.cached)

    def beams(self) -> TextDelta:
        """The likeliest answer, with the others."""
        rows = self._generate(
            num_return_sequences=self.job.sampling.num_beams, stopping_criteria=[_CancelCriteria(self.cancelled)]
        )
        best, *others = [self._whole(row[self.job.prompt_tokens :].tolist()) for row in rows]
        return replace(best, others=tuple(others), cached_tokens=self.cached)

    def _whole(self, tokens: list[int]) -> TextDelta:
        """An answer as one piece."""
        count = next((place for place, token in enumerate(tokens) if token in self._ends), None)
        text = self.engine.processor.decode_answer(tokens)
        stop = _first_stop(text, self.job.stop)
        finish = "length" if count is None and stop is None else "stop"
        return TextDelta(text=text[:stop], new_tokens=len(tokens) if count is None else count, finish=finish)

    @property
    def _ends(self) -> set[int]:
        ends = self.engine.model.generation_config.eos_token_id
        return set(ends if isinstance(ends, list | tuple) else [ends])

    def _tokens(self) -> Iterator[int]:
        ends = self._ends
        with closing(token_stream(self._generate)) as tokens:
            for token in tokens:
                if token in ends:
                    self.finish = "stop"
                    return
                if self.cancelled.is_set():
                    return
                self.count += 1
                if self.record is not None:
                    self.fresh.append(self._logprob(token, self.record.rows.popleft()))
                yield token

    def _logprob(self, token: int, row: torch.Tensor) -> TokenLogprob:
        best = row.topk(min(self.job.top_logprobs or 0, row.shape[0]))
        top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return TokenLogprob(
            token=self._name(token),
            logprob=max(float(row[token]), -9999.0),  # JSON knows no infinity; the number is OpenAI's
            top=tuple((self._name(other), max(value, -9999.0)) for other, value in top),
        )

    def _name(self, token: int) -> str:
        return self.engine.processor.tokenizer.decode([token])

    def _generate(self, **extra: Any) -> torch.Tensor:
        job = self.job
        return self.engine.generate(
            job.inputs,
            max_new_tokens=job.max_new_tokens,
            sampling=job.sampling,
            hd=job.hd,
            logits_processor=[] if self.record is None else [self.record],
            **extra,
        )


class _CancelCriteria(StoppingCriteria):
    """Ends a generation whose reader has left."""

    def __init__(self, cancelled: Event) -> None:
        self.cancelled = cancelled

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.cancelled.is_set(), dtype=torch.bool, device=input_ids.device)


def _first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop text begins."""
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)


def _possible_stop(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end could be the beginning of a stop text."""
    longest = max(map(len, stops), default=1) - 1
    ends = range(min(longest, len(text)), 0, -1)
    return next((n for n in ends if any(stop.startswith(text[-n:]) for stop in stops)), 0)
