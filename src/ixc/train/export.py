"""A trained model becomes a folder that loads like any other: weights under published names, tokenizer, settings."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from ixc.model.model import IxcForConditionalGeneration
from ixc.processing.image import IxcImageProcessorPil
from ixc.processing.processor import IxcProcessor
from ixc.processing.tokenizer import character_tokenizer


def export(model: IxcForConditionalGeneration, folder: Path, *, hd: int, training: dict[str, Any]) -> None:
    """Write beside and rename; an older folder of the same name is replaced.

    Args:
        hd: default setting of the model: the largest its pages are drawn for.
        training: what the model card tells of the run: recipe, steps, cost; kept as `training.json`.
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
    model.to(torch.float32).save_pretrained(beside)
    processor.save_pretrained(beside)
    (beside / "training.json").write_text(json.dumps(training, indent=1) + "\n")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(beside, folder)
