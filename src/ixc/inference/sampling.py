"""Decoding settings: greedy by default, `ORIGINAL_CHAT` as the original's chat() (spec i)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor

from ixc.core.chat_format import CHAT_DEFAULTS
from ixc.errors import UsageError
from ixc.model.generation import AnswerRepetitionPenalty


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
    """Seed of the sampling. None = the state of torch's generator. Only with do_sample."""

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise UsageError(f"num_beams is {self.num_beams}, at least 1 needed; use 1 for greedy answers")
        if self.temperature <= 0 or self.repetition_penalty <= 0:
            raise UsageError(
                f"temperature is {self.temperature} and repetition_penalty {self.repetition_penalty}; "
                "both must be above 0, and 1 changes nothing"
            )
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is {self.top_p}; it must be above 0 and at most 1, which changes nothing")
        if (self.top_k or 0) < 0 or not 0 <= self.min_p <= 1:
            raise UsageError(f"top_k is {self.top_k} and min_p {self.min_p}; top_k is at least 0, min_p 0 to 1")
        drawn = (self.temperature, self.top_p, self.top_k, self.min_p, self.seed)
        if not self.do_sample and drawn != (1.0, 1.0, None, 0.0, None):
            raise UsageError(
                "temperature, top_p, top_k, min_p and seed have no effect without do_sample=True; set it or leave them"
            )

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


class AnswerCountPenalty(LogitsProcessor):
    """OpenAI's two penalties: score - count * frequency - (count > 0) * presence, over the answer only.

    Args:
        frequency, presence: -2 to 2.
        prompt_length: tokens of the prompt in `input_ids`.
    """

    def __init__(self, frequency: float, presence: float, *, prompt_length: int) -> None:
        self.frequency, self.presence, self.prompt_length = frequency, presence, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        said = input_ids[:, self.prompt_length :]
        counts = torch.zeros_like(scores).scatter_add_(1, said, torch.ones_like(said, dtype=scores.dtype))  # (B, V)
        return scores - self.frequency * counts - self.presence * (counts > 0)


class LogitBias(LogitsProcessor):
    """Adds numbers to the scores of some tokens; ids outside the vocabulary change nothing.

    Args:
        biases: (id, number) each.
    """

    def __init__(self, biases: Sequence[tuple[int, float]]) -> None:
        self.biases = biases

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        known = [(token, bias) for token, bias in self.biases if token < scores.shape[-1]]
        if not known:
            return scores
        ids = torch.tensor([token for token, _ in known], device=scores.device)
        values = torch.tensor([bias for _, bias in known], device=scores.device, dtype=scores.dtype)
        return scores.index_add(-1, ids, values.expand(len(scores), -1))


class LogprobRecorder(LogitsProcessor):
    """Records the log probabilities of each step; runs before temperature and top_p."""

    def __init__(self) -> None:
        self.rows: deque[torch.Tensor] = deque()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.rows.append(scores[0].float().log_softmax(-1).cpu())  # (V,)
        return scores


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
