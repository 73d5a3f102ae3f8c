"""Time to the first token, a second question and peak memory of two builds, in alternation.

    python dev/before_after.py BEFORE [--formats f32 bf16] [--hd 25] [--rounds 2] [--out FILE]

BEFORE is a folder with a checkout of the earlier build (`git worktree add --detach FOLDER COMMIT`). The model is the
slice of two layers at the 7B's widths with random weights, each build in a process of its own
(`llama_cpp/our_worker.py`). The first token takes the vision encoder and projector on the tiles of a picture of 1:1 and
its overview, and a prefill of its image tokens and 16 of text. The second question is 32 tokens of text behind them.
One thread; CPU seconds count, for others may use the machine. Result: benchmarks/before_after_<machine>_<yyyymm>.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import date
from math import isqrt
from pathlib import Path
from statistics import median
from typing import Any

from against_llama_cpp import ROOT, SCRIPTS, Side, Worker, processor, slug

from ixc.core.token_layout import num_image_tokens
from ixc.utils.files import atomic_write

TEXT, QUESTION = 16, 32
"""Tokens of text behind the image; of the second question."""


def measured(workers: list[Worker], *, hd: int, rounds: int) -> dict[str, Any]:
    """Return seconds and memory of each build, and the medians of the ratios of neighbouring runs."""
    side = isqrt(hd)
    tokens = num_image_tokens(side, side) + TEXT
    first: dict[str, list[float]] = {worker.name: [] for worker in workers}
    second: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for number in range(rounds):
        for worker in workers if number % 2 else workers[::-1]:
            vision = worker.ask("vision", views=side * side + 1)["cpu"]
            first[worker.name].append(vision + worker.ask("prefill", tokens=tokens, image=True)["cpu"])
            second[worker.name].append(worker.ask("question", tokens=QUESTION)["cpu"])
            print(worker.name, first[worker.name][-1], second[worker.name][-1], file=sys.stderr, flush=True)
    return {
        "hd": side * side,
        "tokens": tokens,
        "first token, CPU s": first,
        "second question, CPU s": second,
        "first token, ours / before": round(
            median(a / b for a, b in zip(first["ours"], first["before"], strict=True)), 3
        ),
        "second / first, ours": round(median(second["ours"]) / median(first["ours"]), 4),
        "peak memory, GB": {worker.name: round(worker.ask("memory") / 1e9, 2) for worker in workers},
    }


def main() -> None:
    """Measure both builds in each format; the formats of the file that are not measured anew stay."""
    parser = argparse.ArgumentParser(description="Two builds of the package, in alternation.")
    parser.add_argument("before", type=Path)
    parser.add_argument("--formats", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16", "q8_0", "q4_0"])
    parser.add_argument("--hd", type=int, default=25, help="a square number")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    name = processor()
    out = given.out or ROOT / "benchmarks" / f"before_after_{slug(name)}_{date.today():%Y%m}.json"
    found: dict[str, Any] = json.loads(out.read_text())["formats"] if out.is_file() else {}
    head = ["git", "-C", str(given.before), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, check=True, capture_output=True, text=True).stdout.strip()
    for kind in given.formats:
        workers: list[Worker] = []
        try:
            for build, root in (("ours", ROOT), ("before", given.before)):
                environment = {"PYTHONPATH": str(root.absolute() / "src"), "OMP_NUM_THREADS": "1"}
                command = (sys.executable, str(SCRIPTS / "our_worker.py"), kind, "1")
                workers.append(Worker(Side(name=build, command=command, environment=environment)))
            found[kind] = measured(workers, hd=given.hd, rounds=given.rounds)
        finally:
            for worker in workers:
                worker.close()
        about = {"date": date.today().isoformat(), "machine": name, "before": commit, "threads": 1, "formats": found}
        atomic_write(out, json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
