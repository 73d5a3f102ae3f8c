"""The forward pass in torch alone, for one prompt, from the layers of ``blocks.py`` and ``vision_blocks.py``.

    folder --sizes.read_sizes--> ModelSizes --StandaloneModel--> load_weights --greedy--> token ids

Importing ``PreTrainedModel`` takes two to three times the CPU time of importing torch, more than the embedded model
needs for a whole answer. This file gives one greedy answer of a small native folder without it. It is not a second
implementation: layers, image encoder, PLoRA, rotary embedding and kernels are those of
``IxcForConditionalGeneration``. What this file does not cover it declines, and the caller uses that class.

Legend: T tokens of the one row, W width, K key heads, D head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ixc.model.blocks import RMSNorm, TextBlock
from ixc.model.image_encoder import ImageEncoder
from ixc.model.image_features import assemble
from ixc.model.kernels import step
from ixc.model.kernels.step import Base, StepKernel
from ixc.model.key_mapping import is_ignored, own_name
from ixc.model.linear import linear
from ixc.model.plora import Spans, spans_of
from ixc.model.projector_merge import MERGE, SIDE
from ixc.model.rope import rotary
from ixc.model.sizes import ModelSizes
from ixc.model.vision_blocks import VisionEmbeddings, VisionEncoder

WEIGHTS = "model.safetensors"
"""The only weights file read here."""


class _VisionTower(nn.Module):
    """``VisionTower`` without transformers. (N, 3, S, S) -> (N, P, C)"""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = VisionEncoder(config)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.encoder(self.pre_layrnorm(self.embeddings(pixel_values, None)))[:, 1:]


class _Decoder(nn.Module):
    """``Decoder`` without transformers, for one row without padding, which needs no mask."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList([TextBlock(config, index) for index in range(config.num_hidden_layers)])
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, hidden: torch.Tensor, *, spans: Spans | None, cache: KeyValueCache) -> torch.Tensor:
        """Run (1, T, W) at the positions after those in the cache -> (1, T, W)"""
        positions = (torch.arange(hidden.shape[1]) + cache.length).unsqueeze(0)
        angles = rotary(self.config, positions, dtype=hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, image_mask=spans, attention_mask=None, position_embeddings=angles, cache=cache)
        cache.length += hidden.shape[1]
        return self.norm(hidden)


class _Model(ImageEncoder, nn.Module):
    """``IxcModel`` without transformers."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        vision, text = config.vision_config, config.text_config
        wide = SIDE * SIDE * vision.hidden_size
        self.vision_tower = _VisionTower(vision)
        self.merge = MERGE[config.merge](vision)
        self.plora_glb_GN = nn.Parameter(torch.zeros(1, 1, wide))
        self.plora_sub_GN = nn.Parameter(torch.zeros(1, 1, 1, wide))
        self.vision_proj = nn.Sequential(
            nn.Linear(wide, text.hidden_size), nn.GELU(), nn.Linear(text.hidden_size, text.hidden_size)
        )
        self.language_model = _Decoder(text)


class KeyValueCache:
    """Keys and values of one row, allocated once for prompt and answer.

    Args:
        layers: of the decoder.
        positions: of prompt and answer together.
    """

    def __init__(self, layers: int, positions: int) -> None:
        self.positions, self.length = positions, 0
        self._layers: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * layers

    @property
    def layers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of every layer, free positions included."""
        return [held for held in self._layers if held is not None]

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (1, K, T, D) and return all keys and values; the decoder advances ``length``."""
        held = self._layers[layer]
        if held is None:
            shape = (*keys.shape[:2], self.positions, keys.shape[-1])
            held = self._layers[layer] = (keys.new_empty(shape), values.new_empty(shape))
        stop = self.length + keys.shape[2]
        held[0][:, :, self.length : stop], held[1][:, :, self.length : stop] = keys, values
        return held[0][:, :, :stop], held[1][:, :, :stop]


class StandaloneModel(nn.Module):
    """The whole model for greedy decoding of one row, float32 on the CPU."""

    def __init__(self, sizes: ModelSizes) -> None:
        super().__init__()
        self.config = sizes
        self.model = _Model(sizes)
        self.output = nn.Linear(sizes.text_config.hidden_size, sizes.text_config.vocab_size, bias=False)

    def load_weights(self, folder: Path) -> bool:
        """Load the weights of a folder; False if keys or shapes do not fit exactly."""
        try:
            stored = load_file(folder / WEIGHTS)
        except (SafetensorError, OSError):
            return False
        found = {own_name(name): value.float() for name, value in stored.items() if not is_ignored(name)}
        shapes = {name: value.shape for name, value in self.state_dict().items()}
        if {name: value.shape for name, value in found.items()} != shapes:
            return False
        self.load_state_dict(found, assign=True)
        self.requires_grad_(False).eval()
        return True

    @torch.inference_mode()
    def greedy(self, inputs: Mapping[str, torch.Tensor], *, max_new_tokens: int) -> Iterator[tuple[int, float]]:
        """Yield the most probable token and its log probability, step by step; never the image placeholder.

        Args:
            inputs: of one row, as ``IxcProcessor.encode`` returns them.
            max_new_tokens: most tokens yielded.
        """
        ids, decoder = inputs["input_ids"], self.model.language_model
        cache = KeyValueCache(len(decoder.layers), ids.shape[1] + max_new_tokens)
        spans = spans_of(inputs["mm_token_type_ids"]) or None
        words, token = self._embedded(inputs, spans or ()), -1
        hidden = decoder(words, spans=spans, cache=cache)
        scores = linear(self.output, hidden[:, -1:]).float()[0, 0]  # (V,)
        score: Callable[[int], torch.Tensor] | None = None
        for made in range(max_new_tokens):
            if made:
                score = score or self._steps(cache, max_new_tokens)
                scores = score(token)
            scores[self.config.image_token_id] = -torch.inf
            token = int(scores.argmax())
            yield token, float(scores[token] - scores.logsumexp(0))

    def _steps(self, cache: KeyValueCache, positions: int) -> Callable[[int], torch.Tensor]:
        """Return what computes the scores behind the next token, (V,): one call of a kernel, or layer by layer."""
        decoder = self.model.language_model
        if step.usable(self):
            kernel = StepKernel(self)
            tail = kernel.tail(positions, Base(layers=cache.layers, shared=cache.length))
            return lambda token: kernel.run([(tail, [token])])[0]

        def by_layers(token: int) -> torch.Tensor:
            words = decoder.tok_embeddings(torch.tensor([[token]]))
            return linear(self.output, decoder(words, spans=None, cache=cache)[:, -1:]).float()[0, 0]

        return by_layers

    def _embedded(self, inputs: Mapping[str, torch.Tensor], spans: Spans) -> torch.Tensor:
        """Return the embeddings of the prompt, with the image tokens in their places. (1, T, W)"""
        words = self.model.language_model.tok_embeddings(inputs["input_ids"])
        if not spans:
            return words
        views, grids = self.model._views(inputs["pixel_values"], inputs["image_grids"])
        newline, separator = self.model.special_embeddings()
        rows = torch.cat(assemble(self.model.encode_tiles(views), grids, newline=newline, separator=separator))
        start = 0
        for first, last in spans:
            words[0, first:last] = rows[start : (start := start + last - first)]
        return words


__all__ = ["WEIGHTS", "KeyValueCache", "StandaloneModel"]
