"""The names of rules, and the refusal of a name that a metric does not have."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ixc.errors import UsageError

Judge = Callable[[str], str]
"""Prompt -> answer of a language model; asked again with the same prompt where an answer cannot be read."""

VLMEVALKIT = "vlmevalkit"
"""VLMEvalKit at e8e78f05f308: the default everywhere."""
LMMS = "lmms"
"""lmms-eval at 75571cfe0fa3."""
OFFICIAL = "official"
"""The scorer that the benchmark's own authors published."""
NOTEBOOK = "notebook"
"""The notebooks of InternLM-XComposer2 at 0f70c3e39111."""

API_FAILURE = "Failed to obtain answer via API"
"""What stands in the place of an answer that a server did not give."""


def check(rule: str, known: Collection[str], *, metric: str) -> None:
    """Refuse a rule that `metric` does not have.

    Raises:
        UsageError: `rule` is not among `known`.
    """
    if rule not in known:
        raise UsageError(f"{metric} has no rule {rule!r}; choose {', '.join(sorted(known))}")
