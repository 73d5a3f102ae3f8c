"""Which files of a folder hold its weights, and whether they are whole: names and headers only, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ixc.errors import UsageError, WeightsError

SAFE, SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"

LENGTH = 8
"""Bytes of a safetensors file that hold the length of its header, little-endian."""


def weight_files(folder: str | Path) -> list[Path]:
    """The files that hold the weights, safetensors before pickled ones, in order.

    Raises:
        WeightsError: none there, a damaged index, or a shard named by it is missing.
    """
    folder = Path(folder)
    for whole, index in ((SAFE, SAFE_INDEX), (PICKLED, PICKLED_INDEX)):
        if (folder / whole).is_file():
            return [folder / whole]
        if (folder / index).is_file():
            names = json_object(folder / index).get("weight_map")
            if not isinstance(names, dict):
                raise WeightsError(f"{folder / index} has no weight_map (key -> shard); fetch it again")
            paths = [folder / name for name in sorted(set(names.values()))]
            lost = [path.name for path in paths if not path.is_file()]
            if lost:
                raise WeightsError(f"{folder} lacks {len(lost)} of {len(paths)} shards ({', '.join(lost)}); fetch them")
            return paths
    raise WeightsError(f"{folder} has no {SAFE}, {PICKLED} or index of shards; fetch the weights into it")


def check_headers(folder: str | Path) -> None:
    """Every safetensors file is as long as its header says: a download that was cut off is found before torch loads.

    Raises:
        WeightsError: as `weight_files`; a header that cannot be read, or a file of another length.
    """
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            _check_header(path)


def _check_header(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        header = file.read(length) if length <= size - LENGTH else b""
    try:
        tensors = {name: each for name, each in json.loads(header).items() if name != "__metadata__"}
        promised = LENGTH + length + max((each["data_offsets"][1] for each in tensors.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError):
        raise WeightsError(f"{path} is damaged or cut off (no header in its {size:,} bytes); fetch it again") from None
    if promised != size:
        raise WeightsError(
            f"{path} is damaged or cut off ({size:,} bytes, its header promises {promised:,}); fetch it again"
        )


def json_object(path: Path) -> dict[str, Any]:
    """What a JSON file holds. Raises: WeightsError: no JSON, or no object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} is not JSON ({error}); fetch it again") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds a {type(found).__name__}, a JSON object needed; fetch it again")
    return found


def refuse_taken(destination: Path) -> None:
    """Told before a source of gigabytes is looked at. Raises: UsageError: `destination` is there already."""
    if destination.exists():
        raise UsageError(f"{destination} exists already; name a folder that does not, or remove it first")
