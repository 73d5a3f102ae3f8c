"""Kills at random moments while `ixc read` reads against servers and in processes; the rows must be a plain run's.

    python dev/read_kills.py [--kills 30] [--pages 320]

A third of the kills are of the command, a third of one of two `ixc serve --engine light` on loopback (started again at
once), a third of a process of `--workers 2`. The command is started again whenever it ends before its time. A page over
which two kills fell by chance has failed rows (exit code 3): `--retry-failed` asks them again, and that is counted.
Writes benchmarks/read_kills_202612.json.
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
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from ray_kills import command, compare, rows_of
from read_three_ways import _answers, free_port

from ixc.synth.dataset_folder import write_folder
from ixc.utils.files import atomic_write

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "read_kills_202612.json"
PAUSE = (1.0, 5.0)
"""Seconds between two kills."""
LONGEST = 240.0
"""Seconds after which a run that does not end is a failure."""


class Servers:
    """Two servers of one thread; one that is killed is started again."""

    def __init__(self) -> None:
        self.ports = [free_port(), free_port()]
        self.served = [self._start(port) for port in self.ports]
        for port in self.ports:
            _answers(f"http://127.0.0.1:{port}/v1/models")

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "ixc", "serve", "--engine", "light", "--port", str(port)],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def options(self) -> list[str]:
        return [part for port in self.ports for part in ("--endpoint", f"http://127.0.0.1:{port}/v1")]

    def kill(self, choose: random.Random) -> bool:
        at = choose.randrange(2)
        self.served[at].kill()
        self.served[at].wait()
        self.served[at] = self._start(self.ports[at])
        return True

    def end(self) -> None:
        for each in self.served:
            each.terminate()
            each.wait()


def kill_process(driver: subprocess.Popen[bytes], choose: random.Random) -> bool:
    """Kill a process that answers, where there is one."""
    with suppress(psutil.Error):
        every = psutil.Process(driver.pid).children()
        if found := [each for each in every if "spawn_main" in " ".join(each.cmdline())]:
            choose.choice(found).kill()
            return True
    return False


def one_run(pages: Path, out: Path, servers: Servers | None, left: list[str], choose: random.Random) -> dict[str, Any]:
    """Read once, killing what `left` says from its end, until the run is finished."""
    kills: Counter[str] = Counter()
    starts, ended, retried = 0, [], 0
    more: list[str] = []
    options = ["--workers", "2"] if servers is None else servers.options()
    begun = time.perf_counter()
    while True:
        starts += 1
        driver = subprocess.Popen(
            command(pages, out, *options, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while driver.poll() is None:
            assert time.perf_counter() - begun < LONGEST, f"{out} is not finished after {LONGEST} s"
            with suppress(subprocess.TimeoutExpired):
                driver.wait(choose.uniform(*PAUSE))
                break
            if not left:
                continue
            if left[-1] == "driver":
                driver.kill()
                made = True
            else:
                made = kill_process(driver, choose) if servers is None else servers.kill(choose)
            if made:
                kills[left.pop()] += 1
        code = driver.wait()
        error = driver.stderr.read().decode(errors="replace").strip() if driver.stderr else ""
        if code == 0:
            break
        if code == 3:
            retried, more = retried + 1, ["--retry-failed"]
        elif code != -signal.SIGKILL:
            ended.append(f"{code}: {error[-300:]}")
            assert len(ended) < 20, ended
    seconds = round(time.perf_counter() - begun)
    result = {"kills": dict(kills), "starts": starts, "ended_by_itself": ended, "retries_of_failed_rows": retried}
    return result | {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--pages", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    choose = random.Random(given.seed)
    third = given.kills // 3
    plans = {
        "servers": ["server"] * third + ["driver"] * (third // 2),
        "processes": ["process"] * third + ["driver"] * (given.kills - 2 * third - third // 2),
    }
    folder = Path(tempfile.mkdtemp())
    runs: list[dict[str, Any]] = []
    try:
        for _ in write_folder(folder / "pages", count=given.pages, hd=1):
            pass
        for way, left in plans.items():
            choose.shuffle(left)
            servers = Servers() if way == "servers" else None
            try:
                plain = folder / f"plain-{way}"
                options = [] if servers is None else servers.options()
                subprocess.run(command(folder / "pages", plain, *options), check=True, stderr=subprocess.DEVNULL)
                while left:
                    out = folder / f"run-{len(runs)}"
                    run = {"way": way} | one_run(folder / "pages", out, servers, left, choose)
                    runs.append(run | compare(rows_of(out), rows_of(plain)))
                    print(runs[-1], flush=True)
                    total = sum((Counter(each["kills"]) for each in runs), Counter())
                    result = {"pages": given.pages, "seed": given.seed, "kills": dict(total)}
                    result |= {"kills_in_all": total.total(), "runs": runs}
                    atomic_write(OUT, json.dumps(result, indent=1).replace(str(folder), "") + "\n")
            finally:
                if servers is not None:
                    servers.end()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
