"""Fine-tuning as a user starts it: a stage, a model folder and data become an adapter or a model.

data --check.accepted--> sources --Batches--> Finetune --every step--> OUT/log.jsonl, watch(Glance)
                                                 |  every so often     OUT/step-N          checkpoints
                                                 v  at the end
                                an adapter stage: OUT/adapter          any other: OUT/model
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ixc.data.batching import Batches, BatchSettings
from ixc.data.encoding import Encoder
from ixc.data.mixture import Mixture, Source
from ixc.errors import UsageError
from ixc.model.configuration import IxcConfig
from ixc.model.loading import load, read_config
from ixc.processing.processing import IxcProcessor
from ixc.runlog.jsonl import LOG, JsonlLog
from ixc.runlog.progress import ProgressLogger, StepProgress, StepResult
from ixc.train import precision, qlora, sharded_loading
from ixc.train.adapter_files import ADAPTER, MODEL
from ixc.train.config import Resolution, TrainConfig
from ixc.train.distributed import ProcessGroup, callable_alone, joined, whole
from ixc.train.export_adapter import dtype_of, library, write_adapter, write_model
from ixc.train.fingerprints import of_data, of_model
from ixc.train.param_groups import add_adapter
from ixc.train.precision import FOR_DEVICE, ComputeConfig
from ixc.train.trainer import Trainer

Evaluate = Callable[[nn.Module, int], Mapping[str, float]]
"""(model, step) -> scores by name: any test of the model while it learns."""

SEED = 0
"""Of the adapter's first weights, the order of the data and dropout."""

CPU = torch.device("cpu")
"""Where a model waits to be sharded, or to be written."""

FROZEN_BITS = (16, qlora.BITS)
"""Bits of frozen weights this loop trains beside."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended."""

    step: int
    """Steps done."""
    steps: int
    """Of the whole run."""
    folder: Path | None
    """What it made; None: stopped by SIGTERM, resume goes on."""
    leads: bool = True
    """False at all ranks but the one that speaks."""


def check_out(out: Path, *, resume: bool) -> None:
    """A run may begin in this folder: asked before minutes are spent on data and weights.

    Raises:
        UsageError: a file, or something else than the log of a run that never came to a checkpoint, and no resume.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder")
    found = (
        [path.name for path in sorted(out.iterdir()) if path.name != LOG and path.name[0] != "."]
        if out.is_dir()
        else []
    )
    if found and not resume:
        raise UsageError(f"{out} holds {len(found)} entries ({found[0]} first); add --resume or take a new folder")


def stage_for(stage: TrainConfig, base: Path) -> TrainConfig:
    """The stage with the sizes of the folder it shall train.

    Raises:
        UsageError: made for another model, or for what this loop cannot do.
    """
    config = read_config(base)
    wanted, found = _sizes(stage.model), _sizes(config)
    if wanted != found:
        name = next(name for name in wanted if wanted[name] != found[name])
        raise UsageError(
            f"the recipe {stage.name} is for a model with {name} {wanted[name]:,}, {base} has {found[name]:,}; "
            "name another model folder with --model, or another recipe"
        )
    positions = config.text_config.max_position_embeddings
    if stage.context > positions:
        raise UsageError(f"context is {stage.context:,} in the recipe, {base} has {positions:,} positions; lower it")
    if stage.adapter is not None and stage.adapter.weight_bits not in FROZEN_BITS:
        raise UsageError(
            f"the recipe {stage.name} has frozen weights of {stage.adapter.weight_bits} bits; "
            f"set weight_bits to one of {FROZEN_BITS}"
        )
    return replace(stage, model=config)


def _sizes(config: IxcConfig) -> dict[str, int]:
    text, vision = config.text_config, config.vision_config
    return {
        "width": text.hidden_size,
        "layers": text.num_hidden_layers,
        "vision width": vision.hidden_size,
        "vision layers": vision.num_hidden_layers,
    }


def resolution(stage: TrainConfig, hd: int | None) -> Resolution:
    """The setting data is read under.

    Args:
        hd: what the user wants; None: what the stage says.

    Raises:
        UsageError: the stage has several and none was named.
    """
    if hd is None:
        if len(stage.resolutions) > 1:
            named = ", ".join(f"HD-{one.hd}" for one in stage.resolutions)
            raise UsageError(
                f"the recipe {stage.name} has {len(stage.resolutions)} settings ({named}); "
                f"say which one this data has: --data FILE:{stage.resolutions[0].hd}"
            )
        return stage.resolutions[0]
    same = [one for one in stage.resolutions if one.hd == hd]
    return same[0] if same else Resolution(hd=hd, dynamic=False, datasets=())


def encoder(stage: TrainConfig, processor: IxcProcessor) -> Encoder:
    """The rules texts of this stage are encoded by."""
    return Encoder(processor, context=stage.context)


def batches_of(stage: TrainConfig, mixture: Mixture, processor: IxcProcessor, *, ranks: int = 1) -> Batches:
    """The steps that a stage makes of its data."""
    settings = BatchSettings(samples=stage.samples, budget=stage.budget, ranks=ranks)
    return Batches(mixture, encoder(stage, processor), settings=settings)


def steps_of(stage: TrainConfig, mixture: Mixture) -> int:
    """Optimiser steps: those of the stage, or as many as its epochs take, the last one filled from the next round."""
    if stage.steps is not None:
        return stage.steps
    assert stage.epochs is not None  # Stage holds exactly one of them
    return max(1, ceil(stage.epochs * mixture.round_length / stage.samples))


def run_training(
    stage: TrainConfig,
    sources: Sequence[Source],
    *,
    base: Path,
    processor: IxcProcessor,
    out: Path,
    base_name: str | None = None,
    resume: bool = False,
    save_every: int = 100,
    device: str = "auto",
    how: ComputeConfig = FOR_DEVICE,
    watch: Callable[[StepProgress], Any] | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int | None = None,
) -> TrainResult:
    """Trains a stage to its end, or until SIGTERM; under torchrun as one rank of many.

    Args:
        stage: as `stage_for` gives it.
        sources: the data, checked.
        base: model folder it begins from.
        processor: that of the base.
        out: folder of the run.
        base_name: how an adapter names its base; None: the embedded model.
        resume: go on with the last checkpoint in `out`.
        save_every: steps between two checkpoints.
        device: auto, cpu or cuda.
        how: number format, memory.
        watch: called after each step, at the rank that leads.
        evaluate: called now and then, at every rank, where it must do the same; what it finds stands in the log and in
            `StepProgress.scores`.
        evaluate_every: steps between two; None: as `save_every`. The last step always has one.

    Raises:
        UsageError: a folder taken, a number out of range, a device that is not there. DataError: broken data, a full
        disk. WeightsError: the base is damaged. CapacityError: too little memory.
    """
    check_out(out, resume=resume)
    if save_every < 1:
        raise UsageError(f"save-every is {save_every}, at least 1 needed")
    precision.check(how)
    with joined(device) as team:
        return _Tuning(stage, Mixture(sources, seed=SEED), base, processor, out, team, how).run(
            base_name=base_name,
            resume=resume,
            save_every=save_every,
            watch=watch,
            evaluate=evaluate,
            evaluate_every=save_every if evaluate_every is None else evaluate_every,
        )


class _Tuning:
    """One rank's part of a run; arguments as `run_training`."""

    def __init__(
        self,
        stage: TrainConfig,
        mixture: Mixture,
        base: Path,
        processor: IxcProcessor,
        out: Path,
        team: ProcessGroup,
        how: ComputeConfig,
    ) -> None:
        self.stage, self.mixture, self.base, self.processor, self.out = stage, mixture, base, processor, out
        self.team, self.how = team, how.settled(team.device)
        qlora.check(stage.adapter, device=team.device, ranks=team.ranks)
        self.steps = steps_of(stage, mixture)

    def run(
        self,
        *,
        base_name: str | None,
        resume: bool,
        save_every: int,
        watch: Callable[[StepProgress], Any] | None,
        evaluate: Evaluate | None,
        evaluate_every: int,
    ) -> TrainResult:
        """Trains and leaves the result behind."""
        loop = self._loop()
        watcher = ProgressLogger(JsonlLog(self.out / LOG), self.steps, watch) if self.team.leads else None
        if evaluate is None:
            outcome = loop.run(self.out, resume=resume, save_every=save_every, watch=watcher)
        else:
            each = _Evaluation(loop, evaluate, evaluate_every, watcher)
            outcome = loop.run(self.out, resume=resume, save_every=save_every, watch=each)
        folder = self._leave(loop.model, base_name) if outcome.finished else None
        self.team.wait()
        return TrainResult(step=outcome.step, steps=self.steps, folder=folder, leads=self.team.leads)

    def _loop(self) -> Trainer:
        """The marks are taken before the weights are read: an edited file must not cost minutes."""
        stage, team = self.stage, self.team
        batches = batches_of(stage, self.mixture, self.processor, ranks=team.ranks)
        marks = {"base": of_model(self.base), "data": of_data(self.mixture.sources)}
        model, fill = self._begun()
        return Trainer(
            model, stage, batches, steps=self.steps, seed=SEED, team=team, how=self.how, marks=marks, fill=fill
        )

    def _begun(self) -> tuple[nn.Module, Callable[[nn.Module], None] | None]:
        """The model, and what gives it its weights after it is sharded, where it has none yet."""
        stage, team, half = self.stage, self.team, bool(self.how.bfloat16)
        if team.ranks == 1:
            return build(stage, self.base, team.device, half=half), None
        if not sharded_loading.can_slice(self.base, stage.model):
            return build(stage, self.base, CPU, half=half), None  # no GPU need ever hold the whole
        model, drawn = sharded_loading.bare(self.base, stage.adapter, seed=SEED)
        return model, partial(sharded_loading.fill, base=self.base, drawn=drawn, device=team.device)

    def _leave(self, model: nn.Module, base_name: str | None) -> Path:
        """An adapter, or a model folder; written by the rank that leads, from the shards of all."""
        complete = self._complete(model)
        folder = self.out / (MODEL if self.stage.adapter is None else ADAPTER)
        if complete is None:
            return folder
        record = self._record(complete)
        if self.stage.adapter is not None:
            write_adapter(complete, folder, base=base_name, record=record, replace=True)
        else:
            write_model(complete, self.processor, folder, record=record, replace=True)
        return folder

    def _complete(self, model: nn.Module) -> nn.Module | None:
        """The model with all its weights, at the rank that leads; None at the others.

        Frozen weights kept in bfloat16 for the run are taken from the base again: the folder has one number format.
        """
        halved = bool(self.how.bfloat16) and self.stage.adapter is None
        if self.team.ranks == 1 and not halved:
            return model
        made = build(self.stage, self.base, CPU, half=False) if self.team.leads else None
        mine = {} if made is None else dict(made.named_parameters())
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                value = whole(weight.detach()).cpu()
                if made is not None:
                    mine[name].data.copy_(value)
        return made

    def _record(self, model: nn.Module) -> dict[str, Any]:
        """What training.json tells."""
        stage, sources = self.stage, self.mixture.sources
        return {
            "stage": stage.name,
            "steps": self.steps,
            "samples": stage.samples,
            "peak_rate": stage.peak_rate,
            "trained": [one.part for one in stage.trained],
            "data": {one.name: {"records": one.count, "hd": one.hd, "dynamic": one.dynamic} for one in sources},
            "dtype": dtype_of(model),
            "ranks": self.team.ranks,
            "library": library(),
        }


def build(stage: TrainConfig, base: Path, where: torch.device, *, half: bool | None = None) -> nn.Module:
    """The model of a folder, with the stage's adapter, on a device.

    What learns is float32, for AdamW's small steps.

    Args:
        half: frozen weights in bfloat16; None: on an accelerator.
    """
    half = where.type != "cpu" if half is None else half
    model: nn.Module = load(base, dtype=torch.bfloat16 if half and stage.adapter is not None else torch.float32)
    if stage.adapter is not None:
        if stage.adapter.weight_bits == qlora.BITS:
            qlora.quantise(model, stage.adapter.targets)
        torch.manual_seed(SEED)
        model = add_adapter(model, stage.adapter)
    return model.to(where)


class _Evaluation:
    """Between the loop and the watcher: the model is put to the test behind some steps."""

    def __init__(self, loop: Trainer, evaluate: Evaluate, every: int, watcher: ProgressLogger | None) -> None:
        if every < 1:
            raise UsageError(f"evaluate_every is {every}, at least 1 needed")
        self.loop, self.evaluate, self.every, self.watcher = loop, evaluate, every, watcher

    def __call__(self, done: StepResult) -> None:
        scores: Mapping[str, float] = {}
        if done.step % self.every == 0 or done.step == self.loop.steps:
            model = self.loop.model.eval()
            with torch.no_grad(), callable_alone(self.loop.learner, self.loop.team):
                scores = self.evaluate(model, done.step)
            model.train()
        if self.watcher is not None:
            self.watcher(done, scores)
