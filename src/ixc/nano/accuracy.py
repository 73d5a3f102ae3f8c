"""Which questions were answered rightly, by kind of page and of question."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ixc.nano.data.curriculum import NO_KIND
from ixc.nano.data.line_copying import ALOUD
from ixc.nano.step_report import running
from ixc.synth.page import DrawnPage, PageQuestion

Marks = list[tuple[str, list[tuple[str, bool]]]]
"""Of each page its kind, and of each of its questions the kind and whether the answer was right."""

Known = dict[str, dict[str, float]]
"""Running share of right answers by kind of page and of question."""


def marks_of(pages: Sequence[DrawnPage], asked: Sequence[Sequence[PageQuestion]], right: Tensor) -> Marks:
    """Of B pages, Q questions each, and (B, Q) bool; what is read aloud is left out, as are the pages of the first
    lessons, which have no kind."""
    return [
        (page.kind, [(question.kind, one) for question, one in zip(mine, row, strict=True)])
        for page, mine, row in zip(pages, asked, right.tolist(), strict=True)
        if page.kind != NO_KIND and mine[0].kind != ALOUD
    ]


def by_kind(marks: Marks) -> tuple[dict[str, float], dict[tuple[str, str], list[bool]]]:
    """Share of right answers by kind of page, the mean over its pages; all answers by kind of page and of question."""
    kinds: dict[str, list[float]] = {}
    asked: dict[tuple[str, str], list[bool]] = {}
    for page, answers in marks:
        kinds.setdefault(page, []).append(sum(right for _, right in answers) / len(answers))
        for kind, right in answers:
            asked.setdefault((page, kind), []).append(right)
    return {page: sum(shares) / len(shares) for page, shares in kinds.items()}, asked


def know(known: Known, asked: dict[tuple[str, str], list[bool]]) -> None:
    """Bring the running shares forward, by as much as there were answers."""
    for (page, kind), right in asked.items():
        running(known.setdefault(page, {}), kind, sum(right) / len(right), keep=0.97 ** len(right))
