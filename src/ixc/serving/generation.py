"""Generate the answer of one job and emit its text while it is made, all in the calling thread.

    model.generate(streamer=AnswerStreamer) --put(token)--> TextDecoder --> stop texts --> emit(TextDelta)

The model calls `put` after every token, so no second thread and no queue of tokens is needed; only new tokens are
decoded. Every answer goes through `Engine.generate` and its caches: of a second question about an image only the text
is computed. With beam search there is one delta, the last, which carries the other beams' answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Any

import torch

from ixc.inference.engine import Engine
from ixc.inference.score_processors import LogprobRecorder
from ixc.inference.stop_texts import first_stop, possible_stop
from ixc.inference.streaming import EndWhen, TokenStreamer
from ixc.inference.text_pieces import TextDecoder
from ixc.serving.deltas import TextDelta, TokenLogprob
from ixc.serving.jobs import GenerationJob
from ixc.serving.json_plan import generate_json, grammar_mask

MIN_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot write; the number is OpenAI's."""

Emit = Callable[[TextDelta], None]
"""Takes one delta; called in the generating thread."""


def generate(engine: Engine, job: GenerationJob, *, cancelled: Event, emit: Emit) -> None:
    """Generate the answers and emit their deltas; the last one of each has `finish`.

    Several choices are made one after another: the second finds the keys and values of the prompt in the prefix cache,
    so there is one prefill (one for each where that cache is off). With a seed, each draws by a seed of its own.

    Args:
        cancelled: once set, generation ends after the token under way.

    Raises:
        CapacityError: too little memory.
    """
    if job.json is not None and job.json.by_values:
        generate_json(engine, job, cancelled=cancelled, emit=emit)
        return
    if job.sampling.num_beams > 1:
        emit(_beam_search(engine, job, cancelled))
        return
    cached: int | None = None
    for choice in range(job.choices):
        if cancelled.is_set():
            return

        def send(delta: TextDelta, choice: int = choice) -> None:
            nonlocal cached
            cached = delta.cached_tokens if cached is None else cached  # of later ones nearly all is cached
            emit(replace(delta, choice=choice, more=choice + 1 < job.choices, cached_tokens=cached))

        seed = job.sampling.seed
        drawn = job if seed is None else replace(job, sampling=replace(job.sampling, seed=seed + choice))
        _stream(engine, drawn, cancelled=cancelled, emit=send)


def _stream(engine: Engine, job: GenerationJob, *, cancelled: Event, emit: Emit) -> None:
    """Generate one answer and emit its deltas."""
    streamer = AnswerStreamer(engine, job, emit)
    processors: list[Any] = [] if streamer.recorder is None else [streamer.recorder]
    if job.json is not None:
        processors.append(grammar_mask(job.json))

    def ended() -> bool:
        return streamer.finish is not None or cancelled.is_set()

    _run(engine, job, logits_processor=processors, streamer=streamer, stopping_criteria=[EndWhen(ended)])
    streamer.emit_last()


class AnswerStreamer(TokenStreamer):
    """Turns tokens into deltas as `generate` puts them.

    Args:
        engine: the engine that generates; it gives the decoder and the stop tokens.
        job: the request: stop texts and log probabilities.
        emit: takes every delta but the last, which `emit_last` gives.
    """

    def __init__(self, engine: Engine, job: GenerationJob, emit: Emit) -> None:
        super().__init__(self._add)
        self.engine, self.job, self._emit = engine, job, emit
        self.recorder = None if job.top_logprobs is None else LogprobRecorder()
        self.finish: str | None = None
        """Set once a stop token or a stop text has come."""
        self.new_tokens = 0
        self._decoder = TextDecoder(engine.processor.decode_answer)
        self._stop_ids = engine.preparer.stop_ids | job.stop_token_ids
        self._held = ""  # text that may turn out to be the beginning of a stop text
        self._logprobs: list[TokenLogprob] = []
        self._reused_before = engine.generator.prefixes.tokens_reused

    def emit_last(self) -> None:
        """Emit what is left, with the reason why generation ended."""
        if self._stop_text_at() is None:
            self._held += self._decoder.finish()
        if (end := self._stop_text_at()) is not None:
            self._held, self.finish = self._held[:end], "stop"
        self._emit(self._delta(self._held, finish=self.finish or "length"))

    def _add(self, token: int) -> None:
        if token in self._stop_ids:
            self.finish = "stop"
            return
        self.new_tokens += 1
        if self.recorder is not None:
            self._logprobs.append(self._logprob(token, self.recorder.rows.popleft()))
        self._held += self._decoder.add(token)
        if self._stop_text_at() is not None:
            self.finish = "stop"
            return
        ready = len(self._held) - possible_stop(self._held, self.job.stop)
        if ready:
            self._emit(self._delta(self._held[:ready]))
            self._held = self._held[ready:]

    def _stop_text_at(self) -> int | None:
        return first_stop(self._held, self.job.stop)

    def _delta(self, text: str, *, finish: str | None = None) -> TextDelta:
        logprobs, self._logprobs = tuple(self._logprobs), []
        # Only one answer is made at a time, so the difference is this answer's.
        cached = self.engine.generator.prefixes.tokens_reused - self._reused_before
        return TextDelta(text=text, new_tokens=self.new_tokens, logprobs=logprobs, finish=finish, cached_tokens=cached)

    def _logprob(self, token: int, row: torch.Tensor) -> TokenLogprob:
        """Describe a token by its row (V,) of log probabilities."""
        best = row.topk(min(self.job.top_logprobs or 0, row.shape[0]))
        top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return TokenLogprob(
            token=self._name(token),
            logprob=max(float(row[token]), MIN_LOGPROB),
            top=tuple((self._name(other), max(value, MIN_LOGPROB)) for other, value in top),
        )

    def _name(self, token: int) -> str:
        return self.engine.processor.tokenizer.decode([token])


def _beam_search(engine: Engine, job: GenerationJob, cancelled: Event) -> TextDelta:
    """Return the most probable answer as one delta, with the others in it."""
    reused_before = engine.generator.prefixes.tokens_reused
    rows = _run(engine, job, num_return_sequences=job.sampling.num_beams, stopping_criteria=[EndWhen(cancelled.is_set)])
    best, *others = [_whole_answer(engine, job, row[job.prompt_tokens :].tolist()) for row in rows]
    cached = engine.generator.prefixes.tokens_reused - reused_before
    return replace(best, others=tuple(others), cached_tokens=cached)


def _whole_answer(engine: Engine, job: GenerationJob, tokens: list[int]) -> TextDelta:
    """Return the answer of one beam as one delta."""
    stops = engine.preparer.stop_ids | job.stop_token_ids
    count = next((place for place, token in enumerate(tokens) if token in stops), None)
    text = engine.processor.decode_answer(tokens[:count])
    stop = first_stop(text, job.stop)
    finish = "length" if count is None and stop is None else "stop"
    return TextDelta(text=text[:stop], new_tokens=len(tokens) if count is None else count, finish=finish)


def _run(engine: Engine, job: GenerationJob, **options: Any) -> torch.Tensor:
    if job.stop_token_ids:
        options["eos_token_id"] = sorted(engine.preparer.stop_ids | job.stop_token_ids)
    return engine.generate(job.inputs, max_new_tokens=job.max_new_tokens, sampling=job.sampling, hd=job.hd, **options)
