"""Generate the answer of one job and emit its text while it is made, all in the calling thread.

    model.generate(TokenWatcher) --token--> AnswerStreamer: TextDecoder --> AnswerText --> emit(TextDelta)

The model hands over every token before it computes the next, so no second thread and no queue of tokens is needed; only
new tokens are decoded. Every answer goes through `Engine.generate` and its caches: of a second question about an image
only the text is computed. With beam search there is one delta, the last, which carries the other beams' answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Any

import torch

from ixc.inference.confidence import confidence
from ixc.inference.engine import Engine
from ixc.inference.score_processors import AnswerLogprobs
from ixc.inference.stop_texts import first_stop
from ixc.inference.streaming import EndWhen, TokenWatcher
from ixc.inference.text_pieces import TextDecoder
from ixc.serving.answer_text import AnswerText
from ixc.serving.deltas import TextDelta, TokenLogprob
from ixc.serving.jobs import GenerationJob
from ixc.serving.json_plan import generate_json, grammar_mask
from ixc.serving.logprobs import LogprobReader

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
        if job.json is not None and job.json.by_values:
            generate_json(engine, drawn, cancelled=cancelled, emit=send)
        else:
            _stream(engine, drawn, cancelled=cancelled, emit=send)


def _stream(engine: Engine, job: GenerationJob, *, cancelled: Event, emit: Emit) -> None:
    """Generate one answer and emit its deltas."""
    streamer = AnswerStreamer(engine, job, emit)
    chosen = AnswerLogprobs()
    processors: list[Any] = [chosen] if streamer.logprobs is None else [chosen, streamer.logprobs.recorder]
    if job.json is not None:
        processors.append(grammar_mask(job.json))

    def take(token: int) -> bool:
        streamer.add(token, chosen.of_last(token))
        return streamer.finish is not None or cancelled.is_set()

    _run(engine, job, logits_processor=processors, stopping_criteria=[TokenWatcher(take)])
    streamer.emit_last()


class AnswerStreamer:
    """Turns tokens into deltas as they are generated.

    Args:
        engine: the engine that generates; it gives the decoder and the stop tokens.
        job: the request: stop texts and log probabilities.
        emit: takes every delta but the last, which `emit_last` gives.
    """

    def __init__(self, engine: Engine, job: GenerationJob, emit: Emit) -> None:
        self.engine, self.job, self._emit = engine, job, emit
        self.logprobs = None if job.top_logprobs is None else LogprobReader(engine, top=job.top_logprobs)
        self.finish: str | None = None
        """Set once a stop token or a stop text has come."""
        self.new_tokens = 0
        self.cached_tokens: int | None = None
        """Tokens of the prompt that were known, where the caller has the number; else what the engine reused since."""
        self._decoder = TextDecoder(engine.processor.decode_answer)
        self._stop_ids = engine.preparer.stop_ids | job.stop_token_ids
        self._stopped_by_request = False
        self._chosen: list[float] = []
        self._text = AnswerText(job.stop, is_call=job.json is not None and job.json.is_call)
        self._reused_before = engine.generator.prefixes.tokens_reused

    def emit_last(self) -> None:
        """Emit what is left, with the reason why generation ended."""
        if not self._text.stopped:
            self._text.add(self._decoder.finish())
        if self._text.stopped:
            self.finish, self._stopped_by_request = "stop", True
        last = self._delta(*self._text.take(last=True))
        finish = self.finish or "length"
        sure = confidence(self._chosen, self.engine.calibration)
        self._emit(
            replace(last, confidence=sure, finish=finish, is_open=finish == "length" or self._stopped_by_request)
        )

    def add(self, token: int, logprob: float | None = None) -> None:
        """Take the next token, with its log probability for the confidence in the answer."""
        if logprob is not None:
            self._chosen.append(logprob)
        if token in self._stop_ids:
            self.finish = "stop"
            self._stopped_by_request = token not in self.engine.preparer.stop_ids
            return
        self.new_tokens += 1
        entry = None if self.logprobs is None else self.logprobs.read(token)
        self._text.add(self._decoder.add(token), entry)
        if self._text.stopped:
            self.finish = "stop"
            return
        text, entries = self._text.take()
        if text:
            self._emit(self._delta(text, entries))

    def _delta(self, text: str, entries: tuple[TokenLogprob, ...]) -> TextDelta:
        cached = self.cached_tokens
        if cached is None:  # only one answer is made at a time, so the difference is this answer's
            cached = self.engine.generator.prefixes.tokens_reused - self._reused_before
        return TextDelta(text=text, new_tokens=self.new_tokens, logprobs=entries, cached_tokens=cached)


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
