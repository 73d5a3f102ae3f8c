"""A training run from start to end: a configuration, a model folder and data become an adapter or a model.

sources (validated) --Batches--> Trainer --every step--> OUT/log.jsonl, callbacks(StepProgress)
                                    |  every so often     OUT/step-N          checkpoints
                                    v  at the end
                     with an adapter: OUT/adapter         otherwise: OUT/model
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ixc.data.mixture import Mixture, Source, StreamPosition
from ixc.data.validation import DataProblem
from ixc.errors import UsageError
from ixc.processing.processing import IxcProcessor
from ixc.runlog.jsonl import LOG, JsonlLog
from ixc.runlog.progress import ProgressLogger, StepProgress, StepResult
from ixc.train import precision, qlora, sharded_loading
from ixc.train.adapter_files import ADAPTER_FOLDER, MODEL_FOLDER
from ixc.train.config import TrainConfig
from ixc.train.distributed import ProcessGroup, full_tensor, join_process_group, unsharded_root
from ixc.train.export import dtype_name, save_adapter, save_model, torch_version
from ixc.train.fingerprints import data_fingerprints, model_fingerprint
from ixc.train.precision import AUTO_COMPUTE, ComputeConfig
from ixc.train.setup import SEED, build_model, check_out, make_batches, total_steps
from ixc.train.trainer import Trainer, TrainerOptions

Evaluate = Callable[[nn.Module, int], Mapping[str, float]]
"""(model, step) -> scores by name: any evaluation of the model during training."""

Callback = Callable[[StepProgress], Any]
"""Called after each step at the main rank."""

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run: what is trained, from which model, into which folder, and how."""

    train: TrainConfig
    """The recipe, as `setup.config_for_model` returns it."""
    base: Path
    """Model folder it begins from."""
    out: Path
    """Folder of the run."""
    base_name: str | None = None
    """How an adapter names its base model; None: the embedded model."""
    skip_invalid: bool = False
    """Leave out the records that fail during the run, instead of ending it."""
    resume: bool = False
    """Go on from the last checkpoint in `out`."""
    save_every: int = 100
    """Steps between two checkpoints, at least 1."""
    eval_every: int | None = None
    """Steps between two evaluations, at least 1; None: as `save_every`. The last step is always evaluated."""
    device: str = "auto"
    """auto, cpu or cuda."""
    compute: ComputeConfig = AUTO_COMPUTE
    """Number format and memory."""

    def __post_init__(self) -> None:
        if self.save_every < 1:
            raise UsageError(f"save-every is {self.save_every}, at least 1 needed")
        if self.eval_every is not None and self.eval_every < 1:
            raise UsageError(f"eval_every is {self.eval_every}, at least 1 needed")


@dataclass(frozen=True, kw_only=True)
class DataUse:
    """What a run made of a source."""

    name: str
    """Name of the source."""
    records: int
    """Records of the source."""
    used: int
    """Different records trained on."""
    left_out: tuple[DataProblem, ...]
    """Records left out: by validation, then those that failed during the run."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended."""

    step: int
    """Steps done."""
    steps: int
    """Steps of the whole run."""
    folder: Path | None
    """Folder of the adapter or the model; None: stopped by SIGTERM, and a resumed run goes on."""
    is_main: bool = True
    """True at the rank that prints."""
    data: tuple[DataUse, ...] = ()
    """What the run so far made of each source."""


def run(
    config: RunConfig,
    sources: Sequence[Source],
    *,
    processor: IxcProcessor,
    callbacks: Sequence[Callback] = (),
    evaluate: Evaluate | None = None,
) -> TrainResult:
    """Train to the end, or until SIGTERM; under torchrun as one rank of many.

    Args:
        config: the run.
        sources: the data, validated.
        processor: processor of the base model.
        callbacks: called in order after each step, at the main rank.
        evaluate: called every `config.eval_every` steps at every rank, where it must do the same; its scores are
            written to the log and passed on in `StepProgress.scores`.

    Raises:
        UsageError: a folder taken, a number out of range, a device that does not exist. DataError: broken data, a full
        disk. WeightsError: the base is damaged. CapacityError: out of memory.
    """
    check_out(config.out, resume=config.resume)
    precision.check_compute(config.compute)
    with join_process_group(config.device) as group:
        return _Run(config, Mixture(sources, seed=SEED), processor, group).run(callbacks, evaluate)


class _Run:
    """One rank's part of a run; arguments as of `run`."""

    def __init__(self, config: RunConfig, mixture: Mixture, processor: IxcProcessor, group: ProcessGroup) -> None:
        self.config, self.train, self.mixture, self.processor = config, config.train, mixture, processor
        self.group, self.compute = group, config.compute.resolve(group.device)
        qlora.check_qlora(self.train.adapter, device=group.device, world_size=group.world_size)
        self.steps = total_steps(self.train, mixture)
        self.batches = make_batches(
            self.train, mixture, processor, world_size=group.world_size, skip_invalid=config.skip_invalid
        )

    def run(self, callbacks: Sequence[Callback], evaluate: Evaluate | None) -> TrainResult:
        """Train and write the result."""
        config, trainer = self.config, self._trainer()
        logger = ProgressLogger(JsonlLog(config.out / LOG), self.steps, callbacks) if self.group.is_main else None
        each_step: list[Callable[[StepResult], Any]] = [logger] if logger is not None else []
        if evaluate is not None:
            eval_every = config.save_every if config.eval_every is None else config.eval_every
            each_step = [_EvaluationCallback(trainer, evaluate, eval_every, logger)]
        outcome = trainer.run(config.out, resume=config.resume, save_every=config.save_every, callbacks=each_step)
        folder = self._export(trainer.model) if outcome.finished else None
        self.group.barrier()
        return TrainResult(
            step=outcome.step,
            steps=self.steps,
            folder=folder,
            is_main=self.group.is_main,
            data=self._data_use(trainer.position),
        )

    def _data_use(self, position: StreamPosition) -> tuple[DataUse, ...]:
        """Return what the run made of each source up to a position."""
        drawn = self.mixture.num_drawn(position)
        failed = {source.name: self._failed(source) for source in self.mixture.sources}
        return tuple(
            DataUse(
                name=source.name,
                records=len(source.records),
                used=drawn[source.name] - len(failed[source.name]),
                left_out=(*source.problems, *failed[source.name]),
            )
            for source in self.mixture.sources
        )

    def _failed(self, source: Source) -> list[DataProblem]:
        """Return the records of a source that failed during the run."""
        return [] if self.batches.skipped is None else self.batches.skipped.of(source.name)

    def _trainer(self) -> Trainer:
        # Fingerprints first: that a file was edited should not be found out only after minutes of reading weights.
        fingerprints = {
            "base": model_fingerprint(self.config.base),
            "data": data_fingerprints(self.mixture.sources),
        }
        model, load_weights = self._model()
        options = TrainerOptions(
            steps=self.steps,
            seed=SEED,
            group=self.group,
            compute=self.compute,
            fingerprints=fingerprints,
            load_weights=load_weights,
        )
        return Trainer(model, self.train, self.batches, options=options)

    def _model(self) -> tuple[nn.Module, Callable[[nn.Module], None] | None]:
        """Return the model, and if it has no weights yet the function that loads them once it is sharded."""
        train, base, group, bfloat16 = self.train, self.config.base, self.group, bool(self.compute.bfloat16)
        if group.world_size == 1:
            return build_model(train, base, group.device, bfloat16=bfloat16), None
        if not sharded_loading.can_slice(base, train.model):
            # In CPU memory, because no single GPU may be large enough for the whole model.
            return build_model(train, base, CPU, bfloat16=bfloat16), None
        model, adapter_weights = sharded_loading.empty_model(base, train.adapter, seed=SEED)
        return model, partial(
            sharded_loading.load_shards, base=base, adapter_weights=adapter_weights, device=group.device
        )

    def _export(self, model: nn.Module) -> Path:
        """Write an adapter or a model folder; done by the main rank, from the shards of all."""
        full_model = self._full_model(model)
        folder = self.config.out / (MODEL_FOLDER if self.train.adapter is None else ADAPTER_FOLDER)
        if full_model is None:
            return folder
        record = self._record(full_model)
        if self.train.adapter is not None:
            save_adapter(full_model, folder, base=self.config.base_name, record=record, replace=True)
        else:
            save_model(full_model, self.processor, folder, record=record, replace=True)
        return folder

    def _full_model(self, model: nn.Module) -> nn.Module | None:
        """Return the model with all its weights at the main rank, None at the others.

        Frozen weights that were cast to bfloat16 for the run are loaded from the base again, so that the folder has
        one number format.
        """
        cast = bool(self.compute.bfloat16) and self.train.adapter is None
        if self.group.world_size == 1 and not cast:
            return model
        full = build_model(self.train, self.config.base, CPU, bfloat16=False) if self.group.is_main else None
        parameters = {} if full is None else dict(full.named_parameters())
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                value = full_tensor(weight.detach()).cpu()
                if full is not None:
                    parameters[name].data.copy_(value)
        return full

    def _record(self, model: nn.Module) -> dict[str, Any]:
        """Return the content of training.json."""
        train, sources = self.train, self.mixture.sources
        return {
            "recipe": train.name,
            "steps": self.steps,
            "global_batch_size": train.global_batch_size,
            "learning_rate": train.learning_rate,
            "trained": [one.part for one in train.trained],
            "data": {
                one.name: {"records": one.count - len(self._failed(one)), "hd": one.hd, "dynamic": one.dynamic}
                for one in sources
            },
            "dtype": dtype_name(model),
            "world_size": self.group.world_size,
            "library": torch_version(),
        }


class _EvaluationCallback:
    """Evaluate the model after some steps, then log the step with the scores.

    Args:
        logger: logs the step at the main rank; None at the others.
    """

    def __init__(self, trainer: Trainer, evaluate: Evaluate, every: int, logger: ProgressLogger | None) -> None:
        self.trainer, self.evaluate, self.every, self.logger = trainer, evaluate, every, logger

    def __call__(self, result: StepResult) -> None:
        scores: Mapping[str, float] = {}
        if result.step % self.every == 0 or result.step == self.trainer.steps:
            model = self.trainer.model.eval()
            with torch.no_grad(), unsharded_root(self.trainer.loss_module, self.trainer.group):
                scores = self.evaluate(model, result.step)
            model.train()
        if self.logger is not None:
            self.logger(result, scores)
