"""Decoding settings: greedy by default, `ORIGINAL_CHAT` as the original's chat() (spec i).

Imports no torch, so that a command refuses a wrong value before it loads a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from ixc.core.chat_format import CHAT_DEFAULTS
from ixc.errors import UsageError
from ixc.inference.settings import MAX_SEED


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Decoding settings of one answer; an option without effect is refused."""

    do_sample: bool = False
    """Sample tokens by their probability; otherwise take the most probable."""
    temperature: float = 1.0
    """Above 0; below 1 sharpens. Only with do_sample."""
    top_p: float = 1.0
    """Above 0, up to 1: only the likeliest tokens that together have this share. Only with do_sample."""
    top_k: int | None = None
    """Only so many of the likeliest tokens; 0 = all, None = the default of transformers, 50, as in the original's chat.
    Only with do_sample."""
    min_p: float = 0.0
    """0 to 1: only tokens at least this share as likely as the likeliest. Only with do_sample."""
    repetition_penalty: float = 1.0
    """Above 0; 1 changes nothing. With images it covers the answer only, not the prompt, as in the original."""
    frequency_penalty: float = 0.0
    """-2 to 2: taken off a token's score for each time it stands in the answer."""
    presence_penalty: float = 0.0
    """-2 to 2: taken off a token's score once if it stands in the answer."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(id, number added to its score)."""
    num_beams: int = 1
    """Beams of beam search, >= 1 (the published demo uses 3); more than one cannot be streamed."""
    seed: int | None = None
    """Seed of the sampling, 0 to `MAX_SEED`. None = the state of torch's generator. Only with do_sample."""

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise UsageError(f"num_beams is {self.num_beams}, at least 1 needed; use 1 for greedy answers")
        scales = self.temperature, self.repetition_penalty
        if not all(isfinite(value) and value > 0 for value in scales):
            raise UsageError(
                f"temperature is {self.temperature} and repetition_penalty {self.repetition_penalty}; "
                "both must be numbers above 0, and 1 changes nothing"
            )
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is {self.top_p}; it must be above 0 and at most 1, which changes nothing")
        if (self.top_k or 0) < 0 or not 0 <= self.min_p <= 1:
            raise UsageError(f"top_k is {self.top_k} and min_p {self.min_p}; top_k is at least 0, min_p 0 to 1")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"seed is {self.seed}; use a whole number from 0 to {MAX_SEED}")
        drawn = (self.temperature, self.top_p, self.top_k, self.min_p, self.seed)
        if not self.do_sample and drawn != (1.0, 1.0, None, 0.0, None):
            raise UsageError(
                "temperature, top_p, top_k, min_p and seed have no effect without do_sample=True; set it or leave them"
            )

    @property
    def is_beam_search_only(self) -> bool:
        """Whether nothing but `num_beams` is set: an answer then does not depend on the rows generated beside it."""
        return self == Sampling(num_beams=self.num_beams)

    def arguments(self, *, prompt_tokens: int, has_images: bool, start_id: int) -> dict[str, Any]:
        """Return the arguments of `generate`.

        Args:
            prompt_tokens: length of the prompt, images included.
            has_images: without images the penalty covers the prompt too (spec i).
            start_id: `<s>`, which the original's penalty includes before an answer about images.
        """
        found: dict[str, Any] = {"do_sample": self.do_sample, "num_beams": self.num_beams}
        if self.do_sample:
            found |= {"temperature": self.temperature, "top_p": self.top_p}
            found |= {} if self.top_k is None else {"top_k": self.top_k}
            found |= {"min_p": self.min_p} if self.min_p else {}
        from ixc.inference.score_processors import AnswerCountPenalty, LogitBias
        from ixc.model.generation import AnswerRepetitionPenalty

        processors: list[Any] = []
        if self.repetition_penalty != 1.0:
            if has_images:
                processors.append(
                    AnswerRepetitionPenalty(self.repetition_penalty, prompt_length=prompt_tokens, start_id=start_id)
                )
            else:
                found["repetition_penalty"] = self.repetition_penalty
        if self.frequency_penalty or self.presence_penalty:
            processors.append(
                AnswerCountPenalty(self.frequency_penalty, self.presence_penalty, prompt_length=prompt_tokens)
            )
        if self.logit_bias:
            processors.append(LogitBias(self.logit_bias))
        return found | ({"logits_processor": processors} if processors else {})


GREEDY = Sampling()
"""The default: deterministic."""

ORIGINAL_CHAT = Sampling(
    do_sample=CHAT_DEFAULTS.do_sample,
    temperature=CHAT_DEFAULTS.temperature,
    top_p=CHAT_DEFAULTS.top_p,
    repetition_penalty=CHAT_DEFAULTS.repetition_penalty,
    num_beams=CHAT_DEFAULTS.num_beams,
)
"""Defaults of the original's chat()."""
