"""A whole run: ceilings, then section after section, written after each, so that an interrupted run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import torch
import transformers

from ixc.bench import machine, report, speed
from ixc.bench.names import BITS, HDS, WHOLE, check_names
from ixc.bench.result import BenchResult, read
from ixc.bench.subject import Subject
from ixc.errors import UsageError

QUICK_HDS = (1, 4, 9)
"""Settings of a quick sweep."""

Tell = Callable[[str, int, int], None]
"""Told (what is measured, sections done, of how many)."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What a run measures."""

    subject: Subject
    """The model."""
    bits: tuple[int, ...] = (WHOLE,)
    """Of the weights; smaller ones in the section `BITS` only."""
    only: tuple[str, ...] = ()
    """Sections; none = all."""
    hds: tuple[int, ...] = ()
    """Settings of the sweep; none = `HDS`, or `QUICK_HDS`."""
    hd: int = 25
    """Setting of the sections without a sweep."""
    repeats: int = 3
    """Measurements a figure, >= 1."""
    quick: bool = False
    """Small HDs, one repeat: a minute for the embedded model."""
    again: bool = False
    """Measure anew what the file holds already."""
    device: str = "auto"
    """As of `load`."""

    def __post_init__(self) -> None:
        check_names(only=self.only, hds=(*self.hds, self.hd))
        if self.repeats < 1:
            raise UsageError(f"repeats is {self.repeats}, at least 1 needed")

    @property
    def sweep(self) -> tuple[int, ...]:
        """Settings of the phases."""
        return tuple(sorted(self.hds)) or (QUICK_HDS if self.quick else HDS)


def run(
    options: BenchOptions, *, out: Path | None = None, tell: Tell = lambda what, done, total: None
) -> tuple[BenchResult, Path]:
    """Measures, and writes JSON, Markdown and SVG.

    Args:
        out: JSON file; None = benchmarks/speed_<machine>_<yyyymm>.json.
        tell: progress.

    Returns:
        The result with all rows of the file, and the JSON file.
    """
    device = torch.device("cuda" if options.device in ("auto", "cuda") and torch.cuda.is_available() else "cpu")
    today = date.today()
    path = out or Path("benchmarks") / f"speed_{machine.slug(device)}_{today:%Y%m}.json"
    tell("ceilings: matrix product, memory read", 0, 0)
    result = _opened(path, device, today)
    sections = options.only or (*speed.SECTIONS, BITS)
    if WHOLE in options.bits:
        _measure(options, result, path, [section for section in sections if section != BITS], tell)
    if BITS in sections:
        _compare(options, result, path, tell)
    _write(result, path)
    return result, path


def _opened(path: Path, device: torch.device, today: date) -> BenchResult:
    """The file's rows, under ceilings measured now."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    ceilings = {"flops": machine.matrix_rate(device, dtype), "read": machine.read_rate(device)}
    about = {
        "name": machine.name(device),
        "date": today.isoformat(),
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    rows = read(path).rows if path.is_file() else []
    return BenchResult(machine=about | ceilings, rows=rows)


def _bench(options: BenchOptions, bits: int) -> speed.Bench:
    """Loaded."""
    return speed.Bench(
        subject=options.subject,
        engine=options.subject.engine(bits, device=options.device),
        bits=bits,
        hds=options.sweep,
        hd=min(options.hd, options.sweep[-1]) if options.quick else options.hd,
        repeats=1 if options.quick else options.repeats,
    )


def _measure(options: BenchOptions, result: BenchResult, path: Path, sections: Sequence[str], tell: Tell) -> None:
    """Every section of the whole weights."""
    name = options.subject.name
    todo = [section for section in sections if options.again or not _done(options, result, section)]
    if not todo:
        return
    tell(f"{name}: loading", 0, len(todo))
    bench = _bench(options, WHOLE)
    for number, section in enumerate(todo):
        tell(f"{name}: {report.TITLES[section]}", number, len(todo))
        rows = []
        missing = tuple(hd for hd in bench.hds if options.again or not result.has(name, section, WHOLE, hd))
        given = replace(bench, hds=missing) if section == "phases" else bench
        for row in speed.SECTIONS[section](given):
            rows.append(row)
            if section == "phases":  # long: every HD is kept as soon as it is there
                result.add([each for each in rows if each.hd == row.hd])
                result.write(path)
        result.add(rows)
        result.write(path)
    tell(f"{name}: done", len(todo), len(todo))


def _compare(options: BenchOptions, result: BenchResult, path: Path, tell: Tell) -> None:
    """Weights of all bits side by side: measured apart, the machine's own changes would pass for theirs."""
    name, bits = options.subject.name, sorted(options.bits, reverse=True)
    if not options.again and all(result.has(name, BITS, each) for each in bits):
        return
    tell(f"{name}: {report.TITLES[BITS]}, {', '.join(map(str, bits))} bits", 0, 1)
    result.add(list(speed.bits([_bench(options, each) for each in bits])))
    result.write(path)
    tell(f"{name}: {report.TITLES[BITS]}, done", 1, 1)


def _done(options: BenchOptions, result: BenchResult, section: str) -> bool:
    hds = options.sweep if section == "phases" else (None,)
    return all(result.has(options.subject.name, section, WHOLE, hd) for hd in hds)


def _write(result: BenchResult, path: Path) -> None:
    result.write(path)
    path.with_suffix(".svg").write_text(report.plot(result), encoding="utf-8")
    path.with_suffix(".md").write_text(report.markdown(result, path.with_suffix(".svg").name), encoding="utf-8")
