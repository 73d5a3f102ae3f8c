"""Predictions of a run: one JSON Lines file per task, appended batch by batch, sufficient for scoring again.

    {"task": "docvqa_val", "dataset": "DocVQA_VAL", "style": "published", "model": ..., "settings": {...}, ...}   Header
    {"index": 49153, "prediction": "0.28"}                                                                Prediction
    {"index": 24580, "prediction": "B", "output": "B. river"}
    {"index": 11027, "error": "question 11027: the picture (812 bytes) is broken or cut short"}              Failure

    RUN/docvqa_val.jsonl              one process, or the merged file of all ranks
    RUN/docvqa_val.2of4.jsonl         the second of four processes: the questions 1, 5, 9, ... counted from 0

A kill can truncate only the last line: it is ignored when the file is read and cut off when the run resumes. Lines
are in the order of the questions and hold no times, so an interrupted and resumed run ends in the same bytes as any
other. A question that failed is asked again by the next run; the new line is appended and takes the place of the old
one when the file is read, and in the file itself once the run is done (`tidy`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ixc.errors import DataError, MissingFileError
from ixc.evals.question import Index
from ixc.utils import files


@dataclass(frozen=True, kw_only=True)
class Header:
    """First line of a file: the task, the model and all settings. A run resumes only under the same header."""

    task: str
    """Name in the registry: "docvqa_val"."""
    dataset: str
    """Official name of the data set: "DocVQA_VAL"."""
    style: str
    """Prompt style: "published" or "clean"."""
    model: str
    """Name of the model that answered."""
    version: str
    """Version of this package."""
    questions: int
    """Questions of the whole data set, >= 1; a file may hold fewer."""
    data: str
    """MD5 of the data file, "" where unknown."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Everything else that decides the answers: dtype, partition, HD of all questions, endpoint."""
    rank: tuple[int, int] = (1, 1)
    """(i, n): this file holds the questions i - 1, i - 1 + n, ... counted from 0."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One answered question."""

    index: Index
    """Row of the data set."""
    prediction: str
    """Text that is scored."""
    output: str | None = None
    """Full model output, where the prediction is only a part of it (the first capital letter)."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One question that was asked and got no answer; the next run asks it again."""

    index: Index
    """Row of the data set."""
    error: str
    """The reason, one line."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A predictions file that was read."""

    path: Path
    """The file."""
    header: Header
    """Its first line."""
    entries: tuple[Prediction | Failure, ...]
    """One per question that was asked, in the order of the questions."""
    untidy: bool = False
    """True: the file has lines that `entries` leaves out: an incomplete last one, or failures that were asked again."""

    @property
    def answered(self) -> tuple[Prediction, ...]:
        """The questions that have an answer, in order."""
        return tuple(entry for entry in self.entries if isinstance(entry, Prediction))

    @property
    def failed(self) -> tuple[Failure, ...]:
        """The questions that got none, in order."""
        return tuple(entry for entry in self.entries if isinstance(entry, Failure))

    @property
    def predictions(self) -> dict[Index, str]:
        """Prediction by index, the form that `Task.score` takes."""
        return {line.index: line.prediction for line in self.answered}


def path_of(folder: Path, task: str, *, rank: tuple[int, int] = (1, 1)) -> Path:
    """Return the predictions file of a task and rank in a run's folder."""
    return folder / (f"{task}.jsonl" if rank[1] == 1 else f"{task}.{rank[0]}of{rank[1]}.jsonl")


def score_path(file: Path) -> Path:
    """Return the score file of a predictions file: RUN/docvqa_val.jsonl -> RUN/docvqa_val.score.json."""
    return file.with_name(file.name.removesuffix(".jsonl") + ".score.json")


# -- writing ----------------------------------------------------------------------------------------------------------


def start_or_resume(path: Path, header: Header) -> Run:
    """Create the file with its header, or open the existing one and tidy it.

    Raises:
        DataError: the file belongs to another run, or is broken.
    """
    if not path.exists() or path.stat().st_size == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        _rewrite(path, [header])
        return Run(path=path, header=header, entries=())
    if _header_truncated(path):
        _rewrite(path, [header])
    run = read(path)
    check_same(run, header)
    return _tidied(run)


def append(path: Path, entries: Sequence[Prediction | Failure]) -> None:
    """Append lines in a single write."""
    with path.open("ab") as file:
        file.write(_bytes(entries))


def tidy(path: Path) -> Run:
    """Read a file, and write it again with one line per question if it has others."""
    return _tidied(read(path))


def fill_gaps(run: Run, order: Sequence[Index]) -> Run:
    """Return the run with a failure in place of every question that was skipped: its line was deleted by hand.

    Args:
        run: as resumed.
        order: indices of the questions it may hold.

    Raises:
        DataError: its lines are not in this order, or of other questions.
    """
    places = {index: place for place, index in enumerate(order)}
    found = [places.get(entry.index, -1) for entry in run.entries]
    if -1 in found or found != sorted(found):
        number = next(n for n, place in enumerate(found) if place != n)
        there = f"where the data has {order[number]!r}" if number < len(order) else f"and the data has {len(order)}"
        raise DataError(
            f"{run.path} answers question {run.entries[number].index!r} {there} (number {number + 1}); "
            "use the data file it was begun with, or another --out"
        )
    known = {entry.index: entry for entry in run.entries}
    whole = order[: found[-1] + 1] if found else ()
    entries = tuple(known.get(index, Failure(index=index, error="its line was deleted")) for index in whole)
    return _tidied(replace(run, entries=entries, untidy=entries != run.entries))


def _tidied(run: Run) -> Run:
    if run.untidy or not run.path.read_bytes().endswith(b"\n"):
        _rewrite(run.path, [run.header, *run.entries])
    return replace(run, untidy=False)


def merge(paths: Sequence[Path], out: Path, *, order: Sequence[Index]) -> Run | None:
    """Merge the files of all ranks in the order of the questions; None while some of them were not asked.

    Of an existing merged file the further questions are kept: a smaller --limit removes nothing.

    Args:
        paths: files of ranks 1 .. n, in this order.
        out: the merged file.
        order: indices of the questions of the run over all ranks.

    Raises:
        DataError: a file is broken, or belongs to another run.
    """
    if not all(path.exists() and not _header_truncated(path) for path in paths):
        return None
    runs = [read(path) for path in paths]
    for number, run in enumerate(runs, 1):
        check_same(run, replace(runs[0].header, rank=(number, len(runs))))
    found = {entry.index: entry for run in runs for entry in run.entries}
    if any(index not in found for index in order):
        return None
    merged = tuple(found[index] for index in order)
    header = replace(runs[0].header, rank=(1, 1))
    if out.exists():
        old = read(out)
        check_same(old, header)
        asked = set(order)
        merged += tuple(entry for entry in old.entries if entry.index not in asked)
        if merged == old.entries:
            return old
    _rewrite(out, [header, *merged])
    return Run(path=out, header=header, entries=merged)


def check_same(run: Run, header: Header) -> None:
    """Check that a file was started with the same header.

    Raises:
        DataError: naming the first setting that differs, with both values.
    """
    old, new = _flat(run.header), _flat(header)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise DataError(
                f"{run.path} was begun with {key} {old.get(key)!r}, this run has {new.get(key)!r}; "
                "use the same settings, or another --out"
            )


def _flat(header: Header) -> dict[str, Any]:
    """Field or setting -> value, after a round trip through JSON (tuples become lists)."""
    values = json.loads(json.dumps(asdict(header)))
    return {**{key: value for key, value in values.items() if key != "settings"}, **values["settings"]}


def _line(value: Header | Prediction | Failure) -> str:
    data = {key: entry for key, entry in asdict(value).items() if not (key == "output" and entry is None)}
    return json.dumps(data, ensure_ascii=False) + "\n"


def _bytes(lines: Iterable[Header | Prediction | Failure]) -> bytes:
    return "".join(map(_line, lines)).encode("utf-8", "replace")  # a model may write a lone surrogate


def _rewrite(path: Path, lines: Iterable[Header | Prediction | Failure]) -> None:
    files.atomic_write(path, _bytes(lines))


def _header_truncated(path: Path) -> bool:
    """Whether a kill truncated the header; the file then holds no answers."""
    data = path.read_bytes()
    if b"\n" in data:
        return False
    try:
        json.loads(data)
    except ValueError:
        return data.startswith(b'{"task"')
    return False


# -- reading ----------------------------------------------------------------------------------------------------------


def read(path: Path) -> Run:
    """Read a file of predictions.

    Raises:
        DataError: the file is missing, of another kind, or has a broken line; the message names the line.
    """
    pieces = _pieces(path)
    header = _header(path, _object(path, 1, pieces[0]))
    truncated = len(pieces) > 1 and pieces[-1] != b"" and not _is_json(pieces[-1])
    end = len(pieces) - 1 if truncated else len(pieces)
    entries: dict[Index, Prediction | Failure] = {}
    untidy = truncated
    for number, piece in enumerate(pieces[1:end], 2):
        if not piece.strip():
            continue
        line = _entry(path, number, _object(path, number, piece))
        if isinstance(entries.get(line.index), Prediction):
            raise DataError(f"{path} line {number}: question {line.index!r} is answered twice; delete one of the lines")
        untidy |= line.index in entries
        entries[line.index] = line  # a dictionary keeps the place of a failure that was asked again
    if len(entries) > header.questions:
        raise DataError(
            f"{path} has {len(entries)} predictions for {header.questions} questions; it is mixed from two runs"
        )
    return Run(path=path, header=header, entries=tuple(entries.values()), untidy=untidy)


def _pieces(path: Path) -> list[bytes]:
    """Split into lines as bytes: a truncated line may end inside a UTF-8 sequence."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"no file {path}; give the JSON Lines file of a run: RUN/docvqa_val.jsonl") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; give a file in it: {path}/docvqa_val.jsonl") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if not data.strip():
        raise DataError(f"{path} has {len(data)} bytes and no line; run `ixc eval` again")
    return data.removeprefix(b"\xef\xbb\xbf").split(b"\n")


def _object(path: Path, number: int, piece: bytes) -> dict[str, Any]:
    try:
        value = json.loads(piece.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} line {number}: byte {error.start + 1} is no UTF-8; save the file as UTF-8 or run again"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} line {number} is no JSON ({str(error)[:80]}); one object a line needed, "
            "delete the line and run again to answer its question"
        ) from None
    if not isinstance(value, dict):
        raise DataError(f"{path} line {number} is a {type(value).__name__}, an object needed; delete the line")
    return value


def _is_json(piece: bytes) -> bool:
    try:
        json.loads(piece)
    except (ValueError, RecursionError):
        return False
    return True


RENAMED_SETTINGS = {"plain": "openai_only"}
"""Setting in files of older versions -> its name today."""

_TYPES = {"task": str, "dataset": str, "style": str, "model": str, "version": str, "questions": int, "data": str}


def _header(path: Path, value: dict[str, Any]) -> Header:
    missing = [name for name in _TYPES if name not in value]
    if missing:
        raise DataError(
            f"{path} line 1 has no {', '.join(missing)}; a file of predictions begins with the settings of its run"
        )
    for name, kind in _TYPES.items():
        if not isinstance(value[name], kind) or isinstance(value[name], bool):
            raise DataError(f"{path} line 1: {name} is {value[name]!r}, a {kind.__name__} needed; restore the line")
    if value["questions"] < 1:
        raise DataError(f"{path} line 1: questions is {value['questions']}, at least 1 needed; restore the line")
    if not isinstance(value.get("settings", {}), dict):
        raise DataError(f"{path} line 1: settings is {value['settings']!r}, an object needed; restore the line")
    known = {each.name for each in fields(Header)}
    if unknown := sorted(value.keys() - known):
        raise DataError(f"{path} line 1 has {', '.join(unknown)}, unknown to this version; update the package")
    settings = {RENAMED_SETTINGS.get(key, key): entry for key, entry in value.get("settings", {}).items()}
    return Header(**{**value, "settings": settings, "rank": _rank(path, value.get("rank", [1, 1]))})


def _rank(path: Path, value: Any) -> tuple[int, int]:
    is_pair = isinstance(value, list) and len(value) == 2 and all(type(side) is int for side in value)
    if not is_pair or not 1 <= value[0] <= value[1]:
        raise DataError(f"{path} line 1: rank is {value!r}, [i, n] with 1 <= i <= n needed; restore the line")
    return value[0], value[1]


def _entry(path: Path, number: int, value: dict[str, Any]) -> Prediction | Failure:
    index, text, output = value.get("index"), value.get("prediction"), value.get("output")
    if type(index) not in (int, str):
        raise DataError(f"{path} line {number}: index is {index!r}, a whole number or text needed; delete the line")
    assert isinstance(index, int | str)
    if isinstance(value.get("error"), str) and text is None:
        return Failure(index=index, error=value["error"])
    for name, entry in (("prediction", text), ("output", "" if output is None else output)):
        if not isinstance(entry, str):
            raise DataError(f"{path} line {number}: {name} is {entry!r}, text needed; put it in quotes")
    assert isinstance(text, str)
    return Prediction(index=index, prediction=text, output=output)
