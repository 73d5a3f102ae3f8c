"""Writes the tables of the documents from the result files in the repository: `python dev/figures.py [--check]`.

A table stands between `<!-- figures: NAME -->` and `<!-- end -->`; NAME is a key of `TABLES`.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
NANO = ROOT / "src/ixc/models/nano"
DOCUMENTS = (ROOT / "README.md", NANO / "README.md")


def nano() -> str:
    """Scores of the embedded model, from `ixc eval synth --json`."""
    groups = json.loads((NANO / "scores.json").read_text())["groups"]
    lines = ["| | exact match % | 95 % interval | answers |", "|---|---|---|---|"]
    for title, rows in groups.items():
        lines.append(f"| **{title}** | | | |")
        for r in rows:
            lines.append(f"| {r['name']} | {r['percent']:.1f} | {r['low']:.1f} to {r['high']:.1f} | {r['count']} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {"nano": nano}


def filled(text: str) -> str:
    """A document with every table made anew."""
    pattern = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.S)
    return pattern.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}", text)


def main() -> int:
    """0 if nothing changed or was written; 1 if `--check` finds an old table."""
    stale = [path for path in DOCUMENTS if filled(path.read_text()) != path.read_text()]
    if "--check" in sys.argv:
        return len(stale) > 0
    for path in stale:
        path.write_text(filled(path.read_text()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
