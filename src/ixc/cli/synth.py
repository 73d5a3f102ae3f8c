"""`ixc synth`: draw documents with exact questions, optionally degraded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixc.cli.options import takes
from ixc.cli.progress import LogJson, Quiet, watch
from ixc.cli.ray_options import Placement, Ray, RayCpus, placement, sound
from ixc.cli.terminal import existing_path
from ixc.errors import UsageError

if TYPE_CHECKING:
    from ixc.synth.dataset_folder import PageDrawing, PageFile
    from ixc.synth.degradation import Degradation

SYNTH_EXAMPLES = (
    "ixc synth ./pages",
    "ixc synth ./receipts -n 100 --seed 5000 --kind receipt",
    "ixc synth ./forms -n 200 --kind form --hd 4 --format conversations",
    "ixc synth ./open -n 100 --open",
    "ixc synth ./charts -n 100 --open --kind chart-bars --format conversations",
    "ixc synth ./scans -n 50 --kind invoice --hd 16 --rotate 1.5 --noise 8 --jpeg 40",
)

PAGES_A_UNIT = 16
"""Pages that a worker of Ray draws at a time."""

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
    ray: Ray = None
    ray_cpus: RayCpus = None
    quiet: Quiet = False
    log_json: LogJson = False

    def degradation(self) -> Degradation:
        """What is done to each image."""
        from ixc.synth.degradation import Degradation

        return Degradation(jpeg=self.jpeg, blur=self.blur, noise=self.noise, shrink=self.shrink, rotate=self.rotate)

    def drawing(self) -> PageDrawing:
        """How pages are drawn. Raises: UsageError: an option without effect."""
        from ixc.synth.dataset_folder import Drawing

        common: dict[str, Any] = {"kind": self.kind, "text_format": self.text_format, "degradation": self.degradation()}
        if not self.open_pages:
            if self.fonts:
                raise UsageError("--fonts has no effect without --open; add it, or leave --fonts out")
            return Drawing(hd=self.hd, **common)
        if self.hd is not None:
            raise UsageError(f"--hd {self.hd} has no effect with --open, whose pages come in all sizes; leave it out")
        fonts = tuple(existing_path(folder) for folder in self.fonts or ())
        from ixc.nano.data.typeset.sheets import OpenDrawing

        return OpenDrawing(fonts=fonts, **common)


@takes(SynthOptions)
def synth(options: SynthOptions) -> None:
    """Draw documents into a folder, with their questions and answers."""
    from ixc.synth.dataset_folder import check, write_drawn

    drawing = options.drawing()
    check(drawing, options.count, options.seed)
    numbers = range(options.seed, options.seed + options.count)
    placed = placement(options.ray, cpus=options.ray_cpus)
    pages = map(drawing.draw, numbers) if placed is None else _on_ray(drawing, numbers, placed)
    watch(write_drawn(options.out, drawing, pages), total=options.count, what="drawing")
    print(options.out)


def _on_ray(drawing: PageDrawing, numbers: range, placed: Placement) -> Iterator[PageFile]:
    """Draw pages on Ray; yields them in order."""
    from ixc.cluster.session import connect
    from ixc.cluster.stages import Stages, in_order, run

    def make() -> Callable[[Sequence[int]], list[PageFile]]:
        return lambda part: [drawing.draw(number) for number in part]

    with connect(placed.address):
        units = (numbers[start : start + PAGES_A_UNIT] for start in range(0, len(numbers), PAGES_A_UNIT))
        for done in in_order(run(units, Stages(finish=make), placed.resources)):
            yield from sound(done)
