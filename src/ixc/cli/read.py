"""The command `ixc read`: questions over the pages of PDFs and images."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixc.cli.checks import check_model, check_run, check_setting
from ixc.cli.options import Device, Dpi, Dtype, Hd, Model, NewTokens, Rule, ScanPixels, load_engine
from ixc.cli.terminal import existing, note, ticker
from ixc.errors import IxcError, UsageError

if TYPE_CHECKING:
    from ixc.apps.read_documents import DocumentPage, PageAnswer, ReadState

READ_EXAMPLES = (
    'ixc read report.pdf --ask "What is the title?" --pages 1-5',
    'ixc read scans/*.png --ask "What is the date?" --ask "What is the Total?" --format json --out totals.json',
    "ixc read book.pdf --model ./ixc-4khd-7b --hd 25 --out book.md",
)

FORMATS = ("markdown", "json")


def read(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="PDFs and images.")],
    ask: Annotated[
        list[str] | None,
        typer.Option("--ask", help="Question about every page, again for more; without it the page is transcribed."),
    ] = None,
    pages: Annotated[
        str | None, typer.Option("--pages", help="Pages of PDFs and TIFFs: 1-5 or 1,3,7-9; default: all.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="markdown or json.")] = "markdown",
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the answers; a run that was killed goes on from there.")
    ] = None,
    dpi: Dpi = 200,
    scan_pixels: ScanPixels = False,
    model: Model = None,
    hd: Hd = None,
    partition: Rule = None,
    max_new_tokens: NewTokens = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Answer a question about every page of PDFs and images, or write the pages down.

    A page that fails does not stop the others: the command then ends with 1, and the same command tries it again.
    """
    from ixc.apps import read_documents as room
    from ixc.inference.lazy import LazyEngine
    from ixc.processing.pages import Rendering

    if form not in FORMATS:
        raise UsageError(f"no format {form!r}; use one of {', '.join(FORMATS)}")
    check_setting(hd, partition, max_new_tokens)
    check_run(device=device, dtype=dtype)
    questions = tuple(ask or [room.TRANSCRIBE])
    if not all(question.strip() for question in questions):
        raise UsageError("a question is empty; write it behind --ask, in quotes")
    numbers = None if pages is None else room.numbers_of(pages)
    wanted = room.pages_of([existing(name) for name in files], numbers=numbers)
    options: dict[str, Any] = {"hd": hd, "partition": partition, "max_new_tokens": max_new_tokens}
    check_model(model)
    rendering = Rendering(dpi=dpi, scan_pixels=scan_pixels)
    settings = {"questions": list(questions), "model": None if model is None else str(model.resolve()), "dpi": dpi}
    settings |= {"scan_pixels": True} if scan_pixels else {}
    with nullcontext() if out is None else _state(out, {**settings, **options}) as state:
        engine = LazyEngine(lambda: load_engine(model, device=device, dtype=dtype))
        coming = room.read(engine, wanted, questions, state=state, rendering=rendering, **options)
        found = _read(coming, len(wanted), questions, shown=out is None and form == "markdown")
        if form == "json":
            _write(out, room.as_json(found, questions))
        elif out is not None:
            _write(out, "".join(room.as_markdown(each, questions) for each in found))
        failed = [each for each in found if each.error is not None]
        if failed:
            raise IxcError(_failure(failed, found))
        if state is not None:
            state.done()


def _read(coming: Iterator[PageAnswer], total: int, questions: tuple[str, ...], *, shown: bool) -> list[PageAnswer]:
    """All pages, told on stderr as they come, and printed where they are to be shown."""
    from ixc.apps.read_documents import as_markdown

    start, found = perf_counter(), []
    with ticker() as show:
        for each in coming:
            found.append(each)
            for warning in each.warnings:
                note(f"{each.page.name}: {warning}")
            if shown:
                sys.stdout.write(as_markdown(each, questions))
                sys.stdout.flush()
            show(_words(found, start), len(found), total)
    if sys.stderr.isatty():  # the bar has gone, and the last line stays
        print(_words(found, start), file=sys.stderr)
    return found


def _state(out: Path, settings: dict[str, Any]) -> ReadState:
    from ixc.apps.read_documents import ReadState

    if not out.parent.is_dir():
        raise UsageError(f"no folder {out.parent} for {out.name}; make it first")
    return ReadState(out.with_name(f"{out.name}.state"), settings)


def _words(found: list[PageAnswer], start: float) -> str:
    """Pages a second of this run; what an earlier one read takes no time."""
    fresh, seconds = sum(not each.kept for each in found), perf_counter() - start
    kept = f", {len(found) - fresh} from before" if fresh < len(found) else ""
    return f"{len(found)} pages{kept}, {seconds:.1f} s, {fresh / max(seconds, 1e-9):.2f} pages/s"


def _write(out: Path | None, text: str) -> None:
    """Whole or not at all."""
    if out is None:
        sys.stdout.write(text)
        return
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(out)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise UsageError(f"{out} cannot be written ({error.strerror}); choose another --out") from error


def _failure(failed: list[PageAnswer], found: list[PageAnswer]) -> str:
    page: DocumentPage = failed[0].page
    return (
        f"{len(found) - len(failed)} of {len(found)} pages were read, {len(failed)} failed; the first is {page.name}: "
        f"{failed[0].error}"
    )
