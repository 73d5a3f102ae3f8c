"""`ixc read --out FOLDER`: many pages through a runner into a folder of result files, and `--dry-run`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ixc.cli.checks import check_model
from ixc.cli.options import load_engine
from ixc.cli.progress import is_quiet, note, show_line, ticker
from ixc.cli.ray_options import Placement, placement
from ixc.errors import IxcError, PartialError, UsageError
from ixc.utils.counted import counted

if TYPE_CHECKING:
    from ixc.apps.reading.records import Page, Question, ReadSettings, Runner
    from ixc.apps.reading.run_folder import RunFolder, Totals
    from ixc.cli.read import ReadOptions

MAKES_A_RUNNER = Callable[["ReadSettings", Callable[[], None]], "Runner"]
"""Settings and what is called for every page -> runner."""


def read_many(options: ReadOptions, asked: Sequence[Question]) -> None:
    """Read the pages into the folder `options.out`. Raises: PartialError: some pages failed."""
    from ixc.apps.reading import report, wide
    from ixc.apps.reading.records import ReadSettings
    from ixc.apps.reading.result_files import has_parquet
    from ixc.apps.reading.run_folder import RunFolder

    assert options.out is not None
    form = options.form or ("parquet" if has_parquet() else "jsonl")
    if options.form is None and form == "jsonl":
        note("pyarrow is not installed, so the answers are written as JSON Lines; pip install pyarrow for Parquet")
    placed = placement(options.ray, cpus=options.ray_cpus, gpus=options.ray_gpus, device=options.device)
    if placed is not None:
        model, make = _on_ray(options, asked, placed)
    else:
        model, make = _endpoints(options) if options.endpoint else _local(options, asked)
    settings = ReadSettings(
        questions=tuple(asked), rendering=options.rendering, options=options.generation, model=model
    )
    runner = make(settings, progress := _Progress())
    sources = {
        "files": list(options.files or ()),
        **({"files_from": str(options.files_from)} if options.files_from else {}),
        **({"pages": options.pages} if options.pages else {}),
    }
    with RunFolder(options.out, settings, form=form, sources=sources, block_pages=options.block) as run:
        try:
            _run(run, runner, progress, options)
        finally:
            run.write_manifest()
        wide.write_wide(run)
        report.write_report(run)
        totals = run.totals()
        if totals.failed:
            first = run.first_failure()
            raise (PartialError if totals.failed < totals.rows else IxcError)(
                f"{totals.rows - totals.failed:,} of {counted(totals.rows, 'row')} have an answer, {totals.failed:,} "
                f"failed (--retry-failed asks them again); the first is {first.file}, page {first.page}: {first.error}"
            )


def _pages(options: ReadOptions) -> Iterator[Page]:
    from ixc.apps.reading import listing

    return listing.pages_of(options.found_files(), numbers=options.numbers)


def _run(run: RunFolder, runner: Runner, progress: _Progress, options: ReadOptions) -> None:
    progress.begin(run)
    blocks = run.blocks(partial(_pages, options), retry_failed=options.retry_failed, numbers=options.numbers)
    with ticker() as show, closing(runner.run(blocks)) as results:  # pyright: ignore[reportArgumentType] - a generator
        progress.show = show
        for result in results:
            for warning in result.warnings:
                note(warning)
            run.write(result)
            progress.block_done(len({(row.file, row.page) for row in result.rows}))
    progress.end()


class _Progress:
    """The line of progress: pages, failures, pages a second, time left."""

    def __init__(self) -> None:
        self.show: Callable[[str, int, int], None] = lambda what, done, total: None
        self._run: RunFolder | None = None
        self._start, self._before, self._inside, self._fresh = perf_counter(), 0, 0, 0

    def begin(self, run: RunFolder) -> None:
        """Count from here on."""
        self._run, self._before = run, run.totals().done_pages
        self._start = perf_counter()

    def __call__(self) -> None:
        """Note a page that was answered; its block is not done yet, and several blocks may be under way."""
        self._inside, self._fresh = self._inside + 1, self._fresh + 1
        self._update()

    def block_done(self, pages: int) -> None:
        """Note a block whose rows are written.

        Args:
            pages: of it that were asked about.
        """
        self._inside -= pages
        self._update()

    def end(self) -> None:
        """Leave the last line on a terminal, whose bar was erased."""
        if sys.stderr.isatty() and not is_quiet():
            show_line(self.text())

    def _update(self) -> None:
        assert self._run is not None
        totals = self._run.totals()
        self.show(self.text(), self._done(totals), totals.pages if totals.listed else 0)

    def _done(self, totals: Totals) -> int:
        """Pages with an answer or an error; those that are asked again have rows already."""
        return min(totals.done_pages + self._inside, totals.pages)

    def text(self) -> str:
        """Return the line."""
        assert self._run is not None
        totals, seconds = self._run.totals(), max(perf_counter() - self._start, 1e-9)
        done, fresh = self._done(totals), self._fresh
        parts = [counted(done, "page") + (f" of {totals.pages:,}" if totals.listed and done < totals.pages else "")]
        parts += [f"{self._before:,} from before"] if self._before else []
        parts += [f"{totals.failed:,} failed"] if totals.failed else []
        parts.append(f"{seconds:.1f} s, {fresh / seconds:.2f} pages/s")
        if totals.listed and fresh > 0 and done < totals.pages:
            parts.append(f"{_duration((totals.pages - done) * seconds / fresh)} left")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _local(options: ReadOptions, asked: Sequence[Question]) -> tuple[str, MAKES_A_RUNNER]:
    """Return the fingerprint of the model, and what makes the runner of this process."""
    from ixc.apps.reading.answering import EngineAnswerer, check_schemas
    from ixc.apps.reading.local import LocalRunner
    from ixc.apps.reading.records import ReadSettings
    from ixc.inference.model_folder import fingerprint

    check_schemas(ReadSettings(questions=tuple(asked), options=options.generation))
    folder = check_model(options.model)
    options.check_model(folder)

    def make(settings: ReadSettings, on_page: Callable[[], None]) -> Runner:
        if options.workers:
            return _processes(options, settings, on_page)
        return LocalRunner(
            lambda: EngineAnswerer(load_engine(options.model, device=options.device, dtype=options.dtype), settings),
            settings,
            on_page=on_page,
        )

    return fingerprint(folder), make


def _processes(options: ReadOptions, settings: ReadSettings, on_page: Callable[[], None]) -> Runner:
    """Return the runner over several processes; together they have the threads that one would have."""
    from ixc.apps.reading.answering import EngineSpec
    from ixc.apps.reading.processes import MakeAnswerer, ProcessRunner
    from ixc.utils.threads import available_cores

    assert options.workers is not None
    engine = EngineSpec(
        folder=None if options.model is None else str(options.model), device=options.device, dtype=options.dtype
    )
    threads = max(1, available_cores() // options.workers)
    make = MakeAnswerer(engine=engine, settings=settings, threads=threads)
    return ProcessRunner(make, settings, workers=options.workers, on_page=on_page)


def _on_ray(options: ReadOptions, asked: Sequence[Question], placed: Placement) -> tuple[str, MAKES_A_RUNNER]:
    """Return the fingerprint of the model, and what makes the runner on Ray."""
    from ixc.apps.reading.answering import EngineSpec
    from ixc.apps.reading.ray_runner import ModelCheck, RayRunner
    from ixc.cluster.session import connect

    model, _ = _local(options, asked)
    folder = None if options.model is None else str(options.model.resolve())
    engine = EngineSpec(folder=folder, device=placed.device, dtype=placed.dtype(options.dtype))
    check = ModelCheck(folder=folder, fingerprint=model)

    def make(settings: ReadSettings, on_page: Callable[[], None]) -> Runner:
        connected = partial(connect, placed.address, check=check)
        return RayRunner(engine, settings, placed.resources, connected=connected, on_page=on_page)

    return model, make


def _endpoints(options: ReadOptions) -> tuple[str, MAKES_A_RUNNER]:
    """Return the served name of the model, and what makes the runner against servers."""
    from ixc.apps.reading.endpoints import EndpointRunner, check_same_model, connect_any

    name = None if options.model is None else str(options.model)
    given = options.endpoint or []
    if len(set(given)) < len(given):
        raise UsageError(f"{len(given) - len(set(given))} of {len(given)} --endpoint are named twice; leave them out")
    concurrency = options.concurrency or 8 * len(given)
    endpoints, notes = connect_any(given, model=name, key=os.environ.get("OPENAI_API_KEY"), parallel=concurrency)
    for each in notes:
        note(each)

    def make(settings: ReadSettings, on_page: Callable[[], None]) -> Runner:
        return EndpointRunner(endpoints, settings, concurrency=concurrency, on_page=on_page)

    return check_same_model(endpoints), make


def dry_run(options: ReadOptions, asked: Sequence[Question]) -> None:
    """Print pages, tokens and FLOP of a run; nothing is loaded, nothing written."""
    from ixc.apps.reading import estimate
    from ixc.inference import cost
    from ixc.inference.model_folder import find_folder

    settings: dict[str, Any] = {"dtype": "bfloat16" if options.dtype == "auto" else options.dtype}
    if not options.endpoint:
        folder = find_folder(options.model)
        settings |= {"geometry": cost.read_geometry(folder), **cost.read_tiling(folder)}
    named = {"hd": options.hd, "rule": options.partition}
    settings |= {name: value for name, value in named.items() if value is not None}
    found = estimate.estimate(_pages(options), asked, rendering=options.rendering, settings=settings)
    if options.is_json:
        print(json.dumps(asdict(found)))
        return
    name = "the published 7B behind the servers" if options.endpoint else str(options.model or "the embedded model")
    print("\n".join([f"{'model':<14}{name}", *found.text()]))
