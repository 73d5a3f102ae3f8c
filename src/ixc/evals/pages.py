"""Exact match of a model on questions about pictures of real pages: a folder with `questions.jsonl`.

    FOLDER/questions.jsonl --read_cases--> PageCase --answers--> prediction --> PageReport by kind, em and package

The folder is made by `ixc data questions` from documents that were never trained on. A picture that cannot be read is
a wrong answer with its reason; the other questions are asked all the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ixc.errors import DataError, IxcError, MissingFileError
from ixc.evals.synthetic import SyntheticRow, row
from ixc.utils import files
from ixc.utils.counted import counted

QUESTIONS = "questions.jsonl"
"""File of a folder: one question a line."""
EMS = (8.0, 12.0, 16.0, 20.0, 28.0)
"""Bin edges of a page's em, pixels of the picture."""

Answers = Callable[[Path, str], str]
"""(picture, question) -> answer text: any model, local or behind an endpoint."""


@dataclass(frozen=True, kw_only=True)
class PageCase:
    """One question about one picture."""

    image: str
    """Picture, relative to the folder."""
    kind: str
    """Kind of question."""
    question: str
    answer: str
    """Ground truth."""
    em: float | None = None
    """Median em of the page's text, pixels of the picture; None: not known."""
    package: str = ""
    """Where the page comes from."""
    prediction: str | None = None
    """Answer of the model; None: not asked yet, or failed."""
    error: str = ""
    """Why there is no answer."""

    @property
    def right(self) -> bool:
        """Exact match, runs of blanks as one."""
        return self.prediction is not None and " ".join(self.prediction.split()) == " ".join(self.answer.split())


@dataclass(frozen=True, kw_only=True)
class PageReport:
    """All questions of a folder; `str` gives the table."""

    cases: tuple[PageCase, ...]

    @property
    def failed(self) -> int:
        """Questions without an answer."""
        return sum(case.prediction is None for case in self.cases)

    def groups(self) -> list[tuple[str, list[SyntheticRow]]]:
        """Return title and rows of every part of the table."""
        parts: list[tuple[str, Callable[[PageCase], str]]] = [
            ("by kind of question", lambda case: case.kind),
            ("by em of the page's text", lambda case: em_class(case.em)),
            ("by package", lambda case: case.package or "unnamed"),
        ]
        return [("all", [row("all", self.cases)]), *((title, _rows(self.cases, key)) for title, key in parts)]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form: share, interval and count of every group, then the questions."""
        cases = [asdict(case) | {"right": case.right} for case in self.cases]
        groups = {title: [asdict(one) for one in found] for title, found in self.groups()}
        return {"images": len({case.image for case in self.cases}), "failed": self.failed, "groups": groups} | {
            "cases": cases
        }

    def __str__(self) -> str:
        """Return the table in Markdown."""
        lines = ["| | exact match % | 95 % interval | questions |", "|---|---|---|---|"]
        for title, found in self.groups():
            lines.append(f"| **{title}** | | | |")
            lines += [f"| {r.name} | {r.percent:.1f} | {r.low:.1f} to {r.high:.1f} | {r.count} |" for r in found]
        if self.failed:
            first = next(case for case in self.cases if case.prediction is None)
            have = "has" if self.failed == 1 else "have"
            lines.append(
                f"\n{counted(self.failed, 'question')} {have} no answer; the first: {first.image}: {first.error}"
            )
        return "\n".join(lines)


def em_class(em: float | None) -> str:
    """Return the bin of an em: `below 08 px`, `08 to 12 px`, ... `28 px and more`."""
    if em is None:
        return "unknown"
    above = [edge for edge in EMS if edge > em]
    if len(above) == len(EMS):
        return f"below {EMS[0]:02.0f} px"
    return f"{EMS[-len(above) - 1]:02.0f} to {above[0]:02.0f} px" if above else f"{EMS[-1]:02.0f} px and more"


def _rows(cases: Sequence[PageCase], key: Callable[[PageCase], str]) -> list[SyntheticRow]:
    names = sorted({key(case) for case in cases})
    return [row(name, [case for case in cases if key(case) == name]) for name in names]


def read_cases(folder: Path) -> list[PageCase]:
    """Read the questions of a folder.

    Raises:
        MissingFileError: no such folder.
        DataError: no file of questions, a line that is no question, or a picture that is missing.
    """
    if not folder.is_dir():
        raise MissingFileError(f"no folder {folder}; make it with ixc data questions")
    path = folder / QUESTIONS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {reason}; make the folder with ixc data questions") from error
    cases = [_case(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not cases:
        raise DataError(f"{path} holds 0 questions")
    if missing := sorted({case.image for case in cases if not (folder / case.image).is_file()}):
        raise DataError(
            f"{len(missing)} of {len({c.image for c in cases})} pictures of {path} are missing: {missing[0]}"
        )
    return cases


def _case(path: Path, number: int, line: str) -> PageCase:
    known = {each.name for each in fields(PageCase)} - {"prediction", "error"}
    try:
        found = json.loads(line)
        needed = {name: str(found[name]) for name in ("image", "kind", "question", "answer")}
        more = {name: found[name] for name in known - set(needed) if name in found}
        return PageCase(**needed, **more)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}, line {number}: no question (image, kind, question, answer): {error}") from error


def run(answers: Answers, folder: Path, *, keep: Path | None = None, model: str = "") -> Generator[int | PageReport]:
    """Ask every question of a folder; yield the number of questions done, and the report last.

    Args:
        keep: file of answers, one JSON line a question; a run that finds it asks only what failed or is not there.
        model: name or fingerprint of the weights and settings, recorded in the first line of `keep`.

    Raises:
        DataError: as `read_cases`; `keep` is another kind of file, or of another model.
    """
    cases = read_cases(folder)
    before = _kept(keep, model) if keep is not None else {}
    done: list[PageCase] = []
    for case in cases:
        known = before.get((case.image, case.question))
        done.append(_asked(answers, folder, case) if known is None else replace(case, prediction=known))
        if keep is not None and known is None and done[-1].prediction is not None:
            _append(keep, done[-1], model)
        yield len(done)
    yield PageReport(cases=tuple(done))


def _asked(answers: Answers, folder: Path, case: PageCase) -> PageCase:
    try:
        return replace(case, prediction=answers(folder / case.image, case.question).strip())
    except IxcError as error:  # one question that fails must not cost the others
        return replace(case, error=str(error))


def _append(keep: Path, case: PageCase, model: str) -> None:
    new = not keep.is_file()
    with keep.open("a", encoding="utf-8") as file:
        if new:
            file.write(json.dumps({"model": model}) + "\n")
        said = {"image": case.image, "question": case.question, "prediction": case.prediction}
        file.write(json.dumps(said, ensure_ascii=False) + "\n")


def _kept(keep: Path, model: str) -> dict[tuple[str, str], str]:
    """Answers of an earlier run; a truncated last line is cut off, so that appending can continue."""
    if not keep.is_file():
        return {}
    text = keep.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        files.atomic_write(keep, whole)
    try:
        head, *answered = [json.loads(line) for line in whole.splitlines()] or [{"model": model}]
        by = head["model"]
        found = {(one["image"], one["question"]): str(one["prediction"]) for one in answered}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{keep} holds no answers of this command ({str(error)[:100]}); name another file") from error
    if by != model:
        raise DataError(f"{keep} holds answers of {by or 'a model unnamed'}, not of {model}; name another file")
    return found


__all__ = ["PageCase", "PageReport", "read_cases", "run"]
