"""Folders of weights: checking, loading and importing them.

A folder is ``config.json`` and either safetensors (``model.safetensors``, or shards with
``model.safetensors.index.json``) or the published ``pytorch_model*.bin`` shards. Pickled shards are read with
``weights_only``: tensors, and no code. Only one shard is in memory at a time.

    check(folder)            every key present, none too many, all shapes right; reads headers of safetensors only
    load(folder)             check, then a model
    import_weights(src, dst) check, then a folder of safetensors under the published names, made whole or not at all
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ixc.errors import UsageError, WeightsError
from ixc.model.checkpoint_files import SAFE, SAFE_INDEX, json_object, refuse_taken, weight_files
from ixc.model.configuration import IxcConfig
from ixc.model.key_mapping import is_ignored, published_name
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.model.quantization.layers import read_quantization, replace_modules
from ixc.model.strict_loading import refuse

COPIED = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "chat_template*"),
    *("generation_config.json", "processor_config.json", "preprocessor_config.json", "LICENSE*"),
)
"""What an import carries along besides the weights; code files are left behind."""

_LONGEST_REASON = 200
"""Characters of somebody else's message repeated in ours."""

Shape = tuple[int, ...]


def read_config(folder: str | Path) -> IxcConfig:
    """The configuration of a folder, flat or nested.

    Raises:
        WeightsError: no config.json, not JSON, or a value no model can have.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise WeightsError(f"{folder} has no config.json; name the folder that holds config.json and the weights")
    try:
        return IxcConfig.from_dict(json_object(path))
    except (StrictDataclassError, UsageError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise WeightsError(f"{path} describes no model of ours ({reason}); correct it or fetch it again") from error


def expected_shapes(config: IxcConfig) -> dict[str, Shape]:
    """Published key -> shape for every weight of a model, without making one."""
    with torch.device("meta"):
        model = IxcForConditionalGeneration(config)
    if (settings := read_quantization(config)) is not None:
        replace_modules(model, settings)
    return {published_name(key): tuple(value.shape) for key, value in model.state_dict().items()}


def found_shapes(path: Path) -> dict[str, Shape]:
    """Key -> shape of one file; of safetensors the header only is read.

    Raises:
        WeightsError: damaged or cut off.
    """
    if path.suffix == ".bin":
        return {key: tuple(value.shape) for key, value in read_pickled(path).items()}
    try:
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or cut off ({error}); fetch it again") from error


def check(folder: str | Path) -> IxcConfig:
    """Makes sure that a folder holds exactly the weights its config.json asks for.

    Returns:
        The configuration.

    Raises:
        WeightsError: what is missing, surplus, wrongly shaped or damaged, by published names.
    """
    config = read_config(folder)
    wanted, found = expected_shapes(config), {}
    for path in weight_files(folder):
        found |= found_shapes(path)
    refuse(
        folder,
        missing=wanted.keys() - found.keys(),
        surplus=[key for key in found.keys() - wanted.keys() if not is_ignored(key)],
        misshapen=[(key, found[key], wanted[key]) for key in wanted.keys() & found.keys() if found[key] != wanted[key]],
    )
    return config


def load(folder: str | Path, **kwargs: Any) -> IxcForConditionalGeneration:
    """Checks a folder, then loads it.

    Args:
        folder: local folder.
        **kwargs: as ``from_pretrained``: dtype, device_map, attn_implementation, quantization_config, ...

    Raises:
        WeightsError: as ``check``.
    """
    config = check(folder)
    return IxcForConditionalGeneration.from_pretrained(folder, config=config, **kwargs)


Progress = Callable[[int, int], None]
"""Told of every file written: (how many, of how many)."""


def import_weights(
    source: str | Path,
    destination: str | Path,
    *,
    progress: Progress | None = None,
    complete: Callable[[Path], object] | None = None,
) -> Path:
    """Turns a published folder into one of safetensors, tensors bit by bit the same.

    Shards stay shards; keys of ``IGNORED_KEYS`` are dropped; config.json becomes the nested form; tokenizer and
    generation files are copied, code is not. The destination appears whole or not at all.

    Args:
        progress: called after every file of weights.
        complete: called with the folder before it appears, to add what other rooms know how to write.

    Returns:
        The destination.

    Raises:
        UsageError: the destination exists.
        WeightsError: as ``check``.
    """
    source, destination = Path(source), Path(destination)
    refuse_taken(destination)
    config = check(source)
    with new_folder(destination) as partial:
        dtype = _write_shards(source, partial, progress or (lambda done, total: None))
        config.architectures, config.dtype = [IxcForConditionalGeneration.__name__], dtype
        config.save_pretrained(partial)
        for path in carried(source):
            shutil.copyfile(path, partial / path.name)
        if complete is not None:
            complete(partial)
    return destination


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """A draft beside `destination` that takes its name when the block ends well, and is gone when it does not."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        yield partial
        partial.chmod(0o755)  # mkdtemp makes folders for their owner alone
        os.rename(partial, destination)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_shards(source: Path, target: Path, progress: Progress) -> torch.dtype:
    """Rewrites every file of weights; returns the dtype of the first floating tensor."""
    paths = weight_files(source)
    weight_map: dict[str, str] = {}
    total, dtype = 0, torch.float32
    for number, path in enumerate(paths, start=1):
        tensors = {key: value for key, value in _read(path).items() if not is_ignored(key)}
        name = SAFE if len(paths) == 1 else f"model-{number:05d}-of-{len(paths):05d}.safetensors"
        # Tensors of a pickled file may be views of one another; safetensors wants each with memory of its own.
        save_file({key: value.contiguous() for key, value in tensors.items()}, target / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(value.nbytes for value in tensors.values())
        dtype = next((value.dtype for value in tensors.values() if value.is_floating_point()), dtype)
        progress(number, len(paths))
    if len(paths) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (target / SAFE_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return dtype


def carried(source: Path) -> Iterator[Path]:
    """The files beside the weights that a new folder takes over; never code."""
    for pattern in COPIED:
        yield from (path for path in sorted(source.glob(pattern)) if path.is_file() and path.suffix != ".py")


def _read(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".bin":
        return read_pickled(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or cut off ({error}); fetch it again") from error


def read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a .bin file, mapped from disk, never executing what it holds."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is damaged, or holds more than tensors ({reason}); fetch it again") from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise WeightsError(f"{path} holds a {type(found).__name__} and no table of named tensors; fetch it again")
    return found
