"""What every command looks at before torch is imported: folders, pictures, options, and whether a question fits.

Importing torch takes seconds; a wrong path or option must be refused before them. Everything here reads headers and
JSON only. Part of the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ixc.core.chat_format import CHAT_DEFAULTS
from ixc.errors import UsageError, WeightsError
from ixc.inference.settings import check_plora, check_prefix_cache, check_tiling
from ixc.utils.device_names import check_device, check_dtype


def check_model(model: Path | None) -> Path:
    """The model folder: there, its settings are JSON objects, its weight files whole, its sizes numbers.

    Raises:
        WeightsError: something is missing or damaged, or a size is no positive whole number.
    """
    from ixc.inference.cost import read_geometry
    from ixc.inference.model_folder import check_settings, check_tokenizer, found
    from ixc.model.checkpoint_files import check_headers

    folder = found(model)
    check_settings(folder)
    check_tokenizer(folder)
    check_headers(folder)
    try:
        read_geometry(folder)
    except UsageError as error:
        raise WeightsError(
            f"{folder / 'config.json'} describes no model of ours ({error}); correct it or fetch it again"
        ) from error
    return folder


def check_source(source: Path) -> None:
    """A folder whose weights are to be rewritten: config.json, and whole weight files. Raises: WeightsError."""
    from ixc.inference.model_folder import check_settings, found
    from ixc.model.checkpoint_files import check_headers

    check_settings(found(source))
    check_headers(source)


def check_target(target: Path) -> None:
    """A folder that is to be made. Raises: UsageError: it is there already."""
    from ixc.model.checkpoint_files import refuse_taken

    refuse_taken(target)


def check_run(
    *,
    device: str,
    dtype: str = "auto",
    plora: str = "low_rank",
    compile: bool = False,
    prefix_cache: int | None = None,
) -> None:
    """Words for device, number type and speed. Raises: UsageError."""
    check_device(device)
    check_dtype(dtype)
    check_plora(plora, compile=compile)
    check_prefix_cache(prefix_cache, compile=compile)


def check_setting(hd: int | None, partition: str | None, max_new_tokens: int | None = None) -> None:
    """Tiles, rule and length of an answer. Raises: UsageError."""
    check_tiling(hd, partition)
    if max_new_tokens is not None and max_new_tokens < 1:
        raise UsageError(f"--max-new-tokens is {max_new_tokens}, at least 1 needed")


def check_fits(folder: Path, sizes: Sequence[tuple[int, int]], *, hd: int | None, partition: str | None) -> None:
    """Whether pictures of these sizes leave room in the model's context; texts are counted when they are tokenised.

    Args:
        folder: of the model.
        sizes: (width, height), pixels.
        hd, partition: None = the folder's.

    Raises:
        GeometryError: a picture has no partition. ContextError: more tokens than positions.
    """
    from ixc.core.tiling import partition as partition_of
    from ixc.core.token_layout import num_image_tokens
    from ixc.inference.cost import read_geometry, read_tiling
    from ixc.inference.request import Rules, answer_length

    sizes_of_model, usual = read_geometry(folder), read_tiling(folder)
    hd = usual.get("hd", CHAT_DEFAULTS.hd) if hd is None else hd
    rule = usual.get("rule", "original") if partition is None else partition
    layout: dict[str, Any] = {"newline": sizes_of_model.newline, "overview": sizes_of_model.overview}
    tokens = 0
    for width, height in sizes:
        part = partition_of(width, height, hd=hd, rule=rule)
        tokens += num_image_tokens(part.grid_h, part.grid_w, side=sizes_of_model.side, **layout)
    rules = Rules(processor=None, context=sizes_of_model.max_positions, max_new_tokens=1)
    answer_length(rules, tokens, None)
