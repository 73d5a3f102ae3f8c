"""The commands `ixc quantize` and `ixc bench ...`: smaller weights, and what an answer costs in time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ixc.cli_words import add_processor, quiet_libraries
from ixc.terminal import progress

bench = typer.Typer(help="Time and memory, measured.", no_args_is_help=True, rich_markup_mode="rich")

QUANTIZE_EXAMPLES = ("ixc quantize ./ixc-4khd-7b ./ixc-4khd-7b-int4 --bits 4", "ixc ask page.png QUESTION --model DST")
"""For the help of `ixc quantize`."""


def quantize(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Model folder, published or native.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="New folder; it loads like any other.")],
    bits: Annotated[int, typer.Option("--bits", help="Of the decoder's matrices: 8 or 4.")] = 8,
) -> None:
    """Write a folder of smaller weights: the decoder's matrices in 8 or 4 bits, everything else as it was."""
    quiet_libraries()
    from ixc.inference.quantize import quantize as run

    with progress("quantising") as show:
        run(source, target, bits=bits, progress=show, complete=add_processor)
    print(target)


@bench.callback()
def _root() -> None:
    pass
