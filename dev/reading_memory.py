"""Memory of the process that drives `ixc read --out FOLDER`, with an answerer that answers nothing.

    python dev/reading_memory.py 1000 10000

Each number of pages runs in a process of its own, over links to one small picture; the peak is the kernel's count.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ixc.apps.reading import listing, report, wide
from ixc.apps.reading.local import LocalRunner
from ixc.apps.reading.opening import OpenedPage
from ixc.apps.reading.records import Question, ReadSettings, Row
from ixc.apps.reading.run_folder import RunFolder
from ixc.apps.reading.sources import list_files

SETTINGS = ReadSettings(questions=tuple(Question(text=f"Question {n}?") for n in range(3)), model="stub")


class Stub:
    """Answers with 200 letters."""

    def rows(self, opened: Sequence[OpenedPage], only: Sequence[frozenset[int]] | None = None) -> list[list[Row]]:
        """Return a row a question."""
        del only
        return [
            [
                Row(file=each.page.file.name, page=1, question=q.text, column=q.text, answer="x" * 200, model="stub")
                for q in SETTINGS.questions
            ]
            for each in opened
        ]


def run(folder: Path) -> dict[str, float]:
    """Read the pictures of a folder; return the number of pages and the peak of memory before and after, MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with RunFolder(folder / "out", SETTINGS, form="jsonl") as found:
        blocks = found.blocks(lambda: listing.pages_of(list_files([str(folder / "in")])))
        for result in LocalRunner(Stub, SETTINGS).run(blocks):
            found.write(result)
        found.write_manifest()
        wide.write_wide(found)
        report.write_report(found, most=50)
        pages = found.totals().done_pages
    return {"pages": pages, "before": before, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    """Print a line for every number of pages."""
    if sys.argv[1] == "--one":
        print(json.dumps(run(Path(sys.argv[2]))))
        return
    for count in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as name:
            source = Path(name) / "in"
            source.mkdir()
            Image.new("L", (600, 400), 255).save(source / "000000.png")
            for number in range(1, count):
                os.link(source / "000000.png", source / f"{number:06d}.png")
            command = [sys.executable, __file__, "--one", name]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{found['pages']:>7,} pages: {found['before']:.0f} MB before, {found['peak']:.0f} MB at most", flush=True
        )


if __name__ == "__main__":
    main()
