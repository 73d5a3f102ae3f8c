"""Prefill and decode beside llama.cpp, in alternation, as benchmarks/against_llama_cpp_<machine>_<yyyymm>.json.

    python dev/against_llama_cpp.py FOLDER [--formats f32 bf16 q8_0 q4_0] [--threads 1 2] [--repeats 5]
                                    [--prefills 512 1024] [--behind 0 1500 4000] [--before COMMIT] [--out FILE]

llama-cpp-python is built from its source distribution, for this processor, in an environment of its own in FOLDER
(`uv`, a C++ compiler, cmake and ninja; some twenty minutes on two cores the first time; `llama_cpp/tile_config.h` mends
what GCC 12 makes of its AMX). FOLDER also keeps the GGUF files of random weights (9 GB).

Both sides have the widths of the 7B's decoder and two of its layers, and compute the logits of the last position. They
take turns in processes of their own, so that a machine that grows slower does so for both; a ratio is the median of the
ratios of neighbouring runs. CPU time is meaningful on a machine that others use too, at one thread; wall time is not.

`--before` measures an earlier commit of the package in the same alternation, and there the vision encoder and an
image prompt too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(__file__).parent / "llama_cpp"
sys.path.insert(0, str(ROOT / "src"))

from ixc.utils.files import atomic_write  # noqa: E402

PACKAGES = ("llama-cpp-python==0.3.36", "numpy", "gguf")
"""Of the environment; the first is compiled."""

FORMATS = ("f32", "bf16", "q8_0", "q4_0")
"""Formats of the weights, as llama.cpp calls them; ours are float32, bfloat16, 8 and 4 bits."""

PREFILLS, BEHIND, STEPS = (512, 1024), (0, 1500, 4000), 8
"""Tokens of a prefill; tokens in front of a decoding step; steps of one turn, of which the median counts."""

VIEWS = 2
"""Tiles of one turn of the vision encoder, with `--before`."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the programs compared."""

    name: str
    """"ours", "llama.cpp" or "before"."""
    command: tuple[str, ...]
    """Its worker."""
    environment: dict[str, str]
    """Environment variables of the worker."""


class Worker:
    """A worker process of `llama_cpp/lines.py`."""

    def __init__(self, side: Side) -> None:
        self.name = side.name
        self._process = subprocess.Popen(
            side.command,
            env=os.environ | side.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(
                f"{self.name}: the worker ended with code {self._process.wait()}; run it by hand to see why"
            )
        return json.loads(line)

    def ask(self, op: str, **arguments: Any) -> Any:
        """Run one operation and return what it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def environment(folder: Path) -> Path:
    """Return the Python of the environment in which llama.cpp is, built unless it is there."""
    python = folder / "environment" / "bin" / "python"
    check = [str(python), "-c", "import llama_cpp, gguf"]
    if python.exists() and subprocess.run(check, capture_output=True, check=False).returncode == 0:
        return python
    uv = shutil.which("uv")
    if uv is None:
        raise SystemExit("uv is not installed; install it: pip install uv")
    flags = f"-include {SCRIPTS / 'tile_config.h'}"
    settings = os.environ | {"CMAKE_ARGS": f'-DGGML_NATIVE=ON "-DCMAKE_CXX_FLAGS={flags}"'}
    settings.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", "1")
    subprocess.run([uv, "venv", "-q", "--allow-existing", str(python.parents[1])], check=True)
    install = [uv, "pip", "install", "-q", "--python", str(python), "--no-binary", "llama-cpp-python", *PACKAGES]
    subprocess.run(install, check=True, env=settings)
    return python


def sides(kind: str, threads: int, *, python: Path, folder: Path, before: Path | None) -> list[Side]:
    """Return the programs that take turns."""
    shared = {"OMP_NUM_THREADS": str(threads)}
    file = str(folder / f"{kind}.gguf")
    ours = (sys.executable, str(SCRIPTS / "our_worker.py"), kind, str(threads))
    found = [
        Side(name="ours", command=ours, environment=shared | {"PYTHONPATH": str(ROOT / "src")}),
        Side(
            name="llama.cpp",
            command=(str(python), str(SCRIPTS / "llama_worker.py"), file, str(threads)),
            environment=shared,
        ),
    ]
    if before is not None:
        found.append(Side(name="before", command=ours, environment=shared | {"PYTHONPATH": str(before / "src")}))
    return found


def row(found: dict[str, list[dict[str, float]]], **about: Any) -> dict[str, Any]:
    """Return medians and ratios of one quantity.

    Args:
        found: name of the side -> its runs, in the same order: {"wall": s, "cpu": s}.
        about: what was measured.

    Returns:
        ``seconds``: CPU and wall medians a side; ``speed``: llama.cpp's (and before's) seconds over ours: above 1,
        ours is faster.
    """
    speed = {
        f"{unit}, {other}": round(
            median(b[unit] / a[unit] for a, b in zip(found["ours"], found[other], strict=True)), 3
        )
        for other in found
        if other != "ours"
        for unit in ("cpu", "wall")
    }
    seconds = {
        name: {unit: round(median(run[unit] for run in runs), 5) for unit in ("cpu", "wall")}
        for name, runs in found.items()
    }
    runs = {name: [round(run["cpu"], 5) for run in values] for name, values in found.items()}
    return about | {"seconds": seconds, "speed": speed, "cpu_runs": runs}


def step(workers: Sequence[Worker], op: str, repeats: int, **arguments: Any) -> dict[str, list[dict[str, float]]]:
    """Run an operation of all sides in turn, after one turn that does not count."""
    found: dict[str, list[dict[str, float]]] = {worker.name: [] for worker in workers}
    for number in range(repeats + 1):
        # Each turn begins with another side, so that none always runs behind the same neighbour.
        for worker in [*workers[number % len(workers) :], *workers[: number % len(workers)]]:
            times = worker.ask(op, **arguments)
            if isinstance(times, list):
                times = {unit: median(each[unit] for each in times) for unit in ("wall", "cpu")}
            if number:
                found[worker.name].append(times)
    return found


def compare(workers: Sequence[Worker], given: argparse.Namespace, **about: Any) -> Iterator[dict[str, Any]]:
    """Measure all quantities of one format. ``about``: format and threads."""
    repeats: int = given.repeats
    for tokens in given.prefills:
        yield row(step(workers, "prefill", repeats, tokens=tokens), what="prefill", tokens=tokens, **about)
    for behind in given.behind:
        for worker in workers:
            worker.ask("prefill", tokens=max(1, behind))
        found = step(workers, "decode", repeats, behind=max(1, behind), new=STEPS)
        yield row(found, what="decode", behind=behind, **about)
    both = [worker for worker in workers if worker.name != "llama.cpp"]
    if len(both) == 2 and given.prefills:
        found = step(both, "prefill", repeats, tokens=given.prefills[-1], image=True)
        yield row(found, what="prefill of an image", tokens=given.prefills[-1], **about)
        yield row(step(both, "vision", repeats, views=VIEWS), what="vision encoder", views=VIEWS, **about)


def main() -> None:
    """Build, measure, and write after every quantity; those of the file that are not measured anew stay."""
    parser = argparse.ArgumentParser(description="Prefill and decode beside llama.cpp.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--prefills", nargs="*", type=int, default=PREFILLS, help="tokens of a prefill")
    parser.add_argument("--behind", nargs="*", type=int, default=BEHIND, help="tokens in front of a decoding step")
    parser.add_argument("--before", help="commit to measure as well")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    python = environment(given.folder)
    subprocess.run([str(python), str(SCRIPTS / "make_gguf.py"), str(given.folder), *given.formats], check=True)
    out = given.out or ROOT / "benchmarks" / f"against_llama_cpp_{slug(processor())}_{date.today():%Y%m}.json"
    rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"] if out.is_file() else []
    with ExitStack() as stack:
        before = stack.enter_context(_worktree(given.before)) if given.before else None
        for kind in given.formats:
            for threads in given.threads:
                chosen = sides(kind, threads, python=python, folder=given.folder, before=before)
                for new, about in _measured(chosen, given, format=kind, threads=threads):
                    # saved at once: the whole takes an hour on a busy machine
                    rows = [row for row in rows if _quantity(row) != _quantity(new)] + [new]
                    atomic_write(out, json.dumps(about | {"before": given.before, "rows": rows}, indent=1) + "\n")


def _quantity(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a row measures."""
    return tuple(row.get(name) for name in ("format", "threads", "what", "tokens", "behind", "views"))


def _measured(
    chosen: Sequence[Side], given: argparse.Namespace, **kind: Any
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the rows of one format at one number of threads, each with what it was measured on."""
    unit = "seconds of one process, medians; speed: seconds of the other over ours, median of neighbouring runs"
    workers: list[Worker] = []
    try:
        workers += map(Worker, chosen)
        about = {
            "date": date.today().isoformat(),
            "machine": processor(),
            "packages": PACKAGES[0],
            "unit": unit,
            **{worker.name: worker.ask("about") for worker in workers},
        }
        for each in compare(workers, given, **kind):
            print({key: value for key, value in each.items() if key != "cpu_runs"}, file=sys.stderr, flush=True)
            yield each | {"load": round(os.getloadavg()[0], 1)}, about
    finally:
        for worker in workers:
            worker.close()


def processor() -> str:
    """Return the processor's name, whether it has AMX, and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    amx = ", AMX" if any("amx_tile" in line for line in lines if line.startswith("flags")) else ""
    return f"{names[0]}{amx}, {os.cpu_count()} cores"


def slug(processor: str) -> str:
    """Return a processor's name for file names: "intel-xeon"."""
    name = re.sub(r"\((r|tm)\)|processor|,.*|@.*", " ", processor.lower())
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")


@contextmanager
def _worktree(commit: str) -> Iterator[Path]:
    """An earlier state of the repository, removed afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(folder), commit], check=True, capture_output=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True, capture_output=True)


if __name__ == "__main__":
    main()
