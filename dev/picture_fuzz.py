"""Mutated files against `open_image`, `read_size` and `Pdf`: writes benchmarks/picture_fuzz_202611.json.

    python dev/picture_fuzz.py [--count 100000] [--seed 24] [--state FILE]

File n is made of seed and n alone: one of dev/picture_samples.py with bytes flipped, overwritten with extreme numbers,
cut, inserted, moved or taken from another file; half the PNGs get right checksums again. Right outcomes: a picture of
the size that `read_size` told, or an `IxcError` of one line. Batches run in child processes; one that ends by a signal
or is silent for `SILENT` seconds is counted with its file's number and the run goes on behind it. PDFs run in a process
of their own in every command, so that a signal there is a refusal; it is counted apart.

The state file holds the counts after every batch; a run given the same one goes on there. Exit code 1 where anything
but the two right outcomes was seen, or memory grew beyond `MOST_BYTES`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import select
import signal
import struct
import sys
import time
import traceback
import zlib
from collections import Counter
from datetime import date
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "dev"))

import picture_samples  # noqa: E402
from picture_samples import Drawn  # noqa: E402

from ixc.errors import IxcError  # noqa: E402
from ixc.processing import color  # noqa: E402, F401 - imported before the children are
from ixc.processing.image_io import open_image, read_size  # noqa: E402
from ixc.processing.pdf import Pdf  # noqa: E402

RESULT = ROOT / "benchmarks" / "picture_fuzz_202611.json"

BATCH = 200
"""Files of a child process."""

SILENT = 60
"""Longest time for a file, seconds."""

MOST_BYTES = 1_500_000_000
"""Most memory a file may take beyond the process before it."""

ADDRESS_SPACE = 6 << 30
"""Limit of a child's address space."""

LONGEST_LINE = 600
"""Most characters of a refusal."""

EXTREMES = (0, 1, 2, 255, 256, 32_767, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**62)


def mutated(files: list[Drawn], seed: int, number: int) -> tuple[Drawn, bytes]:
    """File `number`, and the one it was made of."""
    chance = random.Random(f"{seed} {number}")
    origin = files[chance.randrange(len(files))]
    data = bytearray(origin.data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        _mutate(data, chance, files, origin)
    if origin.format == "PNG" and chance.random() < 0.5:
        data = _with_checksums(bytes(data))
    return origin, bytes(data)


def _mutate(data: bytearray, chance: random.Random, files: list[Drawn], origin: Drawn) -> None:
    size = max(len(data), 1)
    at = chance.randrange(min(size, 512) if chance.random() < 0.6 else size)
    kind = chance.randrange(8)
    if kind <= 1:
        data[at : at + 1] = bytes([chance.randrange(256)])
    elif kind == 2:
        width, order = chance.choice((1, 2, 4, 8)), chance.choice(("big", "little"))
        data[at : at + width] = (chance.choice(EXTREMES) % 256**width).to_bytes(width, order)
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        del data[at : at + chance.choice((1, 2, 4, 64, 1000))]
    elif kind == 5:
        data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 64)))
    elif kind == 6:
        there = chance.randrange(size)
        data[at : at + 64] = data[there : there + 64]
    else:
        other = chance.choice([each for each in files if each.format == origin.format]).data
        there = chance.randrange(len(other))
        data[at:] = other[there:] if chance.random() < 0.5 else other[at:]


def _with_checksums(data: bytes) -> bytearray:
    """A PNG's chunks with the checksums of what stands in them."""
    found, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        body = data[at + 4 : at + 8 + size]
        found += struct.pack(">I", size) + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + size
    return found + data[at:]


def outcome(origin: Drawn, data: bytes) -> tuple[str, str]:
    """ "shown", "refused", or what is wrong with it, in words."""
    try:
        if origin.format == "PDF":
            document = Pdf(data, name="FILE")
            size, image = document.size(1, dpi=72), document.page(1, dpi=72).image
        else:
            image, size = open_image(data), read_size(BytesIO(data))
    except IxcError as error:
        line = str(error)
        good = line and "\n" not in line and len(line) <= LONGEST_LINE and "Traceback" not in line
        return ("refused", type(error).__name__) if good else ("not one line", line)
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}"
    if image.mode != "RGB" or image.size != size:
        return "another size", f"{image.mode} {image.size}, told {size}"
    return "shown", ""


# -- processes --------------------------------------------------------------------------------------------------------


def child(files: list[Drawn], seed: int, numbers: range, write: int) -> None:
    """Answers a line a file: its number when begun, then number, format, outcome, words, memory and seconds."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - what libraries print about broken files
    os.dup2(sys.stderr.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with os.fdopen(write, "w", buffering=1) as lines:
        for number in numbers:
            print(json.dumps([number]), file=lines)
            origin, data = mutated(files, seed, number)
            start = time.process_time()
            kind, words = outcome(origin, data)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
            seconds = round(time.process_time() - start, 3)
            print(json.dumps([number, origin.format, kind, words, grown, seconds]), file=lines)


def batch(files: list[Drawn], seed: int, numbers: range) -> tuple[list[list[Any]], int, str]:
    """Answers of a child, the number to go on at, and how the child ended: "" or a reason."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read)
        with contextlib.suppress(BaseException):
            child(files, seed, numbers, write)
        os._exit(0)
    os.close(write)
    answers, begun, reason, rest = [], numbers.start - 1, "", b""
    while not reason:
        if not select.select([read], [], [], SILENT)[0]:
            os.kill(process, signal.SIGKILL)
            reason = f"silent for {SILENT} s"
        elif not (piece := os.read(read, 1 << 16)):
            break
        else:
            *lines, rest = (rest + piece).split(b"\n")
            for found in map(json.loads, lines):
                begun = found[0]
                answers += [found] if len(found) > 1 else []
    os.close(read)
    status = os.waitpid(process, 0)[1]
    if not reason and os.WIFSIGNALED(status):
        reason = signal.Signals(os.WTERMSIG(status)).name
    return answers, begun + 1, reason


def advance(state: dict[str, Any], files: list[Drawn], seed: int, count: int) -> None:
    """Runs one batch and counts it."""
    numbers = range(state["next"], min(state["next"] + BATCH, count))
    answers, following, reason = batch(files, seed, numbers)
    for number, kind, found, words, grown, seconds in answers:
        counts = state["formats"].setdefault(kind, {})
        counts[found] = counts.get(found, 0) + 1
        state["most_bytes"], state["most_seconds"] = (
            max(state["most_bytes"], grown),
            max(state["most_seconds"], seconds),
        )
        if found not in ("shown", "refused"):
            state["wrong"].append([number, kind, found, words])
    if reason:
        last = following - 1
        kind = mutated(files, seed, last)[0].format
        counts = state["formats"].setdefault(kind, {})
        counts["ended"] = counts.get("ended", 0) + 1
        if kind != "PDF":
            state["wrong"].append([last, kind, "ended", reason])
    state["next"] = following


def main() -> int:
    """Runs to the end and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=24)
    parser.add_argument("--state", type=Path, default=Path("picture_fuzz_state.json"))
    arguments = parser.parse_args()
    files = list(picture_samples.samples())
    state: dict[str, Any] = {
        "next": 0,
        "formats": {},
        "wrong": [],
        "most_bytes": 0,
        "most_seconds": 0,
        "seed": arguments.seed,
    }
    if arguments.state.exists():
        state = json.loads(arguments.state.read_text())
    while state["next"] < arguments.count:
        advance(state, files, arguments.seed, arguments.count)
        arguments.state.write_text(json.dumps(state))
        print(f"{state['next']:,} of {arguments.count:,}, wrong: {len(state['wrong'])}", flush=True)
    versions = {name: version(name) for name in ("pillow", "pypdfium2", "pillow-heif", "numpy")}
    total = Counter(dict.fromkeys(("shown", "refused", "ended"), 0))
    for counts in state["formats"].values():
        total.update(counts)
    result = {"date": date.today().isoformat(), "count": arguments.count, "versions": versions, "total": total, **state}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"total": total, "most_bytes": state["most_bytes"], "wrong": state["wrong"][:10]}))
    return 1 if state["wrong"] or state["most_bytes"] > MOST_BYTES else 0


if __name__ == "__main__":
    raise SystemExit(main())
