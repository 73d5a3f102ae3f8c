"""Conversion of a published folder into a native one: safetensors under the published names, nested config.json.

import_weights(source, destination)   check, then shard after shard; the folder appears whole or not at all
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from ixc.model.checkpoint_files import SAFE, SAFE_INDEX, stored_tensors, weight_files
from ixc.model.key_mapping import is_ignored
from ixc.model.loading import check
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.utils.files import atomic_folder, check_free

COPIED_FILES = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "chat_template*"),
    *("generation_config.json", "processor_config.json", "preprocessor_config.json", "LICENSE*"),
)
"""Patterns of the files copied beside the weights; code files are never copied."""

Progress = Callable[[int, int], None]
"""Called after each file or tensor with (number done, total)."""


def import_weights(
    source: str | Path,
    destination: str | Path,
    *,
    progress: Progress | None = None,
    complete: Callable[[Path], object] | None = None,
) -> Path:
    """Convert a published folder into a native one, tensors bit by bit the same.

    Shards stay shards; keys of ``IGNORED_KEYS`` are dropped; config.json becomes the nested form; tokenizer and
    generation files are copied, code is not.

    Args:
        source: published folder, ``pytorch_model*.bin`` or safetensors.
        destination: a new or empty folder; it appears whole or not at all.
        progress: called after each file of weights.
        complete: called with the folder before it appears; adds the files that packages above this one write.

    Returns:
        The destination.

    Raises:
        UsageError: the destination is taken. WeightsError: as ``loading.check``. DataError: the disk refuses.
    """
    source, destination = Path(source), Path(destination)
    check_free(destination)
    config = check(source)
    with atomic_folder(destination) as draft:
        dtype = _write_shards(source, draft, progress or (lambda done, total: None))
        config.architectures, config.dtype = [IxcForConditionalGeneration.__name__], dtype
        config.save_pretrained(draft)
        copy_files(source, draft)
        if complete is not None:
            complete(draft)
    return destination


def _write_shards(source: Path, target: Path, progress: Progress) -> torch.dtype:
    """Rewrite every file of weights as safetensors; returns the dtype of the last shard's first floating tensor."""
    paths = weight_files(source)
    weight_map: dict[str, str] = {}
    total, dtype = 0, torch.float32
    for number, path in enumerate(paths, start=1):
        tensors = {key: value for key, value in stored_tensors(path) if not is_ignored(key)}
        name = SAFE if len(paths) == 1 else f"model-{number:05d}-of-{len(paths):05d}.safetensors"
        # Tensors of a pickled file may be views of one another; safetensors wants each with memory of its own.
        save_file({key: value.contiguous() for key, value in tensors.items()}, target / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(value.nbytes for value in tensors.values())
        dtype = next((value.dtype for value in tensors.values() if value.is_floating_point()), dtype)
        progress(number, len(paths))
    if len(paths) > 1:
        write_index(target, weight_map, total_size=total)
    return dtype


def write_index(folder: Path, weight_map: dict[str, str], *, total_size: int) -> None:
    """Write the index of shards.

    Args:
        folder: receives ``model.safetensors.index.json``.
        weight_map: key -> file name.
        total_size: bytes of all tensors.
    """
    index = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / SAFE_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def copy_files(source: Path, target: Path) -> None:
    """Copy tokenizer, processor and generation settings and the licence; never code."""
    for path in _copied(source):
        shutil.copyfile(path, target / path.name)


def _copied(source: Path) -> Iterator[Path]:
    for pattern in COPIED_FILES:
        yield from (path for path in sorted(source.glob(pattern)) if path.is_file() and path.suffix != ".py")
