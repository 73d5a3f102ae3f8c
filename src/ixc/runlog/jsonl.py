"""OUT/log.jsonl: one line a step, each step once, however often a run is stopped and resumed.

A run goes on from its last checkpoint, so lines behind it are of steps that are done again: they are taken back before
the first new line, as is a line that a power cut tore.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ixc.errors import DataError

LOG = "log.jsonl"
"""Its name."""


class JsonlLog:
    """The log of a run.

    Args:
        path: the file; made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begun = False

    def add(self, line: Mapping[str, Any]) -> None:
        """Writes a line onto the disk; the first one takes back those of its own step and later ones.

        Args:
            line: with `step`, from 1.

        Raises:
            DataError: the disk refuses.
        """
        try:
            if not self._begun:
                self._take_back(line["step"])
                self._begun = True
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror or error}); free space, then resume"
            ) from error

    def _take_back(self, step: int) -> None:
        kept = [json.dumps(line) + "\n" for line in read(self.path) if line["step"] < step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.partial")
        beside.write_text("".join(kept), encoding="utf-8")
        os.replace(beside, self.path)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines of rising steps."""
    last = 0
    for text in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int) and line["step"] > last:
            last = line["step"]
            yield line
