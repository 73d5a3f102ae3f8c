"""Checks that run before torch is imported: folders, images, options, and whether a question fits the context.

Importing torch takes seconds, and a wrong path or option must be refused before that. The checks read headers and JSON
files only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from ixc.core.chat_format import CHAT_DEFAULTS
from ixc.core.tiling import Budget
from ixc.errors import UsageError, WeightsError
from ixc.inference.settings import CacheOptions, CacheSizes, check_plora
from ixc.utils.device_names import check_device, check_dtype


def check_model(model: Path | None) -> Path:
    """Return the model folder after checking its settings, its weight files' headers and its sizes.

    Raises:
        WeightsError: something is missing or damaged, or a size is no positive whole number.
    """
    from ixc.inference.cost import read_geometry
    from ixc.inference.model_folder import check_settings, check_tokenizer, find_folder
    from ixc.model.checkpoint_files import check_headers

    folder = find_folder(model)
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
    """Check a folder whose weights are converted: config.json and complete weight files. Raises: WeightsError."""
    from ixc.inference.model_folder import check_settings, find_folder
    from ixc.model.checkpoint_files import check_headers

    check_settings(find_folder(source))
    check_headers(source)


def check_target(target: Path) -> None:
    """Check that a new folder can be made. Raises: UsageError: the name is taken."""
    from ixc.utils.files import check_free

    check_free(target)


def check_run(
    *,
    device: str,
    dtype: str = "auto",
    plora: str = "separate",
    compile: bool = False,
    **caches: Unpack[CacheOptions],
) -> None:
    """Check the options for device, number type, speed and caches (bytes). Raises: UsageError."""
    check_device(device)
    check_dtype(dtype)
    check_plora(plora, compile=compile)
    CacheSizes.of(**caches, compile=compile)


def check_fits(folder: Path, sizes: Sequence[tuple[int, int]], *, hd: Budget | None, partition: str | None) -> int:
    """Check that images of these sizes fit the model's context; text is counted later, when it is tokenised.

    Args:
        folder: model folder.
        sizes: (width, height) of the images, pixels.
        hd: HD-n or "auto"; None = the folder's.
        partition: how images are tiled; None = the folder's.

    Returns:
        Tokens of the images.

    Raises:
        GeometryError: an image has no partition. ContextError: more tokens than positions.
    """
    from ixc.core.tiling import partition as partition_of
    from ixc.core.tiling import resolve_hd
    from ixc.core.token_layout import num_image_tokens
    from ixc.inference.cost import read_geometry, read_tiling
    from ixc.inference.request import RequestPreparer

    sizes_of_model, usual = read_geometry(folder), read_tiling(folder)
    rule = usual.get("rule", "original") if partition is None else partition
    most = resolve_hd(usual.get("hd", CHAT_DEFAULTS.hd) if hd is None else hd, sizes, rule=rule)
    layout: dict[str, Any] = {"newline": sizes_of_model.newline, "overview": sizes_of_model.overview}
    tokens = 0
    for width, height in sizes:
        part = partition_of(width, height, hd=most, rule=rule)
        tokens += num_image_tokens(part.grid_h, part.grid_w, side=sizes_of_model.side, **layout)
    limits = RequestPreparer(processor=None, context_length=sizes_of_model.max_positions, max_new_tokens=1)
    limits.answer_length(tokens, hd=most)
    return tokens
