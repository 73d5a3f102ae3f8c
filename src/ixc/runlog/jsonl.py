"""The JSONL log of a run: one line per step, each step once, however often the run is stopped and resumed.

A run goes on from its last checkpoint, so log lines of later steps belong to steps that will be run again. They are
removed before the first new line, as is a line cut off by a power failure.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ixc.errors import DataError
from ixc.utils.files import atomic_write

LOG = "log.jsonl"
"""Name of the file in a run's folder."""

RENAMED_FIELDS = {"norm": "grad_norm", "rate": "learning_rate", "held_out_loss": "eval_loss"}
"""Field in logs of version 0.x -> field of today."""


class JsonlLog:
    """The log of a run.

    Args:
        path: the file; created with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._started = False

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line and flush it to the disk; the first call removes the lines of its own step and later ones.

        Args:
            line: with `step`, from 1.

        Raises:
            DataError: the file cannot be written.
        """
        try:
            if not self._started:
                self._truncate(line["step"])
                self._started = True
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror or error}); free space, then resume"
            ) from error

    def _truncate(self, step: int) -> None:
        """Keep the lines before a step."""
        lines = [json.dumps(line) + "\n" for line in read(self.path) if line["step"] < step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path, "".join(lines))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the intact lines with rising steps; fields of older versions under today's names."""
    last = 0
    for text in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int) and line["step"] > last:
            last = line["step"]
            yield {RENAMED_FIELDS.get(str(name), str(name)): value for name, value in line.items()}
