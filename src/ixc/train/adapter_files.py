"""Find and read the files of an adapter's folder, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ixc.errors import UsageError, WeightsError
from ixc.utils.files import read_json_object as read_object

ADAPTER_FOLDER, MODEL_FOLDER = "adapter", "model"
"""Folders of a finished run; it holds one of them, or both after a merge."""

CONFIG_FILE, WEIGHTS_FILE, RECORD_FILE = "adapter_config.json", "adapter_model.safetensors", "training.json"
"""Files of an adapter; the first two are PEFT's."""

BASE_KEY = "base_model_name_or_path"
"""PEFT's key for the base model of an adapter; here null means the embedded model."""


def find_adapter(path: Path) -> Path:
    """Return the adapter folder that a path names: the path itself, or the adapter of a finished run.

    Raises:
        UsageError: there is none.
    """
    for folder in (path, path / ADAPTER_FOLDER):
        if (folder / CONFIG_FILE).is_file():
            return folder
    if any(path.glob("step-*")):
        raise UsageError(f"{path} holds checkpoints and no adapter: the run is not finished; go on with --resume")
    raise UsageError(f"{path} has no {CONFIG_FILE}; name a run of a recipe with an adapter, or an adapter's folder")


def base_model_of(adapter: Path) -> Path | None:
    """Return the folder of an adapter's base model; None: the embedded model.

    Raises:
        UsageError: it is not on this machine. WeightsError: the configuration cannot be read.
    """
    name = read_json_object(adapter / CONFIG_FILE).get(BASE_KEY)
    if not name:
        return None
    if not Path(name).is_dir():
        raise UsageError(f"{adapter} was trained beside {name}, which is no folder here; name it with --model")
    return Path(name)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of an adapter.

    Raises:
        WeightsError: not JSON, or not an object.
    """
    return read_object(path, error=WeightsError, remedy="copy the adapter again")
