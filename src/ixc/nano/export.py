"""Write a trained model as a folder that loads like any other: weights under published names, tokenizer, settings.

export -> NAME/           the model and its record, nothing else: vLLM reads every *.safetensors of a folder
          NAME_training/  what only a training that continues from the model needs
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from ixc.errors import DataError
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.nano.data.glyph_tokens import GlyphTokenEmbedding
from ixc.nano.state import renamed
from ixc.processing.image_processing import IxcImageProcessorPil
from ixc.processing.processing import IxcProcessor
from ixc.processing.tokenization import character_tokenizer
from ixc.utils.files import atomic_folder

RECORD = "training.json"
"""How the model was trained, in its folder."""

GLYPH_TOKENS = "glyph_tokens.safetensors"
"""Weights of `GlyphTokenEmbedding`, in the training folder: a training that continues from the model reads them."""

OLD_GLYPH_TOKENS = "symbols.safetensors"
"""The same file in the model folder itself, where versions before 29 November 2026 wrote it."""


def export(
    model: IxcForConditionalGeneration,
    glyph_tokens: nn.Module,
    folder: Path,
    *,
    hd: int,
    training: dict[str, Any],
    stored: torch.dtype = torch.float32,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> None:
    """Write the model folder and its training folder; older folders of the same names are replaced.

    Args:
        model: the trained model; it is in float32 again afterwards.
        glyph_tokens: the embedding of the stages without pixels, written to the training folder.
        folder: the model folder.
        hd: default setting of the model: the largest its pages are drawn for.
        training: recipe, steps and cost of the run, written as `training.json`.
        stored: number type of the weights in the file.
        tokenizer: of the model; None: the one of 128 ids.
    """
    tokenizer = tokenizer or character_tokenizer()
    images = IxcImageProcessorPil(hd=hd, partition="native")  # pyright: ignore[reportCallIssue]  # keyword arguments
    processor = IxcProcessor(images, tokenizer, published_quirks=False, system="", system_turns=False)
    ids = tokenizer.convert_tokens_to_ids
    generation = model.generation_config
    generation.bos_token_id, generation.pad_token_id = ids("<s>"), ids("</s>")
    generation.eos_token_id = [ids("</s>"), ids("[UNUSED_TOKEN_145]")]
    generation.max_new_tokens, generation.do_sample = 64, False
    generation._from_model_config = False  # else transformers rebuilds it on loading and drops max_new_tokens
    with atomic_folder(training_folder(folder), replace=True) as draft:
        save_file(
            {name: value.detach().clone() for name, value in glyph_tokens.named_parameters()}, draft / GLYPH_TOKENS
        )
    with atomic_folder(folder, replace=True) as draft:
        nn.Module.to(model, stored)  # transformers wraps PreTrainedModel.to in a way that type checkers cannot read
        model.save_pretrained(draft)
        nn.Module.to(model, torch.float32)
        processor.save_pretrained(draft)
        (draft / RECORD).write_text(json.dumps(training, indent=1) + "\n")


def training_folder(folder: Path) -> Path:
    """Path of the training state that belongs to a model folder: `NAME_training` beside `NAME`."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}_training")


def find_glyph_tokens(folder: Path) -> Path:
    """Find the learned glyph tokens of a model folder, in its training folder or in their old place.

    Raises:
        FileNotFoundError: it is in neither.
    """
    places = (training_folder(folder) / GLYPH_TOKENS, folder / OLD_GLYPH_TOKENS)
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(f"{places[0].parent.name}/{GLYPH_TOKENS} is not beside it")


def load_initial(folder: Path, model: IxcForConditionalGeneration, glyph_tokens: GlyphTokenEmbedding) -> None:
    """Load the weights of a folder that `export` wrote into a model of the same shape.

    Raises:
        DataError: its glyph tokens are missing or damaged, or its weights have other shapes than the model's.
    """
    try:
        model.load_state_dict(weights(folder).state_dict())
        glyph_tokens.load_state_dict(renamed(load_file(find_glyph_tokens(folder))), strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{folder} cannot initialise this model ({reason}); name a folder that ixc train wrote in the same shape"
        ) from error


def weights(folder: Path) -> IxcForConditionalGeneration:
    """Load the model of such a folder in float32."""
    return IxcForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def layout_lm_weights(model: IxcForConditionalGeneration, glyph_tokens: GlyphTokenEmbedding) -> dict[str, Tensor]:
    """Weights of a `LayoutLm`: the decoder and the glyph tokens."""
    parts = {"decoder": model.model.language_model, "glyph_tokens": glyph_tokens}
    return {f"{name}.{k}": v for name, part in parts.items() for k, v in part.state_dict().items()}
