"""The command `ixc read`: questions about the pages of PDFs, pictures, folders and archives."""

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
from ixc.cli.options import Device, Dpi, Dtype, Model, ScanPixels, load_engine, takes, values
from ixc.cli.progress import LogJson, Quiet, is_json, note, show_line, ticker
from ixc.cli.ray_options import Ray, RayCpus, RayGpus
from ixc.errors import IxcError, PartialError, UsageError
from ixc.utils.counted import counted
from ixc.utils.files import atomic_write

if TYPE_CHECKING:
    from ixc.apps.reading.records import Question
    from ixc.apps.reading.single import DocumentPage, PageAnswer, ReadState
    from ixc.apps.reading.sources import FoundFile
    from ixc.processing.pages import Rendering

READ_EXAMPLES = (
    'ixc read report.pdf --ask "What is the title?" --pages 1-5',
    'ixc read scans/*.png --ask "What is the date?" --ask "What is the Total?" --format json --out totals.json',
    "ixc read book.pdf --model ./ixc-4khd-7b --hd 25 --out book.md",
    "ixc read scans/ shard-000.tar --questions fields.csv --out answers --hd 4",
    "ixc read scans/ --questions fields.csv --out answers --endpoint http://a:8000/v1 --endpoint http://b:8000/v1",
    "ixc read scans/ --questions fields.csv --out answers --ray local",
)

FORMATS = ("markdown", "json", "parquet", "jsonl")
"""Values of `--format`."""

FOLDER_FORMATS = ("parquet", "jsonl")
"""Those of a folder of result files."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions(GenerationOptions):
    """Options of `ixc read`; the help of each field says what it does."""

    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE...", help="PDFs, pictures, folders, patterns, archives (zip, tar), addresses."),
    ] = None
    files_from: Annotated[
        Path | None, typer.Option("--files-from", help="Text file with further names, one a line.")
    ] = None
    ask: Annotated[
        list[str] | None,
        typer.Option("--ask", help="Question about every page, may be repeated; default: transcribe the page."),
    ] = None
    questions: Annotated[
        Path | None,
        typer.Option("--questions", help="CSV or JSONL, a question a row: question, name, schema, max_new_tokens."),
    ] = None
    pages: Annotated[
        str | None, typer.Option("--pages", help="Pages of PDFs and TIFFs: 1-5 or 1,3,7-9; default: all.")
    ] = None
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            autocompletion=values(*FORMATS),
            help="markdown (default) or json: one file; parquet or jsonl: a folder, parquet its default.",
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="File for the answers, or, without a suffix, a folder; an interrupted run resumes from it."
        ),
    ] = None
    block: Annotated[int, typer.Option("--block", min=1, help="Pages of a result file in a folder.")] = 32
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask the failed questions of a folder again, and only those.")
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print pages, tokens and FLOP, by the arithmetic of ixc plan, and end.")
    ] = False
    endpoint: Annotated[
        list[str] | None,
        typer.Option("--endpoint", help="OpenAI-compatible server that answers instead; repeated: replicas."),
    ] = None
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", min=1, help="Pages asked about at once; default: 8 a server.")
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, help="Processes of this machine that answer, each with the model; default: 1."
        ),
    ] = None
    ray: Ray = None
    ray_cpus: RayCpus = None
    ray_gpus: RayGpus = None
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

    @property
    def is_folder(self) -> bool:
        """Whether the answers go to a folder of result files."""
        if self.form in FOLDER_FORMATS:
            return True
        return self.form is None and not self.as_json and self.out is not None and _is_folder(self.out)

    @property
    def rendering(self) -> Rendering:
        """How pages become pixels."""
        from ixc.processing.pages import Rendering

        return Rendering(dpi=self.dpi, scan_pixels=self.scan_pixels)

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """Numbers of the pages to read; None: all. Raises: UsageError."""
        from ixc.apps.reading.listing import numbers_of

        return None if self.pages is None else numbers_of(self.pages)

    def found_files(self) -> Iterator[FoundFile]:
        """List the files; may be called again. Raises: as `sources.list_files`."""
        from ixc.apps.reading import sources

        yield from sources.list_files(self.files or ())
        if self.files_from is not None:
            yield from sources.list_files(sources.read_list(self.files_from))

    def asked(self) -> tuple[Question, ...]:
        """Return the checked questions. Raises: UsageError."""
        from ixc.apps.reading.questions import check_questions, read_questions
        from ixc.apps.reading.records import Question
        from ixc.apps.reading.single import TRANSCRIBE

        found = [Question(text=text) for text in self.ask or ()]
        found += [] if self.questions is None else read_questions(self.questions)
        return check_questions(found or [Question(text=TRANSCRIBE)])

    def check_read(self) -> None:
        """Check what can be checked without a file of pages. Raises: UsageError."""
        if self.form is not None and self.form not in FORMATS:
            raise UsageError(f"no format {self.form!r}; use one of {', '.join(FORMATS)}")
        if not self.files and self.files_from is None:
            raise UsageError("0 files named; name PDFs, pictures, folders or archives, or use --files-from LIST")
        if self.is_folder and self.out is None and not self.dry_run:
            raise UsageError(f"--format {self.form} needs a folder; add --out FOLDER")
        if self.is_folder and self.as_json:
            raise UsageError(f"--json and --format {self.form} exclude each other; leave one out")
        of_folder = {
            "--retry-failed": self.retry_failed,
            "--endpoint": bool(self.endpoint),
            "--ray": self.ray is not None,
            "--workers": self.workers is not None,
        }
        if not self.is_folder and not self.dry_run and (given := [name for name, value in of_folder.items() if value]):
            raise UsageError(f"{', '.join(given)} is for a folder of answers; add --out FOLDER")
        places = {"--endpoint": bool(self.endpoint), "--ray": self.ray is not None, "--workers": bool(self.workers)}
        if len(named := [name for name, given in places.items() if given]) > 1:
            raise UsageError(f"{' and '.join(named)} exclude each other; leave one out")
        if self.concurrency is not None and not self.endpoint:
            raise UsageError("--concurrency has no effect without --endpoint; leave it out")
        self.check()


def _is_folder(out: Path) -> bool:
    return out.is_dir() or out.suffix in ("", ".parquet")


@takes(ReadOptions)
def read(options: ReadOptions) -> None:
    """Answer questions about every page of PDFs, pictures, folders and archives, or transcribe the pages.

    A page that fails does not stop the others: the command then ends with 3. The same command goes on where an
    interrupted one ended, and tries failed pages again (in a folder of answers with --retry-failed).
    """
    from ixc.apps.reading import sources
    from ixc.cli import read_many

    options.check_read()
    check_run(device=options.device, dtype=options.dtype)
    asked, numbers = options.asked(), options.numbers
    sources.check_names(options.files or ())
    if options.dry_run:
        read_many.dry_run(options, asked)
    elif options.is_folder:
        read_many.read_many(options, asked)
    else:
        _read_single(options, asked, numbers)


def _read_single(options: ReadOptions, asked: tuple[Question, ...], numbers: tuple[int, ...] | None) -> None:
    from ixc.apps.reading import single
    from ixc.inference.lazy import LazyEngine

    if given := [each.column for each in asked if each.schema or each.max_new_tokens]:
        raise UsageError(f"{given[0]!r} has settings of its own, which need a folder of answers; add --out FOLDER")
    questions = tuple(each.text for each in asked)
    pages = single.pages_of(options.found_files(), numbers=numbers)
    options.check_model(check_model(options.model))
    with nullcontext() if options.out is None else _state(options.out, _settings(options, questions)) as state:
        engine = LazyEngine(lambda: load_engine(options.model, device=options.device, dtype=options.dtype))
        answers = single.read(engine, pages, questions, state=state, rendering=options.rendering, **options.generation)
        found = _collect(answers, len(pages), questions, printed=options.printed)
        if options.is_json:
            _write(options.out, single.as_json(found, questions))
        elif options.out is not None:
            _write(options.out, "".join(single.as_markdown(each, questions) for each in found))
        failed = [each for each in found if each.error is not None]
        if failed:
            raise (PartialError if len(failed) < len(found) else IxcError)(_failure(failed, found))
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
