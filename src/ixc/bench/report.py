"""Present a result: lines for a terminal, a Markdown file, and a plot of cost against image tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from ixc.bench.result import BenchResult, BenchRow
from ixc.utils.svg import document, tag, text

WIDTH, HEIGHT, MARGIN = 640, 300, 56
"""Size of one panel, pixels."""

COLUMNS = (6, 46, 14, 26, 8)
"""Column widths for a terminal, characters: setting, name, value, spread, share."""

TITLES = {
    "phases": "Phases by HD",
    "bits": "Smaller weights",
    "second": "A second question on the same image",
    "changed": "A screenshot with changed tiles",
    "beams": "Three beams against one",
    "batch": "Sequences side by side",
    "memory": "Memory of a prefill",
}


def lines(result: BenchResult) -> list[str]:
    """Format the rows for a terminal."""
    found = []
    for subject, section, rows in _groups(result):
        found += [f"{subject}: {TITLES[section]}"]
        for row in rows:
            cells = zip(_cells(row), COLUMNS, strict=True)
            found.append("  " + "  ".join(word.ljust(width) for word, width in cells))
    return [line.rstrip() for line in found] + [f"{name}: {value}" for name, value in fits(result).items()]


def markdown(result: BenchResult, plot: str) -> str:
    """Format the Markdown file."""
    machine = result.machine
    found = [f"# Speed and memory: {machine['name']}, {machine['date']}", ""]
    found += [
        f"{machine['dtype']} activations; torch {machine['torch']}, transformers {machine['transformers']}. "
        f"Measured limits: matrix product {machine['flops'] / 1e9:,.0f} GFLOP/s, "
        f"memory read {machine['read'] / 1e9:.1f} GB/s. "
        f"{_products(machine)}"
        "Median of the repeats, smallest and largest in brackets; a share is of the limit "
        "measured right before and after the row.",
        "",
        f"![cost against image tokens]({plot})",
        "",
    ]
    found += [f"* {name}: {value}" for name, value in fits(result).items()]
    for subject, section, rows in _groups(result):
        found += ["", f"## {subject}: {TITLES[section]}", "", "| | | | spread | share of |", "|---|---|---|---|---|"]
        found += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(found) + "\n"


def _products(machine: dict[str, Any]) -> str:
    """Name the rate of every kind of product; nothing for files that do not hold them."""
    rates = [f"{name} {rate / 1e9:,.0f}" for name, rate in machine.get("products", {}).items()]
    return f"Products, GFLOP/s: {'; '.join(rates)}; the limit is the best in the dtype. " if rates else ""


def _groups(result: BenchResult) -> list[tuple[str, str, list[BenchRow]]]:
    found = []
    for subject in dict.fromkeys(row.subject for row in result.rows):
        for section in TITLES:
            rows = [row for row in result.rows if (row.subject, row.section) == (subject, section)]
            if rows:
                found.append((subject, section, sorted(rows, key=lambda row: (row.hd or 0, -row.bits))))
    return found


def _cells(row: BenchRow) -> tuple[str, str, str, str, str]:
    setting = f"HD-{row.hd}" if row.hd else ""
    name = row.name + (f", {row.bits} bits" if row.section == "bits" else "")
    name += f", {row.image_tokens:,} image tokens" if row.image_tokens else ""
    spread = f"{_number(row.low)} to {_number(row.high)} of {row.repeats}" if row.repeats > 1 else "1 run"
    share = "" if row.share is None else f"{row.share:.0%} of {row.of}"
    return setting, name, f"{_number(row.value)} {row.unit}", spread, share


def _number(value: float) -> str:
    return f"{value:,.3f}" if abs(value) < 1 else f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"


def _points(result: BenchResult, subject: str, name: str) -> list[BenchRow]:
    rows = [row for row in result.rows if (row.subject, row.section, row.name) == (subject, "phases", name)]
    return sorted((row for row in rows if row.image_tokens), key=lambda row: row.image_tokens or 0)


def line_fit(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Fit a least-squares line; return slope, intercept and r2."""
    slope, start = np.polyfit(x, y, 1)
    residual = np.asarray(y) - (slope * np.asarray(x) + start)
    centred = np.asarray(y) - np.mean(y)
    return float(slope), float(start), float(1 - (residual @ residual) / (centred @ centred))


def fits(result: BenchResult) -> dict[str, str]:
    """Describe how cost grows with image tokens, one line per subject and quantity."""
    found = {}
    for subject in dict.fromkeys(row.subject for row in result.rows):
        first = [row for row in _points(result, subject, "time to first token") if (row.hd or 0) <= 55]
        if len(first) >= 3:
            slope, _, r2 = line_fit([float(row.image_tokens or 0) for row in first], [row.value for row in first])
            found[f"{subject}, time to first token"] = (
                f"{1e3 * slope:.2f} ms an image token, r2 of a line to HD-{first[-1].hd} {r2:.4f}"
            )
        steps = {row.hd: row.value for row in _points(result, subject, "time per token")}
        if 9 in steps and 25 in steps:
            found[f"{subject}, time per token"] = f"HD-25 against HD-9 {steps[25] / steps[9] - 1:+.1%}"
    return found


def plot(result: BenchResult) -> str:
    """Plot two panels per subject: time to first token with its fit, and time per token. SVG."""
    panels, top = [], 0
    for subject in dict.fromkeys(row.subject for row in result.rows):
        for name in ("time to first token", "time per token"):
            rows = _points(result, subject, name)
            if len(rows) >= 2:
                panels.append(tag("g", _panel(rows, f"{subject}: {name}"), transform=f"translate(0 {top})"))
                top += HEIGHT
    return document("".join(panels), width=WIDTH, height=top, font_size=12)


def _panel(rows: list[BenchRow], title: str) -> str:
    right, high = max(row.image_tokens or 0 for row in rows), max(row.high for row in rows)

    def at(tokens: float, value: float) -> tuple[float, float]:
        return (
            MARGIN + tokens / right * (WIDTH - 2 * MARGIN),
            HEIGHT - MARGIN + 10 - value / high * (HEIGHT - 2 * MARGIN),
        )

    (x0, y0), (x1, y1) = at(0, 0), at(right, high)
    parts = [text(title, x=MARGIN, y=24, font_weight="bold")]
    parts += [
        tag("line", x1=x0, y1=y0, x2=x1, y2=y0, stroke="#444"),
        tag("line", x1=x0, y1=y0, x2=x0, y2=y1, stroke="#444"),
    ]
    parts += [text(f"{right:,} image tokens", x=x1, y=y0 + 32, text_anchor="end")]
    parts += [text(f"{_number(high)} {rows[0].unit}", x=x0 + 4, y=y1 - 4)]
    if len(rows) >= 3:
        slope, start, _ = line_fit([float(row.image_tokens or 0) for row in rows], [row.value for row in rows])
        ends = [at(tokens, slope * tokens + start) for tokens in (rows[0].image_tokens or 0, right)]
        parts.append(tag("line", x1=ends[0][0], y1=ends[0][1], x2=ends[1][0], y2=ends[1][1], stroke="#e66100"))
    for row in rows:
        x, y = at(row.image_tokens or 0, row.value)
        parts += [
            tag("circle", cx=x, cy=y, r=4, fill="#1a5fb4"),
            text(f"{row.hd}", x=x, y=y0 + 15, text_anchor="middle"),
        ]
    return "".join(parts)
