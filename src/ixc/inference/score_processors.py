"""Processors of a token's score: OpenAI's penalties, added biases, log probabilities of tokens and of answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor


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


class AnswerLogprobs(LogitsProcessor):
    """Records the log probability of every token that is chosen, after penalties and before temperature.

    Rows of a batch are recorded side by side; not for beam search, which reorders them.
    """

    def __init__(self) -> None:
        self._chosen: list[torch.Tensor] = []  # (B,) each
        self._last: torch.Tensor | None = None  # (B, V)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._take(input_ids[:, -1])
        self._last = scores.float().log_softmax(-1)
        return scores

    def _take(self, tokens: torch.Tensor) -> None:
        if self._last is not None:
            self._chosen.append(self._last.gather(1, tokens[:, None].to(self._last.device))[:, 0])

    def of_last(self, token: int) -> float:
        """Return the log probability of the token chosen last, of one row, as soon as it is known."""
        assert self._last is not None, "generate has computed no scores yet"
        return float(self._last[0, token])

    def rows(self, output: torch.Tensor) -> list[list[float]]:
        """Return the log probabilities of the new tokens of every row, once `generate` has returned `output` (B, T)."""
        self._take(output[:, -1])
        self._last = None
        return torch.stack(self._chosen, 1).tolist() if self._chosen else [[] for _ in output]
