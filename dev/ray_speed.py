"""Ray beside the plain loop: pages a second, CPU a page, one node of one core against two, memory of the driver.

    python dev/ray_speed.py                                     # 320 pages, both answerers, a few minutes
    python dev/ray_speed.py --pages 1000 --only embedded
    python dev/ray_speed.py --pages 10000 --only stub --stub-ms 1 --nodes 1     # memory of the driver over a long run

Drawn pages (HD-1) and one short question; `stub` answers after a fixed amount of CPU, `embedded` is the embedded model,
one thread. Each answerer goes through the plain loop (`LocalRunner`), one local Ray node of one core, and two of them
(`ray.cluster_utils.Cluster`); the rows must be the same. Times are taken after a fifth of the pages: what loads and
starts is left out. CPU is that of every process of the run: on a shared machine wall time says little, and
`speedup_by_cpu` is what two free cores would give, pages a second of CPU of the busiest node. Needs the extra ray.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from ixc.apps.reading.answering import Answerer, EngineAnswerer, EngineSpec
from ixc.apps.reading.local import LocalRunner
from ixc.apps.reading.opening import OpenedPage
from ixc.apps.reading.ray_runner import AnswerPages, ModelCheck, RayRunner, use_threads
from ixc.apps.reading.records import Block, FileRef, Page, Question, ReadSettings, Row, Runner
from ixc.cluster import session
from ixc.cluster.stages import Resources
from ixc.inference.model_folder import find_folder, fingerprint
from ixc.synth.dataset_folder import write_folder

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "ray_202611.json"
DRAWN = 320
"""Pages that are drawn; a longer run reads them again under other names."""
BLOCK = 32
WARM = 0.2
"""Share of the pages before times are taken."""
STORE = 200 << 20
"""Bytes of shared memory of a node."""


class StubAnswerer:
    """Answers with the page's size after a fixed amount of CPU."""

    def __init__(self, settings: ReadSettings, seconds: float) -> None:
        self.settings, self.seconds = settings, seconds

    def rows(self, opened: Sequence[OpenedPage], only: Sequence[frozenset[int]] | None = None) -> list[list[Row]]:
        end = time.process_time() + self.seconds * len(opened)
        while time.process_time() < end:
            pass
        question = self.settings.questions[0]
        sizes = [each.image.size if each.image else (0, 0) for each in opened]
        return [
            [Row(file=each.page.file.name, page=1, question=question.text, column="", answer=f"{width} x {height}")]
            for each, (width, height) in zip(opened, sizes, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class StubPages(AnswerPages):
    """Makes a stub in a worker."""

    cpu_seconds: float

    def _answerer(self) -> Answerer:
        return StubAnswerer(self.settings, self.cpu_seconds)


@dataclass
class Meter:
    """CPU of processes, also of those that have ended: the last value seen of each."""

    roots: dict[str, list[int]]
    """Name of a node, or "driver" -> its first processes."""
    seen: dict[str, dict[tuple[int, float], float]] = field(default_factory=dict)

    def look(self) -> None:
        for name, roots in self.roots.items():
            found = self.seen.setdefault(name, {})
            for process in _processes(roots, alone=name == "driver"):
                try:
                    times = process.cpu_times()
                    found[process.pid, process.create_time()] = times.user + times.system
                except psutil.Error:
                    continue

    def total(self) -> dict[str, float]:
        self.look()
        return {name: sum(found.values()) for name, found in self.seen.items()}


def _processes(roots: Sequence[int], *, alone: bool) -> Iterator[psutil.Process]:
    for root in roots:
        try:
            process = psutil.Process(root)
            yield process
            if not alone:
                yield from process.children(recursive=True)
        except psutil.Error:
            continue


def pages_of(folder: Path, count: int) -> list[Block]:
    files = sorted(folder.glob("*.png"))
    pages = [
        Page(file=FileRef(name=f"{number:06d}", container=str(files[number % len(files)])), number=1)
        for number in range(count)
    ]
    return [
        Block(number=at, pages=tuple(pages[start : start + BLOCK])) for at, start in enumerate(range(0, count, BLOCK))
    ]


def measured(runner: Runner, blocks: Sequence[Block], meter: Meter) -> tuple[dict[str, Any], dict[Any, Any]]:
    """Run the blocks; return figures from the first result on, and the answers by key."""
    answers: dict[Any, Any] = {}
    memory: dict[int, float] = {}
    own = psutil.Process()
    started = time.perf_counter()
    to_first = 0.0
    begin = before = None
    first = 0
    for result in runner.run(iter(blocks)):
        for row in result.rows:
            assert row.key not in answers, f"{row.key} twice"
            answers[row.key] = row.answer or row.error
        to_first = to_first or time.perf_counter() - started
        if begin is None and len(answers) >= WARM * len(blocks) * BLOCK:
            begin, before, first = time.perf_counter(), meter.total(), len(answers)
        meter.look()
        if len(answers) % 1000 < BLOCK:
            memory[len(answers)] = own.memory_info().rss / 1e6
    assert begin is not None
    assert before is not None
    seconds = time.perf_counter() - begin
    after = meter.total()
    cpu = {name: after[name] - before.get(name, 0.0) for name in after}
    pages = len(answers) - first
    nodes = [value for name, value in cpu.items() if name != "driver"] or [cpu["driver"]]
    return {
        "pages": pages,
        "seconds_to_first_result": round(to_first, 1),
        "pages_per_second": round(pages / seconds, 2),
        "cpu_ms_per_page": round(1000 * sum(cpu.values()) / pages, 2),
        "cpu_seconds": {name: round(value, 2) for name, value in cpu.items()},
        "pages_per_cpu_second_of_the_busiest_node": round(pages / max(nodes), 3),
        "driver_mb": {str(count): round(value) for count, value in memory.items()},
    }, answers


@contextmanager
def cluster(nodes: int) -> Iterator[tuple[str, Meter]]:
    """Start local Ray nodes of one core each."""
    session._quieten()
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(nodes - 1):
        made.add_node(num_cpus=1, object_store_memory=STORE)
    roots = {"driver": [os.getpid()]}
    every = [made.head_node, *made.worker_nodes]
    for number, node in enumerate(every):
        roots[f"node {number}"] = [info.process.pid for infos in node.all_processes.values() for info in infos]
    try:
        yield made.address, Meter(roots)
    finally:
        made.shutdown()


def compare(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    settings = ReadSettings(
        questions=(Question(text="What is the title?"),), options={"hd": 1, "max_new_tokens": 8}, model=name
    )
    seconds, stub = arguments.stub_ms / 1000, name == "stub"
    blocks = pages_of(folder, arguments.pages)

    def answerer() -> Answerer:
        use_threads(1)
        return StubAnswerer(settings, seconds) if stub else EngineAnswerer(EngineSpec().load(), settings)

    found: dict[str, Any] = {}
    expected: dict[Any, Any] | None = None
    if 0 in arguments.nodes:
        here = Meter({"driver": [os.getpid()]})
        found["plain loop"], expected = measured(LocalRunner(answerer, settings), blocks, here)
    for nodes in (each for each in arguments.nodes if each):
        with cluster(nodes) as (address, meter):
            check = ModelCheck(folder=None, fingerprint=fingerprint(find_folder(None)))
            with session.connect(address, check=check):
                runner = RayRunner(EngineSpec(device="cpu"), settings, Resources())
                if stub:
                    finish = StubPages(engine=EngineSpec(), settings=settings, cpu_seconds=seconds)
                    runner.stages = replace(runner.stages, finish=finish)
                figures, answers = measured(runner, blocks, meter)
        if expected is not None:
            figures["rows_as_plain_loop"] = answers == expected
        found[f"ray, {nodes} node{'s' if nodes > 1 else ''} of one core"] = figures
        print(name, nodes, figures, flush=True)
    if arguments.nodes != [0, 1, 2]:
        return {"runs": found}
    plain, one, two = found.values()
    return {
        "runs": found,
        "overhead_of_ray_in_cpu": round(one["cpu_ms_per_page"] / plain["cpu_ms_per_page"] - 1, 4),
        "speedup_of_two_nodes": round(two["pages_per_second"] / one["pages_per_second"], 2),
        "speedup_by_cpu": round(
            two["pages_per_cpu_second_of_the_busiest_node"] / one["pages_per_cpu_second_of_the_busiest_node"], 2
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=DRAWN)
    parser.add_argument("--only", choices=("stub", "embedded"))
    parser.add_argument("--nodes", type=int, nargs="+", choices=(0, 1, 2), default=[0, 1, 2], help="0 = the plain loop")
    parser.add_argument("--stub-ms", type=float, default=100.0, help="CPU of the stub, milliseconds a page")
    parser.add_argument("--out", type=Path, default=OUT, help="result file; parts that are not run are kept")
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's workers run at 15, the plain loop does not
    folder = Path(tempfile.mkdtemp())
    try:
        for _ in write_folder(folder / "pages", count=min(DRAWN, arguments.pages), hd=1):
            pass
        import ray

        kept = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        kept |= {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "ray": ray.__version__}
        for name in ("stub", "embedded"):
            if arguments.only in (None, name):
                told = f"{name}, {arguments.pages} pages"
                kept[told] = compare(name, folder / "pages", arguments)
                if name == "stub":
                    kept[told]["stub_ms"] = arguments.stub_ms
                arguments.out.write_text(json.dumps(kept, indent=1) + "\n")
        print(json.dumps(kept, indent=1))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
