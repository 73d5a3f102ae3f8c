"""Kills at random moments while `ixc read --ray` reads on two local Ray nodes; the rows must be those of a plain run.

    python dev/ray_kills.py                       # 30 kills: driver, actor, whole node; some 15 minutes on two cores
    python dev/ray_kills.py --kills 6 --pages 200

The command is started again whenever it ends before its time, as a user or a job controller would; a killed node is
replaced by a new one. A run that is finished is compared row by row, and the next one begins, until all kills are made.
A page over whose worker two kills fell by chance has failed rows (exit code 3): `--retry-failed` asks them again, and
that is counted. Needs the extra ray; writes benchmarks/ray_kills_202611.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from ixc.cluster import session
from ixc.synth.dataset_folder import write_folder

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "ray_kills_202611.json"
KINDS = ("driver", "actor", "node")
PAUSE = (2.0, 25.0)
"""Seconds between two kills."""
STORE = 200 << 20
"""Bytes of shared memory of a node."""
LONGEST = 900.0
"""Seconds after which a run that does not end is a failure."""


class Nodes:
    """Two local nodes of one core each: the head, and one that is killed and replaced."""

    def __init__(self) -> None:
        session._quieten()
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.second = self._added()

    def _added(self) -> Any:
        return self.cluster.add_node(num_cpus=1, object_store_memory=STORE)

    def kill_node(self) -> str:
        """Kill the second node with everything on it, and add another one."""
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = self._added()
        return "node"

    def kill_actor(self, choose: random.Random) -> str:
        """Kill a worker with a model, where there is one."""
        roots = [each.process.pid for node in self.cluster.list_all_nodes() for each in _infos(node)]
        found = [process for root in roots for process in _descendants(root) if "FinishUnits" in _title(process)]
        if not found:
            return "none"
        choose.choice(found).kill()
        return "actor"


def _infos(node: Any) -> list[Any]:
    return [info for infos in node.all_processes.values() for info in infos]


def _descendants(root: int) -> list[psutil.Process]:
    try:
        return psutil.Process(root).children(recursive=True)
    except psutil.Error:
        return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def command(pages: Path, out: Path, *more: str) -> list[str]:
    ask = ["--ask", "What is the title?", "--hd", "1", "--max-new-tokens", "8", "--format", "jsonl", "--quiet"]
    return [sys.executable, "-m", "ixc", "read", str(pages), *ask, "--out", str(out), *more]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """All rows, times left out."""
    found = []
    for path in sorted((folder / "rows").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            del row["seconds"]
            found.append(row)
    return found


def compare(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> dict[str, int]:
    counts = Counter((row["file"], row["page"], row["question"]) for row in found)
    wanted = {(row["file"], row["page"], row["question"]): row for row in expected}
    return {
        "rows": len(found),
        "double": sum(count - 1 for count in counts.values()),
        "missing": len(set(wanted) - set(counts)),
        "different": sum(row != wanted.get((row["file"], row["page"], row["question"])) for row in found),
    }


def one_run(nodes: Nodes, pages: Path, out: Path, left: list[str], choose: random.Random) -> dict[str, Any]:
    """Read once, killing what `left` says from its end, until the run is finished."""
    kills: Counter[str] = Counter()
    starts, ended, retried = 0, [], 0
    more: tuple[str, ...] = ()
    begun = time.perf_counter()
    while True:
        starts += 1
        driver = subprocess.Popen(
            command(pages, out, "--ray", nodes.cluster.address, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while driver.poll() is None:
            assert time.perf_counter() - begun < LONGEST, f"{out} is not finished after {LONGEST} s"
            try:
                driver.wait(choose.uniform(*PAUSE) if left else 2.0)
            except subprocess.TimeoutExpired:
                if left:
                    kills[_kill(left, nodes, driver, choose)] += 1
                    print(time.strftime("%H:%M:%S"), dict(kills), flush=True)
        code = driver.wait()
        error = driver.stderr.read().decode(errors="replace").strip() if driver.stderr else ""
        if code == 0:
            break
        if code == 3:
            retried, more = retried + 1, ("--retry-failed",)
        elif code != -signal.SIGKILL:
            ended.append(f"{code}: {error[-300:]}")
            print(ended[-1], flush=True)
            assert len(ended) < 20, ended
    kills.pop("none", None)
    return {
        "kills": dict(kills),
        "starts": starts,
        "ended_by_itself": ended,
        "retries_of_failed_rows": retried,
        "seconds": round(time.perf_counter() - begun),
    }


def _kill(left: list[str], nodes: Nodes, driver: subprocess.Popen[bytes], choose: random.Random) -> str:
    kind = left[-1]
    if kind == "driver":
        driver.kill()
        made = "driver"
    else:
        made = nodes.kill_node() if kind == "node" else nodes.kill_actor(choose)
    if made != "none":
        left.pop()
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--pages", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    choose = random.Random(arguments.seed)
    left = [KINDS[number % len(KINDS)] for number in range(arguments.kills)]
    choose.shuffle(left)
    folder = Path(tempfile.mkdtemp())
    os.environ.setdefault("RAY_worker_niceness", "0")
    nodes = None
    try:
        for _ in write_folder(folder / "pages", count=arguments.pages, hd=1):
            pass
        subprocess.run(command(folder / "pages", folder / "plain"), check=True)
        expected = rows_of(folder / "plain")
        nodes = Nodes()
        runs = []
        while left or not runs:
            out = folder / f"run-{len(runs)}"
            run = one_run(nodes, folder / "pages", out, left, choose)
            run |= compare(rows_of(out), expected)
            runs.append(run)
            print(run, flush=True)
            result = {"pages": arguments.pages, "rows_of_the_plain_run": len(expected), "seed": arguments.seed}
            total = sum((Counter(each["kills"]) for each in runs), Counter())
            result |= {"kills": dict(total), "kills_in_all": total.total(), "runs": runs}
            arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    finally:
        if nodes is not None:
            nodes.cluster.shutdown()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
