"""Drawn pages through `ixc read` in this process, against servers, and on Ray: the same rows, pages a second of each.

    python dev/read_three_ways.py [--pages 1000] [--ways workers servers router ray]

Pages of `ixc synth --hd 1`, all different, one short question, embedded model. `process` is the plain command,
`workers` has `--workers 2`, `servers` asks two `ixc serve --engine light` of one thread each on loopback, `router`
asks the same two behind nginx with `deploy/router.conf`, `ray` has `--ray local`. Time and memory are those of the
whole command, its start included. Writes benchmarks/read_three_ways_202612.json; its rows of 200 different pages had
the same pages under further names.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from ixc.synth.dataset_folder import write_folder
from ixc.utils.files import atomic_write

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "read_three_ways_202612.json"
WAYS = ("process", "workers", "servers", "router", "ray")


def pages(folder: Path, count: int) -> Path:
    """Draw pages, or take the ones of a run that was cut off."""
    drawn = folder / "drawn"
    if len(list(drawn.glob("*.png"))) < count:
        shutil.rmtree(drawn, ignore_errors=True)
        for _ in write_folder(drawn, count=count, hd=1):
            pass
    (folder / "pages").mkdir(exist_ok=True)
    for page in sorted(drawn.glob("*.png")):
        if not (folder / "pages" / page.name).exists():
            os.link(page, folder / "pages" / page.name)
    return folder / "pages"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@contextmanager
def servers(count: int, folder: Path) -> Iterator[list[int]]:
    """Serve the embedded model on so many ports, a thread each."""
    ports = [free_port() for _ in range(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        for port in ports:
            log = stack.enter_context((folder / f"server-{port}.log").open("wb"))
            command = [sys.executable, "-m", "ixc", "serve", "--engine", "light", "--port", str(port)]
            served = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(served.wait)
            stack.callback(served.terminate)
        for port in ports:
            _answers(f"http://127.0.0.1:{port}/v1/models")
        yield ports


@contextmanager
def router(ports: Sequence[int], folder: Path) -> Iterator[int]:
    """Run nginx with `deploy/router.conf` in front of servers on loopback."""
    port = free_port()
    text = (ROOT / "deploy" / "router.conf").read_text(encoding="utf-8")
    for number, each in enumerate(ports):
        text = text.replace(f"server-{number}:8000", f"127.0.0.1:{each}")
    text = text.replace("listen 8000;", f"listen 127.0.0.1:{port};")
    user = "user root; " if os.geteuid() == 0 else ""  # its workers write long bodies into this folder
    whole = (
        f"{user}daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; events {{}}\n"
        f'http {{ log_format server "$upstream_addr $request_method"; access_log {folder}/access.log server;\n'
        f"client_body_temp_path {folder}/body;\n"
        f"proxy_temp_path {folder}/proxy;\n{text} }}\n"
    )
    (folder / "nginx.conf").write_text(whole)
    found = subprocess.Popen([shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(folder / "nginx.conf")])
    try:
        _answers(f"http://127.0.0.1:{port}/v1/models")
        yield port
    finally:
        found.terminate()
        found.wait()


def _answers(url: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def read(source: Path, out: Path, more: Sequence[str]) -> dict[str, Any]:
    """Run the command; return seconds, and the most memory of the command itself."""
    ask = ["--ask", "What is the title?", "--hd", "1", "--max-new-tokens", "8", "--quiet"]
    begin = time.perf_counter()
    command = [sys.executable, "-m", "ixc", "read", str(source), *ask, "--out", str(out), *more]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as driver:
        found, most = psutil.Process(driver.pid), 0
        while driver.poll() is None:
            try:
                most = max(most, found.memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.2)
        assert driver.stderr is not None
        error = driver.stderr.read()
    assert driver.returncode == 0, error
    return {"seconds": round(time.perf_counter() - begin, 1), "driver_mb": round(most / 1e6)}


def answers(out: Path) -> list[list[str]]:
    with (out / "answers.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def run(way: str, source: Path, folder: Path) -> dict[str, Any]:
    out, options = folder / way, {"process": [], "workers": ["--workers", "2"], "ray": ["--ray", "local"]}
    if way in options:
        return read(source, out, options[way])
    with servers(2, folder) as ports:
        if way == "servers":
            return read(source, out, [part for port in ports for part in ("--endpoint", f"http://127.0.0.1:{port}/v1")])
        with router(ports, folder) as port:
            figures = read(source, out, ["--endpoint", f"http://127.0.0.1:{port}/v1", "--concurrency", "16"])
        logged = (folder / "access.log").read_text()
        return {**figures, "requests_of_each_server": [logged.count(f":{each} POST") for each in ports]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    os.environ.setdefault("RAY_worker_niceness", "0")
    kept: dict[str, Any] = json.loads(OUT.read_text()) if OUT.is_file() else {}
    try:
        source = pages(folder, given.pages)
        expected: list[list[str]] | None = None
        found: dict[str, Any] = kept.setdefault(f"{given.pages:,}, all different", {})
        for way in given.ways:
            figures = run(way, source, folder)
            rows = answers(folder / way)
            expected = expected or rows
            figures |= {"pages_per_second": round(given.pages / figures["seconds"], 2), "rows": len(rows) - 1}
            figures["rows_that_differ_from_the_first_way"] = sum(a != b for a, b in zip(rows, expected, strict=True))
            found[way] = figures
            print(way, figures, f"load {os.getloadavg()[0]:.1f}", flush=True)
            atomic_write(OUT, json.dumps(kept, indent=1) + "\n")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
