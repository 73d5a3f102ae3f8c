"""What a run leaves behind: a model folder that loads like any other, or an adapter in PEFT's layout.

    write_model(model, processor, DST)       config, weights under published names, tokenizer, processor, training.json
    write_adapter(model, DST, base=...)      adapter_config.json, adapter_model.safetensors, training.json
    merge(adapter, base, processor, DST)     base + adapter -> write_model

Every folder is made beside and renamed: under its name it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ixc.errors import DataError, WeightsError
from ixc.model.loading import load
from ixc.processing.processing import IxcProcessor
from ixc.train.adapter_files import BASE, RECORD, SETTINGS, WEIGHTS, check_free, read_json
from ixc.train.trainer import merged
from ixc.train.param_groups import import_peft

_LONGEST_REASON = 200
"""Characters of somebody else's message repeated in ours."""


@contextmanager
def made_beside(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """A hidden folder that takes the name once the block ends well; after a failure nothing is left.

    Args:
        replace: what lies under the name goes; without it the name must be free, or an empty folder's.

    Raises:
        UsageError: the name is taken. DataError: the disk refuses.
    """
    if not replace:
        check_free(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            yield draft
            draft.chmod(0o755)  # mkdtemp makes folders for their owner alone
            if replace:
                shutil.rmtree(folder, ignore_errors=True)
            os.replace(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror or error}); free space, or name another"
        ) from error


def write_model(
    model: Any, processor: IxcProcessor, folder: Path, *, record: Mapping[str, Any], replace: bool = False
) -> None:
    """A model and its processor as an ordinary folder.

    Args:
        record: how it was trained, for training.json.
        replace: as `made_beside`.
    """
    model.generation_config._from_model_config = False  # else loading would make it anew and lose the model's own
    with made_beside(folder, replace=replace) as draft:
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
        replace: as `made_beside`.
    """
    with made_beside(folder, replace=replace) as draft:
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
        replace: as `made_beside`.

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
