"""A trained model becomes a folder that loads like any other: weights under published names, tokenizer, settings."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ixc.errors import DataError
from ixc.model.model import IxcForConditionalGeneration
from ixc.processing.image import IxcImageProcessorPil
from ixc.processing.processor import IxcProcessor
from ixc.processing.tokenizer import character_tokenizer
from ixc.train.growth import grown
from ixc.train.language import prepare
from ixc.train.sight import silence
from ixc.train.symbols import SymbolEmbedding

SYMBOLS = "symbols.safetensors"
"""What the symbols have learned: nothing that answers needs it, a training that goes on without pixels does."""


def export(
    model: IxcForConditionalGeneration,
    symbols: SymbolEmbedding,
    folder: Path,
    *,
    hd: int,
    training: dict[str, Any],
    stored: torch.dtype = torch.float32,
) -> None:
    """Write beside and rename; an older folder of the same name is replaced.

    Args:
        hd: default setting of the model: the largest its pages are drawn for.
        training: what the model card tells of the run: recipe, steps, cost; kept as `training.json`.
        stored: number type of the weights in the file; the model itself is given back in float32.
    """
    tokenizer = character_tokenizer()
    images = IxcImageProcessorPil(hd=hd, partition="native")
    processor = IxcProcessor(images, tokenizer, published_quirks=False, system="")
    ids = tokenizer.convert_tokens_to_ids
    generation = model.generation_config
    generation.bos_token_id, generation.pad_token_id = ids("<s>"), ids("</s>")
    generation.eos_token_id = [ids("</s>"), ids("[UNUSED_TOKEN_145]")]
    generation.max_new_tokens, generation.do_sample = 64, False
    generation._from_model_config = False  # else loading would make it anew and lose the 64
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    model.to(stored).save_pretrained(beside)
    model.to(torch.float32)
    processor.save_pretrained(beside)
    save_file({name: value.detach().clone() for name, value in symbols.named_parameters()}, beside / SYMBOLS)
    (beside / "training.json").write_text(json.dumps(training, indent=1) + "\n")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(beside, folder)


def begin(folder: Path, model: IxcForConditionalGeneration, symbols: SymbolEmbedding) -> None:
    """Take over the weights of a folder that `export` wrote; a larger model answers as the folder's does (`growth.py`).

    Raises:
        DataError: its symbols are missing, or its weights cannot grow into the model's shapes.
    """
    try:
        prepare(model.model.language_model)
        silence(model.model.vision_tower)
        smaller = weights(folder)
        old, new = (one.config.text_config.head_dim for one in (smaller, model))
        if old != new:
            raise RuntimeError(f"its heads are {old} wide, those of the recipe {new}, and grow in number alone")
        model.load_state_dict(grown(smaller.state_dict(), model.state_dict()))
        symbols.load_state_dict(symbols.grown(load_file(folder / SYMBOLS)), strict=False)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{folder} cannot be gone on from ({reason}); name a folder that ixc train wrote") from error


def weights(folder: Path) -> IxcForConditionalGeneration:
    """The model of such a folder, float32."""
    return IxcForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def reader(model: IxcForConditionalGeneration, symbols: SymbolEmbedding) -> dict[str, Tensor]:
    """Weights of the language stage: decoder and symbols."""
    parts = {"decoder": model.model.language_model, "symbols": symbols}
    return {f"{name}.{k}": v for name, part in parts.items() for k, v in part.state_dict().items()}
