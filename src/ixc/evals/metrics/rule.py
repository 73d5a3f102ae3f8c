"""Names of scoring rules, and the check that a metric has a rule."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ixc.errors import UsageError

Judge = Callable[[str], str]
"""Prompt -> reply of a language model; called again with the same prompt where a reply cannot be parsed."""

VLMEVALKIT = "vlmevalkit"
"""VLMEvalKit at e8e78f05f308: the default everywhere."""
LMMS = "lmms"
"""lmms-eval 0.7.3."""
LMMS_EARLIER = "lmms-75571cfe"
"""lmms-eval at 75571cfe0fa3, where it scores differently."""
OFFICIAL = "official"
"""The scorer that the benchmark's own authors published."""
NOTEBOOK = "notebook"
"""The notebooks of InternLM-XComposer2 at 0f70c3e39111."""

API_FAILURE = "Failed to obtain answer via API"
"""Text that VLMEvalKit stores where a server gave no answer."""


def check(rule: str, known: Collection[str], *, metric: str) -> None:
    """Check that `metric` has a rule.

    Raises:
        UsageError: `rule` is not among `known`.
    """
    if rule not in known:
        raise UsageError(f"{metric} has no rule {rule!r}; choose {', '.join(sorted(known))}")
