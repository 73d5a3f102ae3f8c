"""Run a benchmark: machine limits, then section after section, saved after each, so that a run can resume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import torch
import transformers

from ixc.bench import machine, report, speed
from ixc.bench.names import BITS, HDS, UNQUANTIZED, check_names
from ixc.bench.result import BenchResult, read
from ixc.bench.subject import Subject
from ixc.errors import UsageError
from ixc.utils.files import atomic_write

QUICK_HDS = (1, 4, 9)
"""HD settings of a quick sweep."""

PRODUCT_TRIES = 3
"""Runs of each kind of product before the sections; the fastest counts."""

Progress = Callable[[str, int, int], None]
"""Called with (text, sections done, sections in all)."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Options of a run."""

    subject: Subject
    """Measured model."""
    bits: tuple[int, ...] = (UNQUANTIZED,)
    """Bits of the weights; 8 and 4 are measured in the section `BITS` only."""
    only: tuple[str, ...] = ()
    """Sections; empty = all."""
    hds: tuple[int, ...] = ()
    """HD settings of the sweep; empty = `HDS`, or `QUICK_HDS`."""
    hd: int = 25
    """HD of the sections without a sweep."""
    repeats: int = 3
    """Measurements per row, >= 1."""
    quick: bool = False
    """Small HDs, one repeat: a minute for the embedded model."""
    force: bool = False
    """Measure what the file already holds once more."""
    device: str = "auto"
    """Device, as of `inference.engine.load`."""

    def __post_init__(self) -> None:
        check_names(only=self.only, hds=(*self.hds, self.hd))
        if self.repeats < 1:
            raise UsageError(f"repeats is {self.repeats}, at least 1 needed")

    @property
    def sweep(self) -> tuple[int, ...]:
        """HD settings of the section "phases"."""
        return tuple(sorted(self.hds)) or (QUICK_HDS if self.quick else HDS)


def run(
    options: BenchOptions, *, out: Path | None = None, progress: Progress = lambda text, done, total: None
) -> tuple[BenchResult, Path]:
    """Measure, and write JSON, Markdown and SVG.

    Args:
        options: what to measure.
        out: JSON file; None = benchmarks/speed_<machine>_<yyyymm>.json.
        progress: called before every section.

    Returns:
        The result with all rows of the file, and the JSON file.
    """
    device = torch.device("cuda" if options.device in ("auto", "cuda") and torch.cuda.is_available() else "cpu")
    today = date.today()
    path = out or Path("benchmarks") / f"speed_{machine.slug(device)}_{today:%Y%m}.json"
    progress("ceilings: matrix product, memory read", 0, 0)
    result = _opened(path, device, today)
    sections = options.only or (*speed.SECTIONS, BITS)
    if UNQUANTIZED in options.bits:
        _measure(options, result, path, [section for section in sections if section != BITS], progress)
    if BITS in sections:
        _compare(options, result, path, progress)
    _write(result, path)
    return result, path


def _opened(path: Path, device: torch.device, today: date) -> BenchResult:
    """Read the rows of the file and measure the machine's limits anew."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    rates = machine.product_rates(device, tries=PRODUCT_TRIES)
    label = str(dtype).removeprefix("torch.")
    ceilings = {
        "flops": max(rate for name, rate in rates.items() if name.startswith(label)),
        "read": machine.read_rate(device),
        "products": rates,
    }
    about = {
        "name": machine.name(device),
        "date": today.isoformat(),
        "dtype": label,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    rows = read(path).rows if path.is_file() else []
    return BenchResult(machine=about | ceilings, rows=rows)


def _bench(options: BenchOptions, bits: int) -> speed.Bench:
    """Load the model."""
    return speed.Bench(
        subject=options.subject,
        engine=options.subject.engine(bits, device=options.device),
        bits=bits,
        hds=options.sweep,
        hd=min(options.hd, options.sweep[-1]) if options.quick else options.hd,
        repeats=1 if options.quick else options.repeats,
    )


def _measure(
    options: BenchOptions, result: BenchResult, path: Path, sections: Sequence[str], progress: Progress
) -> None:
    """Measure the sections of unquantised weights."""
    name = options.subject.name
    todo = [section for section in sections if options.force or not _done(options, result, section)]
    if not todo:
        return
    progress(f"{name}: loading", 0, len(todo))
    bench = _bench(options, UNQUANTIZED)
    for number, section in enumerate(todo):
        progress(f"{name}: {report.TITLES[section]}", number, len(todo))
        rows = []
        missing = tuple(hd for hd in bench.hds if options.force or not result.has(name, section, UNQUANTIZED, hd))
        given = replace(bench, hds=missing) if section == "phases" else bench
        for row in speed.SECTIONS[section](given):
            rows.append(row)
            if section == "phases":  # minutes per HD at the 7B: each is saved at once
                result.add([each for each in rows if each.hd == row.hd])
                result.write(path)
        result.add(rows)
        result.write(path)
    progress(f"{name}: done", len(todo), len(todo))


def _compare(options: BenchOptions, result: BenchResult, path: Path, progress: Progress) -> None:
    """Measure weights of all bits in alternation, so that drift of a shared machine affects all alike."""
    name, bits = options.subject.name, sorted(options.bits, reverse=True)
    if not options.force and all(result.has(name, BITS, each) for each in bits):
        return
    progress(f"{name}: {report.TITLES[BITS]}, {', '.join(map(str, bits))} bits", 0, 1)
    result.add(list(speed.bits([_bench(options, each) for each in bits])))
    result.write(path)
    progress(f"{name}: {report.TITLES[BITS]}, done", 1, 1)


def _done(options: BenchOptions, result: BenchResult, section: str) -> bool:
    hds = options.sweep if section == "phases" else (None,)
    return all(result.has(options.subject.name, section, UNQUANTIZED, hd) for hd in hds)


def _write(result: BenchResult, path: Path) -> None:
    result.write(path)
    atomic_write(path.with_suffix(".svg"), report.plot(result))
    atomic_write(path.with_suffix(".md"), report.markdown(result, path.with_suffix(".svg").name))
