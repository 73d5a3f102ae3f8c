"""Files of an adapter's folder, found and read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ixc.errors import UsageError, WeightsError
from ixc.utils.files import read_json_object

ADAPTER, MODEL = "adapter", "model"
"""Folders that a finished run holds: one of them."""

SETTINGS, WEIGHTS, RECORD = "adapter_config.json", "adapter_model.safetensors", "training.json"
"""Files of an adapter; the first two are PEFT's."""

BASE = "base_model_name_or_path"
"""PEFT's key for the model an adapter was trained beside; here null for the embedded one."""


def find_adapter(path: Path) -> Path:
    """The adapter that a path names: its own folder, or that of a finished run.

    Raises:
        UsageError: there is none.
    """
    for folder in (path, path / ADAPTER):
        if (folder / SETTINGS).is_file():
            return folder
    if any(path.glob("step-*")):
        raise UsageError(f"{path} holds checkpoints and no adapter: the run is not finished; go on with --resume")
    raise UsageError(f"{path} has no {SETTINGS}; name a run of an adapter stage, or an adapter's folder")


def base_of(adapter: Path) -> Path | None:
    """The model folder an adapter was trained beside; None: the embedded model.

    Raises:
        UsageError: it is not on this machine. WeightsError: the settings cannot be read.
    """
    name = read_json(adapter / SETTINGS).get(BASE)
    if not name:
        return None
    if not Path(name).is_dir():
        raise UsageError(f"{adapter} was trained beside {name}, which is no folder here; name it with --model")
    return Path(name)


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file of an adapter holds. Raises: WeightsError: no JSON, or no object."""
    return read_json_object(path, error=WeightsError, remedy="copy the adapter again")
