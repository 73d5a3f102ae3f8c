"""Images inside vLLM: how many tokens they take, their tiles and grids, and what a request may set about them.

    mm_processor_kwargs of the server   {"hd": 25, "partition": "fit", "max_hd": 55}
    mm_processor_kwargs of a request    {"hd": 9, "partition": "native"}; at most max_hd tiles

One placeholder an image comes in (`serving.vllm.chat`); it is replaced here by as many as the image has tokens.

Legend: N tiles of all images, n images, S = 336 px.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature
from vllm.exceptions import VLLMValidationError
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdate,
)
from vllm.multimodal.processing.inputs import ProcessorInputs

from ixc.core.tiling import RULES, partition
from ixc.errors import IxcError
from ixc.inference.model_folder import read_processor
from ixc.processing.processing import IxcProcessor

MAX_HD = 55
"""Most tiles a request may ask for where the server does not say: the 4K setting."""

MODALITY = "image"


class IxcProcessingInfo(BaseProcessingInfo):
    """What vLLM asks before it reads an image."""

    @cached_property
    def processor(self) -> IxcProcessor:
        return read_processor(Path(self.ctx.model_config.model))

    def get_hf_processor(self, **kwargs: object) -> Any:
        return self.processor

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return {MODALITY: None}

    def get_supported_mm_processor_kwargs(self) -> dict[str, set[str]]:
        return {}  # they stay flat; `options` checks them

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The server's own: hd, partition, max_hd."""
        looks = self.processor.image_processor
        own = {"hd": looks.hd, "partition": looks.partition, **(self.ctx.get_mm_config().mm_processor_kwargs or {})}
        return {**own, "max_hd": max(own.get("max_hd", MAX_HD), own["hd"])}

    def options(self, given: Mapping[str, object]) -> dict[str, Any]:
        """hd and partition of a request.

        Raises:
            VLLMValidationError: another name, or a value out of range.
        """
        unknown = sorted(set(given) - {"hd", "partition", "max_hd"})
        if unknown:
            raise VLLMValidationError(f"no option {', '.join(unknown)} of images; there are hd and partition")
        hd, rule = given.get("hd", self.defaults["hd"]), given.get("partition", self.defaults["partition"])
        most = self.defaults["max_hd"]
        if isinstance(hd, bool) or not isinstance(hd, int) or not 1 <= hd <= most:
            raise VLLMValidationError(f"hd is {str(hd)[:20]}; a whole number from 1 to {most} is needed")
        if rule not in RULES:
            raise VLLMValidationError(f"no partition rule {str(rule)[:20]!r}; use one of {', '.join(RULES)}")
        return {"hd": hd, "partition": rule}

    @cached_property
    def largest(self) -> tuple[int, tuple[int, int]]:
        """Most tokens an image can have here, and a (width, height) that has them."""
        hd, rule = self.defaults["max_hd"], self.defaults["partition"]
        tile = self.processor.image_processor.partition_of(1, 1).tile
        sizes = [(tile, tile * hd), (tile * hd, tile)]  # tall ones have the most newlines; see spec (a)
        return max((self.tokens(size, hd, rule), size) for size in sizes)

    def tokens(self, size: tuple[int, int], hd: int, rule: str) -> int:
        """Of an image of (width, height) px."""
        part = partition(*size, hd=hd, rule=rule)
        return self.processor.num_image_tokens(part.grid_h, part.grid_w)

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        return {MODALITY: self.largest[0]}


class IxcDummyInputs(BaseDummyInputsBuilder[IxcProcessingInfo]):
    """The largest images, for vLLM's measuring of memory."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        return self.info.processor.image_token * mm_counts.get(MODALITY, 0)

    def get_dummy_mm_data(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any) -> dict[str, Any]:
        return {MODALITY: [Image.new("RGB", self.info.largest[1], "white")] * mm_counts.get(MODALITY, 0)}


class IxcMultiModalProcessor(BaseMultiModalProcessor[IxcProcessingInfo]):
    """Pictures to tiles, placeholders to as many as there are tokens."""

    def get_dummy_inputs(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any) -> ProcessorInputs:
        data = self.dummy_inputs.get_dummy_mm_data(seq_len, mm_counts, mm_options)
        return ProcessorInputs(
            prompt=[self.info.processor.image_token_id] * mm_counts.get(MODALITY, 0),
            mm_data_items=self.info.parse_mm_data(data, validate=False),
            hf_processor_mm_kwargs={"hd": self.info.defaults["max_hd"]},
        )

    def _call_hf_processor(self, hf_data: Mapping[str, object], hf_kwargs: Mapping[str, object]) -> BatchFeature:
        try:
            return self.info.processor.image_processor(hf_data["images"], **self.info.options(hf_kwargs))
        except IxcError as error:
            raise VLLMValidationError(str(error)) from None

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        grids = hf_inputs.get("image_grids", torch.empty((0, 2), dtype=torch.long))  # none: all of them are cached
        return {
            "pixel_values": MultiModalFieldConfig.flat_from_sizes(MODALITY, grids.prod(-1)),
            "image_grids": MultiModalFieldConfig.batched(MODALITY, keep_on_cpu=True),
        }

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, object], out_mm_kwargs: Any
    ) -> Sequence[PromptUpdate]:
        processor = self.info.processor
        token = processor.image_token_id

        def tokens(item: int) -> list[int]:
            rows, columns = out_mm_kwargs[MODALITY][item]["image_grids"].data.tolist()
            return [token] * processor.num_image_tokens(rows, columns)

        return [PromptReplacement(modality=MODALITY, target=[token], replacement=tokens)]
