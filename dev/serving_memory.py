"""Resident memory of the light server over many different pictures, beside the limit of its caches.

    PYTHONPATH=src python dev/serving_memory.py [PICTURES]        writes benchmarks/serving_memory_nano_202611.json

`ixc serve --engine light --cache-memory LIMIT` with the embedded model answers a question about each of 2,000 pictures
of noise, no two alike, of 100 to 400 px a side, four at a time. The memory is the process's resident set as Linux
counts it; "model" is the resident set of the server that is ready and has answered nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from ixc.utils.files import atomic_write

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "serving_memory_nano_202611.json"
PICTURES, AT_ONCE = 2000, 4
LIMIT_MB = 512
"""Both caches together; some 200 of the pictures fill them."""
SIDES = (100, 400)
"""Least and greatest side of a picture, px."""
HD, NEW_TOKENS = 1, 2
SHOWN = (1, 50, 100, 200, 400, 800, 1200, 1600)
"""Numbers of answered pictures after which the memory is read, beside the last."""
GAUGES = ("ixc_tile_cache_bytes", "ixc_prefix_cache_bytes", "ixc_cache_memory_bytes", "ixc_cache_memory_limit_bytes")


def picture(number: int) -> bytes:
    """Return a JPEG of noise; equal numbers give equal pictures."""
    random = Random(number)
    size = random.randint(*SIDES), random.randint(*SIDES)
    out = BytesIO()
    Image.frombytes("RGB", size, random.randbytes(3 * size[0] * size[1])).save(out, "JPEG")
    return out.getvalue()


def body(number: int) -> bytes:
    """Return the request about a picture."""
    url = "data:image/jpeg;base64," + b64encode(picture(number)).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is the title?"}]
    asked = {"model": "nano", "messages": [{"role": "user", "content": parts}], "hd": HD, "max_tokens": NEW_TOKENS}
    return json.dumps(asked).encode()


def resident(process: int) -> int:
    """Return the resident bytes of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def gauges(url: str) -> dict[str, int]:
    """Return the server's own counts."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as response:
        text = response.read().decode()
    return {name: int(float(re.findall(rf"^{name} (\S+)$", text, re.M)[0])) for name in GAUGES}


def measure(url: str, process: int, pictures: int) -> Iterator[list[dict[str, int]]]:
    """Ask about all pictures and yield the memory so far, at the numbers of `SHOWN` and at the end."""

    def ask(number: int) -> None:
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", body(number), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=3600) as response:
            response.read()

    rows, done = [{"pictures": 0, "resident": resident(process), **gauges(url)}], 0
    yield rows
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for until in [*(number for number in SHOWN if number < pictures), pictures]:
            list(pool.map(ask, range(done, until)))
            done = until
            rows.append({"pictures": done, "resident": resident(process), **gauges(url)})
            yield rows


def result(rows: list[dict[str, int]]) -> dict[str, Any]:
    """Return what is written: the rows so far, and the share that the last one is of the limit and the model."""
    model, limit = rows[0]["resident"], LIMIT_MB << 20
    share = round(rows[-1]["resident"] / (limit + model), 3)
    return {"limit": limit, "model": model, "share_of_limit_and_model": share, "rows": rows}


def main() -> None:
    pictures = int(sys.argv[1]) if len(sys.argv) > 1 else PICTURES
    command = [sys.executable, "-m", "ixc", "serve", "--engine", "light", "--port", "0"]
    command += ["--cache-memory", str(LIMIT_MB)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = re.fullmatch(r"ready: (http://\S+)\n", process.stdout.readline())
            if ready is None:
                raise SystemExit("the server did not start")
            for rows in measure(ready[1], process.pid, pictures):
                print(json.dumps(rows[-1]), flush=True)
                atomic_write(RESULT, json.dumps(result(rows), indent=1) + "\n")
            print(result(rows)["share_of_limit_and_model"])
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
