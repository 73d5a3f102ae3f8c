"""The training loop over the steps of `data.batching`, on one device or as one rank of many.

    position --Batches.step--> own packs --LossModule--> share of the step's mean loss --> clip, schedule, AdamW

Dropout is seeded by (seed, step, rank) and the data follows from the position, so a run that is stopped and resumed
ends with the weights of one that never stopped. On SIGTERM at any rank the step is finished, all ranks write a
checkpoint, and the loop returns.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ixc.data.batching import Batches, Pack, StepBatch
from ixc.data.mixture import StreamPosition
from ixc.data.records import RecordError
from ixc.errors import CapacityError, DataError, UsageError
from ixc.runlog.progress import StepResult
from ixc.train import checkpoint, optimizer_state, precision
from ixc.train.config import TrainConfig
from ixc.train.distributed import ProcessGroup, clip_grad_norm, shard
from ixc.train.loss import LossModule
from ixc.train.param_groups import freeze, param_groups
from ixc.train.precision import AUTO_COMPUTE, ComputeConfig

log = logging.getLogger(__name__)

KEPT_BYTES = 2 << 30
"""Most bytes of decoded packs kept from the search for records that fail; further packs are decoded again."""

SKIP_REMEDY = "mend it, or leave it out with --skip-invalid; the same command with --resume goes on"
"""What to do about a record that fails during a run."""


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """What a trainer needs besides model, configuration and data."""

    steps: int
    """Optimiser steps of the whole run, at least 1."""
    seed: int = 0
    """Random seed of dropout."""
    group: ProcessGroup | None = None
    """The ranks that train together; None: this process alone, on the model's device."""
    compute: ComputeConfig = AUTO_COMPUTE
    """Number format and memory."""
    fingerprints: Mapping[str, Any] = field(default_factory=dict)
    """What the run began with (`fingerprints`); saved with every checkpoint, and resuming with others is refused."""
    load_weights: Callable[[nn.Module], None] | None = None
    """Loads the weights of a model on the meta device after it is sharded."""


@dataclass(frozen=True, kw_only=True)
class TrainOutcome:
    """How the loop ended."""

    step: int
    """Steps done."""
    finished: bool
    """False: stopped by SIGTERM; a resumed run goes on."""


class Trainer:
    """A model, its configuration and its data.

    Args:
        model: with its adapter, if the configuration has one (`param_groups.add_adapter`); on its device, or on any
            device if it will be sharded.
        config: the run.
        batches: the data.
        options: everything else.

    Raises:
        UsageError: data for another number of ranks; a part to be trained that the model lacks.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, batches: Batches, *, options: TrainerOptions) -> None:
        group = options.group or ProcessGroup(device=next(model.parameters()).device)
        if batches.settings.world_size != group.world_size:
            raise UsageError(
                f"the data is shared out for {batches.settings.world_size} ranks, this loop has {group.world_size}; "
                f"set world_size={group.world_size}"
            )
        if options.steps < 1:
            raise UsageError(f"steps is {options.steps}, at least 1 needed")
        self.model, self.config, self.batches = model, config, batches
        self.steps, self.seed, self.fingerprints = options.steps, options.seed, options.fingerprints
        self.group, self.compute = group, options.compute.resolve(group.device)
        self.loss_module = self._prepare()
        if options.load_weights is not None:
            options.load_weights(model)
        self.optimizer = precision.make_adamw(
            param_groups(model, config), betas=config.betas, eight_bit=self.compute.eight_bit
        )
        self.step, self.position = 0, StreamPosition()

    def _prepare(self) -> LossModule:
        """Freeze, cast and shard, in this order: FSDP2 shards what is trainable when it is called."""
        freeze(self.model, self.config)
        if self.compute.bfloat16:
            precision.cast_frozen_to_bfloat16(self.model)
        if self.compute.gradient_checkpointing:
            precision.enable_gradient_checkpointing(self.model)
        loss_module = LossModule(self.model, grad_to_embeddings=self.group.world_size > 1)
        shard(loss_module, self.group, bfloat16=bool(self.compute.bfloat16))
        return loss_module

    def run(
        self,
        out: Path,
        *,
        resume: bool = False,
        save_every: int = 100,
        callbacks: Sequence[Callable[[StepResult], Any]] = (),
    ) -> TrainOutcome:
        """Train up to the last step, or until SIGTERM.

        Args:
            out: folder of the checkpoints.
            resume: go on from the last checkpoint in `out`; without it a folder with checkpoints is refused.
            save_every: steps between two checkpoints; the last step always writes one.
            callbacks: called in order after each step.

        Raises:
            UsageError: checkpoints without resume, or of another run. RecordError: a record that fails, unless such
            records are skipped; a single process writes a checkpoint first. DataError: other broken data, a loss that
            is NaN or infinite. CapacityError: out of memory.
        """
        self._start(out, resume)
        self.loss_module.train()
        with _sigterm_received() as signals:
            while self.step < self.steps:
                try:
                    result = self.one_step()
                except RecordError as error:
                    if self.step and self.group.world_size == 1:
                        self._save(out)
                    raise RecordError(error.kind, error.where, f"{error.message}; {SKIP_REMEDY}") from error
                for callback in callbacks:
                    callback(result)
                # Every rank must know of a stop before one of them writes a checkpoint.
                stop = self.group.all_reduce_sum(len(signals))[0] > 0
                if stop or self.step % save_every == 0 or self.step == self.steps:
                    self._save(out)
                if stop:
                    break
        return TrainOutcome(step=self.step, finished=self.step == self.steps)

    def one_step(self) -> StepResult:
        """Run the next optimiser step."""
        batch, decoded = self._next_batch()
        torch.manual_seed((self.seed + 7_919 * self.group.rank) * 1_000_003 + self.step)
        own_loss = sum(
            self._backward(number, batch, decoded.pop(number, None)) for number in range(self._passes(batch))
        )
        (loss,) = self.group.all_reduce_sum(own_loss)
        if not loss < float("inf"):  # also false for NaN
            raise DataError(
                f"the loss of step {self.step + 1} is {loss}; lower learning_rate ({self.config.learning_rate:g} now)"
            )
        grad_norm = clip_grad_norm(self.model, self.config.max_grad_norm)
        learning_rate = self.config.learning_rate_at(self.step, total_steps=self.steps)
        for group in self.optimizer.param_groups:
            precision.set_learning_rate(group, learning_rate)
        self._update()
        self.step, self.position = self.step + 1, batch.position
        return StepResult(
            step=self.step,
            loss=loss,
            grad_norm=grad_norm,
            learning_rate=learning_rate,
            tokens=batch.tokens,
            labels=batch.num_labels,
            samples=self._samples(batch),
        )

    def _passes(self, batch: StepBatch) -> int:
        """Return the number of packs of this rank, which is that of every rank."""
        return len(batch.packs[self.group.rank])

    def _next_batch(self) -> tuple[StepBatch, dict[int, Mapping[str, Tensor]]]:
        """Plan the next step, on request without the records that fail.

        Records fail when they are planned or decoded. Every rank decodes its packs before anyone computes, all ranks
        exchange what failed, and the step is planned again until nothing new fails: then all have the same plan.

        Returns:
            The step, and pack number -> tensors of the packs that were decoded and kept, at most `KEPT_BYTES`.
        """
        skipped = self.batches.skipped
        if skipped is None:
            return self.batches.step(self.position), {}
        while True:
            known = len(skipped)
            batch = self.batches.step(self.position)
            decoded = self._decode(batch.packs[self.group.rank])
            found = skipped.entries(start=known)
            if not self.group.all_reduce_sum(len(found))[0]:
                return batch, decoded
            for entries in self.group.all_gather(found):
                skipped.update(entries)
            if self.group.is_main:
                for _, _, where, _, message in skipped.entries(start=known):
                    log.warning("%s: %s; left out", where, message)

    def _decode(self, packs: Sequence[Pack]) -> dict[int, Mapping[str, Tensor]]:
        """Decode packs so that every record that fails is known; return those to keep."""
        kept: dict[int, Mapping[str, Tensor]] = {}
        size = 0
        for number, pack in enumerate(packs):
            tensors = self.batches.try_tensors(pack)
            size += sum(value.nbytes for value in (tensors or {}).values())
            if tensors is not None and size <= KEPT_BYTES:
                kept[number] = tensors
        return kept

    def _samples(self, batch: StepBatch) -> tuple[tuple[int, int], ...]:
        """Return (number of the source, number of the record) of every conversation of a step, sorted."""
        numbers = {source.name: number for number, source in enumerate(self.batches.mixture.sources)}
        sampled = [one.sampled for packs in batch.packs for pack in packs for one in pack]
        return tuple(sorted((numbers[one.source.name], one.index) for one in sampled))

    def _backward(self, number: int, batch: StepBatch, decoded: Mapping[str, Tensor] | None) -> float:
        """Accumulate the gradients of one pack of this rank; return its share of the step's mean loss.

        Args:
            decoded: its tensors; None: they are made now.
        """
        pack, world_size = batch.packs[self.group.rank][number], self.group.world_size
        images_elsewhere = world_size > 1 and any(one.text.tiles for packs in batch.packs for one in packs[number])
        with _out_of_memory_as(lambda: self._pack_too_large(pack)):
            on_cpu = self.batches.tensors(pack) if decoded is None else decoded
            tensors = {name: value.to(self.group.device) for name, value in on_cpu.items()}
            with precision.autocast(self.group.device, bfloat16=bool(self.compute.bfloat16) and world_size == 1):
                loss = self.loss_module(tensors, divisor=batch.num_labels, images_elsewhere=images_elsewhere)
            # Without gradient: only the projector is trained and the pack has no images.
            if loss.requires_grad:
                (loss * world_size).backward()  # FSDP2 divides the sum of gradients by the number of ranks
        return float(loss.detach())

    def _update(self) -> None:
        context = precision.optimizer_step_context(self.group.device, eight_bit=self.compute.eight_bit)
        with _out_of_memory_as(self._moments_too_large), context:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _pack_too_large(self, pack: Pack) -> str:
        tokens, tiles = sum(one.text.tokens for one in pack), sum(one.text.tiles for one in pack)
        remedies = [
            f"lower max_tokens_per_batch ({self.batches.settings.max_tokens_per_batch:,} now)",
            f"the hd of its source ({pack[0].sampled.source.hd} now)",
        ]
        if not self.compute.gradient_checkpointing:
            remedies.append("take --gradient-checkpointing")
        return (
            f"step {self.step + 1}: a pack of {len(pack)} conversations ({pack[0].sampled.record.where} first) with "
            f"{tokens:,} tokens and {tiles:,} tiles does not fit the memory of {self.group.device}; "
            f"{', or '.join(remedies)}"
        )

    def _moments_too_large(self) -> str:
        count = sum(weight.numel() for weight in self._trained().values())
        remedy = "take more devices" if self.compute.eight_bit else "take --8-bit-optimizer or more devices"
        return (
            f"step {self.step + 1}: the moments of {count:,} weights that learn do not fit the memory of "
            f"{self.group.device} ({self.group.world_size} share them); {remedy}"
        )

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _settings(self) -> dict[str, Any]:
        """What must not change between a checkpoint and its resumption; the number of ranks may."""
        mixture = self.batches.mixture
        return {
            "recipe": self.config.name,
            "steps": self.steps,
            "seed": [self.seed, mixture.seed],
            "global_batch_size": self.batches.settings.global_batch_size,
            "sources": {source.name: [source.count, source.weight, source.hd] for source in mixture.sources},
            **self.fingerprints,
        }

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def _save(self, out: Path) -> None:
        progress: dict[str, Any] = {
            "step": self.step,
            "position": asdict(self.position),
            "settings": self._settings(),
        }
        if self.batches.skipped:
            progress["skipped"] = self.batches.skipped.entries()
        tensors = optimizer_state.state_tensors(self._trained(), self.optimizer, group=self.group)
        checkpoint.save(tensors, progress, out, group=self.group)
        if self.group.is_main:
            checkpoint.prune(out)

    def _start(self, out: Path, resume: bool) -> None:
        """Restore the last checkpoint, if there is one and the run is to be resumed."""
        if not resume:
            if checkpoint.folders_in(out):
                raise UsageError(f"{out} holds checkpoints of an earlier run; resume, or take a new folder")
            self.group.barrier()  # all ranks have looked before one of them writes into the folder
            return
        last = checkpoint.latest(out, group=self.group)
        if last is None:
            return
        self._check_same_run(last.progress["settings"], out)
        trained = self._trained()
        if not optimizer_state.matches(last, trained):
            raise UsageError(_another_run(out, ["parts that learn"]))
        tensors = optimizer_state.empty_state(last, trained, group=self.group)
        checkpoint.read_into(tensors, last.folder, group=self.group)
        optimizer_state.restore(tensors, trained, self.optimizer, group=self.group)
        self.step, self.position = last.progress["step"], StreamPosition(**last.progress["position"])
        if self.batches.skipped is not None:
            self.batches.skipped.update(last.progress.get("skipped", []))

    def _check_same_run(self, saved: Mapping[str, Any], out: Path) -> None:
        current = self._settings()
        if saved.get("base") != current.get("base"):
            raise UsageError(
                f"the checkpoints in {out} were begun with other weights than this base model; name theirs with "
                "--model, or take a new folder"
            )
        before, now = saved.get("data", {}), current.get("data", {})
        edited = [name for name in now if name in before and before[name] != now[name]]
        if edited:
            raise UsageError(
                f"{', '.join(edited)} was edited since the run in {out} began, so samples would be lost or repeated; "
                "restore it, or take a new folder"
            )
        different = [key for key, value in current.items() if saved.get(key) != value]
        if different:
            raise UsageError(_another_run(out, different))


def _another_run(out: Path, different: list[str]) -> str:
    return f"the checkpoints in {out} are of another run (different: {', '.join(different)}); take a new folder"


@contextmanager
def _out_of_memory_as(message: Callable[[], str]) -> Iterator[None]:
    """Turn an out-of-memory error of the device or the machine into a `CapacityError` of one line."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise CapacityError(message()) from error
    except RuntimeError as error:
        # torch 2.13 raises a plain RuntimeError if its CPU allocator fails.
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise CapacityError(message()) from error


@contextmanager
def _sigterm_received() -> Iterator[list[int]]:
    """Yield a list that gets an entry for every SIGTERM; the signal does not end the process meanwhile."""
    signals: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    try:
        yield signals
    finally:
        signal.signal(signal.SIGTERM, previous)
