"""Records that a run leaves out although their validation passed: a picture fails at decoding, a file vanishes.

    Batches --RecordError--> SkippedRecords --> checkpoint, all ranks, the report at the end

A step skips these records and draws further ones in their place. So the stream of a run is that of its data without
them, whenever each one is found: before or after a kill, and at whichever rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ixc.data.records import RecordError
from ixc.data.validation import DataProblem

Entry = tuple[str, int, str, str, str]
"""(name of the source, number of the record in it, file and line, kind, message): what ranks and checkpoints hold."""


class SkippedRecords:
    """Records to leave out, with the reason for each."""

    def __init__(self) -> None:
        self._problems: dict[tuple[str, int], DataProblem] = {}

    def __len__(self) -> int:
        return len(self._problems)

    def __contains__(self, key: tuple[str, int]) -> bool:
        """Whether a record is left out: (name of the source, number of the record in it)."""
        return key in self._problems

    def add(self, source: str, index: int, error: RecordError) -> None:
        """Leave a record out from now on."""
        self._problems[source, index] = DataProblem(where=error.where, kind=error.kind, message=error.message)

    def of(self, source: str) -> list[DataProblem]:
        """Return the problems of a source's records, in the order of the records."""
        return [
            problem for (name, _), problem in sorted(self._problems.items(), key=lambda one: one[0]) if name == source
        ]

    def entries(self, *, start: int = 0) -> list[Entry]:
        """Return the entries from number `start` on, in the order they were added."""
        items = list(self._problems.items())[start:]
        return [(name, index, one.where, one.kind, one.message) for (name, index), one in items]

    def update(self, entries: Iterable[Sequence[Any]]) -> None:
        """Add entries of another rank or of a checkpoint."""
        for name, index, where, kind, message in entries:
            self._problems[name, index] = DataProblem(where=where, kind=kind, message=message)
