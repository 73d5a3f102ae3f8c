"""A benchmark: data source, prompts, generation settings, scorer, and the paper's score (paper, table 3).

    rows --Task.questions(style)--> [Question]  --a model--> answers --Task.prediction--> predictions
    rows + predictions --Task.score--> Score(headline, table, per_row)

The registry is `TASKS` in `evals/tasks/__init__.py`, also available here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ixc.core.chat_format import Image, Message
from ixc.core.prompt_format import PromptFormat
from ixc.errors import DataError, UsageError
from ixc.evals import prompts, table
from ixc.evals.metrics.rule import VLMEVALKIT, Judge
from ixc.evals.metrics.rule import check as check_rule
from ixc.evals.question import Index, Question
from ixc.evals.table import FileFormat, Row
from ixc.utils.lazy_imports import lookup

Style = Literal["published", "clean"]
"""published: the prompts, beams and limits behind the paper's numbers; clean: plain user prompts, greedy."""


def check_style(style: str) -> None:
    """Check the name of a prompt style. Raises: UsageError: unknown."""
    if style not in get_args(Style):
        raise UsageError(f"unknown prompts {style!r}; take one of {', '.join(get_args(Style))}")


CLEAN_BEAMS = 1
"""Beam width of clean prompts: greedy decoding."""

__getattr__ = lookup("ixc.evals", {"TASKS": "tasks"})


@dataclass(frozen=True, kw_only=True)
class Score:
    """Score of one benchmark."""

    name: str
    """Metric; the rule-based substitute of a judged benchmark has another name."""
    headline: float
    """Score comparable with the paper's table, on the paper's scale."""
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
    """Name on the command line."""
    title: str
    """Name in the paper's tables."""
    dataset: str
    """Official name of the data set; its file is DATASET.tsv."""
    split: str
    """Split that is scored; where the table has several, the headline is this one's."""
    url: str | None = None
    """Address of the TSV file; None where no single public file is known."""
    md5: str | None = None
    """MD5 of that file; None where it is not known for sure."""
    columns: tuple[str, ...] = ("answer",)
    """Columns required besides index, image and question."""
    check: Callable[[Sequence[Row], str], None] | None = None
    """Check for unusable cells: (rows, name of the file) -> None, or DataError."""
    hd: int = 25
    """HD-n of the published run: largest number of 336 px tiles."""
    num_beams: int = 3
    """Beam width of the published run."""
    max_new_tokens: int = 100
    """Longest answer of the published run, tokens."""
    published: Callable[[Mapping[str, Any]], prompts.PublishedPrompt]
    """Row -> prompt of the published run."""
    finish: Callable[[str], str] = prompts.unchanged
    """Output of the published run -> prediction: a primed multiple-choice answer keeps only its letter."""
    clean: Callable[[Mapping[str, Any]], str]
    """Row -> user message."""
    image_tags: bool = False
    """Whether `<image n>` in a clean message is the place of image n; the published run leaves it in the text."""
    clean_hd: int | None = None
    """HD-n of a clean run where it differs: OCRBench was meant to have 55."""
    clean_max_new_tokens: int = 128
    """Longest answer of a clean run, tokens."""
    scorer: Scorer
    """The rule behind the paper's scores, VLMEvalKit's."""
    rules: Mapping[str, Scorer] = field(default_factory=dict)
    """Other official rules by name: "lmms" is lmms-eval's, "official" the benchmark's own, "notebook" the authors'."""
    unit: str = "%"
    """Unit of the headline."""
    maximum: float = 100.0
    """Best possible headline."""
    judged: bool = False
    """Whether the official score needs a judge."""
    hidden: bool = False
    """Whether the answers are hidden on an evaluation server."""
    submission: str | None = None
    """Format that the server takes, a key of `submission.KINDS`."""
    paper: float | None = None
    """Score of InternLM-XComposer2-4KHD in the paper; None beyond the paper."""
    paper_split: str = ""
    """Split of that score, where it differs from `split`."""
    source: str = ""
    """Source of settings and scores."""

    def read(self, path: str | Path, *, style: str = "published") -> list[Row]:
        """Read the questions of a file, or of `DATASET.tsv` in a folder, and check them for this task.

        Args:
            path: the file or folder.
            style: prompts of the run. Published ones need the rows as the official reader has them, in which an
                option None is missing; clean ones every cell as it is written.

        Raises:
            DataError: no such file, no table, or cells that cannot be asked or scored. UsageError: an unknown style.
        """
        check_style(style)
        path = Path(path)
        path = path / f"{self.dataset}.tsv" if path.is_dir() else path
        rows = table.read_rows(path, as_text=style == "clean")
        self.check_rows(rows, where=str(path))
        return rows

    def check_rows(self, rows: Sequence[Row], *, where: str | None = None) -> None:
        """Check columns and cells. Raises: DataError: a column is missing, or a cell is unusable."""
        where = where or f"{self.dataset}.tsv"
        if not rows:
            raise DataError(f"{where}: 0 rows; give at least 1")
        missing = [c for c in self.columns if c not in rows[0] and not (self.hidden and c == "answer")]
        if missing:
            raise DataError(f"{where}: no column {', '.join(missing)} among its {len(rows[0])}; {self.name} needs it")
        if not self.hidden and self.check is not None:
            self.check(rows, where)

    def question(self, row: Row, *, style: str = "published") -> Question:
        """Build the question of one row.

        Raises:
            UsageError: an unknown style.
        """
        check_style(style)
        if style == "published":
            images = row["image"][:1]  # parity: the published run passes only the first of several images
            prompt = self.published(row)
            return Question(
                index=row["index"],
                images=images,
                messages=prompt.messages(len(images)),
                prompt_format=prompt.prompt_format,
                hd=self.hd,
                num_beams=self.num_beams,
                max_new_tokens=self.max_new_tokens,
                broken=row.get(table.IMAGE_ERROR),
            )
        message = self._clean_message(row)
        return Question(
            index=row["index"],
            images=row["image"],
            messages=(message,),
            prompt_format=PromptFormat(images_in_place=self.image_tags),
            hd=self.clean_hd or self.hd,
            num_beams=CLEAN_BEAMS,
            max_new_tokens=self.clean_max_new_tokens,
            broken=row.get(table.IMAGE_ERROR),
        )

    def _clean_message(self, row: Mapping[str, Any]) -> Message:
        text, images = self.clean(row), len(row["image"])
        if self.image_tags and table.IMAGE_ERROR not in row:
            return Message("user", prompts.at_tags(text, images))
        return Message("user", (*map(Image, range(images)), text))

    def questions(self, rows: Sequence[Row], *, style: str = "published") -> list[Question]:
        """Build the questions of all rows; see `question`."""
        return [self.question(row, style=style) for row in rows]

    def prediction(self, answer: str, *, style: str = "published") -> str:
        """Return the part of a model's output that is scored: as in the published run, or all of it."""
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
        """Compute the official score.

        Args:
            rows: as read by `read`.
            predictions: by index; a subset is scored on the subset, as upstream.
            judge: for judged tasks, and for choices that the rules cannot parse; None = rules only.
            rule: "vlmevalkit", or one of `rules`, which is then appended to the score's name.
            file_format: file that predictions pass through, see `table.round_trip`.

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


def file_format_of(style: str) -> FileFormat:
    """Return the file that predictions pass through: the official run's, or one that changes nothing."""
    return "xlsx" if style == "published" else "jsonl"


def by_index(rows: Sequence[Row], values: Iterator[float]) -> dict[Index, float]:
    """Map scores in the order of the rows to their indices."""
    return {row["index"]: float(value) for row, value in zip(rows, values, strict=True)}
