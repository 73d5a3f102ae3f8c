"""A language model as the judge of answers (LLM-as-a-judge), with every reply cached on disk.

    prompt --cache hit--> reply                  scoring again sends no request and gives the same score
           --endpoint--> reply --> cache

Official scorers repeat a prompt with a higher temperature where they cannot parse the reply; the n-th use of a prompt
within one scoring therefore has its own cache entry.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ixc.errors import DataError
from ixc.evals.endpoint import Endpoint, complete
from ixc.evals.metrics.rule import Judge
from ixc.utils import files

TEMPERATURE_STEP = 0.5
"""Temperature added with every repetition of a prompt; the first request is greedy."""

MAX_TEMPERATURE = 1.5
"""Highest temperature."""

MAX_TOKENS = 512
"""Longest reply, tokens."""


def judge(endpoint: Endpoint, cache: Path) -> Judge:
    """Make a judge that asks an endpoint.

    Args:
        endpoint: server and model of the judge.
        cache: JSON Lines file of its replies, created if missing.

    Raises:
        DataError: `cache` is another kind of file. EndpointError (while judging): the server fails.
    """

    def ask(prompt: str, temperature: float) -> str:
        body: dict[str, Any] = {"max_tokens": MAX_TOKENS, "temperature": temperature}
        return complete(endpoint, [{"role": "user", "content": prompt}], body)

    return cached(ask, cache, model=endpoint.model)


def cached(ask: Callable[[str, float], str], cache: Path, *, model: str) -> Judge:
    """Make a judge that asks only what its cache does not hold.

    Args:
        ask: (prompt, temperature) -> reply.
        cache: JSON Lines file of replies.
        model: name of the judge, part of every cache key: replies of another model are not reused.
    """
    known, seen = _read(cache), Counter[str]()

    def answer(prompt: str) -> str:
        number = seen[prompt]
        seen[prompt] += 1
        key = hashlib.sha256(json.dumps([model, prompt, number]).encode()).hexdigest()
        if key not in known:
            known[key] = ask(prompt, min(number * TEMPERATURE_STEP, MAX_TEMPERATURE))
            cache.parent.mkdir(parents=True, exist_ok=True)
            with cache.open("a", encoding="utf-8", errors="replace") as file:
                line = {"key": key, "model": model, "try": number + 1, "answer": known[key]}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return known[key]

    return answer


def _read(cache: Path) -> dict[str, str]:
    """Read the replies by key; cut off a last line that a kill truncated."""
    if not cache.exists():
        return {}
    data = cache.read_bytes()
    lines = data[: data.rfind(b"\n") + 1]
    found: dict[str, str] = {}
    for number, line in enumerate(lines.splitlines(), 1):
        try:
            value = json.loads(line)
            found[value["key"]] = str(value["answer"])
        except (ValueError, LookupError, TypeError):
            raise DataError(f"{cache} line {number} is no answer of a judge; delete the line or the file") from None
    if lines != data:
        files.atomic_write(cache, lines)
    return found
