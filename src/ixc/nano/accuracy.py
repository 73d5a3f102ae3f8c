"""Accuracy of the answers of a step, by kind of page and of question."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ixc.nano.data.curriculum import NO_KIND
from ixc.nano.data.line_copying import LINE_COPYING
from ixc.nano.step_report import running
from ixc.synth.page import DrawnPage, PageQuestion

GradedPages = list[tuple[str, list[tuple[str, bool]]]]
"""For each page its kind, and for each of its questions the kind and whether the answer was right."""

Known = dict[str, dict[str, float]]
"""Running share of right answers, by kind of page and of question."""


def graded_answers(pages: Sequence[DrawnPage], asked: Sequence[Sequence[PageQuestion]], right: Tensor) -> GradedPages:
    """Collect the answers of B pages with Q questions each; right: (B, Q) bool.

    Line-copying tasks are left out, and so are pages of the first curriculum stages, which have no kind.
    """
    return [
        (page.kind, [(question.kind, one) for question, one in zip(mine, row, strict=True)])
        for page, mine, row in zip(pages, asked, right.tolist(), strict=True)
        if page.kind != NO_KIND and mine[0].kind != LINE_COPYING
    ]


def by_kind(graded: GradedPages) -> tuple[dict[str, float], dict[tuple[str, str], list[bool]]]:
    """Share of right answers by kind of page (mean over pages), and all answers by kind of page and of question."""
    kinds: dict[str, list[float]] = {}
    asked: dict[tuple[str, str], list[bool]] = {}
    for page, answers in graded:
        kinds.setdefault(page, []).append(sum(right for _, right in answers) / len(answers))
        for kind, right in answers:
            asked.setdefault((page, kind), []).append(right)
    return {page: sum(shares) / len(shares) for page, shares in kinds.items()}, asked


def know(known: Known, asked: dict[tuple[str, str], list[bool]]) -> None:
    """Update the running shares, weighted by the number of answers."""
    for (page, kind), right in asked.items():
        running(known.setdefault(page, {}), kind, sum(right) / len(right), keep=0.97 ** len(right))
