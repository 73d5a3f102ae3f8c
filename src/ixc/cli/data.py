"""The commands `ixc data ...`: validate a file of conversations, turn PDFs into training pages."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ixc.cli.checks import check_model
from ixc.cli.options import FixedHd, Json, Model, Partition, examples, quiet_libraries, takes
from ixc.cli.progress import LogJson, Quiet, progress, watch
from ixc.cli.terminal import existing_path
from ixc.inference.settings import check_tiling
from ixc.utils.counted import counted

if TYPE_CHECKING:
    from ixc.data.encoding import Encoder
    from ixc.data.validation import DeferredEncoder, Records

data = typer.Typer(help="Conversations to train on.", no_args_is_help=True, rich_markup_mode="rich")


Stream = Annotated[
    bool, typer.Option("--stream", help="Parquet too large to convert: read in its own order, never shuffled.")
]


@data.callback()
def _root() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Options of `ixc data check`; the help of each field says what it does."""

    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines, a JSON list, or a folder of parquet.")]
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder that image paths start from; default: FILE's.")
    ] = None
    model: Model = None
    hd: FixedHd = None
    partition: Partition = None
    context: Annotated[
        int | None,
        typer.Option("--context", min=1, help="Most tokens of a conversation; default: the model's positions."),
    ] = None
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode the pixels of every image too, not only its header.")
    ] = False
    stream: Stream = False
    as_json: Json = False
    quiet: Quiet = False
    log_json: LogJson = False


@data.command(
    name="check",
    epilog=examples(
        "ixc data check conversations.jsonl",
        "ixc data check conversations.jsonl --model ./ixc-4khd-7b --hd 25 --context 4096",
        "ixc data check ./parquet --images ./pictures --json",
        "ixc data check ./parquet --stream",
        "ixc data check conversations.jsonl --decode",
    ),
)
@takes(CheckOptions)
def check(options: CheckOptions) -> None:
    """Read every record and image header; report errors by line. Exit code 1 if there are any."""
    check_tiling(options.hd, options.partition)
    check_model(options.model)
    records = read_records(options.file, options.images, stream=options.stream)
    quiet_libraries()
    from ixc.data.validation import validate

    encoder, default_hd = _encoder(options.model, options.context)
    hd = default_hd if options.hd is None else options.hd
    steps = validate(records, encoder, hd=hd, partition=options.partition, decode=options.decode)
    report = watch(steps, total=len(records), what="checking")
    print(json.dumps(report.as_dict(), ensure_ascii=False) if options.as_json else "\n".join(report.text()))
    if report.problems:
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class PagesOptions:
    """Options of `ixc data pages`; the help of each field says what it does."""

    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="PDFs, or folders of them; a folder is one package.")
    ]
    out: Annotated[Path, typer.Option("--out", help="Folder for the pages; an existing one is continued.")]
    pages: Annotated[int, typer.Option("--pages", min=1, help="Most pages per document, chosen at random.")] = 4
    em: Annotated[
        str, typer.Option("--em", metavar="MIN:MAX", help="Em of a page's text in px; its resolution is chosen to fit.")
    ] = "8:48"
    keep_out: Annotated[
        Path | None, typer.Option("--keep-out", help="List of PACKAGE: FOLDER whose documents are left out.")
    ] = None
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed of the choice of pages and sizes.")] = 0
    quiet: Quiet = False
    log_json: LogJson = False


@data.command(
    name="pages",
    epilog=examples(
        "ixc data pages ./manuals --out ./pages",
        "ixc data pages paper.pdf --out ./pages --pages 20 --em 12:40",
        "ixc data pages packages/* --out ./train --keep-out keep_out.txt --seed 3",
    ),
)
@takes(PagesOptions)
def pages(options: PagesOptions) -> None:
    """Turn PDFs with a text layer into images with every character's box, lines and reading order."""
    from ixc.nano.data.page_folder import FolderConfig, write_pages
    from ixc.nano.data.pdf_pages import PageConfig
    from ixc.nano.data.pdf_sources import find_documents, read_keep_out

    documents = find_documents(options.sources, read_keep_out(options.keep_out) if options.keep_out else None)
    page_config = PageConfig(em=_span(options.em))
    config = FolderConfig(page=page_config, pages_per_document=options.pages, seed=options.seed)
    pages_written = broken = 0
    with closing(write_pages(documents, options.out, config)) as outcomes, progress("reading documents") as show:
        for number, outcome in enumerate(outcomes, 1):
            pages_written, broken = pages_written + outcome.pages, broken + (outcome.status == "broken")
            show(number, len(documents))
    print(f"{options.out}: {counted(pages_written, 'page')} new, {counted(broken, 'document')} broken (index.jsonl)")


@dataclass(frozen=True, kw_only=True)
class TypesetOptions:
    """Options of `ixc data typeset`; the help of each field says what it does."""

    out: Annotated[Path, typer.Option("--out", help="Folder for the pages; an existing one is continued.")]
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Documents to set, one to two pages each.")] = 320
    text: Annotated[
        Path | None, typer.Option("--text", help="Folder of `ixc data pages` whose words and sentences are used.")
    ] = None
    fonts: Annotated[
        list[Path] | None, typer.Option("--fonts", help="Folder of fonts beside those of the package; repeatable.")
    ] = None
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed of the documents.")] = 0
    quiet: Quiet = False
    log_json: LogJson = False


@data.command(
    name="typeset",
    epilog=examples(
        "ixc data typeset --out ./typeset -n 1000",
        "ixc data typeset --out ./typeset -n 5000 --text ./pages --fonts /usr/share/fonts",
    ),
)
@takes(TypesetOptions)
def typeset(options: TypesetOptions) -> None:
    """Set invoices, forms, tables, menus and other pages whose keys and values are known, with questions."""
    from ixc.nano.data.typeset.folder import TypesetConfig, Typesetter, text_of_pages, write_typeset
    from ixc.nano.data.typeset.text import TextSource

    folders = [existing_path(folder) for folder in (options.text, *(options.fonts or ())) if folder is not None]
    config = TypesetConfig(seed=options.seed)
    files, written = -(-options.count // config.documents), 0
    typesetter = Typesetter(folders[1:] if options.text else folders)
    source = text_of_pages(folders[0]) if options.text else TextSource()
    made = write_typeset(options.out, files, config, typesetter=typesetter, text=source)
    with closing(made) as outcomes, progress("setting pages") as show:
        for number, outcome in enumerate(outcomes, 1):
            written += outcome.pages
            show(number, files)
    families = counted(len(typesetter.families), "family", "families")
    print(f"{options.out}: {counted(written, 'page')} new, {families} of fonts (index.jsonl)")


@data.command(
    name="questions",
    epilog=examples(
        "ixc data questions ./pages --out ./questions",
        "ixc data questions ./test-pages --out ./questions --pages 200 --per-page 3 --seed 7",
    ),
)
def questions(
    pages: Annotated[Path, typer.Argument(metavar="PAGES", help="Folder of ixc data pages.")],
    out: Annotated[Path, typer.Option("--out", help="New or empty folder.")],
    count: Annotated[int, typer.Option("--pages", min=1, help="Most pages; packages take turns.")] = 120,
    per_page: Annotated[int, typer.Option("--per-page", min=1, help="Most questions per page, of several kinds.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed of the choice.")] = 0,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Pictures of pages with questions and exact answers, found in their lines, for ixc eval pages."""
    from ixc.nano.data.question_folder import QuestionConfig, write_questions

    config = QuestionConfig(pages=count, per_page=per_page, seed=seed)
    with progress("drawing pages") as show:
        for done in write_questions(pages, out, config):
            show(done, count)
    print(out)


def _span(text: str) -> tuple[float, float]:
    """Parse MIN:MAX.

    Raises:
        UsageError: not two numbers, or out of range.
    """
    from ixc.errors import UsageError

    try:
        least, most = (float(part) for part in text.split(":"))
    except ValueError:
        least = most = 0.0
    if not 2 <= least <= most <= 400:
        raise UsageError(f"--em {text}; write MIN:MAX in pixels, 2 to 400, for example 8:48")
    return least, most


def read_records(file: Path, images: Path | None, *, stream: bool = False) -> Records:
    """Open a file of conversations or a table, with random access or as a stream."""
    from ixc.data import hf_datasets
    from ixc.data.hf_datasets import TableDataset
    from ixc.data.records import JsonLines

    if stream:
        return hf_datasets.StreamingDataset(file, images=images)
    return (
        TableDataset(file, images=images)
        if file.is_dir() or file.suffix == ".parquet"
        else JsonLines(file, images=images)
    )


def _encoder(model: Path | None, context: int | None) -> tuple[DeferredEncoder, int]:
    """Return the encoder of a model folder, built at the first sound record, and the folder's HD."""
    from ixc.core.chat_format import CHAT_DEFAULTS
    from ixc.data.validation import DeferredEncoder
    from ixc.inference.cost import read_geometry, read_tiling
    from ixc.inference.model_folder import find_folder

    folder = find_folder(model)
    most = read_geometry(folder).max_positions if context is None else context

    def build() -> Encoder:
        from ixc.data.encoding import Encoder
        from ixc.inference.model_folder import read_processor

        return Encoder(read_processor(folder), max_seq_length=most)

    return DeferredEncoder(max_seq_length=most, build=build), read_tiling(folder).get("hd", CHAT_DEFAULTS.hd)
