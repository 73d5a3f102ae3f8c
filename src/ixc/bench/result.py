"""The rows of a measurement and their file: a run that finds its file goes on behind what is there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ixc.errors import DataError


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """One figure."""

    subject: str
    """What was measured: a model's name, or widths and layers."""
    section: str
    """Key of `speed.SECTIONS`."""
    name: str
    """What of it."""
    value: float
    """Median of the repeats."""
    low: float
    """Smallest of the repeats."""
    high: float
    """Largest of the repeats."""
    repeats: int
    """How many were made, after one for warming."""
    unit: str
    """s, ms, tokens/s, GB, x, ..."""
    bits: int
    """Of the decoder's weights: 32 (16 on a GPU), 8 or 4."""
    hd: int | None = None
    """Most tiles."""
    image_tokens: int | None = None
    """Tokens of the image."""
    share: float | None = None
    """Of the ceiling named by `of`, 1 = all of it."""
    of: str | None = None
    """matrix product, or memory read."""


@dataclass
class BenchResult:
    """All rows of one machine and month."""

    machine: dict[str, Any]
    """Name, dtype, versions, date, and the measured ceilings."""
    rows: list[BenchRow]
    """Figures, in order of measurement."""

    def add(self, rows: list[BenchRow]) -> None:
        """Newer figures take the place of those of the same subject, section and bits."""
        new = {(row.subject, row.section, row.bits, row.hd) for row in rows}
        self.rows = [row for row in self.rows if (row.subject, row.section, row.bits, row.hd) not in new] + rows

    def has(self, subject: str, section: str, bits: int, hd: int | None = None) -> bool:
        """True if this was measured."""
        return any(
            (row.subject, row.section, row.bits) == (subject, section, bits) and hd in (None, row.hd)
            for row in self.rows
        )

    def write(self, path: Path) -> None:
        """As JSON; appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.part")
        draft.write_text(json.dumps({"machine": self.machine, "rows": [asdict(row) for row in self.rows]}, indent=1))
        draft.replace(path)


def read(path: Path) -> BenchResult:
    """A file of rows.

    Raises:
        DataError: not ours.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return BenchResult(machine=found["machine"], rows=[BenchRow(**row) for row in found["rows"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no result of ixc bench speed ({error}); name another with --out") from error
