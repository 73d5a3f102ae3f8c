"""Read conversations from Hugging Face `datasets`: a saved folder, parquet or JSON files, or parquet as a stream.

    rows with the columns of `records.py` (image or images; conversations or messages)  -->  Record

Images stay undecoded bytes until a batch needs them. Extra `train`: pip install 'ixc-4khd[train]'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ixc.data.records import IMAGE_KEYS, Record, parse_record
from ixc.errors import DataError, MissingFileError, MissingPackageError, UsageError

SUFFIXES = {".parquet": "parquet", ".arrow": "arrow", ".jsonl": "json"}
"""Suffix of data files -> the builder of `datasets` that reads them."""


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingPackageError(
            "tables need the package datasets; install it: pip install 'ixc-4khd[train]'"
        ) from error
    datasets.disable_progress_bars()
    return datasets


def _undecoded(data: Any) -> Any:
    """Keep images as bytes or paths: `processing.image_io` opens them, with its limits and error messages."""
    library = _library()
    for name, feature in (data.features or {}).items():
        if name not in IMAGE_KEYS:
            continue
        if isinstance(feature, library.Image):
            data = data.cast_column(name, library.Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), library.Image):
            data = data.cast_column(name, library.List(library.Image(decode=False)))
    return data


def _files(path: Path) -> tuple[str, list[str]]:
    """Return the builder and the files of a file or folder.

    Raises:
        DataError: there is none.
    """
    if not path.exists():
        raise MissingFileError(f"no data set {path}; check the path")
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for suffix, builder in SUFFIXES.items():
        mine = [str(file) for file in files if file.suffix == suffix]
        if mine:
            return builder, mine
    raise DataError(f"{path} holds 0 files of {', '.join(SUFFIXES)}; give a folder of a saved data set or of parquet")


class TableDataset:
    """A data set with random access to its rows.

    Args:
        path: folder of `Dataset.save_to_disk`, or a file or folder of parquet.
        images: folder that relative image paths start from; None: the data's own.
        cache: folder for the converted files of `datasets`; None: its default.

    Raises:
        UsageError: the package `datasets` is missing. DataError: nothing to read, or nothing in it.
    """

    def __init__(self, path: Path, *, images: Path | None = None, cache: Path | None = None) -> None:
        self.path = path
        self.images = images or (path if path.is_dir() else path.parent)
        saved = (path / "state.json").is_file()
        builder, files = (
            ("", []) if saved else _files(path)
        )  # importing datasets takes seconds: find a missing file before
        library = _library()
        try:
            if saved:
                data = library.load_from_disk(str(path))
            else:
                data = library.load_dataset(
                    builder, data_files=files, split="train", cache_dir=None if cache is None else str(cache)
                )
        except (OSError, ValueError, library.exceptions.DatasetGenerationError) as error:
            raise DataError(f"{path} cannot be read as a data set ({_line(error)}); save it again") from error
        self._rows = _undecoded(data)
        if not len(self._rows):
            raise DataError(f"{path} has 0 rows, at least 1 needed; is the data set whole?")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        """Return row `index`, 0 .. len - 1; errors as `parse_record`, rows counted from 1."""
        return _record(self._rows[index], self.path, index, self.images)


def _rows_of(path: Path, builder: str, files: Sequence[str]) -> int:
    """Return the number of rows of all files, from their footers."""
    if builder != "parquet":
        raise UsageError(f"{path} is no parquet, which alone can be read as a stream here; leave out --stream")
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import read_metadata

    try:
        return sum(read_metadata(file).num_rows for file in files)
    except (OSError, ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as a data set ({_line(error)}); save it again") from error


class StreamingDataset:
    """A parquet data set too large to convert: read in its own order, epoch after epoch.

    Args:
        path: file or folder of parquet.
        count: rows per epoch, which a mixture must know beforehand; None: from the footers of the parquet files. Mix it
            with `Source(shuffle=False)`.
        images: as `TableDataset`.

    Raises:
        As `TableDataset`.
    """

    def __init__(self, path: Path, *, count: int | None = None, images: Path | None = None) -> None:
        builder, files = _files(path)
        library = _library()
        count = _rows_of(path, builder, files) if count is None else count
        if count < 1:
            raise UsageError(f"{path} has {count} rows, at least 1 needed in one pass; is the data set whole?")
        self.path, self.count = path, count
        self.images = images or (path if path.is_dir() else path.parent)
        self._data = _undecoded(library.load_dataset(builder, data_files=files, split="train", streaming=True))
        self._rows: Iterator[Any] = iter(())
        self._next = -1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Record:
        """Return row `index`; a jump ahead reads up to it, a jump back starts from the beginning.

        Raises:
            RecordError: the row violates a rule. DataError: fewer rows than promised.
        """
        if not 0 <= self._next <= index:
            self._rows = iter(self._data.skip(index))
            self._next = index
        row = next(islice(self._rows, index - self._next, None), None)
        self._next = index + 1
        if row is None:
            raise DataError(f"{self.path} has {index:,} rows, {self.count:,} were promised; give the right count")
        return _record(row, self.path, index, self.images)


def _record(row: Any, path: Path, index: int, images: Path) -> Record:
    return parse_record(_without_none(row), where=f"{path} row {index + 1}", images=images)


def _without_none(value: Any) -> Any:
    """Drop keys without a value: Arrow gives every row and every part all keys of the column, unused ones as None."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
