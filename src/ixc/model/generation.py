"""What ``generate`` must know about this model, and nothing that it knows already.

* The placeholder is never sampled: a text position would turn into an image position.
* Beams and several returned sequences share one reading of the prompt: it is read once for each row of the batch,
  then the cache is repeated. For 8,737 image tokens and three beams that is two thirds of the work and memory saved.
* Where the image tokens are is asked once, before the prompt is read; afterwards every token is a word, which the
  reader is told without looking at the device.
* The repetition penalty of the original with images sees a dummy <s> and the answer, not the prompt (spec i).

Legend: B rows the caller gave, E copies of each (beams or returned sequences), T tokens.
"""

# GenerationMixin types its self as a protocol that no class meets on paper (its `device` is a property in models).
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList

from ixc.core.chat_format import stop_ids
from ixc.errors import UsageError
from ixc.model.base import IxcPreTrainedModel
from ixc.model.plora import clip_spans, spans_of
from ixc.model.transformers_contract import cache_in


class NeverSample(LogitsProcessor):
    """Takes one id out of every choice."""

    def __init__(self, token_id: int) -> None:
        self.token_id = token_id

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.token_id >= scores.shape[-1]:
            return scores
        return scores.index_fill(-1, torch.tensor([self.token_id], device=scores.device), -float("inf"))


class AnswerRepetitionPenalty(LogitsProcessor):
    """Repetition penalty over a start token and the answer only, as the original's image prompts have it (spec i).

    Args:
        penalty: above 1 discourages; positive scores are divided, negative ones multiplied.
        prompt_length: tokens of the prompt in ``input_ids``; 0 if the prompt came as embeddings.
        start_id: the dummy token that old transformers put before the answer (<s>).
    """

    def __init__(self, penalty: float, *, prompt_length: int, start_id: int = 1) -> None:
        if penalty <= 0:
            raise UsageError(f"repetition penalty is {penalty}; it must be above 0, and 1 is none")
        self.penalty, self.prompt_length, self.start_id = penalty, prompt_length, start_id

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        start = input_ids.new_full((input_ids.shape[0], 1), self.start_id)
        seen = torch.cat([start, input_ids[:, self.prompt_length :]], dim=1)
        found = scores.gather(1, seen)
        found = torch.where(found < 0, found * self.penalty, found / self.penalty)
        return scores.scatter(1, seen, found)


class IxcGenerative(IxcPreTrainedModel, GenerationMixin):
    """Generation with a suppressed placeholder and one shared reading of the prompt."""

    @torch.no_grad()
    def generate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, inputs: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        """As ``GenerationMixin.generate``; the placeholder of image tokens is never produced."""
        given = kwargs.pop("logits_processor", None) or []
        processors = LogitsProcessorList([*given, NeverSample(self.config.image_token_id)])
        return super().generate(inputs, logits_processor=processors, **kwargs)

    def prepare_inputs_for_generation(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input_ids: torch.Tensor, *, inputs_embeds: torch.Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """As ``GenerationMixin``'s; transformers before 5.20 leaves the image mask as long as the whole sequence."""
        prepared = super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)
        given, types = prepared.get("input_ids"), prepared.get("mm_token_type_ids")
        if given is not None and types is not None:
            prepared["mm_token_type_ids"] = types[:, -given.shape[1] :]
        if _decodes(kwargs):
            prepared["image_spans"] = ()
            prepared.pop("mm_token_type_ids", None)
        elif (spans := prepared.get("image_spans")) is not None:
            seen, length = _seen(kwargs), (given if given is not None else prepared["inputs_embeds"]).shape[1]
            prepared["image_spans"] = clip_spans(spans, seen, seen + length)
        return prepared

    def _expand_multimodal_outputs(
        self, input_ids: torch.Tensor, mm_encoder_output: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Keeps one copy: ``_prefill`` reads each prompt once, or repeats the images itself."""
        return mm_encoder_output

    def _prefill(
        self, input_ids: torch.Tensor, generation_config: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Reads every prompt once, then repeats what the beams need; on other caches every copy is read."""
        copies = max(generation_config.num_beams or 1, generation_config.num_return_sequences or 1)
        if generation_config.prefill_chunk_size is None:
            self._tell_places(input_ids, model_kwargs)
        if copies == 1:
            return super()._prefill(input_ids, generation_config, model_kwargs, *args, **kwargs)
        cache = cache_in(model_kwargs)
        # A static cache has a fixed number of rows, and a filled one may hold a row for each copy already.
        if not isinstance(cache, DynamicCache) or _rows(cache) == len(input_ids):
            _repeat_images(input_ids, model_kwargs, self.config.image_token_id, copies)
            if model_kwargs.get("image_count") is not None:
                model_kwargs["image_count"] *= copies
            return super()._prefill(input_ids, generation_config, model_kwargs, *args, **kwargs)
        once = {key: _first_copies(value, len(input_ids), copies) for key, value in model_kwargs.items()}
        outputs = super()._prefill(input_ids[::copies], generation_config, once, *args, **kwargs)
        cache.batch_repeat_interleave(copies)
        for key, value in outputs.items():
            outputs[key] = value if value is cache else _repeated(value, copies)
        return outputs

    def _tell_places(self, input_ids: torch.Tensor, model_kwargs: dict[str, Any]) -> None:
        """Puts ``image_spans`` into ``model_kwargs`` where all rows have the same, from types that came without."""
        types = model_kwargs.get("mm_token_type_ids")
        told = model_kwargs.get("image_spans") is not None or model_kwargs.get("image_count") is not None
        if not told and types is not None and input_ids.shape[1] > 0:
            model_kwargs["image_spans"] = spans_of(types.cpu())


def with_stop_tokens(model: Any, source: Any) -> GenerationConfig:
    """Return the generation config of a loaded model, with the end of a turn among its stop tokens (spec i).

    Without a generation_config.json transformers reads config.json raw: its max_length of 16384 is the length at which
    prompts are cut, and its eos_token_id lacks the end of a turn. Then one is made from the parsed configuration.

    Args:
        model: its ``generation_config`` is the one transformers made.
        source: the folder it was loaded from.
    """
    found = model.generation_config
    if found._from_model_config and not (Path(source) / "generation_config.json").is_file():
        found = GenerationConfig.from_model_config(model.config)
    found.eos_token_id = sorted(stop_ids(found.eos_token_id, model.config.text_config.eos_token_id)) or None
    return found


def _decodes(given: dict[str, Any]) -> bool:
    """True behind the reading of the prompt, where only new tokens are given."""
    if given.get("is_first_iteration", False) or not given.get("use_cache"):
        return False
    cache = cache_in(given)
    # A static cache counts on the device; behind the first iteration it always holds something, and nobody waits.
    return bool(getattr(cache, "is_compileable", False)) or _seen(given) > 0


def _seen(given: dict[str, Any]) -> int:
    cache = cache_in(given)
    return 0 if cache is None else int(cache.get_seq_length())


def _rows(cache: DynamicCache) -> int:
    """Rows a cache holds; 0 if it is empty."""
    return 0 if cache.get_seq_length() == 0 else len(cache.layers[0].keys)  # pyright: ignore[reportArgumentType]


def _first_copies(value: Any, rows: int, copies: int) -> Any:
    """Every ``copies``-th row of a tensor of the batch; other things as they are."""
    if isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape[0] == rows:
        return value[::copies]
    return value


def _repeated(value: Any, copies: int) -> Any:
    """(B, ...) -> (B * copies, ...), through tuples and lists."""
    if isinstance(value, torch.Tensor):
        return value.repeat_interleave(copies, dim=0)
    if isinstance(value, tuple | list):
        return type(value)(_repeated(part, copies) for part in value)
    return value


def _repeat_images(input_ids: torch.Tensor, model_kwargs: dict[str, Any], image_token_id: int, copies: int) -> None:
    """Repeats the image features so that every copy of a row finds its own, in order; changes ``model_kwargs``."""
    features = (model_kwargs.get("mm_encoder_outputs") or {}).get("image")
    if features is None:
        return
    types = model_kwargs.get("mm_token_type_ids")
    mask = types == 1 if types is not None else input_ids == image_token_id
    groups = images_of_rows(mask[::copies].sum(-1).tolist(), features.pooler_output)
    repeated = [image for group in groups for image in group * copies]
    model_kwargs["mm_encoder_outputs"] = {"image": type(features)(pooler_output=repeated)}


def images_of_rows(counts: Sequence[int], images: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Which images belong to which row.

    Args:
        counts: image tokens of each row.
        images: (N, W) tensors in order of appearance.

    Returns:
        For each row the images whose tokens add up to its count.

    Raises:
        UsageError: an image would lie across two rows, or one is left over.
    """
    groups, rest = [], list(images)
    for row, count in enumerate(counts):
        group: list[torch.Tensor] = []
        while rest and sum(map(len, group)) < count:
            group.append(rest.pop(0))
        if sum(map(len, group)) != count:
            raise UsageError(f"row {row} has {count} image tokens but its images give {sum(map(len, group))}")
        groups.append(group)
    if rest:
        raise UsageError(f"{len(rest)} of {len(images)} images have no place in the prompts")
    return groups
