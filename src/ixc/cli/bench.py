"""The commands `ixc quantize` and `ixc bench ...`: smaller weights, and what an answer costs in time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ixc.bench.names import check_names
from ixc.cli.checks import check_model, check_run, check_source, check_target
from ixc.cli.options import Device, Model, add_processor, examples, quiet_libraries
from ixc.cli.terminal import progress, ticker

bench = typer.Typer(help="Time and memory, measured.", no_args_is_help=True, rich_markup_mode="rich")

QUANTIZE_EXAMPLES = ("ixc quantize ./ixc-4khd-7b ./ixc-4khd-7b-int4 --bits 4", "ixc ask page.png QUESTION --model DST")
"""For the help of `ixc quantize`."""


def quantize(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Model folder, published or native.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="New folder; it loads like any other.")],
    bits: Annotated[int, typer.Option("--bits", help="Of the decoder's matrices and its head: 8 or 4.")] = 8,
) -> None:
    """Write a folder of smaller weights: the decoder's matrices and head in 8 or 4 bits, everything else as it was."""
    from ixc.model.sizes import check_bits

    check_bits(bits)
    check_target(target)
    check_source(source)
    quiet_libraries()
    from ixc.model.quantization.convert import quantize as run

    with progress("quantising") as show:
        run(source, target, bits=bits, progress=show, complete=add_processor)
    print(target)


@bench.callback()
def _root() -> None:
    pass


@bench.command(
    epilog=examples(
        "ixc bench speed --quick",
        "ixc bench speed --geometry 7b --layers 2 --bits 32 --bits 8 --bits 4 --only bits",
        "ixc bench speed --model ./ixc-4khd-7b --only phases --hd 1 --hd 9 --hd 25 --repeats 5",
    )
)
def speed(
    model: Model = None,
    geometry: Annotated[str | None, typer.Option("--geometry", help="7b or nano: random weights, true widths.")] = None,
    layers: Annotated[int | None, typer.Option("--layers", help="With --geometry: of tower and decoder each.")] = None,
    bits: Annotated[list[int] | None, typer.Option("--bits", help="32, 8, 4; may be repeated; default: 32.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="phases, bits, second, changed, beams, batch, memory; may be repeated."),
    ] = None,
    hds: Annotated[
        list[int] | None, typer.Option("--hd", help="Of the sweep: 1 4 9 16 25 55, default, 36 81; repeated.")
    ] = None,
    at: Annotated[int, typer.Option("--at", help="HD of the sections without a sweep.")] = 25,
    repeats: Annotated[int, typer.Option("--repeats", help="Measurements a figure.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Small HDs, one repeat.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Measure anew what the file holds already.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="JSON file; default: benchmarks/speed_<machine>_<yyyymm>.json.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Measure what an answer costs, phase by phase, against what this machine can do at most."""
    check_run(device=device)
    if model is not None:
        check_model(model)
    check_names(geometry=geometry, bits=tuple(bits or ()), only=tuple(only or ()), hds=(*(hds or ()), at))
    quiet_libraries()
    from ixc.bench.report import lines
    from ixc.bench.run import BenchOptions, run
    from ixc.bench.subject import Subject

    subject = Subject(folder=model, geometry=geometry, layers=layers)
    options = BenchOptions(
        subject=subject,
        bits=tuple(bits or (32,)),
        only=tuple(only or ()),
        hds=tuple(hds or ()),
        hd=at,
        repeats=repeats,
        quick=quick,
        again=again,
        device=device,
    )
    with ticker() as tell:
        result, path = run(options, out=out, tell=tell)
    print("\n".join([*lines(result), str(path)]))
