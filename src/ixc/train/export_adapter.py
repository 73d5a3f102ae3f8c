"""What a run leaves behind: a model folder that loads like any other, or an adapter in PEFT's layout.

    write_model(model, processor, DST)       config, weights under published names, tokenizer, processor, training.json
    write_adapter(model, DST, base=...)      adapter_config.json, adapter_model.safetensors, training.json
    merge(adapter, base, processor, DST)     base + adapter -> write_model

Every folder is made beside and renamed: under its name it is whole.
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

from ixc.errors import WeightsError
from ixc.model.loading import load
from ixc.processing.processing import IxcProcessor
from ixc.train.adapter_files import BASE, RECORD, SETTINGS, WEIGHTS, read_json
from ixc.train.param_groups import import_peft
from ixc.train.trainer import merged
from ixc.utils.files import atomic_folder, check_free

_LONGEST_REASON = 200
"""Characters of somebody else's message repeated in ours."""


def write_model(
    model: Any, processor: IxcProcessor, folder: Path, *, record: Mapping[str, Any], replace: bool = False
) -> None:
    """A model and its processor as an ordinary folder.

    Args:
        record: how it was trained, for training.json.
        replace: as `atomic_folder`.
    """
    model.generation_config._from_model_config = False  # else loading would make it anew and lose the model's own
    with atomic_folder(folder, replace=replace) as draft:
        model.save_pretrained(draft)
        processor.save_pretrained(draft)
        _write_json(draft / RECORD, record)


def write_adapter(
    model: Any, folder: Path, *, base: str | None, record: Mapping[str, Any], replace: bool = False
) -> None:
    """The adapter of a model in PEFT's layout.

    Args:
        base: folder of the model beside it; None: the embedded one.
        record: how it was trained, for training.json.
        replace: as `atomic_folder`.
    """
    with atomic_folder(folder, replace=replace) as draft:
        model.save_pretrained(draft, save_embedding_layers=False)
        (draft / "README.md").unlink(missing_ok=True)  # PEFT's form with nothing filled in
        settings = json.loads((draft / SETTINGS).read_text(encoding="utf-8"))
        _write_json(draft / SETTINGS, settings | {BASE: base})
        _write_json(draft / RECORD, record)


def merge(adapter: Path, base: Path, processor: IxcProcessor, folder: Path, *, replace: bool = False) -> Path:
    """Folds an adapter into its base and writes the sum as an ordinary folder, in the dtype of the base.

    Args:
        adapter: as `find_adapter` gives it.
        base: model folder.
        processor: that of the base.
        replace: as `atomic_folder`.

    Raises:
        UsageError: the name is taken. WeightsError: base or adapter is damaged, or they do not fit together.
    """
    if not replace:
        check_free(folder)
    record = read_json(adapter / RECORD) if (adapter / RECORD).is_file() else {}
    write_model(
        merged(with_adapter(load(base, dtype="auto"), adapter)), processor, folder, record=record, replace=replace
    )
    return folder


def with_adapter(model: nn.Module, adapter: Path) -> nn.Module:
    """A model with an adapter beside it, every one of its tensors in use.

    Raises:
        UsageError: PEFT is missing. WeightsError: the adapter is damaged, or of another model.
    """
    peft = import_peft()
    read_json(adapter / SETTINGS)
    try:
        with safe_open(adapter / WEIGHTS, framework="pt") as file:
            names = set(file.keys())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of missing keys, which are counted below; of an old name of transformers
            whole: Any = peft.PeftModel.from_pretrained(model, str(adapter), torch_device="cpu")
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise WeightsError(
            f"the adapter {adapter} is damaged or of another model ({reason}); name its base with --model"
        ) from error
    wanted = set(peft.get_peft_model_state_dict(whole))
    if names != wanted:
        raise WeightsError(
            f"the adapter {adapter} has {len(names)} tensors and {len(names & wanted)} of them fit the model, which "
            f"takes {len(wanted)}; name its base with --model"
        )
    return whole


def dtype_of(model: nn.Module) -> str:
    """For records."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def library() -> str:
    """For records."""
    return f"torch {torch.__version__}"


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
