"""Parameter groups: which parameter is trained at which learning rate; and the model without its memory.

    learning rate of a group = peak * lr_scale of its part * decay^(L + 1 - depth)    (last factor: vision tower only)

Depth in the vision tower is 0 for the embeddings and the norm behind them and i + 1 for block i, so the last of L = 24
blocks has 0.9 of the peak and the embeddings have 0.9^25 (the counting of BEiT, arXiv 2106.08254; the paper says only
"0.90").
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ixc.errors import MissingPackageError, UsageError
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.train.config import Adapter, Part, TrainConfig, TrainedPart

PART_PATTERNS: tuple[tuple[str, Part], ...] = (
    (r"\.lora_[AB]\.", "LoRA"),
    (r"\.Plora_[AB]\.", "PLoRA"),
    (r"plora_(glb|sub)_GN$", "newline and separator"),
    (r"vision_tower\.", "vision tower"),
    (r"vision_proj\.", "projector"),
    (r"model\.merge\.", "merge"),
    (r"tok_embeddings\.", "embeddings"),
    (r"language_model\.", "LLM"),
    (r"output\.weight$", "head"),
)
"""Pattern in a parameter's name -> its part; the first match counts."""

_VISION_BLOCK = re.compile(r"vision_tower\.encoder\.layers\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class ParamGroup:
    """Parameters with one learning rate and one weight decay."""

    name: str
    """Part, depth in the vision tower, and `vectors` where there is no weight decay."""
    part: Part
    """Part of the model."""
    lr_scale: float
    """Learning rate as a multiple of the run's."""
    learning_rate: float
    """Peak learning rate."""
    weight_decay: float
    """AdamW's weight decay; 0 for vectors."""
    parameters: tuple[nn.Parameter, ...]
    """The parameters."""

    @property
    def num_weights(self) -> int:
        """Number of weights in the group."""
        return sum(parameter.numel() for parameter in self.parameters)

    def for_optimizer(self) -> dict[str, Any]:
        """Return the group as torch's optimisers take it; `lr_scale` stays in it for the schedule."""
        return {
            "params": list(self.parameters),
            "lr": self.learning_rate,
            "weight_decay": self.weight_decay,
            "lr_scale": self.lr_scale,
            "name": self.name,
        }


def part_of(name: str) -> Part:
    """Return the part a parameter belongs to, by its name with or without PEFT's prefixes.

    Raises:
        UsageError: the name belongs to no part of this model.
    """
    for pattern, part in PART_PATTERNS:
        if re.search(pattern, name):
            return part
    raise UsageError(f"parameter {name} belongs to no part of this model; add it to param_groups.PART_PATTERNS")


def freeze(model: nn.Module, config: TrainConfig) -> None:
    """Enable gradients for the trained parts and disable them for all others."""
    trained = {one.part for one in config.trained}
    for name, parameter in model.named_parameters():
        # A quantised matrix holds bytes, for which autograd has no gradient.
        parameter.requires_grad_(part_of(name) in trained and parameter.is_floating_point())


def param_groups(model: nn.Module, config: TrainConfig) -> list[ParamGroup]:
    """Return the parameter groups of a frozen model, in the order of its parameters.

    Raises:
        UsageError: a part that is to be trained has no parameter in this model.
    """
    trained = {one.part: one for one in config.trained}
    num_blocks = config.model.vision_config.num_hidden_layers
    by_key: dict[tuple[Part, str, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        rule = trained.get(part_of(name))
        if rule is None or not parameter.requires_grad:
            continue
        label, scale = _label_and_scale(name, rule, num_blocks)
        by_key.setdefault((rule.part, label, scale, _is_vector(parameter)), []).append(parameter)
    groups = [_group(config, *key, parameters) for key, parameters in by_key.items()]
    empty = sorted(set(trained) - {group.part for group in groups})
    if empty:
        raise UsageError(f"{', '.join(empty)} shall learn and has 0 parameters with gradients; call freeze() first")
    return groups


def _label_and_scale(name: str, rule: TrainedPart, num_blocks: int) -> tuple[str, float]:
    """Return a group's name and its learning-rate scale, with layer-wise decay in the vision tower."""
    if rule.layer_decay is None:
        return rule.part, rule.lr_scale
    block = _VISION_BLOCK.search(name)
    depth = int(block.group(1)) + 1 if block else 0
    label = f"{rule.part}, block {depth - 1}" if block else f"{rule.part}, embeddings"
    return label, rule.lr_scale * rule.layer_decay ** (num_blocks + 1 - depth)


def _is_vector(parameter: nn.Parameter) -> bool:
    """True for norms, biases, the class token, newline and separator, which have no weight decay."""
    return parameter.numel() == max(parameter.shape, default=1)


def _group(
    config: TrainConfig, part: Part, label: str, scale: float, vectors: bool, parameters: Iterable[nn.Parameter]
) -> ParamGroup:
    return ParamGroup(
        name=f"{label}, vectors" if vectors else label,
        part=part,
        lr_scale=scale,
        learning_rate=config.learning_rate * scale,
        weight_decay=0.0 if vectors else config.weight_decay,
        parameters=tuple(parameters),
    )


def count_weights(model: nn.Module) -> dict[Part, tuple[int, int]]:
    """Return part -> (trained weights, all weights)."""
    counts: dict[Part, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        part = part_of(name)
        trained, total = counts.get(part, (0, 0))
        size = parameter.numel()
        counts[part] = (trained + size * parameter.requires_grad, total + size)
    return counts


def add_adapter(model: nn.Module, adapter: Adapter) -> nn.Module:
    """Wrap a model with LoRA through PEFT.

    Raises:
        UsageError: PEFT is missing.
    """
    peft = import_peft()
    lora_config = peft.LoraConfig(
        r=adapter.r, lora_alpha=adapter.alpha, lora_dropout=adapter.dropout, target_modules=adapter.target_modules
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 asks transformers 5 for a deprecated name
        wrapped: Any = peft.get_peft_model(model, lora_config, low_cpu_mem_usage=_is_meta(model))
    return wrapped


def import_peft() -> Any:
    """Return the package peft, which only adapters need.

    Raises:
        UsageError: it is missing.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingPackageError("LoRA needs the package peft; install it: pip install 'ixc-4khd[train]'") from error
    return peft


def meta_model(config: TrainConfig) -> nn.Module:
    """Build the model of a run on the meta device: shapes and names without memory, frozen as the run has it."""
    with torch.device("meta"):
        model: nn.Module = IxcForConditionalGeneration(config.model)
        if config.adapter is not None:
            model = add_adapter(model, config.adapter)
    freeze(model, config)
    return model


def _is_meta(model: nn.Module) -> bool:
    return next(model.parameters()).is_meta
