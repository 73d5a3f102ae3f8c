"""CPU time of the command line's start, as benchmarks/startup_<machine>_<yyyymm>.json.

    python dev/startup.py --out FILE [--before COMMIT] [--runs 10] [--compare-light]

Every command runs in a process of its own; counted are its user and system seconds, which the kernel reports when it
ends. Commands take turns, so that a machine that grows slower does so for all of them. "Before" is an earlier commit in
a temporary worktree, in the same environment. The model's own work (tiles encoded, prompt read, answer decoded) is
timed inside a process of its own, without imports and loading.

The limits, from the project's plan: `ixc ask` at most 1.5 times `import torch` and the model's own work; help, plans
and refusals at most 0.5 s. Exit code 1 where one is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
PICTURE, QUESTION, ANSWER = "examples/receipt.png", "What is the TOTAL?", "641.57"
RATIO, LIGHT = 1.5, 0.5
"""Limits: of `ixc ask` over `import torch` and the model's own work, and seconds of the light commands."""

LIGHT_COMMANDS = {
    "help": ["--help"],
    "plan of a picture": ["plan", PICTURE],
    "ask, no such file": ["ask", "none.png", QUESTION],
    "ask, not a picture": ["ask", "README.md", QUESTION],
    "ask, no such folder": ["ask", PICTURE, QUESTION, "--model", "none"],
    "ask, no such device": ["ask", PICTURE, QUESTION, "--device", "tpu"],
    "chat, not a picture": ["chat", "README.md"],
    "read, not a picture": ["read", "README.md"],
    "data check, no such file": ["data", "check", "none.jsonl"],
    "eval, no such benchmark": ["eval", "none"],
    "serve, no such folder": ["serve", "--model", "none"],
    "train, no such data": ["train", "recipes/lora_nano.py", "--data", "none.jsonl"],
    "merge, no such adapter": ["merge", "none", "new"],
    "quantize, no such folder": ["quantize", "none", "new"],
    "import-weights, no such folder": ["import-weights", "none", "new"],
}
"""What must not load torch."""

OWN_WORK = f"""
import time
from pathlib import Path
from ixc.inference.model_folder import find_folder
from ixc.inference.query import Query
from ixc.inference.standalone import open_folder
here = open_folder(find_folder(None))
request = here.prepare(Query([{PICTURE!r}], {QUESTION!r}))
assert here.load(device="cpu")
start = time.process_time()
text = here.answer(request).text
print(time.process_time() - start)
assert text == {ANSWER!r}, text
"""


def seconds(command: list[str], source: Path) -> tuple[float, str]:
    """CPU seconds of one run, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(source / "src")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout.strip()


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """An earlier state of the repository, removed afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(folder), commit], check=True, capture_output=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True, capture_output=True)


def measured(before: Path, runs: int, *, compare_light: bool) -> dict[str, list[float]]:
    """CPU seconds of every command, its runs taking turns with the others'; the first round is not counted."""
    once = (1,) if compare_light else ()
    ixc = [sys.executable, "-m", "ixc"]
    commands = {
        "import torch": ([sys.executable, "-c", "import torch"], ROOT),
        "ask": ([*ixc, "ask", PICTURE, QUESTION], ROOT),
        "own work": ([sys.executable, "-c", OWN_WORK], ROOT),
        "ask, before": ([*ixc, "ask", PICTURE, QUESTION], before),
        **{name: ([*ixc, *arguments], ROOT) for name, arguments in LIGHT_COMMANDS.items()},
        **{f"{name}, before": ([*ixc, *arguments], before) for name, arguments in LIGHT_COMMANDS.items()},
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, (command, source) in commands.items():
            if name.endswith(", before") and name != "ask, before" and number not in once:
                continue  # seconds each, and no limit is theirs: one run, or none
            taken, said = seconds(command, source)
            if name in ("ask", "ask, before") and said != ANSWER:
                raise SystemExit(f"{name}: {said!r} came, {ANSWER!r} is right")
            if number:
                found[name].append(round(float(said) if name == "own work" else taken, 3))
        print(f"round {number} of {runs}", file=sys.stderr, flush=True)
    return {name: values for name, values in found.items() if values}


def report(found: dict[str, list[float]], commit: str) -> dict[str, Any]:
    """Medians, runs, limits and what they were measured on."""
    middle = {name: round(median(values), 3) for name, values in found.items()}
    limit = round(RATIO * middle["import torch"] + middle["own work"], 3)
    slow = {name: middle[name] for name in LIGHT_COMMANDS if middle[name] > LIGHT}
    libraries = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow", "typer", "rich")
    return {
        "date": date.today().isoformat(),
        "machine": machine(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "load": round(os.getloadavg()[0], 1),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
        "before": commit,
        "unit": "CPU seconds, user and system; medians of the runs",
        "medians": middle,
        "ask_limit": limit,
        "ask_holds": middle["ask"] <= limit,
        "ask_over_torch_without_own_work": round((middle["ask"] - middle["own work"]) / middle["import torch"], 3),
        "light_limit": LIGHT,
        "light_holds": not slow,
        "runs": found,
    }


def machine() -> str:
    """The processor's name and its threads."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} threads"


def main() -> int:
    """Measures, writes and says whether the limits hold."""
    parser = argparse.ArgumentParser(description="CPU time of the command line's start.")
    parser.add_argument("--before", default="f92ac3e", help="commit to compare with")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--compare-light", action="store_true", help="light commands before as well, one run each")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with worktree(given.before) as before:
        found = report(measured(before, given.runs, compare_light=given.compare_light), given.before)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "runs"}, indent=1))
    return 0 if found["ask_holds"] and found["light_holds"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
