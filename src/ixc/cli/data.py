"""The commands `ixc data ...`: is a file of conversations fit to learn from. As everywhere, each calls one room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ixc.cli.checks import check_model
from ixc.cli.options import Hd, Json, Model, Rule, examples, quiet_libraries
from ixc.inference.settings import check_tiling
from ixc.cli.terminal import watch

if TYPE_CHECKING:
    from ixc.data.validation import Records
    from ixc.data.encoding import Encoder

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


def read_records(file: Path, images: Path | None, *, stream: bool = False) -> Records:
    """A file of conversations, or a table, held or read as it goes."""
    from ixc.data import hf_datasets
    from ixc.data.records import JsonLines
    from ixc.data.hf_datasets import TableDataset

    if stream:
        return hf_datasets.StreamingDataset(file, images=images)
    return TableDataset(file, images=images) if file.is_dir() or file.suffix == ".parquet" else JsonLines(file, images=images)


def _encoder(model: Path | None, context: int | None) -> tuple[Encoder, int]:
    """The rules of a model folder, and its usual HD."""
    from ixc.data.encoding import Encoder
    from ixc.inference.model_folder import found, read_processor
    from ixc.inference.cost import read_geometry

    folder = found(model)
    processor = read_processor(folder)
    most = read_geometry(folder).max_positions if context is None else context
    return Encoder(processor, context=most), processor.image_processor.hd
