"""The command `ixc bench speed`: time and memory of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ixc.bench.names import check_names
from ixc.cli.checks import check_model, check_run
from ixc.cli.options import Device, Model, examples, quiet_libraries, renamed, takes
from ixc.cli.progress import LogJson, Quiet, ticker

bench = typer.Typer(help="Measure time and memory.", no_args_is_help=True, rich_markup_mode="rich")


@bench.callback()
def _root() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class SpeedOptions:
    """Options of `ixc bench speed`; the help of each field says what it does."""

    model: Model = None
    geometry: Annotated[
        str | None, typer.Option("--geometry", help="7b or nano: random weights in the true sizes.")
    ] = None
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="With --geometry: layers of vision encoder and decoder each.")
    ] = None
    bits: Annotated[list[int] | None, typer.Option("--bits", help="32, 8, 4; may be repeated; default: 32.")] = None
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="phases, bits, second, changed, beams, batch, memory; may be repeated."),
    ] = None
    hds: Annotated[
        list[int] | None, typer.Option("--hd", help="HD of the sweep: 1 4 9 16 25 55 (default), 36, 81; repeated.")
    ] = None
    at: Annotated[int, typer.Option("--at", help="HD of the sections without a sweep.")] = 25
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Measurements per figure.")] = 3
    quick: Annotated[bool, typer.Option("--quick", help="Small HDs, one repeat.")] = False
    force: Annotated[bool, typer.Option("--force", help="Measure what the file already holds once more.")] = False
    out: Annotated[
        Path | None, typer.Option("--out", help="JSON file; default: benchmarks/speed_<machine>_<yyyymm>.json.")
    ] = None
    device: Device = "auto"
    quiet: Quiet = False
    log_json: LogJson = False


@bench.command(
    cls=renamed({"--again": "--force"}),
    epilog=examples(
        "ixc bench speed --quick",
        "ixc bench speed --geometry 7b --layers 2 --bits 32 --bits 8 --bits 4 --only bits",
        "ixc bench speed --model ./ixc-4khd-7b --only phases --hd 1 --hd 9 --hd 25 --repeats 5",
    ),
)
@takes(SpeedOptions)
def speed(options: SpeedOptions) -> None:
    """Measure what an answer costs, phase by phase, against the measured limits of this machine."""
    bits, only, hds = tuple(options.bits or (32,)), tuple(options.only or ()), tuple(options.hds or ())
    check_run(device=options.device)
    if options.model is not None:
        check_model(options.model)
    check_names(geometry=options.geometry, bits=bits, only=only, hds=(*hds, options.at))
    quiet_libraries()
    from ixc.bench.report import lines
    from ixc.bench.run import BenchOptions, run
    from ixc.bench.subject import Subject

    benched = BenchOptions(
        subject=Subject(folder=options.model, geometry=options.geometry, layers=options.layers),
        bits=bits,
        only=only,
        hds=hds,
        hd=options.at,
        repeats=options.repeats,
        quick=options.quick,
        force=options.force,
        device=options.device,
    )
    with ticker() as progress:
        result, path = run(benched, out=options.out, progress=progress)
    print("\n".join([*lines(result), str(path)]))
