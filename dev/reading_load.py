"""Three questions on each page before and after: as `ixc read` asks them, CPU time of one thread, alternating.

    git worktree add BEFORE COMMIT
    PYTHONPATH=src python dev/reading_load.py BEFORE [--pages 24] [--rounds 3] [--hd 9]

Before, `ixc read` called `Engine.ask` question by question (`--before-by batch` calls `Engine.batch` there too); now
the questions of several pages go to `Engine.batch` together. Each build runs in a process of its own, which answers
once for every line on its standard input, with caches emptied. Writes benchmarks/reading_load_nano_202611.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "reading_load_nano_202611.json"
NEW_TOKENS = 16
"""Longest answer."""


def worker(way: str, pages: int, hd: int) -> None:
    """Answer once for every line on standard input; one line of JSON each."""
    import torch
    from serving_load import QUESTIONS, page

    import ixc

    torch.set_num_threads(1)
    engine, files = ixc.load(device="cpu"), [page(number) for number in range(pages)]
    asked = [(file, question) for file in files for question in QUESTIONS[:3]]
    engine.ask([page(pages)], "x", max_new_tokens=2)
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        engine.generator.tiles.clear()
        engine.generator.prefixes.clear()
        wall, cpu = perf_counter(), process_time()
        if way == "ask":
            found = [engine.ask([file], text, hd=hd, max_new_tokens=NEW_TOKENS) for file, text in asked]
        else:
            found = engine.batch([ixc.Query([file], text, hd=hd, max_new_tokens=NEW_TOKENS) for file, text in asked])
        figures = {"wall": round(perf_counter() - wall, 3), "cpu": round(process_time() - cpu, 3)}
        texts, tokens = [each.text for each in found], sum(each.prompt_tokens + each.new_tokens for each in found)
        print(json.dumps({**figures, "texts": texts, "tokens": tokens}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Three questions on each page before and after.")
    parser.add_argument("before", type=Path)
    parser.add_argument("--pages", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hd", type=int, default=9)
    parser.add_argument("--before-by", choices=("ask", "batch"), default="ask")
    parser.add_argument("--worker", choices=("ask", "batch"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.pages, given.hd)
        return
    from serving_load import commit

    from ixc.utils.files import atomic_write

    sources = {"before": (given.before.absolute(), given.before_by), "after": (ROOT, "batch")}
    workers = {
        name: subprocess.Popen(
            [sys.executable, __file__, ".", "--worker", way, "--pages", str(given.pages), "--hd", str(given.hd)],
            env={**os.environ, "PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for name, (source, way) in sources.items()
    }  # fmt: skip
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    said: dict[str, list[str]] = {}
    for each in workers.values():
        assert each.stdout is not None
        json.loads(each.stdout.readline())
    for turn in range(given.rounds):
        for name in list(workers)[:: -1 if turn % 2 else 1]:
            process = workers[name]
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            answered = json.loads(process.stdout.readline())
            said[name] = answered.pop("texts")
            runs[name].append(answered)
            print(name, answered, f"load {os.getloadavg()[0]:.1f}", flush=True)
    for each in workers.values():
        each.communicate()
    seconds = {name: statistics.median(run["cpu"] for run in found) for name, found in runs.items()}
    ratios = [one["cpu"] / other["cpu"] for one, other in zip(runs["before"], runs["after"], strict=True)]
    found = {
        "pages": given.pages,
        "questions": 3 * given.pages,
        "hd": given.hd,
        "before_by": given.before_by,
        "commits": {"before": commit(given.before), "after": commit(ROOT)},
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "answers_that_differ": sum(one != other for one, other in zip(said["before"], said["after"], strict=True)),
        "pages_per_cpu_second": {name: round(given.pages / value, 3) for name, value in seconds.items()},
        "ratio_pages_per_cpu_second": round(statistics.median(ratios), 3),
        "runs": runs,
    }
    kept = json.loads(RESULT.read_text())["rows"] if RESULT.is_file() else []
    same = ("hd", "before_by")
    kept = [row for row in kept if any(row[name] != found[name] for name in same)]
    atomic_write(RESULT, json.dumps({"rows": [*kept, found]}, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "runs"}))


if __name__ == "__main__":
    main()
