"""Which parameter learns at which rate: parameter groups of a stage, and the model of a stage without its memory.

    rate of a group = peak * scale of its part * decay^(L + 1 - depth)        the last factor in the vision tower only

Depth in the tower: 0 for the embeddings and the norm behind them, i + 1 for block i, so the last of L = 24 blocks has
0.9 of the peak and the embeddings 0.9^25 (the counting of BEiT, arXiv 2106.08254; the paper says only "0.90").
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ixc.errors import UsageError
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.train.config import Adapter, Part, TrainConfig, Trained

PARTS: tuple[tuple[str, Part], ...] = (
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
"""Pattern in a parameter's name -> its part; the first that is found counts."""

_BLOCK = re.compile(r"vision_tower\.encoder\.layers\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters of one rate."""

    name: str
    """Part, depth in the tower, and `vectors` where there is no weight decay."""
    part: Part
    """Its part."""
    scale: float
    """Rate as a part of the peak."""
    rate: float
    """Peak rate."""
    weight_decay: float
    """0 for vectors."""
    parameters: tuple[nn.Parameter, ...]
    """The parameters themselves."""

    @property
    def numbers(self) -> int:
        """Weights in it."""
        return sum(parameter.numel() for parameter in self.parameters)

    def for_optimizer(self) -> dict[str, Any]:
        """As torch's optimisers take it; `scale` stays with it for the schedule."""
        return {
            "params": list(self.parameters),
            "lr": self.rate,
            "weight_decay": self.weight_decay,
            "scale": self.scale,
            "name": self.name,
        }


def part_of(name: str) -> Part:
    """The part a parameter belongs to, by its name, with or without PEFT's prefixes.

    Raises:
        UsageError: a name that is none of this model's.
    """
    part = next((part for pattern, part in PARTS if re.search(pattern, name)), None)
    if part is None:
        raise UsageError(f"parameter {name} belongs to no part of this model; add it to groups.PARTS")
    return part


def freeze(model: nn.Module, stage: TrainConfig) -> None:
    """Gradients for the parts that learn, none for the others."""
    learning = {one.part for one in stage.trained}
    for name, parameter in model.named_parameters():
        # A quantised matrix holds bytes and can have no gradient.
        parameter.requires_grad_(part_of(name) in learning and parameter.is_floating_point())


def groups(model: nn.Module, stage: TrainConfig) -> list[Group]:
    """Parameter groups, in the order of the model.

    Raises:
        UsageError: a part that is to learn and has no parameter in this model.
    """
    rules = {one.part: one for one in stage.trained}
    blocks = stage.model.vision_config.num_hidden_layers
    found: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        rule = rules.get(part_of(name))
        if rule is None or not parameter.requires_grad:
            continue
        label, scale = _place(name, rule, blocks)
        found.setdefault((label, scale, _is_vector(parameter)), []).append(parameter)
    made = [_group(stage, *key, parameters) for key, parameters in found.items()]
    empty = sorted(set(rules) - {group.part for group in made})
    if empty:
        raise UsageError(f"{', '.join(empty)} shall learn and has 0 parameters with gradients; call freeze() first")
    return made


def _place(name: str, rule: Trained, blocks: int) -> tuple[str, float]:
    """Name of the group, and its scale."""
    if rule.layer_decay is None:
        return rule.part, rule.scale
    block = _BLOCK.search(name)
    depth = int(block.group(1)) + 1 if block else 0
    label = f"{rule.part}, block {depth - 1}" if block else f"{rule.part}, embeddings"
    return label, rule.scale * rule.layer_decay ** (blocks + 1 - depth)


def _is_vector(parameter: nn.Parameter) -> bool:
    """Norms, biases, the class token, newline and separator: nothing for weight decay to shrink."""
    return parameter.numel() == max(parameter.shape, default=1)


def _group(stage: TrainConfig, label: str, scale: float, vectors: bool, parameters: Iterable[nn.Parameter]) -> Group:
    part: Any = label.partition(",")[0]
    return Group(
        name=f"{label}, vectors" if vectors else label,
        part=part,
        scale=scale,
        rate=stage.peak_rate * scale,
        weight_decay=0.0 if vectors else stage.weight_decay,
        parameters=tuple(parameters),
    )


def counts(model: nn.Module) -> dict[Part, tuple[int, int]]:
    """Part -> (weights that learn, all weights)."""
    found: dict[Part, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        part = part_of(name)
        learning, every = found.get(part, (0, 0))
        size = parameter.numel()
        found[part] = (learning + size * parameter.requires_grad, every + size)
    return found


def add_adapter(model: nn.Module, adapter: Adapter) -> nn.Module:
    """LoRA through PEFT.

    Raises:
        UsageError: PEFT is missing.
    """
    peft = import_peft()
    settings = peft.LoraConfig(
        r=adapter.r, lora_alpha=adapter.alpha, lora_dropout=adapter.dropout, target_modules=adapter.targets
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for an old name
        wrapped: Any = peft.get_peft_model(model, settings, low_cpu_mem_usage=_is_meta(model))
    return wrapped


def import_peft() -> Any:
    """The package, which only adapters need.

    Raises:
        UsageError: it is missing.
    """
    try:
        import peft
    except ImportError as error:
        raise UsageError("LoRA needs the package peft; install it: pip install 'ixc-4khd[train]'") from error
    return peft


def skeleton(stage: TrainConfig) -> nn.Module:
    """The model of a stage on the meta device: shapes and names without memory, frozen as the stage says."""
    with torch.device("meta"):
        model: nn.Module = IxcForConditionalGeneration(stage.model)
        if stage.adapter is not None:
            model = add_adapter(model, stage.adapter)
    freeze(model, stage)
    return model


def _is_meta(model: nn.Module) -> bool:
    return next(model.parameters()).is_meta
