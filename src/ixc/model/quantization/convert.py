"""Quantize a model folder: the decoder and its head in 8 or 4 bits (`layers.py`), the rest as it is.

    folder --check--> file after file, tensor after tensor --quantized--> shards, config.json --> folder

One tensor is in memory at a time beside the shard being written, so a 7B needs no more than a few gigabytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ixc.errors import UsageError, WeightsError
from ixc.model import loading
from ixc.model.key_mapping import is_ignored, published_name
from ixc.model.quantization.layers import HALVES, Quantization, group_size, quantize_weight, read_quantization

SHARD = 1 << 31
"""Bytes after which a file of weights is closed."""

HEAD = "output"
"""The output head."""

Progress = Callable[[int, int], None]
"""Told after every tensor: (how many, of how many)."""


def quantize(
    source: str | Path,
    destination: str | Path,
    *,
    bits: int,
    progress: Progress | None = None,
    complete: Callable[[Path], object] | None = None,
) -> Path:
    """Writes a folder that loads like any other. It appears whole or not at all.

    Args:
        source: published or native folder.
        destination: a folder that does not exist.
        bits: of the decoder's maps and the output head, 8 or 4.
        progress: called after every tensor.
        complete: called with the folder before it appears, to add what other rooms know how to write.

    Returns:
        The destination.

    Raises:
        UsageError: the destination exists, other bits, widths that cannot be grouped, small weights already.
        WeightsError: missing or damaged weights.
    """
    source, destination = Path(source), Path(destination)
    loading.refuse_taken(destination)
    config = loading.check(source)
    if (already := read_quantization(config)) is not None:
        raise UsageError(f"{source} holds weights of {already.bits} bits already; quantize the original folder")
    settings = Quantization(bits=bits, group_size=group_size(config), half=_half(source))
    with loading.new_folder(destination) as partial:
        _write(source, partial, settings, _maps(config), progress or (lambda done, total: None))
        config.quantization_config = settings.as_dict()
        config.architectures, config.dtype = ["IxcForConditionalGeneration"], settings.half or "float32"
        config.save_pretrained(partial)
        for path in loading.carried(source):
            shutil.copyfile(path, partial / path.name)
        if complete is not None:
            complete(partial)
    return destination


def _half(source: Path) -> str | None:
    """How the source holds the words' embeddings, if that is in 16 bits."""
    name = published_name("model.language_model.tok_embeddings.weight")
    dtype = next(tensor.dtype for key, tensor in _tensors(source) if key == name)
    return next((word for word, half in HALVES.items() if half == dtype), None)


def _maps(config: object) -> dict[str, str]:
    """Published name of a weight that becomes small -> how the names of its small tensors begin."""
    names = [published_name(f"{key}.weight").removesuffix(".weight") for key in _bases(config)]
    return {f"{name}.weight": published_name(key) for name, key in zip(names, _bases(config), strict=True)}


def _bases(config: object) -> list[str]:
    from ixc.model.key_mapping import PLORA_LINEARS

    layers = range(config.text_config.num_hidden_layers)  # type: ignore[attr-defined]
    maps = [f"model.language_model.layers.{layer}.{name}.base" for layer in layers for name in PLORA_LINEARS]
    return [*maps, HEAD]


def _tensors(source: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """(published name, tensor) of all files, one in memory at a time.

    Raises:
        WeightsError: a file is damaged.
    """
    for path in loading.weight_files(source):
        if path.suffix == ".bin":
            yield from loading.read_pickled(path).items()
            continue
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118
                    yield key, file.get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is damaged or cut off ({error}); fetch it again") from error


def _small(name: str, tensor: torch.Tensor, settings: Quantization, maps: dict[str, str]) -> dict[str, torch.Tensor]:
    """One tensor as it is written."""
    if name not in maps:
        return {name: tensor.contiguous()}
    parts = quantize_weight(tensor, bits=settings.bits, group_size=settings.group_size)
    return {f"{maps[name]}.{part}": value.contiguous() for part, value in parts.items()}


def _write(source: Path, target: Path, settings: Quantization, maps: dict[str, str], progress: Progress) -> None:
    """All shards and their index."""
    total = sum(1 for path in loading.weight_files(source) for _ in loading.found_shapes(path))
    shard: dict[str, torch.Tensor] = {}
    shards: list[list[str]] = []

    def close() -> None:
        save_file(shard, target / f"{len(shards):05d}", metadata={"format": "pt"})
        shards.append(list(shard))
        shard.clear()

    for number, (name, tensor) in enumerate(_tensors(source), start=1):
        if not is_ignored(name):
            shard.update(_small(name, tensor, settings, maps))
        if sum(value.nbytes for value in shard.values()) >= SHARD:
            close()
        progress(number, total)
    if shard:
        close()
    _name(target, shards)


def _name(target: Path, shards: list[list[str]]) -> None:
    """Files get their names once their number is known."""
    if len(shards) == 1:
        (target / "00000").rename(target / loading.SAFE)
        return
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for number, name in enumerate(names):
        (target / f"{number:05d}").rename(target / name)
    size = sum((target / name).stat().st_size for name in names)
    table = {key: name for name, keys in zip(names, shards, strict=True) for key in sorted(keys)}
    index = {"metadata": {"total_size": size}, "weight_map": table}
    (target / loading.SAFE_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
