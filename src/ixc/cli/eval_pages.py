"""The command `ixc eval pages`: questions about pictures of real pages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ixc.cli.checks import check_model, check_run
from ixc.cli.options import Device, Dtype, Hd, Json, Model, Partition, load_engine, takes
from ixc.cli.progress import LogJson, Quiet, watch
from ixc.inference.settings import check_tiling

if TYPE_CHECKING:
    from ixc.evals.pages import Answers

PAGES_EXAMPLES = (
    "ixc eval pages ./questions",
    "ixc eval pages ./questions --hd 25 --keep answers.jsonl",
    "ixc eval pages ./questions --model ./ixc-4khd-7b --hd 55 --json",
)


@dataclass(frozen=True, kw_only=True)
class PagesOptions:
    """Options of `ixc eval pages`; the help of each field says what it does."""

    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of ixc data questions.")]
    model: Model = None
    hd: Hd = None
    partition: Partition = None
    keep: Annotated[
        Path | None, typer.Option("--keep", help="File of answers; a run that finds it asks only what is missing.")
    ] = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    as_json: Json = False
    quiet: Quiet = False
    log_json: LogJson = False


@takes(PagesOptions)
def eval_pages(options: PagesOptions) -> None:
    """Exact match on questions about pictures of real pages, by kind of question and size of type. Exit code 1 if a
    question has no answer."""
    from ixc.evals import pages

    check_run(device=options.device, dtype=options.dtype)
    check_tiling(options.hd, options.partition, auto=True)
    folder = check_model(options.model)
    cases = pages.read_cases(options.folder)
    from ixc.inference.model_folder import fingerprint

    settings = [f"HD-{options.hd}"] if options.hd else []
    answered_by = " ".join([fingerprint(folder), *settings, *([options.partition] if options.partition else [])])
    asked = pages.run(_load(options), options.folder, keep=options.keep, model=answered_by)
    report = watch(asked, total=len(cases), what="asking")
    print(json.dumps(report.as_dict(), ensure_ascii=False) if options.as_json else report)
    if report.failed:
        raise typer.Exit(1)


def _load(options: PagesOptions) -> Answers:
    engine = load_engine(options.model, device=options.device, dtype=options.dtype)
    chosen = {"hd": options.hd, "partition": options.partition}
    return lambda image, question: engine.ask([image], question, **chosen).text
