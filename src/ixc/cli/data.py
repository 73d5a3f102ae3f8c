"""The commands `ixc data ...`: is a file of conversations fit to learn from. As everywhere, each calls one room."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ixc.cli.checks import check_model
from ixc.cli.options import Hd, Json, Model, Rule, examples, quiet_libraries
from ixc.cli.terminal import progress, watch
from ixc.inference.settings import check_tiling

if TYPE_CHECKING:
    from ixc.data.encoding import Encoder
    from ixc.data.validation import Records

data = typer.Typer(help="Conversations to learn from.", no_args_is_help=True, rich_markup_mode="rich")


Stream = Annotated[
    bool, typer.Option("--stream", help="Parquet too large to convert: read in its own order, never shuffled.")
]


@data.callback()
def _root() -> None:
    pass


@data.command(
    name="check",
    epilog=examples(
        "ixc data check talks.jsonl",
        "ixc data check talks.jsonl --model ./ixc-4khd-7b --hd 25 --context 4096",
        "ixc data check ./parquet --images ./pictures --json",
        "ixc data check ./parquet --stream",
    ),
)
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines, a JSON list, or a folder of parquet.")],
    images: Annotated[
        Path | None, typer.Option("--images", help="Where paths of images begin; default: FILE's.")
    ] = None,
    model: Model = None,
    hd: Hd = None,
    partition: Rule = None,
    context: Annotated[
        int | None, typer.Option("--context", help="Most tokens of a conversation; default: the model's positions.")
    ] = None,
    stream: Stream = False,
    as_json: Json = False,
) -> None:
    """Read every record and image header; say by line what is wrong. Exit code 1 where something is."""
    check_tiling(hd, partition)
    check_model(model)
    records = read_records(file, images, stream=stream)
    quiet_libraries()
    from ixc.data.validation import validate

    encoder, usual = _encoder(model, context)
    steps = validate(records, encoder, hd=usual if hd is None else hd, rule=partition)
    report = watch(steps, total=len(records), what="checking")
    print(json.dumps(report.as_dict(), ensure_ascii=False) if as_json else "\n".join(report.text()))
    if report.problems:
        raise typer.Exit(1)


@data.command(
    name="pages",
    epilog=examples(
        "ixc data pages ./manuals --out ./pages",
        "ixc data pages paper.pdf --out ./pages --pages 20 --em 12:40",
        "ixc data pages packages/* --out ./train --keep-out keep_out.txt --seed 3",
    ),
)
def pages(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="PDFs, or folders of them; a folder is one package.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pages; one that is there is gone on with.")],
    pages: Annotated[int, typer.Option("--pages", min=1, help="Most pages of a document, drawn at random.")] = 4,
    em: Annotated[
        str, typer.Option("--em", metavar="MIN:MAX", help="Pixels of a page's em; its resolution is drawn to fit.")
    ] = "8:48",
    keep_out: Annotated[
        Path | None, typer.Option("--keep-out", help="List of PACKAGE: FOLDER whose documents are left out.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the choice of pages and sizes.")] = 0,
) -> None:
    """Turn PDFs with a text layer into pictures with every character's box, lines and reading order."""
    from ixc.nano.data.page_folder import FolderConfig, write_pages
    from ixc.nano.data.pdf_pages import PageConfig
    from ixc.nano.data.pdf_sources import find_documents, read_keep_out

    documents = find_documents(sources, read_keep_out(keep_out) if keep_out else None)
    config = FolderConfig(page=PageConfig(em=_span(em)), pages_per_document=pages, seed=seed)
    taken = broken = 0
    with closing(write_pages(documents, out, config)) as outcomes, progress("reading documents") as show:
        for number, outcome in enumerate(outcomes, 1):
            taken, broken = taken + outcome.pages, broken + (outcome.status == "broken")
            show(number, len(documents))
    print(f"{out}: {taken} pages new, {broken} documents broken (index.jsonl)")


def _span(text: str) -> tuple[float, float]:
    """MIN:MAX as two numbers.

    Raises:
        UsageError: no such thing.
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
    """A file of conversations, or a table, held or read as it goes."""
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


def _encoder(model: Path | None, context: int | None) -> tuple[Encoder, int]:
    """The rules of a model folder, and its usual HD."""
    from ixc.data.encoding import Encoder
    from ixc.inference.cost import read_geometry
    from ixc.inference.model_folder import find_folder, read_processor

    folder = find_folder(model)
    processor = read_processor(folder)
    most = read_geometry(folder).max_positions if context is None else context
    return Encoder(processor, context=most), processor.image_processor.hd
