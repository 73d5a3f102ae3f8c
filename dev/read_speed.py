"""Pages a second of the command `ixc read` before and after: three questions a page, two cores, alternating.

    git worktree add BEFORE COMMIT
    python dev/read_speed.py BEFORE [--pages 100] [--rounds 3] [--hd 4] [--note TEXT]

Both builds read the same pages (`ixc synth`) with the embedded model, each as a command of its own, whole: Python,
imports and loading included. A run over one page tells what of it is the start. The answers are compared. Writes
benchmarks/read_speed_nano_202611.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "read_speed_nano_202611.json"
QUESTIONS = ("What is the title?", "What is the TOTAL?", "What is the date?")


def read(source: Path, pages: list[Path], out: Path, *, hd: int, more: list[str]) -> tuple[dict[str, float], list[str]]:
    """Run the command; return wall and CPU seconds, and the answers page by page."""
    asked = [part for question in QUESTIONS for part in ("--ask", question)]
    command = [sys.executable, "-m", "ixc", "read", *map(str, pages), *asked, "--hd", str(hd), "--max-new-tokens", "16"]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    begin, before = perf_counter(), os.times()
    subprocess.run(
        [*command, "--out", str(out), *more],
        env={**environment, "PYTHONPATH": str(source / "src")},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": round(perf_counter() - begin, 2), "cpu": round(cpu, 2)}, answers(out)


def answers(out: Path) -> list[str]:
    """Return the answers of a file of JSON, or of a folder's table."""
    if out.is_dir():
        with (out / "answers.csv").open(encoding="utf-8", newline="") as file:
            return [row[question] for row in csv.DictReader(file) for question in QUESTIONS]
    return [answer for page in json.loads(out.read_text("utf-8"))["pages"] for answer in page["answers"]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Pages a second of ixc read before and after.")
    parser.add_argument("before", type=Path)
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hd", type=int, default=4)
    parser.add_argument("--after", nargs="*", default=[], help="further options of the command after, without dashes")
    parser.add_argument("--note", default="", help="what else ran on the machine")
    given = parser.parse_args()
    from serving_load import commit

    from ixc.synth.dataset_folder import write_folder
    from ixc.utils.files import atomic_write

    more = {"before": ["--format", "json"], "after": [f"--{each}" for each in given.after]}
    sources = {"before": given.before.absolute(), "after": ROOT}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
    starts: dict[str, dict[str, float]] = {}
    said: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in write_folder(Path(folder) / "pages", count=given.pages, hd=given.hd):
            pass
        pages = sorted((Path(folder) / "pages").glob("*.png"))

        def run(name: str, turn: int, files: list[Path]) -> tuple[dict[str, float], list[str]]:
            out = Path(folder) / (f"{name}-{turn}-{len(files)}" + (".json" if name == "before" else ""))
            return read(sources[name], files, out, hd=given.hd, more=more[name])

        for name in sources:
            run(name, -1, pages[:1])
            starts[name], _ = run(name, -2, pages[:1])
        for turn in range(given.rounds):
            for name in list(sources)[:: -1 if turn % 2 else 1]:
                figures, said[name] = run(name, turn, pages)
                runs[name].append(figures)
                print(name, figures, f"load {os.getloadavg()[0]:.1f}", flush=True)
    wall = {name: statistics.median(run["wall"] for run in found) for name, found in runs.items()}
    ratios = [one["wall"] / other["wall"] for one, other in zip(runs["before"], runs["after"], strict=True)]
    cpu_ratios = [one["cpu"] / other["cpu"] for one, other in zip(runs["before"], runs["after"], strict=True)]
    found: dict[str, Any] = {
        "pages": given.pages,
        "questions_a_page": len(QUESTIONS),
        "hd": given.hd,
        "options_after": more["after"],
        "commits": {"before": commit(given.before), "after": commit(ROOT)},
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "note": given.note,
        "answers": len(said["after"]),
        "answers_that_differ": sum(one != other for one, other in zip(said["before"], said["after"], strict=True)),
        "seconds_of_one_page": starts,
        "pages_per_second": {name: round(given.pages / value, 3) for name, value in wall.items()},
        "ratio_pages_per_second": round(statistics.median(ratios), 3),
        "ratio_pages_per_cpu_second": round(statistics.median(cpu_ratios), 3),
        "runs": runs,
    }
    kept = json.loads(RESULT.read_text())["rows"] if RESULT.is_file() else []
    same = ("hd", "pages", "options_after")
    kept = [row for row in kept if any(row[name] != found[name] for name in same)]
    atomic_write(RESULT, json.dumps({"rows": [*kept, found]}, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "runs"}))


if __name__ == "__main__":
    main()
