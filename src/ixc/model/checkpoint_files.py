"""Files of weights: which ones a folder holds, whether they are whole, whether their keys fit a model.

    folder --weight_files--> paths --check_headers--> complete

Names and headers only, without torch: the command line checks a folder before it pays for importing torch.
`tensor_files.py` reads the tensors. Neither knows a model, so loading, conversion and quantization build on both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ixc.errors import WeightsError
from ixc.model.key_mapping import published_name
from ixc.utils.files import read_json_object

SAFE, SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"

HEADER_LENGTH_BYTES = 8
"""Bytes at the start of a safetensors file that hold the length of its JSON header, little-endian."""

_KEYS_SHOWN = 5
"""Keys named in an error; the rest is counted."""


MADE_FROM = "name with --model the folder that it was made from"
"""Remedy where a folder is an option."""


def check_unquantized(folder: str | Path, use: str, *, remedy: str = MADE_FROM) -> None:
    """Check by config.json that the weights of a folder are plain numbers.

    Args:
        folder: of a model.
        use: what needs it, for the message: "training".
        remedy: what to do, the end of the message.

    Raises:
        WeightsError: they are quantised, by this package or another.
    """
    path = Path(folder) / "config.json"
    found = (
        read_json_object(path, remedy="fetch it again", error=WeightsError).get("quantization_config")
        if path.is_file()
        else None
    )
    if not found:
        return
    given = found if isinstance(found, dict) else {}
    method, bits = given.get("quant_method", "an unknown method"), given.get("bits")
    how = f"{method}, {bits} bits" if bits else str(method)
    raise WeightsError(f"{folder} holds quantised weights ({how}), and {use} needs plain ones; {remedy}")


def weight_files(folder: str | Path) -> list[Path]:
    """Return the files that hold the weights, in order; safetensors are preferred to pickled files.

    Raises:
        WeightsError: there are none, the index is damaged, or a shard it names is missing.
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
            missing = [path.name for path in paths if not path.is_file()]
            if missing:
                raise WeightsError(
                    f"{folder} lacks {len(missing)} of {len(paths)} shards ({', '.join(missing)}); fetch them"
                )
            return paths
    raise WeightsError(f"{folder} has no {SAFE}, {PICKLED} or index of shards; fetch the weights into it")


def check_headers(folder: str | Path) -> None:
    """Check that every safetensors file has the length its header promises, to find cut-off downloads early.

    Raises:
        WeightsError: as `weight_files`; a header that cannot be read, or a file of another length.
    """
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            _check_header(path)


def _check_header(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(HEADER_LENGTH_BYTES), "little")
        header = file.read(length) if length <= size - HEADER_LENGTH_BYTES else b""
    try:
        tensors = {name: each for name, each in json.loads(header).items() if name != "__metadata__"}
        data_end = max((each["data_offsets"][1] for each in tensors.values()), default=0)
        promised = HEADER_LENGTH_BYTES + length + data_end
    except (ValueError, AttributeError, KeyError, TypeError, IndexError):
        raise WeightsError(f"{path} is damaged or cut off (no header in its {size:,} bytes); fetch it again") from None
    if promised != size:
        raise WeightsError(
            f"{path} is damaged or cut off ({size:,} bytes, its header promises {promised:,}); fetch it again"
        )


def json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises: WeightsError: the file is no JSON, or holds something else than an object."""
    return read_json_object(path, error=WeightsError, remedy="fetch it again")


def check_keys(
    source: object,
    *,
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatched: Iterable[tuple[str, Iterable[int], Iterable[int]]],
) -> None:
    """Refuse weights that do not fit a model, naming the first keys of each kind by their published names.

    Args:
        source: folder or name, for the message.
        missing, unexpected: keys, under either name.
        mismatched: (key, shape in the file, shape in the model).

    Raises:
        WeightsError: any key is given.
    """
    shapes = (f"{published_name(key)} is {tuple(found)}, not {tuple(wanted)}" for key, found, wanted in mismatched)
    complaints = [
        _complaint("missing", sorted(map(published_name, missing))),
        _complaint("unexpected", sorted(map(published_name, unexpected))),
        _complaint("wrongly shaped", sorted(shapes)),
    ]
    found = "; ".join(complaint for complaint in complaints if complaint)
    if found:
        raise WeightsError(
            f"{source} does not fit its config.json: {found}; fetch the folder again or correct config.json"
        )


def _complaint(kind: str, keys: list[str]) -> str:
    if not keys:
        return ""
    rest = f" and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
    return f"{len(keys)} {kind} ({', '.join(keys[:_KEYS_SHOWN])}{rest})"
