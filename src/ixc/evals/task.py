"""A benchmark: where its data comes from, what is asked, how it is scored, what the paper has. Paper, table 3.

    rows --Task.questions(style)--> [Question]  --a model--> answers --Task.prediction--> predictions
    rows + predictions --Task.score--> Score(headline, table, per_row)

The registry is `TASKS` in `evals/tasks/__init__.py`, also found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ixc.errors import DataError, UsageError
from ixc.evals import prompts, table
from ixc.evals.metrics.rule import VLMEVALKIT, Judge
from ixc.evals.metrics.rule import check as check_rule
from ixc.evals.question import Index, Question
from ixc.evals.table import FileFormat, Row
from ixc.utils.lazy_imports import lookup

Style = Literal["published", "clean"]
"""published: the prompts, beams and limits behind the paper's numbers; clean: a user's words, greedy."""
CLEAN_BEAMS = 1

__getattr__ = lookup("ixc.evals", {"TASKS": "tasks"})


@dataclass(frozen=True, kw_only=True)
class Score:
    """What came out."""

    name: str
    """Metric; the rule-based stand-in of a judged benchmark has another name."""
    headline: float
    """The figure comparable with the paper's table, on the paper's scale."""
    table: list[dict[str, Any]]
    """Rows as the official evaluation returns them."""
    per_row: dict[Index, float]
    """0 to 1 per question (of MMBench: per base question)."""


Scorer = Callable[[Sequence[Row], "Task", Judge | None], Score]
"""(rows with predictions, task, judge or None) -> score."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One benchmark with one split."""

    name: str
    """What the command line calls it."""
    title: str
    """Name in the paper's tables."""
    dataset: str
    """Official name of the data set; its file is DATASET.tsv."""
    split: str
    """Split that is scored; where the table has several, the headline is this one's."""
    url: str | None = None
    """Where the TSV file can be downloaded; None where no single public file is known."""
    md5: str | None = None
    """Checksum of that file; None where it is not known for sure."""
    columns: tuple[str, ...] = ("answer",)
    """Columns needed beside index, image and question."""
    check: Callable[[Sequence[Row], str], None] | None = None
    """Looks for unusable cells: (rows, name of the file) -> nothing, or DataError."""
    hd: int = 25
    """Most tiles of 336 px, as the published run."""
    num_beams: int = 3
    """Beams of the published run."""
    max_new_tokens: int = 100
    """Longest answer of the published run, in tokens."""
    published: Callable[[Mapping[str, Any]], str]
    """Row -> whole prompt of the published run."""
    finish: Callable[[str], str] = prompts.as_said
    """Answer of the published run -> prediction: a primed choice keeps its letter only."""
    clean: Callable[[Mapping[str, Any]], str]
    """Row -> the user's words."""
    clean_hd: int | None = None
    """Tiles of a clean run where they differ: OCRBench was meant to have 55."""
    clean_max_new_tokens: int = 128
    """Longest answer of a clean run, in tokens."""
    scorer: Scorer
    """The rule behind the paper's figures, VLMEvalKit's."""
    rules: Mapping[str, Scorer] = field(default_factory=dict)
    """Other official rules by name: "lmms" is lmms-eval's, "official" the benchmark's own, "notebook" the authors'."""
    unit: str = "%"
    """Of the headline."""
    maximum: float = 100.0
    """Best possible headline."""
    judged: bool = False
    """The official score needs a judge."""
    hidden: bool = False
    """The answers are kept by a server."""
    submission: str | None = None
    """Kind of the file that server takes."""
    paper: float | None = None
    """Score of InternLM-XComposer2-4KHD in the paper; None beyond the paper."""
    paper_split: str = ""
    """Split of that score, where it is another one than `split`."""
    source: str = ""
    """Where settings and scores come from."""

    def read(self, path: str | Path) -> list[Row]:
        """The questions of a file, or of `DATASET.tsv` in a folder, checked for this task.

        Raises:
            DataError: no such file, no table, or cells that cannot be asked or scored.
        """
        path = Path(path)
        path = path / f"{self.dataset}.tsv" if path.is_dir() else path
        rows = table.read_rows(path)
        self.check_rows(rows, where=str(path))
        return rows

    def check_rows(self, rows: Sequence[Row], *, where: str | None = None) -> None:
        """Raises DataError where columns are missing or cells cannot be used."""
        where = where or f"{self.dataset}.tsv"
        if not rows:
            raise DataError(f"{where}: 0 rows; give at least 1")
        missing = [c for c in self.columns if c not in rows[0] and not (self.hidden and c == "answer")]
        if missing:
            raise DataError(f"{where}: no column {', '.join(missing)} among its {len(rows[0])}; {self.name} needs it")
        if not self.hidden and self.check is not None:
            self.check(rows, where)

    def question(self, row: Row, *, style: str = "published") -> Question:
        """One row as it is put to the model.

        Raises:
            UsageError: an unknown style.
        """
        if style == "published":
            return Question(
                index=row["index"],
                images=row["image"][:1],  # the published run shows the first image of several
                text=self.published(row),
                hd=self.hd,
                num_beams=self.num_beams,
                max_new_tokens=self.max_new_tokens,
                raw=True,
            )
        if style != "clean":
            raise UsageError(f"unknown prompts {style!r}; take one of {', '.join(get_args(Style))}")
        return Question(
            index=row["index"],
            images=row["image"],
            text=self.clean(row),
            hd=self.clean_hd or self.hd,
            num_beams=CLEAN_BEAMS,
            max_new_tokens=self.clean_max_new_tokens,
        )

    def questions(self, rows: Sequence[Row], *, style: str = "published") -> list[Question]:
        """All rows as they are put to the model; see `question`."""
        return [self.question(row, style=style) for row in rows]

    def prediction(self, answer: str, *, style: str = "published") -> str:
        """What is kept of a model's answer: as the published run did, or all of it."""
        return self.finish(answer) if style == "published" else answer

    def score(
        self,
        rows: Sequence[Row],
        predictions: Mapping[Index, str],
        *,
        judge: Judge | None = None,
        rule: str = VLMEVALKIT,
        file_format: FileFormat = "xlsx",
    ) -> Score:
        """The official score.

        Args:
            rows: of `read`.
            predictions: by index; a subset is scored on the subset, as upstream.
            judge: for judged tasks, and for choices that the rules cannot read; None = rules only.
            rule: "vlmevalkit", or one of `rules`; the score's name then says so.
            file_format: the file predictions pass through, see `table.round_trip`.

        Raises:
            UsageError: the answers are hidden, or no such rule. DataError: predictions or rows that cannot be scored.
        """
        if self.hidden:
            raise UsageError(f"{self.name}: its answers are kept by a server; send it the submission file of the run")
        check_rule(rule, (VLMEVALKIT, *self.rules), metric=self.name)
        self.check_rows(rows)
        where = f"{self.dataset}.tsv"
        answered = table.round_trip(rows, predictions, file_format=file_format, where=where)
        if rule == VLMEVALKIT:
            return self.scorer(answered, self, judge)
        found = self.rules[rule](answered, self, judge)
        return replace(found, name=f"{found.name}, rule {rule}")


def by_index(rows: Sequence[Row], values: Iterator[float]) -> dict[Index, float]:
    """Scores in the order of the rows -> by index."""
    return {row["index"]: float(value) for row, value in zip(rows, values, strict=True)}
