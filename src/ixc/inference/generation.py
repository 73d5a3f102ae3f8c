"""Generation with two caches, so that neither a tile is encoded nor a prefix prefilled twice.

    inputs --PromptKeys--> PrefixCache: keys and values of a known prefix --|
           --ImageKeys---> TileCache: features of known tiles --------------|--> generate prefills the rest --> cached

Features from `TileCache` equal fresh ones bit by bit. After a prefix hit, results match a full prefill up to rounding:
the matrix products have other shapes, as with any other batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import torch
from transformers import DynamicCache

from ixc.inference.cache_memory import CacheMemory
from ixc.inference.prefix_cache import PrefixCache, first_row, position_keys
from ixc.inference.settings import CacheOptions, CacheSizes
from ixc.inference.vision_cache import ImageKeys, TileCache, weights_identity
from ixc.model.plora import Spans, spans_of
from ixc.model.transformers_contract import CACHE_NAME

_IMAGE_INPUTS = ("pixel_values", "image_grids")


@dataclass(frozen=True, kw_only=True)
class PromptKeys:
    """What identifies a prompt: made once a request and handed to whatever looks something up."""

    positions: np.ndarray
    """(T,) int64, one key a position, see `prefix_cache.position_keys`."""
    spans: Spans
    """Runs of image tokens."""
    image_tokens: list[int]
    """Tokens of each image."""
    images: ImageKeys | None
    """Keys of the images; None without images."""

    def prefix(self, length: int) -> PromptKeys:
        """Return the keys of the first positions, among which all images must lie."""
        return replace(self, positions=self.positions[:length])


@dataclass(frozen=True, kw_only=True)
class _Prefill:
    """What remains to be computed of a prompt."""

    arguments: dict[str, Any]
    """For `generate`."""
    keys: PromptKeys | None
    """Keys of the prompt; None where nothing is cached."""


class CachedGenerator:
    """A model with a cache of image features and one of prompt prefixes.

    Args:
        model: an `IxcForConditionalGeneration`.
        processor: its processor, which counts the tokens of an image.
        by_mask: pass the image positions as a mask and a count, which compiled code needs, instead of spans.
        caches: limits of both caches, see `CacheSizes.of`.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        by_mask: bool = False,
        **caches: Unpack[CacheOptions],
    ) -> None:
        self.model, self.processor, self.by_mask = model, processor, by_mask
        sizes = CacheSizes.of(**caches)
        self.cache_memory = CacheMemory(sizes.cache_memory)
        self.tiles = TileCache(sizes.tile_cache, memory=self.cache_memory)
        self.prefixes = PrefixCache(sizes.prefix_cache, memory=self.cache_memory)

    def encode_images(self, inputs: Mapping[str, torch.Tensor], *, keys: ImageKeys | None = None) -> dict[str, Any]:
        """Return the inputs with pixels replaced by features; `generate` then waits for the device nowhere.

        Args:
            inputs: of any number of rows, images at any positions, on the CPU.
            keys: of the images, where the caller has them.
        """
        arguments: dict[str, Any] = {
            name: value.to(self.model.device) for name, value in inputs.items() if name not in _IMAGE_INPUTS
        }
        if "pixel_values" in inputs:
            features = self.tiles.features(self.model.model, inputs["pixel_values"], inputs["image_grids"], keys=keys)
            arguments["mm_encoder_outputs"] = {"image": features}
        return arguments | self._image_positions(inputs["mm_token_type_ids"].cpu())

    def _image_positions(self, types: torch.Tensor) -> dict[str, Any]:
        """Return the spans of image tokens where all rows have the same, else their number, to go with the mask."""
        spans = None if self.by_mask else spans_of(types)
        return {"image_count": int((types == 1).sum())} if spans is None else {"image_spans": spans}

    def prompt_keys(self, inputs: Mapping[str, torch.Tensor], *, images: ImageKeys | None = None) -> PromptKeys | None:
        """Return the keys of one row; None for several rows. images: their keys, where the caller has them."""
        spans = spans_of(inputs["mm_token_type_ids"].cpu())
        if spans is None or len(inputs["input_ids"]) != 1:
            return None
        if images is None and "pixel_values" in inputs:
            images = ImageKeys.of(inputs["pixel_values"], inputs["image_grids"])
        counts = [] if images is None else [self.processor.num_image_tokens(*grid) for grid in images.grids]
        names = [] if images is None else images.images
        positions = position_keys(inputs["input_ids"][0].tolist(), spans, names, counts)
        return PromptKeys(positions=positions, spans=spans, image_tokens=counts, images=images)

    @torch.inference_mode()
    def generate(
        self,
        inputs: Mapping[str, torch.Tensor],
        *,
        max_new_tokens: int,
        keys: PromptKeys | None = None,
        **chosen: Any,
    ) -> torch.Tensor:
        """Generate as the model's `generate` does.

        Args:
            inputs: of one row, as `IxcProcessor.encode` returns them, best on the CPU.
            max_new_tokens: longest answer.
            keys: of the prompt, where the caller has them.
            chosen: further arguments of `generate`.

        Returns:
            (rows, T + new) long, the prompt first.
        """
        prefill = self._prefill(inputs, keys)
        output = self.model.generate(**prefill.arguments, max_new_tokens=max_new_tokens, **chosen)
        if prefill.keys is not None:
            self._keep(prefill.keys.positions, prefill.arguments[CACHE_NAME], output)
        return output

    def _prefill(self, inputs: Mapping[str, torch.Tensor], keys: PromptKeys | None) -> _Prefill:
        if self.prefixes.limit and keys is None:
            keys = self.prompt_keys(inputs)
        if keys is None or not self.prefixes.limit:
            images = None if keys is None else keys.images
            return _Prefill(arguments=self.encode_images(inputs, keys=images), keys=None)
        cache = self.prefixes.take(weights_identity([self.model]), keys.positions)
        rest, images = without_known_images(inputs, keys, cache.get_seq_length())
        arguments = self.encode_images(rest, keys=images) | {"image_spans": keys.spans, CACHE_NAME: cache}
        return _Prefill(arguments=arguments, keys=keys)

    def _keep(self, positions: np.ndarray, cache: DynamicCache, output: torch.Tensor) -> None:
        """Put the cache back; of several rows only the prompt, which they share."""
        held: Any = cache.layers[0]  # a DynamicLayer: the library's union also has layers without keys
        identity = weights_identity([self.model])
        if len(output) > 1 or len(held.keys) > 1:
            self.prefixes.put(identity, positions, first_row(cache, len(positions)))
            return
        answer = output[0, len(positions) :].cpu().numpy()
        self.prefixes.put(identity, np.concatenate([positions, answer])[: cache.get_seq_length()], cache)


def without_known_images(
    inputs: Mapping[str, torch.Tensor], keys: PromptKeys, known: int
) -> tuple[dict[str, torch.Tensor], ImageKeys | None]:
    """Return the inputs, and the keys of their images, without the images in the first `known` positions."""
    rest = dict(inputs)
    if not known or keys.images is None:
        return rest, keys.images
    covered = sum(max(0, min(stop, known) - start) for start, stop in keys.spans)
    count = int(np.searchsorted(np.cumsum(keys.image_tokens), covered, side="right"))  # a prefix never cuts an image
    left = keys.images.without_first(count)
    if not left.grids:
        del rest["pixel_values"], rest["image_grids"]
        return rest, None
    tiles = sum(h * w for h, w in keys.images.grids[:count])
    rest["pixel_values"], rest["image_grids"] = inputs["pixel_values"][tiles:], inputs["image_grids"][count:]
    return rest, left
