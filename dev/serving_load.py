"""Throughput of the light server before and after: 200 requests, 16 at a time, on the same questions, alternating.

    git worktree add BEFORE COMMIT
    PYTHONPATH=src python dev/serving_load.py BEFORE [--rounds 3] [--at-once 16] [--pages 50] [--hd 2] [--out FILE]

It writes benchmarks/serving_load_nano_202611.json unless another file is named.

Both servers are `ixc serve --engine light` of this Python with the embedded model, one of the source in this repository
and one of that in BEFORE, each started anew for every round. The requests ask four questions about each of 50 pages,
in one shuffled order, so that caches are hit as in use. Seconds are those of the clients; CPU seconds are the server's
own and its threads', which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import urllib.request
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

from PIL import Image, ImageDraw

from ixc.utils.files import atomic_write

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "serving_load_nano_202611.json"
AT_ONCE, ROUNDS = 16, 3
PAGES, HD, NEW_TOKENS = 50, 2, 16
WIDTHS, HEIGHTS = (400, 1000), (300, 900)
"""Sides of the pages, px."""
QUESTIONS = ("What is the title?", "What is the date?", "What is the TOTAL?", "How much is item 2?")


def page(number: int) -> bytes:
    """Return a PNG of lines of text."""
    random = Random(number)
    image = Image.new("RGB", (random.randint(*WIDTHS), random.randint(*HEIGHTS)), "white")
    draw = ImageDraw.Draw(image)
    for line in range(image.height // 40):
        draw.text((20, 10 + 40 * line), f"item {line}: {random.randint(100, 99_999) / 100}", "black", font_size=22)
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def bodies(pages: int, hd: int) -> list[bytes]:
    """Return the requests, in the order in which they are sent."""
    urls = ["data:image/png;base64," + b64encode(page(number)).decode() for number in range(pages)]
    pairs = [(url, question) for url in urls for question in QUESTIONS]
    Random(0).shuffle(pairs)
    return [
        json.dumps(
            {
                "model": "nano",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": url}},
                            {"type": "text", "text": question},
                        ],
                    }
                ],
                "hd": hd,
                "max_tokens": NEW_TOKENS,
            }
        ).encode()
        for url, question in pairs
    ]


def cpu_seconds(process: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(source: Path, requests: list[bytes], at_once: int) -> tuple[dict[str, float], list[str]]:
    """Start the server of a source folder, send the requests, and return its figures and its answers."""
    command = [sys.executable, "-m", "ixc", "serve", "--engine", "light", "--port", "0", "--max-waiting", "64"]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd="/") as process:
        try:
            assert process.stdout is not None
            ready = re.fullmatch(r"ready: (http://\S+)\n", process.stdout.readline())
            if ready is None:
                raise SystemExit(f"the server of {source} did not start")

            def ask(body: bytes) -> dict[str, Any]:
                headers = {"Content-Type": "application/json"}
                request = urllib.request.Request(f"{ready[1]}/v1/chat/completions", body, headers)
                with urllib.request.urlopen(request, timeout=600) as response:
                    return json.load(response)

            ask(body_without_page())
            start, before = perf_counter(), cpu_seconds(process.pid)
            with ThreadPoolExecutor(at_once) as pool:
                answers = list(pool.map(ask, requests))
            seconds, spent = perf_counter() - start, cpu_seconds(process.pid) - before
        finally:
            process.terminate()
    tokens = sum(answer["usage"]["total_tokens"] for answer in answers)
    figures = {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(spent, 2),
        "requests_per_second": round(len(requests) / seconds, 3),
        "requests_per_cpu_second": round(len(requests) / spent, 3),
        "tokens": tokens,
    }
    return figures, [answer["choices"][0]["message"]["content"] for answer in answers]


def body_without_page() -> bytes:
    """Return a request that warms the server up and leaves its caches as good as empty."""
    return json.dumps({"model": "nano", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}).encode()


def commit(folder: Path) -> str:
    """Return the commit that a folder is at."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput of the light server before and after.")
    parser.add_argument("before", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("--pages", type=int, default=PAGES, help="four requests a page")
    parser.add_argument("--hd", type=int, default=HD)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    sources, requests = {"before": given.before.absolute(), "after": ROOT}, bodies(given.pages, given.hd)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
    said: dict[str, list[str]] = {}
    for turn in range(given.rounds):
        for name in list(sources)[:: -1 if turn % 2 else 1]:
            figures, said[name] = measure(sources[name] / "src", requests, given.at_once)
            runs[name].append(figures)
            print(name, json.dumps(figures), f"load {os.getloadavg()[0]:.1f}", flush=True)
    keys = ("seconds", "cpu_seconds", "requests_per_second", "requests_per_cpu_second")
    medians = {
        name: {key: statistics.median(run[key] for run in found) for key in keys} for name, found in runs.items()
    }
    found = {
        "requests": len(requests),
        "at_once": given.at_once,
        "hd": given.hd,
        "commits": {name: commit(folder) for name, folder in sources.items()},
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "answers_that_differ": sum(one != other for one, other in zip(said["before"], said["after"], strict=True)),
        "medians": medians,
        "ratio_requests_per_second": round(
            medians["after"]["requests_per_second"] / medians["before"]["requests_per_second"], 3
        ),
        "ratio_requests_per_cpu_second": round(
            medians["after"]["requests_per_cpu_second"] / medians["before"]["requests_per_cpu_second"], 3
        ),
        "runs": runs,
    }
    atomic_write(given.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "runs"}))


if __name__ == "__main__":
    main()
