"""Quantize a model folder: the decoder and its head in 8 or 4 bits (`layers.py`), the rest as it is.

    folder --check--> tensor after tensor --quantize_weight--> shards, index, config.json --> folder

One tensor is in memory at a time beside the shard being written, so a 7B needs no more than a few gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from ixc.errors import UsageError
from ixc.model.checkpoint_files import SAFE, weight_files
from ixc.model.configuration import IxcConfig
from ixc.model.conversion import Progress, copy_files, write_index
from ixc.model.key_mapping import PLORA_LINEARS, is_ignored, published_name
from ixc.model.loading import check
from ixc.model.quantization.layers import HALVES, Quantization, group_size, quantize_weight, read_quantization
from ixc.model.tensor_files import stored_shapes, stored_tensors
from ixc.utils.files import atomic_folder, check_free

SHARD_BYTES = 1 << 31
"""Bytes after which a file of weights is closed: 2 GiB."""

HEAD = "output"
"""Name of the output head."""


def quantize(
    source: str | Path,
    destination: str | Path,
    *,
    bits: int,
    progress: Progress | None = None,
    complete: Callable[[Path], object] | None = None,
) -> Path:
    """Write a quantized folder, which loads like any other.

    Args:
        source: published or native folder.
        destination: a new or empty folder; it appears whole or not at all.
        bits: 8 or 4, of the decoder's linear maps and the output head.
        progress: called after each tensor.
        complete: called with the folder before it appears; adds the files that packages above this one write.

    Returns:
        The destination.

    Raises:
        UsageError: the destination is taken, other bits, widths that cannot be grouped, a source that is quantized.
        WeightsError: missing or damaged weights. DataError: the disk refuses.
    """
    source, destination = Path(source), Path(destination)
    check_free(destination)
    config = check(source)
    if (already := read_quantization(config)) is not None:
        raise UsageError(f"{source} holds weights of {already.bits} bits already; quantize the original folder")
    settings = Quantization(bits=bits, group_size=group_size(config), half=half_precision_of(source))
    with atomic_folder(destination) as draft:
        _write(source, draft, settings, quantized_names(config), progress or (lambda done, total: None))
        config.quantization_config = settings.as_dict()
        config.architectures, config.dtype = ["IxcForConditionalGeneration"], settings.half or "float32"
        config.save_pretrained(draft)
        copy_files(source, draft)
        if complete is not None:
            complete(draft)
    return destination


def half_precision_of(source: Path) -> str | None:
    """Return the 16-bit dtype of the word embeddings as stored, or None if they are stored in float32."""
    name = published_name("model.language_model.tok_embeddings.weight")
    dtype = next(tensor.dtype for key, tensor in _source_tensors(source) if key == name)
    return next((word for word, half in HALVES.items() if half == dtype), None)


def quantized_names(config: IxcConfig) -> dict[str, str]:
    """Published key of each weight to quantize -> prefix of the keys of its quantized tensors."""
    layers = range(config.text_config.num_hidden_layers)
    modules = [f"model.language_model.layers.{layer}.{name}.base" for layer in layers for name in PLORA_LINEARS]
    return {published_name(f"{module}.weight"): published_name(module) for module in [*modules, HEAD]}


def _source_tensors(source: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in weight_files(source):
        yield from stored_tensors(path)


def _write(source: Path, target: Path, settings: Quantization, names: dict[str, str], progress: Progress) -> None:
    """Write all shards and their index."""
    total = sum(len(stored_shapes(path)) for path in weight_files(source))
    shard: dict[str, torch.Tensor] = {}
    shards: list[list[str]] = []

    def close() -> None:
        save_file(shard, target / f"{len(shards):05d}", metadata={"format": "pt"})
        shards.append(list(shard))
        shard.clear()

    for number, (name, tensor) in enumerate(_source_tensors(source), start=1):
        if not is_ignored(name):
            shard.update(quantized_tensors(name, tensor, settings, names))
        if sum(value.nbytes for value in shard.values()) >= SHARD_BYTES:
            close()
        progress(number, total)
    if shard:
        close()
    _name_shards(target, shards)


def quantized_tensors(
    name: str, tensor: torch.Tensor, settings: Quantization, names: dict[str, str]
) -> dict[str, torch.Tensor]:
    """Return the tensors written in place of one tensor of the source."""
    if name not in names:
        return {name: tensor.contiguous()}
    parts = quantize_weight(tensor, bits=settings.bits, group_size=settings.group_size)
    return {f"{names[name]}.{part}": value.contiguous() for part, value in parts.items()}


def _name_shards(target: Path, shards: list[list[str]]) -> None:
    """Give the files their names, which hold the number of shards and so are known only at the end."""
    if len(shards) == 1:
        (target / "00000").rename(target / SAFE)
        return
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for number, name in enumerate(names):
        (target / f"{number:05d}").rename(target / name)
    size = sum((target / name).stat().st_size for name in names)
    write_index(target, {key: name for name, keys in zip(names, shards, strict=True) for key in keys}, total_size=size)
