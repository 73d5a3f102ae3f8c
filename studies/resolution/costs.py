"""Sections made from other result files: time against image tokens (table 10), the embedded model at 336 px."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ixc
from ixc.bench.report import line_fit
from ixc.bench.result import BenchResult, BenchRow, read
from studies.resolution import paper

NANO = Path(ixc.__file__).parent / "pretrained" / "nano" / "scores.json"
"""Scores of the embedded model (`ixc eval synth --json`)."""

LARGEST = NANO.with_name("scores_hd55.json")
"""Its scores on pages drawn for HD-55 (`ixc eval synth --hd 55 --json`)."""

GROUPS = (
    "pages drawn for HD-9, asked at",
    "pages drawn for HD-55, asked at",
    "of these the pages of 3840x1600, asked at",
)
"""Groups of these scores about resolution."""

NARROW = (
    "Where ours is less flat or less straight, it is the narrow model: attention, whose cost of a prefix grows with "
    "the square of the tokens and whose cost of a step grows with them, is a larger part of it than of the 7B widths."
)
"""Likely cause of differences from the paper."""

PREFIX, STEP = "prefill", "time per token"
"""Names of the rows of the measurement."""


def speed(benchmarks: Path) -> dict[str, Any] | None:
    """Make the section on prefill time and time per token against image tokens, from the newest measurement."""
    files = sorted(benchmarks.glob("speed_*.json"), key=lambda path: path.stem[-6:])
    if not files:
        return None
    result = read(files[-1])
    drawn = files[-1].with_suffix(".svg")
    picture = [f"![time against image tokens](../benchmarks/{drawn.name})", ""] if drawn.is_file() else []
    lines = [*picture, f"From `{files[-1].name}` ({result.machine['name']}, {result.machine['dtype']}).", ""]
    for subject in dict.fromkeys(row.subject for row in result.rows):
        found = {name: _rows(result, subject, name) for name in (PREFIX, STEP)}
        if all(found.values()):
            lines += _subject(subject, found[PREFIX], found[STEP])
    lines += [f"The paper: {paper.COST}. {NARROW}"]
    return {"name": "cost", "title": "Time against image tokens (camera-ready table 10)", "lines": lines}


def _rows(result: BenchResult, subject: str, name: str) -> list[BenchRow]:
    rows = [r for r in result.rows if (r.subject, r.section, r.name, r.bits) == (subject, "phases", name, 32)]
    return sorted((row for row in rows if row.image_tokens), key=lambda row: row.image_tokens or 0)


def _subject(subject: str, prefix: list[BenchRow], steps: list[BenchRow]) -> list[str]:
    lines = [
        f"| {subject} | image tokens | prefix, {prefix[0].unit} | a further token, {steps[0].unit} |",
        "|---|---:|---:|---:|",
    ]
    for first, step in zip(prefix, steps, strict=True):
        lines.append(f"| HD-{first.hd} | {first.image_tokens:,} | {first.value:.3f} | {step.value:.2f} |")
    tokens = [float(row.image_tokens or 0) for row in prefix]
    slope, _, r2 = line_fit(tokens, [row.value for row in prefix])
    grown = prefix[-1].value / prefix[0].value
    more = steps[-1].value / steps[0].value - 1
    return [
        *lines,
        "",
        f"A line through the prefix times has r² {r2:.4f} ({1e3 * slope:.2f} ms an image token); "
        f"{tokens[-1] / tokens[0]:.0f} times the tokens cost {grown:.0f} times the prefix, and "
        f"{more:+.0%} a further token.",
        "",
    ]


def embedded() -> dict[str, Any] | None:
    """Make the section on the exact match of the shipped model by HD, at tiles of 336 px."""
    if not NANO.is_file():
        return None
    files = [NANO, *([LARGEST] if LARGEST.is_file() else [])]
    groups = {
        title: rows
        for file in reversed(files)  # where both have a group, that of every size of page
        for title, rows in json.loads(file.read_text(encoding="utf-8"))["groups"].items()
    }
    names = " and ".join(f"`src/ixc/pretrained/nano/{file.name}`" for file in files)
    lines = [f"From {names} (`ixc eval synth`); one model, so the interval is over pages.", ""]
    lines += ["| | exact match % | 95 % interval | pages |", "|---|---:|---|---:|"]
    for title in GROUPS:
        lines += [f"| **{title}** | | | |"] if title in groups else []
        for row in groups.get(title, []):
            lines.append(
                f"| {row['name']} | {row['percent']:.1f} | {row['low']:.1f} to {row['high']:.1f} | {row['count']} |"
            )
    return {"name": "embedded", "title": "The embedded model at 336 px", "lines": lines}
