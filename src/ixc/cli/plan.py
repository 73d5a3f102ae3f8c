"""The command `ixc plan`: tiles, tokens, memory and FLOPs of a setting, without torch and transformers."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixc.cli.options import Dpi, Hd, Json, PageNumber, Partition, ScanPixels, takes
from ixc.cli.progress import note
from ixc.cli.terminal import existing
from ixc.core.tiling import AUTO, resolve_hd
from ixc.errors import UsageError
from ixc.inference.settings import check_tiling
from ixc.utils.files import atomic_write

if TYPE_CHECKING:
    from ixc.inference.cost import Plan
    from ixc.processing.pages import Rendering

PLAN_EXAMPLES = (
    "ixc plan 3840x2160 --hd 55",
    "ixc plan scan.jpg --hd 25 --partition fit --draw tiles.png",
    "ixc plan report.pdf --page 3 --hd 25",
    "ixc plan page.png --model ./ixc-4khd-7b --dtype int4 --json",
)

PUBLISHED = "internlm-xcomposer2-4khd-7b (the published 7B)"
"""What is planned for where no folder is named."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Options of `ixc plan`; the help of each field says what it does."""

    image: Annotated[
        str, typer.Argument(metavar="IMAGE|WxH", help="An image or PDF file, or a size in pixels: 3840x2160.")
    ]
    page: PageNumber = None
    dpi: Dpi = 200
    scan_pixels: ScanPixels = False
    hd: Hd = None
    partition: Partition = None
    text_tokens: Annotated[int, typer.Option("--text-tokens", help="Tokens of the prompt besides the image.")] = 0
    model: Annotated[Path | None, typer.Option("--model", help="Model folder; default: the published 7B.")] = None
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16, int8 or int4.")] = "bfloat16"
    draw: Annotated[Path | None, typer.Option("--draw", help="Write a figure of tiles, overview and tokens.")] = None
    as_json: Json = False

    @property
    def rendering(self) -> Rendering:
        """How pages of PDFs are rendered."""
        from ixc.processing.pages import Rendering

        return Rendering(dpi=self.dpi, scan_pixels=self.scan_pixels)


@takes(PlanOptions)
def plan(options: PlanOptions) -> None:
    """Show what a setting costs before anything runs: grid, tokens, memory, FLOPs."""
    from ixc.inference import cost

    check_tiling(options.hd, options.partition, auto=True)
    width, height = _size(options)
    given: dict[str, Any] = {"hd": _budget(options, width, height), "rule": options.partition}
    given = {key: value for key, value in given.items() if value is not None}
    if options.model is not None:
        given = {"geometry": cost.read_geometry(options.model), **cost.read_tiling(options.model), **given}
    planned = cost.plan(width, height, text_tokens=options.text_tokens, dtype=options.dtype, **given)
    if options.draw is not None:
        _draw(options, planned, options.draw)
    name = PUBLISHED if options.model is None else str(options.model)
    if options.as_json:
        print(json.dumps({"model": name} | _as_dict(planned)))
        return
    other = "; another: --model FOLDER" if options.model is None else ""
    print("\n".join([f"{'model':<14}{name}{other}", *cost.text(planned)]))


def _budget(options: PlanOptions, width: int, height: int) -> int | None:
    """Return the most tiles; None = the model's."""
    if options.hd != AUTO:
        return options.hd
    from ixc.inference import cost

    usual = {} if options.model is None else cost.read_tiling(options.model)
    return resolve_hd(AUTO, [(width, height)], rule=options.partition or usual.get("rule", "original"))


def _size(options: PlanOptions) -> tuple[int, int]:
    """Parse a size such as 3840x2160, or read that of an image or page from its header."""
    width, cross, height = options.image.lower().partition("x")
    if cross and width.isdecimal() and height.isdecimal():
        return int(width), int(height)
    from ixc.processing.pages import page_size, reference_of

    reference = reference_of(options.image, options.page)
    existing(str(reference.source))
    size, warning = page_size(reference, options.rendering)
    if warning is not None:
        note(warning)
    return size


def _draw(options: PlanOptions, planned: Plan, out: Path) -> None:
    from ixc.processing.pages import open_page, reference_of

    reference = reference_of(options.image, options.page)
    if not os.path.isfile(str(reference.source)):
        raise UsageError(f"--draw draws over an image and {options.image!r} is only a size; give an image file")
    from ixc.inference.tiling_figure import draw

    picture = BytesIO()
    draw(open_page(reference, options.rendering).image, plan=planned, out=picture)
    try:
        atomic_write(out, picture.getvalue())
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}); choose another file") from error


def _as_dict(planned: Plan) -> dict[str, Any]:
    """Return the JSON form of a plan: sizes in px and tokens, work in FLOP, memory in bytes."""
    from ixc.inference.cost import QUANTIZED_DTYPES

    return asdict(planned.partition) | {
        "tiles": planned.partition.tiles,
        "image_tokens": planned.image_tokens,
        "prompt_tokens": planned.tokens,
        "positions": planned.model.max_positions,
        "fits": planned.fits,
        "flops": planned.flops(),
        "dtype": planned.dtype,
        "weight_bytes": planned.weight_bytes(),
        "folded_bytes": None if planned.dtype in QUANTIZED_DTYPES else planned.merged_bytes,  # key of earlier releases
        "kv_bytes": planned.kv_bytes,
        "activation_bytes": planned.activation_bytes,
    }
