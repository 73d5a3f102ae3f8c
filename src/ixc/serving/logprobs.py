"""Log probabilities of an answer's tokens: from the scores of each step to the entries of a response."""

from __future__ import annotations

from dataclasses import replace

from ixc.inference.engine import Engine
from ixc.inference.score_processors import LogprobRecorder
from ixc.inference.token_text import TokenText
from ixc.serving.deltas import TokenLogprob

MIN_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot write; the number is OpenAI's."""


class LogprobReader:
    """Reads the entries of one answer, one for each token in turn.

    Args:
        engine: the engine that generates, with `recorder` as its first processor of scores.
        top: alternatives to each token.
    """

    def __init__(self, engine: Engine, *, top: int) -> None:
        self.recorder = LogprobRecorder()
        self.top = top
        self._text = TokenText(engine.processor.tokenizer, engine.processor.decode_answer)

    def read(self, token: int) -> TokenLogprob:
        """Return the entry of the next token."""
        row = self.recorder.rows.popleft()  # (V,)
        best = row.topk(min(self.top, row.shape[0]))
        top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return self._entry(token, float(row[token]), top=tuple(self._entry(*other) for other in top))

    def _entry(self, token: int, logprob: float, *, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        text, data = self._text(token)
        return TokenLogprob(token=text, bytes=data, logprob=max(logprob, MIN_LOGPROB), top=top)


def written_as(data: bytes, entry: TokenLogprob | None) -> TokenLogprob:
    """Return the entry of bytes of a JSON text.

    Args:
        data: the bytes.
        entry: of the token that they stand for; None = the grammar writes them, with probability 1.
    """
    found = TokenLogprob(token="", bytes=b"", logprob=0.0) if entry is None else entry
    return replace(found, token=data.decode("utf-8", "replace"), bytes=data)
