"""A trained model becomes a folder that loads like any other: weights under published names, tokenizer, settings.

export -> NAME/           the model and its record, nothing else: vLLM reads every *.safetensors of a folder
          NAME_training/  what only a training that goes on from the model needs
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ixc.errors import DataError
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.nano.data.glyph_tokens import GlyphTokenEmbedding
from ixc.nano.drawn_growth import grown
from ixc.nano.stages.character_pretrain import silence
from ixc.nano.stages.layout_lm import prepare
from ixc.processing.image_processing import IxcImageProcessorPil
from ixc.processing.processing import IxcProcessor
from ixc.processing.tokenization import character_tokenizer
from ixc.utils.files import atomic_folder

RECORD = "training.json"
"""What the model was made of, in its folder."""

GLYPH_TOKENS = "glyph_tokens.safetensors"
"""Weights of `GlyphTokenEmbedding`, in the training folder: a training that goes on without pixels reads them."""

OLD_GLYPH_TOKENS = "symbols.safetensors"
"""The same file in the model folder itself, where versions before 29 November 2026 wrote it."""


def export(
    model: IxcForConditionalGeneration,
    symbols: GlyphTokenEmbedding,
    folder: Path,
    *,
    hd: int,
    training: dict[str, Any],
    stored: torch.dtype = torch.float32,
) -> None:
    """Write the model folder and its training folder; older folders of the same names are replaced.

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
    with atomic_folder(training_folder(folder), replace=True) as draft:
        save_file({name: value.detach().clone() for name, value in symbols.named_parameters()}, draft / GLYPH_TOKENS)
    with atomic_folder(folder, replace=True) as draft:
        model.to(stored).save_pretrained(draft)
        model.to(torch.float32)
        processor.save_pretrained(draft)
        (draft / RECORD).write_text(json.dumps(training, indent=1) + "\n")


def training_folder(folder: Path) -> Path:
    """The folder of training state that belongs to a model folder: `NAME_training` beside `NAME`."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}_training")


def find_glyph_tokens(folder: Path) -> Path:
    """The file of learned glyph tokens that belongs to a model folder, in the training folder or in its old place.

    Raises:
        FileNotFoundError: it is in neither.
    """
    places = (training_folder(folder) / GLYPH_TOKENS, folder / OLD_GLYPH_TOKENS)
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(f"{places[0].parent.name}/{GLYPH_TOKENS} is not beside it")


def begin(folder: Path, model: IxcForConditionalGeneration, symbols: GlyphTokenEmbedding) -> None:
    """Take over the weights of a folder that `export` wrote; a larger model answers as the folder's does (`growth.py`).

    Raises:
        DataError: its glyph tokens are missing or damaged, or its weights cannot grow into the model's shapes.
    """
    try:
        prepare(model.model.language_model)
        silence(model.model.vision_tower)
        smaller = weights(folder)
        old, new = (one.config.text_config.head_dim for one in (smaller, model))
        if old != new:
            raise RuntimeError(f"its heads are {old} wide, those of the recipe {new}, and grow in number alone")
        model.load_state_dict(grown(smaller.state_dict(), model.state_dict()))
        symbols.load_state_dict(symbols.grown(load_file(find_glyph_tokens(folder))), strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{folder} cannot be gone on from ({reason}); name a folder that ixc train wrote") from error


def weights(folder: Path) -> IxcForConditionalGeneration:
    """The model of such a folder, float32."""
    return IxcForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def reader(model: IxcForConditionalGeneration, symbols: GlyphTokenEmbedding) -> dict[str, Tensor]:
    """Weights of the language stage: decoder and symbols."""
    parts = {"decoder": model.model.language_model, "symbols": symbols}
    return {f"{name}.{k}": v for name, part in parts.items() for k, v in part.state_dict().items()}
