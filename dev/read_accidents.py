"""Accidents of `ixc read` that need root: a full disk, and a page that kills its worker by memory.

    python dev/read_accidents.py

Full disk: `--out` on a tmpfs that is too small; the command's last line and exit code, what is left on the disk, and
the same command after the tmpfs was made larger. Memory: `--workers 2` in a memory control group (v1) in which every
page fits but a large one. Rows are compared with those of a plain run. Writes benchmarks/read_accidents_202612.json.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from ixc.synth.dataset_folder import write_folder
from ixc.utils.files import atomic_write

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "read_accidents_202612.json"
GROUP = Path("/sys/fs/cgroup/memory/ixc_read_accidents")
LIMIT = 1200 << 20
"""Bytes of the control group: two processes with the embedded model need some 1.1 GB."""
SIDE = 13_300
"""Pixels of the large page's sides: 531 MB as RGB, and a third more in its own mode."""


def command(source: Path, out: Path, *more: str) -> list[str]:
    ask = ["--ask", "What is the title?", "--hd", "1", "--max-new-tokens", "8", "--format", "jsonl", "--block", "8"]
    return [sys.executable, "-m", "ixc", "read", str(source), *ask, "--quiet", "--out", str(out), *more]


def run(asked: list[str], *, inside: bool = False) -> dict[str, Any]:
    """Run a command, in the control group or not; return its exit code and last line."""

    def join() -> None:
        (GROUP / "cgroup.procs").write_text(str(os.getpid()))

    done = subprocess.run(asked, capture_output=True, text=True, preexec_fn=join if inside else None, check=False)
    lines = [line for line in done.stderr.splitlines() if "torch" not in line]
    return {"exit_code": done.returncode, "last_line": lines[-1] if lines else "", "lines": len(lines)}


def answers(out: Path) -> list[list[str]]:
    with (out / "answers.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def full_disk(source: Path, folder: Path, expected: list[list[str]]) -> dict[str, Any]:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(disk)], check=True)
    try:
        first = run(command(source, disk / "out"))
        left = sorted(str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file())
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        second = run(command(source, disk / "out"))
        same = answers(disk / "out") == expected
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return {"full": first, "files_left": left, "after_space_was_made": second, "rows_as_plain_run": same}


def memory(source: Path, folder: Path, expected: list[list[str]]) -> dict[str, Any]:
    large = source / "zz-large.png"
    Image.new("1", (SIDE, SIDE), 1).save(large)
    GROUP.mkdir()
    try:
        (GROUP / "memory.limit_in_bytes").write_text(str(LIMIT))
        found = run(command(source, folder / "memory", "--workers", "2"), inside=True)
        control = (GROUP / "memory.oom_control").read_text()
        kills = next((line.split()[1] for line in control.splitlines() if line.startswith("oom_kill ")), None)
    finally:
        GROUP.rmdir()
    rows = answers(folder / "memory")
    return {
        "limit_bytes": LIMIT,
        "run": found,
        "processes_killed_by_the_kernel": kills,
        "rows": len(rows) - 1,
        "rows_without_an_answer": [Path(row[0]).name for row in rows[1:] if not row[2]],
        "others_as_plain_run": [row for row in rows if "zz-large" not in row[0]] == expected,
    }


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        for _ in write_folder(folder / "pages", count=64, hd=1):
            pass
        source = folder / "in"
        source.mkdir()
        for path in (folder / "pages").glob("*.png"):
            path.rename(source / path.name)
        plain = run(command(source, folder / "plain"))
        assert plain["exit_code"] == 0, plain
        expected = answers(folder / "plain")
        found = {"pages": 64, "full_disk": full_disk(source, folder, expected)}
        print(json.dumps(found, indent=1), flush=True)
        found["memory"] = memory(source, folder, expected)
        print(json.dumps(found["memory"], indent=1))
        atomic_write(OUT, json.dumps(found, indent=1).replace(str(folder), "") + "\n")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
