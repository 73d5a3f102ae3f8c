"""What a run is set up from: checks before it, the data's HD setting, encoder, batches, number of steps, model."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path

import torch
from torch import nn

from ixc.data.batching import Batches, BatchSettings
from ixc.data.encoding import Encoder
from ixc.data.mixture import Mixture
from ixc.data.skipped_records import SkippedRecords
from ixc.errors import UsageError
from ixc.model.configuration import IxcConfig
from ixc.model.loading import load, read_config
from ixc.processing.processing import IxcProcessor
from ixc.runlog.jsonl import LOG
from ixc.train import qlora
from ixc.train.config import Resolution, TrainConfig
from ixc.train.param_groups import add_adapter
from ixc.utils.counted import counted

SEED = 0
"""Random seed of the adapter's initial weights, the order of the data and dropout."""

SUPPORTED_WEIGHT_BITS = (16, qlora.BITS)
"""Bits of frozen weights that an adapter can be trained beside."""


def check_out(out: Path, *, resume: bool) -> None:
    """Check that a run may begin in a folder, before minutes are spent on data and weights.

    Raises:
        UsageError: it is a file, or it holds something else than the log of a run that never wrote a checkpoint and
        the run is not to be resumed.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder")
    entries = (
        [path.name for path in sorted(out.iterdir()) if path.name != LOG and path.name[0] != "."]
        if out.is_dir()
        else []
    )
    if entries and not resume:
        raise UsageError(
            f"{out} holds {counted(len(entries), 'entry', 'entries')} ({entries[0]} first); add --resume or take a "
            "new folder"
        )


def config_for_model(config: TrainConfig, base: Path) -> TrainConfig:
    """Return the configuration with the model configuration of the folder that is to be trained.

    Raises:
        UsageError: the recipe is for another model, or for something this loop does not support.
    """
    model_config = read_config(base)
    expected, actual = _sizes(config.model), _sizes(model_config)
    if expected != actual:
        name = next(name for name in expected if expected[name] != actual[name])
        raise UsageError(
            f"the recipe {config.name} is for a model with {name} {expected[name]:,}, {base} has {actual[name]:,}; "
            "name another model folder with --model, or another recipe"
        )
    positions = model_config.text_config.max_position_embeddings
    if config.max_seq_length > positions:
        raise UsageError(
            f"max_seq_length is {config.max_seq_length:,} in the recipe, {base} has {positions:,} positions; lower it"
        )
    if config.adapter is not None and config.adapter.weight_bits not in SUPPORTED_WEIGHT_BITS:
        raise UsageError(
            f"the recipe {config.name} has frozen weights of {config.adapter.weight_bits} bits; "
            f"set weight_bits to one of {SUPPORTED_WEIGHT_BITS}"
        )
    return replace(config, model=model_config)


def _sizes(config: IxcConfig) -> dict[str, int]:
    text, vision = config.text_config, config.vision_config
    return {
        "width": text.hidden_size,
        "layers": text.num_hidden_layers,
        "vision width": vision.hidden_size,
        "vision layers": vision.num_hidden_layers,
    }


def select_resolution(config: TrainConfig, hd: int | None) -> Resolution:
    """Return the HD setting that a data file is read under.

    Args:
        hd: the user's choice; None: the recipe's.

    Raises:
        UsageError: the recipe has several settings and none was chosen.
    """
    if hd is None:
        if len(config.resolutions) != 1:
            names = ", ".join(f"HD-{one.hd}" for one in config.resolutions)
            example = config.resolutions[0].hd if config.resolutions else 25
            raise UsageError(
                f"the recipe {config.name} has {len(config.resolutions)} settings ({names}); "
                f"say which one this data has: --data FILE:{example}"
            )
        return config.resolutions[0]
    return next((one for one in config.resolutions if one.hd == hd), Resolution(hd=hd, dynamic=False))


def make_encoder(config: TrainConfig, processor: IxcProcessor) -> Encoder:
    """Return the encoder of a run's conversations."""
    return Encoder(processor, max_seq_length=config.max_seq_length)


def make_batches(
    config: TrainConfig,
    mixture: Mixture,
    processor: IxcProcessor,
    *,
    world_size: int = 1,
    skip_invalid: bool = False,
) -> Batches:
    """Return the optimiser steps that a run makes of its data.

    Args:
        skip_invalid: leave out the records that fail, instead of raising their error.
    """
    settings = BatchSettings(
        global_batch_size=config.global_batch_size,
        max_tokens_per_batch=config.max_tokens_per_batch,
        world_size=world_size,
    )
    skipped = SkippedRecords() if skip_invalid else None
    return Batches(mixture, make_encoder(config, processor), settings=settings, skipped=skipped)


def total_steps(config: TrainConfig, mixture: Mixture) -> int:
    """Return the number of optimiser steps: as configured, or what the epochs take, rounded up.

    A last step that the data does not fill takes the rest from the next epoch.
    """
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None  # TrainConfig holds exactly one of them
    return max(1, ceil(config.epochs * mixture.round_length / config.global_batch_size))


def build_model(config: TrainConfig, base: Path, device: torch.device, *, bfloat16: bool | None = None) -> nn.Module:
    """Load the model of a folder, with the run's adapter, onto a device.

    Trained weights are float32, because AdamW's updates are too small for bfloat16.

    Args:
        bfloat16: frozen weights in bfloat16; None: on an accelerator.
    """
    bfloat16 = device.type != "cpu" if bfloat16 is None else bfloat16
    frozen_dtype = torch.bfloat16 if bfloat16 and config.adapter is not None else torch.float32
    model: nn.Module = load(base, dtype=frozen_dtype)
    if config.adapter is not None:
        if config.adapter.weight_bits == qlora.BITS:
            qlora.quantize_targets(model, config.adapter.target_modules)
        torch.manual_seed(SEED)
        model = add_adapter(model, config.adapter)
    return nn.Module.to(model, device)
