"""`ixc synth`: draw documents with exact questions, optionally degraded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ixc.cli.options import takes
from ixc.cli.progress import LogJson, Quiet, watch
from ixc.cli.terminal import existing_path
from ixc.errors import UsageError

if TYPE_CHECKING:
    from ixc.synth.degradation import Degradation

SYNTH_EXAMPLES = (
    "ixc synth ./pages",
    "ixc synth ./receipts -n 100 --seed 5000 --kind receipt",
    "ixc synth ./forms -n 200 --kind form --hd 4 --format conversations",
    "ixc synth ./open -n 100 --open",
    "ixc synth ./charts -n 100 --open --kind chart-bars --format conversations",
    "ixc synth ./scans -n 50 --kind invoice --hd 16 --rotate 1.5 --noise 8 --jpeg 40",
)

_KINDS = (
    "form, receipt, table, notice; default: these, mixed. Or letter, article, lines, invoice, bars, curve, pie, "
    "infographic, sign, screen, boarding. With --open: invoice, receipt, form, statement, timetable, certificate, "
    "menu, letter, article, label, screen, chart-bars, chart-lines, chart-points, chart-pie, chart-histogram; all."
)


@dataclass(frozen=True, kw_only=True)
class SynthOptions:
    """Options of `ixc synth`; the help of each field says what it does."""

    out: Annotated[Path, typer.Argument(metavar="OUT", help="New or empty folder.")]
    count: Annotated[int, typer.Option("-n", "--count", help="Documents to draw.")] = 20
    seed: Annotated[
        int, typer.Option("--seed", help="Number of the first document; the same number gives the same page.")
    ] = 0
    kind: Annotated[str | None, typer.Option("--kind", help=_KINDS)] = None
    hd: Annotated[
        int | None,
        typer.Option("--hd", help="Setting the pages are legible at: 1, 4, 9 (default: these), 16, 25 or 55."),
    ] = None
    open_pages: Annotated[
        bool,
        typer.Option(
            "--open",
            help="Typeset pages and charts with words, names and codes of every kind, in real faces and layouts (extra "
            "typeset).",
        ),
    ] = False
    fonts: Annotated[
        list[Path] | None,
        typer.Option("--fonts", help="With --open: folder of fonts beside those of the package; repeatable."),
    ] = None
    text_format: Annotated[
        str,
        typer.Option("--format", help="questions: questions.jsonl; conversations: conversations.jsonl, for training."),
    ] = "questions"
    jpeg: Annotated[int | None, typer.Option("--jpeg", help="Degrade: quality of a JPEG round trip, 1 to 95.")] = None
    blur: Annotated[float, typer.Option("--blur", help="Degrade: radius of a Gaussian blur in pixels.")] = 0.0
    noise: Annotated[float, typer.Option("--noise", help="Degrade: standard deviation of noise, of 255.")] = 0.0
    shrink: Annotated[float, typer.Option("--shrink", help="Degrade: resize by this factor and back.")] = 1.0
    rotate: Annotated[float, typer.Option("--rotate", help="Degrade: rotation in degrees.")] = 0.0
    quiet: Quiet = False
    log_json: LogJson = False

    def degradation(self) -> Degradation:
        """What is done to each image."""
        from ixc.synth.degradation import Degradation

        return Degradation(jpeg=self.jpeg, blur=self.blur, noise=self.noise, shrink=self.shrink, rotate=self.rotate)


@takes(SynthOptions)
def synth(options: SynthOptions) -> None:
    """Draw documents into a folder, with their questions and answers."""
    if options.open_pages:
        _synth_open(options)
        return
    if options.fonts:
        raise UsageError("--fonts has no effect without --open; add it, or leave --fonts out")
    from ixc.synth.dataset_folder import write_folder

    pages = write_folder(
        options.out,
        count=options.count,
        seed=options.seed,
        kind=options.kind,
        hd=options.hd,
        text_format=options.text_format,
        degradation=options.degradation(),
    )
    watch(pages, total=options.count, what="drawing")
    print(options.out)


def _synth_open(options: SynthOptions) -> None:
    """Draw typeset pages and charts."""
    from ixc.synth.dataset_folder import check_numbers, write_sheets

    check_numbers(options.count, options.seed, options.text_format)
    if options.hd is not None:
        raise UsageError(f"--hd {options.hd} has no effect with --open, whose pages come in all sizes; leave it out")
    folders = [existing_path(folder) for folder in options.fonts or ()]
    degradation = options.degradation()
    from ixc.nano.data.typeset.folder import Typesetter
    from ixc.nano.data.typeset.sheets import open_sheets
    from ixc.nano.data.typeset.text import TextSource

    typesetter = Typesetter(folders)
    sheets = open_sheets(typesetter, TextSource(), count=options.count, seed=options.seed, kind=options.kind)
    pages = write_sheets(options.out, sheets, text_format=options.text_format, degradation=degradation)
    watch(pages, total=options.count, what="drawing")
    print(options.out)
