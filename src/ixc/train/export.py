"""What a run leaves behind: a model folder that loads like any other, or an adapter in PEFT's layout.

    save_model(model, processor, DST)                 config, weights under published names, processor, training.json
    save_adapter(model, DST, base=...)                adapter_config.json, adapter_model.safetensors, training.json
    merge_adapter(adapter, base, processor, DST)      the LoRA merge: base + adapter -> save_model

Every folder is written under a temporary name and renamed, so a folder under its final name is complete.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ixc.errors import UsageError, WeightsError
from ixc.model.checkpoint_files import check_unquantized
from ixc.model.loading import load
from ixc.processing.processing import IxcProcessor
from ixc.train.adapter_files import BASE_KEY, CONFIG_FILE, RECORD_FILE, WEIGHTS_FILE, read_json_object
from ixc.train.param_groups import import_peft
from ixc.utils.files import atomic_folder, check_free

_LONGEST_REASON = 200
"""Most characters of another library's message repeated in ours."""


def save_model(
    model: Any, processor: IxcProcessor, folder: Path, *, record: Mapping[str, Any], replace: bool = False
) -> None:
    """Write a model and its processor as an ordinary folder.

    Args:
        record: how it was trained, for training.json.
        replace: as `atomic_folder`.
    """
    # transformers 5 otherwise derives the generation config from the model's on loading and drops the model's own.
    model.generation_config._from_model_config = False
    with atomic_folder(folder, replace=replace) as draft:
        model.save_pretrained(draft)
        processor.save_pretrained(draft)
        _write_json(draft / RECORD_FILE, record)


def save_adapter(
    model: Any, folder: Path, *, base: str | None, record: Mapping[str, Any], replace: bool = False
) -> None:
    """Write the adapter of a model in PEFT's layout.

    Args:
        base: folder of the base model; None: the embedded one.
        record: how it was trained, for training.json.
        replace: as `atomic_folder`.
    """
    with atomic_folder(folder, replace=replace) as draft:
        model.save_pretrained(draft, save_embedding_layers=False)
        (draft / "README.md").unlink(missing_ok=True)  # PEFT writes a model-card template with nothing filled in
        settings = json.loads((draft / CONFIG_FILE).read_text(encoding="utf-8"))
        _write_json(draft / CONFIG_FILE, settings | {BASE_KEY: base})
        _write_json(draft / RECORD_FILE, record)


def merge_adapter(adapter: Path, base: Path, processor: IxcProcessor, folder: Path, *, replace: bool = False) -> Path:
    """Merge an adapter into its base and write the result as an ordinary folder, in the dtype of the base.

    Args:
        adapter: as `find_adapter` returns it.
        base: folder of the base model.
        processor: processor of the base.
        replace: as `atomic_folder`.

    Raises:
        UsageError: the folder's name is taken.
        WeightsError: base or adapter is damaged, they do not fit together, or the base is quantised.
    """
    if not replace:
        check_free(folder)
    check_unquantized(base, "an adapter to merge")
    record = read_json_object(adapter / RECORD_FILE) if (adapter / RECORD_FILE).is_file() else {}
    merged = merge_lora(load_adapter(load(base, dtype="auto"), adapter))
    save_model(merged, processor, folder, record=record, replace=replace)
    return folder


def merge_lora(model: nn.Module) -> nn.Module:
    """Merge a model's LoRA into its weights: `save_pretrained` of the result writes published names.

    Raises:
        UsageError: the model has no adapter.
    """
    merge = getattr(model, "merge_and_unload", None)
    if merge is None:
        raise UsageError(f"a {type(model).__name__} has no adapter to merge; add_adapter() comes first")
    return merge()


def load_adapter(model: nn.Module, adapter: Path) -> nn.Module:
    """Wrap a model with a saved adapter, and check that every tensor of the adapter is used.

    Raises:
        MissingPackageError: PEFT is missing. WeightsError: the adapter is damaged, or of another model.
    """
    peft = import_peft()
    read_json_object(adapter / CONFIG_FILE)
    try:
        with safe_open(adapter / WEIGHTS_FILE, framework="pt") as file:
            names = set(file.keys())
        with warnings.catch_warnings():
            # peft 0.21 only warns of missing keys, which are counted below, and uses a deprecated transformers name.
            warnings.simplefilter("ignore")
            wrapped: Any = peft.PeftModel.from_pretrained(model, str(adapter), torch_device="cpu")
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise WeightsError(
            f"the adapter {adapter} is damaged or of another model ({reason}); name its base with --model"
        ) from error
    expected = set(peft.get_peft_model_state_dict(wrapped))
    if names != expected:
        raise WeightsError(
            f"the adapter {adapter} has {len(names)} tensors and {len(names & expected)} of them fit the model, which "
            f"takes {len(expected)}; name its base with --model"
        )
    return wrapped


def dtype_name(model: nn.Module) -> str:
    """Return the dtype of a model's first parameter, for training.json."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def torch_version() -> str:
    """Return the version of torch, for training.json."""
    return f"torch {torch.__version__}"


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
