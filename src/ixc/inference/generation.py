"""One conversation through the model with nothing computed twice.

    inputs --signature--> PrefixCache: what was read before --|
           --tiles------> TileCache: what was seen before ----|--> generate reads the rest, answers --> kept

`TileCache` gives the same bits as looking anew. What is read behind a kept beginning goes through products of another
shape than the whole prompt would, so it equals it up to rounding, as any batch does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from ixc.inference.prefix_cache import PREFIX_CACHE_BYTES, PrefixCache, first_row, prefix_key
from ixc.inference.vision_cache import TILE_CACHE_BYTES, TileCache, grids_of, image_keys, weights_identity
from ixc.model.plora import Spans, spans_of
from ixc.model.transformers_contract import CACHE_NAME


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What of a prompt is known."""

    given: dict[str, Any]
    """For `generate`."""
    numbers: np.ndarray | None
    """Signature of the prompt; None where nothing is to be kept."""


class CachedGenerator:
    """A model with its two stores.

    Args:
        model: an `IxcForConditionalGeneration`.
        processor: its processor, which knows how many tokens an image has.
        tile_cache: bytes of tile features kept.
        prefix_cache: bytes of keys and values kept.
        by_mask: where image tokens are goes to the model as a mask and a count, which compiled code wants, and not as
            spans.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        tile_cache: int = TILE_CACHE_BYTES,
        prefix_cache: int = PREFIX_CACHE_BYTES,
        by_mask: bool = False,
    ) -> None:
        self.model, self.processor, self.by_mask = model, processor, by_mask
        self.tiles, self.prefixes = TileCache(tile_cache), PrefixCache(prefix_cache)

    def encode_images(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The inputs with pictures turned into features, which `generate` then only places, waiting for no device.

        Rows of any number, their images at any places; inputs on the CPU.
        """
        given = {name: value for name, value in inputs.items() if name not in ("pixel_values", "image_grids")}
        given = {name: value.to(self.model.device) for name, value in given.items()}
        if "pixel_values" in inputs:
            features = self.tiles.features(self.model.model, inputs["pixel_values"], inputs["image_grids"])
            given["mm_encoder_outputs"] = {"image": features}
        return given | self._places(inputs["mm_token_type_ids"].cpu())

    def _places(self, types: torch.Tensor) -> dict[str, Any]:
        """Where the image tokens are: spans where all rows have the same, else how many, beside the mask."""
        spans = None if self.by_mask else spans_of(types)
        return {"image_count": int((types == 1).sum())} if spans is None else {"image_spans": spans}

    @torch.inference_mode()
    def generate(self, inputs: Mapping[str, torch.Tensor], *, max_new_tokens: int, **chosen: Any) -> torch.Tensor:
        """As the model's `generate`.

        Args:
            inputs: of one row, as `IxcProcessor.encode` gives them, best on the CPU.
            max_new_tokens: longest answer.
            chosen: further arguments of `generate`.

        Returns:
            (rows, T + new) long, the prompt first.
        """
        plan = self._plan(inputs)
        output = self.model.generate(**plan.given, max_new_tokens=max_new_tokens, **chosen)
        if plan.numbers is not None:
            self._keep(plan.numbers, plan.given[CACHE_NAME], output)
        return output

    def _plan(self, inputs: Mapping[str, torch.Tensor]) -> _Plan:
        spans = spans_of(inputs["mm_token_type_ids"].cpu())
        if spans is None or len(inputs["input_ids"]) != 1 or not self.prefixes.limit:
            return _Plan(given=self.encode_images(inputs), numbers=None)
        pictured = "pixel_values" in inputs
        counts = (
            [self.processor.num_image_tokens(*grid) for grid in grids_of(inputs["image_grids"])] if pictured else []
        )
        keys = image_keys(inputs["pixel_values"], inputs["image_grids"]) if pictured else []
        numbers = prefix_key(inputs["input_ids"][0].tolist(), spans, keys, counts)
        cache = self.prefixes.take(weights_identity([self.model]), numbers)
        rest = _unread(inputs, spans, counts, cache.get_seq_length())
        return _Plan(given=self.encode_images(rest) | {"image_spans": spans, CACHE_NAME: cache}, numbers=numbers)

    def _keep(self, numbers: np.ndarray, cache: DynamicCache, output: torch.Tensor) -> None:
        """Puts back what was read; of several rows the prompt only, which they share."""
        if len(output) > 1 or len(cache.layers[0].keys) > 1:  # pyright: ignore[reportArgumentType]
            self.prefixes.put(weights_identity([self.model]), numbers, first_row(cache, len(numbers)))
            return
        answer = output[0, len(numbers) :].cpu().numpy()
        held = np.concatenate([numbers, answer])[: cache.get_seq_length()]
        self.prefixes.put(weights_identity([self.model]), held, cache)


def _unread(inputs: Mapping[str, torch.Tensor], spans: Spans, counts: list[int], known: int) -> dict[str, torch.Tensor]:
    """The inputs without the images that lie in the first `known` positions."""
    rest = dict(inputs)
    if not known or not counts:
        return rest
    read = sum(max(0, min(stop, known) - start) for start, stop in spans)
    number = int(np.searchsorted(np.cumsum(counts), read, side="right"))  # images lie there whole
    if number == len(counts):
        del rest["pixel_values"], rest["image_grids"]
        return rest
    done = sum(h * w for h, w in grids_of(inputs["image_grids"][:number]))
    rest["pixel_values"], rest["image_grids"] = inputs["pixel_values"][done:], inputs["image_grids"][number:]
    return rest
