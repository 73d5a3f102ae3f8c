"""Another model as the judge of answers, every answer of it kept on disk.

    prompt --cache--> answer          a second run asks nobody and scores the same
           --endpoint--> answer --> cache

Official scorers put a prompt again where they could not read the answer, a little warmer each time; so the n-th time
of a prompt within one scoring is an entry of its own.
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

WARMER = 0.5
"""Temperature of the second try; the third has twice as much, and so on. The first is greedy."""

WARMEST = 1.5
"""Highest temperature."""

MAX_TOKENS = 512
"""Longest verdict."""


def judge(endpoint: Endpoint, cache: Path) -> Judge:
    """A judge behind an endpoint.

    Args:
        cache: JSON Lines file of its answers, made if missing.

    Raises:
        DataError: the cache is a file of something else. EndpointError: while judging.
    """

    def ask(prompt: str, temperature: float) -> str:
        body: dict[str, Any] = {"max_tokens": MAX_TOKENS, "temperature": temperature}
        return complete(endpoint, [{"role": "user", "content": prompt}], body)

    return cached(ask, cache, model=endpoint.model)


def cached(ask: Callable[[str, float], str], cache: Path, *, model: str) -> Judge:
    """A judge that asks only what is not in its cache.

    Args:
        ask: (prompt, temperature) -> answer.
        model: its name; another model's answers are not taken for its own.
    """
    known, seen = _read(cache), Counter[str]()

    def answer(prompt: str) -> str:
        number = seen[prompt]
        seen[prompt] += 1
        key = hashlib.sha256(json.dumps([model, prompt, number]).encode()).hexdigest()
        if key not in known:
            known[key] = ask(prompt, min(number * WARMER, WARMEST))
            cache.parent.mkdir(parents=True, exist_ok=True)
            with cache.open("a", encoding="utf-8", errors="replace") as file:
                line = {"key": key, "model": model, "try": number + 1, "answer": known[key]}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return known[key]

    return answer


def _read(cache: Path) -> dict[str, str]:
    """Answers by key; a line torn by a kill is cut off."""
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
