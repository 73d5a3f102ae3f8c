"""The commands `ixc import-weights` and `ixc quantize`: write a model folder in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ixc.cli.checks import check_source, check_target
from ixc.cli.options import add_processor, quiet_libraries
from ixc.cli.progress import LogJson, Quiet, progress

IMPORT_EXAMPLES = ("ixc import-weights ./internlm-xcomposer2-4khd-7b ./ixc-4khd-7b",)
QUANTIZE_EXAMPLES = ("ixc quantize ./ixc-4khd-7b ./ixc-4khd-7b-int4 --bits 4", "ixc ask page.png QUESTION --model DST")


def import_weights(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Published folder: .bin shards or safetensors.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="New folder for native safetensors.")],
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Convert published weights to a native folder: safetensors, tokenizer.json, processor_config.json."""
    check_target(target)
    check_source(source)
    quiet_libraries()
    from ixc.model import conversion

    with progress("importing") as show:
        conversion.import_weights(source, target, progress=show, complete=add_processor)
    print(target)


def quantize(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Model folder, published or native.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="New folder; it loads like any other.")],
    bits: Annotated[int, typer.Option("--bits", help="Of the decoder's linear layers and its head: 8 or 4.")] = 8,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Write a quantised folder: the decoder's linear layers and head in 8 or 4 bits, everything else unchanged."""
    from ixc.model.sizes import check_bits

    check_bits(bits)
    check_target(target)
    check_source(source)
    quiet_libraries()
    from ixc.model.quantization import convert

    with progress("quantising") as show:
        convert.quantize(source, target, bits=bits, progress=show, complete=add_processor)
    print(target)
