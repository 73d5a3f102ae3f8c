"""The whole model: pictures and words in, words out (InternLM-XComposer2-4KHD, arXiv 2404.06512; spec c to h).

    pixel_values, image_grids -> VisionTower -> merge -> newlines, separator -> vision_proj -> image tokens
    input_ids -> tok_embeddings -> placeholders replaced by the image tokens, in order
              -> Decoder (PLoRA at the image tokens only) -> output -> logits

Which tokens are an image's is told by ``mm_token_type_ids`` (1 = image), or by ``image_token_id`` in ``input_ids``.
Both names, and ``image_grids``, are those that ``generate`` of transformers extends, slices and drops by itself.

Legend: B batch, T tokens, V vocabulary, S = 336 px, N tokens of one image.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils.generic import ModelOutput

from ixc.core.chat_format import IGNORED
from ixc.errors import DataError, UsageError, WeightsError
from ixc.model.base import IxcPreTrainedModel
from ixc.model.checkpoint_files import check_keys
from ixc.model.configuration import IxcConfig
from ixc.model.decoder import Decoder
from ixc.model.generation import IxcGenerative, with_stop_tokens
from ixc.model.image_encoder import ImageEncoder
from ixc.model.image_features import assemble
from ixc.model.key_mapping import IGNORED_KEYS
from ixc.model.linear import linear
from ixc.model.plora import ImagePositions, Spans, text_only
from ixc.model.projector_merge import MERGE, SIDE
from ixc.model.quantization.loading import is_quantized, load_quantized
from ixc.model.transformers_contract import CACHE_NAME, cache_of, one_cache
from ixc.model.vision import VisionTower


@dataclass
class ImageFeatures(ModelOutput):
    """``pooler_output``: one (N, W) tensor an image; the name is the one transformers asks for."""

    pooler_output: list[torch.Tensor] = field(default_factory=list)


class IxcModel(ImageEncoder, IxcPreTrainedModel):
    """Eyes, projector and reader, without the output head."""

    def __init__(self, config: IxcConfig) -> None:
        super().__init__(config)
        vision, text = config.vision_config, config.text_config
        wide = SIDE * SIDE * vision.hidden_size
        self.vision_tower = VisionTower._from_config(vision)
        self.merge = MERGE[config.merge](vision)
        # Shapes and names as published. The newline serves the overview too; the separator is only a separator.
        self.plora_glb_GN = nn.Parameter(torch.zeros(1, 1, wide))
        self.plora_sub_GN = nn.Parameter(torch.zeros(1, 1, 1, wide))
        self.vision_proj = nn.Sequential(
            nn.Linear(wide, text.hidden_size), nn.GELU(), nn.Linear(text.hidden_size, text.hidden_size)
        )
        self.language_model = Decoder._from_config(text)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.tok_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.tok_embeddings = value

    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        image_grids: torch.Tensor,
        tiles_per_pass: int | None = None,
        **kwargs: Any,
    ) -> ImageFeatures:
        """Looks at images.

        Args:
            pixel_values: (sum of h*w, 3, S, S) uint8, tiles row-major, image after image; floats are taken as
                normalised already.
            image_grids: (images, 2) long, rows and columns of tiles.
            tiles_per_pass: so many pictures through the tower at once. Default: ``TILES_PER_PASS``.

        Returns:
            ``pooler_output``: one (N, W) tensor an image, ready to stand among word embeddings.

        Raises:
            UsageError: grids and tiles disagree, or tiles of another size.
        """
        pictures, grids = self._pictures(pixel_values, image_grids)
        newline, separator = self.special_embeddings()
        seen = self.encode_tiles(pictures, tiles_per_pass=tiles_per_pass)
        return ImageFeatures(pooler_output=assemble(seen, grids, newline=newline, separator=separator))

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        *,
        pixel_values: torch.Tensor | None = None,
        image_grids: torch.Tensor | None = None,
        mm_token_type_ids: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        inputs_embeds: torch.Tensor | None = None,
        tiles_per_pass: int | None = None,
        image_spans: Spans | None = None,
        image_count: int | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Reads words and pictures; arguments as ``IxcForConditionalGeneration.forward``."""
        if (input_ids is None) == (inputs_embeds is None):
            raise UsageError("give either input_ids or inputs_embeds, and not both")
        features = (mm_encoder_outputs or {}).get("image")
        if features is None and pixel_values is not None:
            if image_grids is None:
                raise UsageError("pixel_values came without image_grids; give rows and columns of tiles, (images, 2)")
            features = self.get_image_features(pixel_values, image_grids, tiles_per_pass)
        image_mask: ImagePositions = self._image_mask(input_ids, inputs_embeds, mm_token_type_ids)
        if image_spans is not None:
            image_mask = image_spans
        if features is not None:
            inputs_embeds = self._place(input_ids, inputs_embeds, image_mask, features.pooler_output, image_count)
        elif image_count == 0 or text_only(image_mask):
            image_mask = ()
        if inputs_embeds is None and input_ids is not None:
            if isinstance(image_mask, tuple) and not image_mask:
                return self.language_model(input_ids=input_ids, **kwargs)
            _refuse_placeholders(image_mask)
            inputs_embeds = self.get_input_embeddings()(input_ids)
        return self.language_model(inputs_embeds=inputs_embeds, image_mask=image_mask, **kwargs)

    def _image_mask(
        self, ids: torch.Tensor | None, embeds: torch.Tensor | None, types: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Bool (B, T), from the types if they are given, else from the placeholders."""
        if types is None:
            return None if ids is None else ids == self.config.image_token_id
        given = ids if ids is not None else embeds
        if given is not None and types.shape != given.shape[:2]:
            raise UsageError(
                f"mm_token_type_ids is {tuple(types.shape)} but the tokens are {tuple(given.shape[:2])}; "
                "give one number a token"
            )
        return types == 1

    def _place(
        self,
        ids: torch.Tensor | None,
        embeds: torch.Tensor | None,
        image_mask: ImagePositions,
        images: list[torch.Tensor],
        count: int | None,
    ) -> torch.Tensor:
        """Word embeddings with the placeholders' rows replaced by the images' tokens. (B, T, W)"""
        if image_mask is None:
            raise UsageError("inputs_embeds came with images but without mm_token_type_ids; pass (B, T), 1 at images")
        words = self.get_input_embeddings()(ids) if embeds is None else embeds
        rows = torch.cat(images).to(device=words.device, dtype=words.dtype)
        if isinstance(image_mask, torch.Tensor):
            _check_places(int(image_mask.sum()) if count is None else count, images)
            return words.masked_scatter(image_mask.unsqueeze(-1), rows)
        _check_places(len(words) * sum(last - first for first, last in image_mask), images)
        words = words.clone()
        start = 0
        for row in words:
            for first, last in image_mask:
                row[first:last] = rows[start : (start := start + last - first)]
        return words


class IxcForConditionalGeneration(IxcGenerative):
    """InternLM-XComposer2-4KHD with its output head, for answering questions about images and for training."""

    _keys_to_ignore_on_load_unexpected = list(IGNORED_KEYS)  # noqa: RUF012 - the contract wants a plain attribute

    def __init__(self, config: IxcConfig) -> None:
        super().__init__(config)
        text = config.text_config
        self.model = IxcModel(config)
        self.output = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_pretrained(cls, source: Any, *args: Any, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Load as ``PreTrainedModel.from_pretrained`` does, but refuse weights that do not fit.

        transformers draws a missing weight at random and logs a line; a model with a random projector gives fluent
        nonsense. Here missing, unexpected and wrongly shaped weights are an error.

        Raises:
            WeightsError: keys missing, unexpected or of another shape (named by their published names), or a damaged
                file. ``ignore_mismatched_sizes=True`` lets other shapes pass, and draws those weights anew.
        """
        if is_quantized(source):
            return load_quantized(cls, source, **kwargs)
        wants_info = kwargs.pop("output_loading_info", False)
        lenient = kwargs.pop("ignore_mismatched_sizes", False)
        try:
            # Mismatches pass here, so that all complaints come in one message below.
            loaded: Any = super().from_pretrained(
                source, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
        except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
            # torch reports a cut-off pickled file as a RuntimeError of its reader; other RuntimeErrors are not ours.
            if isinstance(error, RuntimeError) and "PytorchStreamReader" not in str(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WeightsError(
                f"a weights file of {source} is damaged or cut off ({reason}); fetch it again"
            ) from error
        model, info = loaded
        check_keys(
            source,
            missing=info["missing_keys"],
            unexpected=info["unexpected_keys"],
            mismatched=[] if lenient else info["mismatched_keys"],
        )
        model.generation_config = with_stop_tokens(model, source)
        return (model, info) if wants_info else model

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.output

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.output = new_embeddings

    def get_image_features(self, pixel_values: torch.Tensor, image_grids: torch.Tensor, **kwargs: Any) -> ImageFeatures:
        """See ``IxcModel.get_image_features``."""
        return self.model.get_image_features(pixel_values, image_grids, **kwargs)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        *,
        pixel_values: torch.Tensor | None = None,
        image_grids: torch.Tensor | None = None,
        mm_token_type_ids: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        image_spans: Spans | None = None,
        image_count: int | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Any = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Reads a batch of conversations.

        Args:
            input_ids: (B, T) long, ``config.image_token_id`` at every image token; or ``inputs_embeds`` (B, T, W).
            pixel_values: (sum of h*w, 3, S, S) uint8 tiles of all images of the batch, in order of appearance.
            image_grids: (images, 2) long, rows and columns of tiles.
            mm_token_type_ids: (B, T), 1 at image tokens; required with ``inputs_embeds``.
            mm_encoder_outputs: {"image": ImageFeatures} made before, instead of ``pixel_values``.
            image_spans: (start, stop) of the image tokens, the same in every row, for callers that know them on the
                host; () for text alone. Then nothing waits for the device, and ``mm_token_type_ids`` is not looked at.
            image_count: image tokens of all rows, for callers that know them on the host where rows differ: nothing
                waits for the device then either.
            attention_mask: (B, S) with 0 at padding, or (B, 1, T, S) bool or additive, taken as it is.
            position_ids: (B, T) long.
            cache: keys and values of earlier tokens; past_key_values: its name before transformers 5.24. Either name is
                taken, on every release.
            labels: (B, T) long, not shifted; ``IGNORED`` where nothing is learned.
            logits_to_keep: an int n for the last n positions (0: all), or a (P,) long of positions. In training take
                1: the loss is computed at the labelled positions only, whatever is kept.
            num_items_in_batch: labels in the whole accumulated batch; then the loss is the sum over this number.

        Returns:
            ``logits`` (B, P, V) float32, ``loss`` (mean cross entropy, float32, over the labels that are not
            ``IGNORED``), keys and values (``cache``, before 5.24 ``past_key_values``), and hidden states on request.

        Raises:
            UsageError: placeholders and image tokens differ in number; embeddings without ``mm_token_type_ids``; a
                cache given twice, or under a name that is not read.
            DataError: labels were given and none is learned from.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            image_grids=image_grids,
            mm_token_type_ids=mm_token_type_ids,
            mm_encoder_outputs=mm_encoder_outputs,
            image_spans=image_spans,
            image_count=image_count,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **{CACHE_NAME: one_cache(cache, past_key_values, kwargs)},
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        logits = linear(self.output, _kept(hidden, logits_to_keep)).float()
        result = CausalLMOutputWithPast(
            loss=None if labels is None else self._loss(hidden, labels, num_items_in_batch),
            logits=logits,
            **{CACHE_NAME: cache_of(outputs)},
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        return result.to_tuple() if return_dict is False else result

    def _loss(self, hidden: torch.Tensor, labels: torch.Tensor, num_items: torch.Tensor | int | None) -> torch.Tensor:
        """Cross entropy of every label with the position before it; logits are made at those positions only."""
        targets = labels[:, 1:].to(hidden.device)
        learned = targets != IGNORED
        if not bool(learned.any()):
            raise DataError(
                f"none of the {labels.numel()} labels of the batch is learned from (all are {IGNORED}); "
                "was the answer cut off? lower hd or raise the maximal length"
            )
        logits = self.output(hidden[:, :-1][learned]).float()  # (labels, V)
        if num_items is None:
            return F.cross_entropy(logits, targets[learned])
        return F.cross_entropy(logits, targets[learned], reduction="sum") / num_items


def _check_places(places: int, images: list[torch.Tensor]) -> None:
    """As many placeholders as image tokens."""
    tokens = [len(image) for image in images]
    if places != sum(tokens):
        raise UsageError(
            f"the prompt has {places} image tokens but the images give {sum(tokens)} ({', '.join(map(str, tokens))}); "
            "one placeholder a token is needed"
        )


def _refuse_placeholders(image_mask: ImagePositions) -> None:
    """Placeholders without images would be read as words."""
    if isinstance(image_mask, tuple):
        image_mask = torch.tensor([last - first for first, last in image_mask])
    if image_mask is None or torch.compiler.is_compiling() or image_mask.is_meta or not bool(image_mask.any()):
        return
    raise UsageError(
        f"the prompt has {int(image_mask.sum())} image tokens but no images came; pass pixel_values and image_grids "
        "(prefill_chunk_size with images needs transformers 5.20 or newer)"
    )


def _kept(hidden: torch.Tensor, keep: int | torch.Tensor) -> torch.Tensor:
    """The positions whose logits are wanted. (B, T, W) -> (B, P, W)"""
    if isinstance(keep, torch.Tensor):
        return hidden[:, keep]
    return hidden[:, -keep:] if keep else hidden
