"""Runs the whole suite at one end of the declared version ranges, in a fresh environment.

    python dev/version_range.py lowest                        # every lower bound of pyproject.toml, exactly
    python dev/version_range.py newest                        # whatever the package index has today
    python dev/version_range.py locked --python python3.13    # constraints.txt, under another Python
    ... -- -k generate                                        # arguments for pytest

The last line printed is one JSON object: the end, date, Python, versions of the direct dependencies, passed, failed,
skipped, seconds. Exit status 0 if nothing failed. The environment is removed at the end unless --folder names it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("dev", "train", "qlora", "trl", "eight-bit", "eval", "pdf", "typeset", "serve")
TOOLS = frozenset({"ruff", "pyright", "pytest", "pytest-xdist", "hypothesis", "uv", "rust-just", "hatchling"})
"""Developers' tools: their versions say nothing about what a user may install, so both ends take the locked ones."""

COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)")


def requirements() -> list[Requirement]:
    """The direct dependencies, those of the extras included, each once."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    return list({one.name: one for one in map(Requirement, lines)}.values())


def lower_bound(requirement: Requirement) -> str | None:
    """The version behind >=, or None."""
    return next((each.version for each in requirement.specifier if each.operator == ">="), None)


def constraints(end: str, pins: list[str]) -> str:
    """The constraints file of an end: exact lower bounds, nothing, or the lock; the tools' locked versions always."""
    lock = (ROOT / "constraints.txt").read_text()
    if end == "locked":
        return lock
    kept = [line for line in lock.splitlines() if line and line[0] != "#" and Requirement(line).name in TOOLS]
    direct = [one for one in requirements() if one.name not in TOOLS]
    floors = [f"{one.name}=={lower_bound(one)}" for one in direct if lower_bound(one)] if end == "lowest" else []
    pinned = {Requirement(pin).name for pin in pins}
    return "\n".join([*kept, *(line for line in floors if Requirement(line).name not in pinned), *pins]) + "\n"


def install(end: str, python: str, folder: Path, pins: list[str]) -> Path:
    """A fresh environment at this end, or the one in the folder if it was made with the same constraints."""
    interpreter, file = folder / "bin" / "python", folder / "range.txt"
    wanted = constraints(end, pins)
    if file.exists() and file.read_text() == wanted:
        return interpreter
    subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    file.write_text(wanted)
    target = f"{ROOT}[{','.join(EXTRAS)}]"
    # uv says at once which two packages disagree, where pip tries release after release of both. It compiles nothing by
    # itself, unlike pip, and start-up is measured.
    command = [sys.executable, "-m", "uv", "pip", "install", "-q", "--compile-bytecode", "--python", str(interpreter)]
    done = subprocess.run([*command, "-c", str(file), "-e", target])
    if done.returncode:
        file.unlink()
        raise SystemExit(f"{end}: no such set of versions")
    return interpreter


def versions(interpreter: Path) -> dict[str, str]:
    """Python and the direct dependencies, as installed there."""
    names = [one.name for one in requirements()]
    code = (
        "import json, sys, platform; from importlib.metadata import version; "
        "print(json.dumps({'python': platform.python_version()} | {n: version(n) for n in sys.argv[1:]}))"
    )
    done = subprocess.run([str(interpreter), "-c", code, *names], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def suite(interpreter: Path, arguments: list[str]) -> dict[str, int]:
    """Runs pytest as users do; what it counted."""
    command = [str(interpreter), "-m", "pytest", "-q", "-n", "2", *arguments]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    last = ""
    assert running.stdout is not None
    for line in running.stdout:
        print(line, end="", flush=True)
        last = line if COUNTS.search(line) else last
    status = running.wait()
    found = {"passed": 0, "failed": 0, "skipped": 0} | {kind: int(n) for n, kind in COUNTS.findall(last)}
    found["failed"] += found.pop("error", 0) + found.pop("errors", 0)
    if status and not found["failed"]:  # it ended before it counted
        found["failed"] = 1
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("end", choices=("lowest", "locked", "newest"))
    parser.add_argument("--python", default=sys.executable, help="interpreter to make the environment with")
    parser.add_argument("--folder", type=Path, help="keep the environment here, and use it again")
    parser.add_argument("--install-only", action="store_true", help="make the environment in --folder, run nothing")
    parser.add_argument("--pin", action="append", default=[], help="name==version, instead of this end's version")
    parser.add_argument("arguments", nargs="*", help="for pytest, behind --")
    given = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        interpreter = install(given.end, given.python, given.folder or Path(temporary), given.pin)
        found = versions(interpreter)
        if given.install_only:
            print(json.dumps({"end": given.end, "versions": found}))
            return 0
        counts = suite(interpreter, given.arguments)
    seconds = round(time.monotonic() - start)
    date = datetime.now(UTC).date().isoformat()
    print(json.dumps({"end": given.end, "date": date, "versions": found, **counts, "seconds": seconds}))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
