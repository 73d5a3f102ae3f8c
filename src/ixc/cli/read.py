"""The command `ixc read`: questions about the pages of PDFs and images."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixc.cli.checks import check_model, check_run
from ixc.cli.generation_options import GenerationOptions
from ixc.cli.options import Device, Dpi, Dtype, Model, ScanPixels, load_engine, takes
from ixc.cli.progress import LogJson, Quiet, is_json, note, show_line, ticker
from ixc.cli.terminal import existing
from ixc.errors import IxcError, UsageError
from ixc.utils.counted import counted
from ixc.utils.files import atomic_write

if TYPE_CHECKING:
    from ixc.apps.reading.single import DocumentPage, PageAnswer, ReadState

READ_EXAMPLES = (
    'ixc read report.pdf --ask "What is the title?" --pages 1-5',
    'ixc read scans/*.png --ask "What is the date?" --ask "What is the Total?" --format json --out totals.json',
    "ixc read book.pdf --model ./ixc-4khd-7b --hd 25 --out book.md",
)

FORMATS = ("markdown", "json")
"""Values of `--format`."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions(GenerationOptions):
    """Options of `ixc read`; the help of each field says what it does."""

    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="PDFs and images.")]
    ask: Annotated[
        list[str] | None,
        typer.Option("--ask", help="Question about every page, may be repeated; default: transcribe the page."),
    ] = None
    pages: Annotated[
        str | None, typer.Option("--pages", help="Pages of PDFs and TIFFs: 1-5 or 1,3,7-9; default: all.")
    ] = None
    form: Annotated[str, typer.Option("--format", help="markdown or json.")] = "markdown"
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the answers; an interrupted run resumes from it.")
    ] = None
    dpi: Dpi = 200
    scan_pixels: ScanPixels = False
    model: Model = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False
    quiet: Quiet = False
    log_json: LogJson = False

    @property
    def printed(self) -> bool:
        """Whether answers are printed as they arrive."""
        return self.out is None and not self.is_json

    @property
    def is_json(self) -> bool:
        """Whether the answers are written as JSON."""
        return self.as_json or self.form == "json"


@takes(ReadOptions)
def read(options: ReadOptions) -> None:
    """Answer a question about every page of PDFs and images, or transcribe the pages.

    A page that fails does not stop the others: the command then ends with 1, and the same command retries that page.
    """
    from ixc.apps.reading import single as read_documents
    from ixc.inference.lazy import LazyEngine
    from ixc.processing.pages import Rendering

    if options.form not in FORMATS:
        raise UsageError(f"no format {options.form!r}; use one of {', '.join(FORMATS)}")
    options.check()
    check_run(device=options.device, dtype=options.dtype)
    questions = tuple(options.ask or [read_documents.TRANSCRIBE])
    if not all(question.strip() for question in questions):
        raise UsageError("a question is empty; write it behind --ask, in quotes")
    numbers = None if options.pages is None else read_documents.numbers_of(options.pages)
    pages = read_documents.pages_of([existing(name) for name in options.files], numbers=numbers)
    options.check_model(check_model(options.model))
    rendering = Rendering(dpi=options.dpi, scan_pixels=options.scan_pixels)
    with nullcontext() if options.out is None else _state(options.out, _settings(options, questions)) as state:
        engine = LazyEngine(lambda: load_engine(options.model, device=options.device, dtype=options.dtype))
        answers = read_documents.read(engine, pages, questions, state=state, rendering=rendering, **options.generation)
        found = _collect(answers, len(pages), questions, printed=options.printed)
        if options.is_json:
            _write(options.out, read_documents.as_json(found, questions))
        elif options.out is not None:
            _write(options.out, "".join(read_documents.as_markdown(each, questions) for each in found))
        failed = [each for each in found if each.error is not None]
        if failed:
            raise IxcError(_failure(failed, found))
        if state is not None:
            state.done()


def _settings(options: ReadOptions, questions: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings recorded in the state file; an interrupted run resumes only under the same ones."""
    model = None if options.model is None else str(options.model.resolve())
    settings: dict[str, Any] = {"questions": list(questions), "model": model, "dpi": options.dpi}
    settings |= {"scan_pixels": True} if options.scan_pixels else {}  # files of older versions lack the key
    settings |= {"hd": options.hd, "partition": options.partition, "max_new_tokens": options.max_new_tokens}
    further = {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "beams": options.beams if options.beams > 1 else None,
        "seed": options.seed,
        "system": options.system,
        "stop": options.stop or None,
    }
    return settings | {name: value for name, value in further.items() if value is not None}


def _collect(
    answers: Iterator[PageAnswer], total: int, questions: tuple[str, ...], *, printed: bool
) -> list[PageAnswer]:
    """Collect the answers of all pages, with progress on stderr; print each page at once if `printed`."""
    from ixc.apps.reading.single import as_markdown

    start, found = perf_counter(), []
    with ticker() as progress:
        for each in answers:
            found.append(each)
            for warning in each.warnings:
                note(f"{each.page.name}: {warning}")
            if printed:
                sys.stdout.write(as_markdown(each, questions))
                sys.stdout.flush()
            progress(_summary(found, start), len(found), total)
    if sys.stderr.isatty() and not is_json():  # the progress bar has been erased; its last line stays
        show_line(_summary(found, start))
    return found


def _state(out: Path, settings: dict[str, Any]) -> ReadState:
    from ixc.apps.reading.single import ReadState

    if not out.parent.is_dir():
        raise UsageError(f"no folder {out.parent} for {out.name}; make it first")
    return ReadState(out.with_name(f"{out.name}.state"), settings)


def _summary(found: list[PageAnswer], start: float) -> str:
    """Describe pages and speed of this run; pages of an earlier run do not count for the speed."""
    fresh, seconds = sum(not each.kept for each in found), perf_counter() - start
    earlier = f", {len(found) - fresh} from before" if fresh < len(found) else ""
    return f"{counted(len(found), 'page')}{earlier}, {seconds:.1f} s, {fresh / max(seconds, 1e-9):.2f} pages/s"


def _write(out: Path | None, text: str) -> None:
    if out is None:
        sys.stdout.write(text)
        return
    try:
        atomic_write(out, text)
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}); choose another --out") from error


def _failure(failed: list[PageAnswer], found: list[PageAnswer]) -> str:
    page: DocumentPage = failed[0].page
    return (
        f"{len(found) - len(failed)} of {counted(len(found), 'page')} were read, {len(failed)} failed; the first is "
        f"{page.name}: {failed[0].error}"
    )
