"""Fine-tuning: the plain loop over the steps of `data.batches`, on one device or as one rank of many.

    place --Batches.step--> my packs --Learner--> share of the step's mean --> clip, rate, AdamW --> place

Dropout is drawn from (seed, step, rank) and the data from the place, so a run that is stopped and resumed ends with the
weights of one that never stopped. SIGTERM at any rank: the step is finished, all ranks write a checkpoint, the loop
returns.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ixc.data.batching import Batches, Pack, StepBatch
from ixc.data.mixture import StreamPosition
from ixc.errors import CapacityError, DataError, UsageError
from ixc.runlog.progress import StepResult
from ixc.train import checkpoint, optimizer_state, precision
from ixc.train.config import TrainConfig
from ixc.train.distributed import ProcessGroup, clip, shard
from ixc.train.loss import Learner
from ixc.train.param_groups import freeze, groups
from ixc.train.precision import FOR_DEVICE, ComputeConfig


@dataclass(frozen=True, kw_only=True)
class TrainOutcome:
    """How a run ended."""

    step: int
    """Steps done."""
    finished: bool
    """False: stopped by SIGTERM; resume goes on."""


class Trainer:
    """A model, its stage and its data.

    Args:
        model: with its adapter, if the stage has one (`groups.add_adapter`), on its device; on any where it is sharded.
        steps: optimiser steps of the whole run.
        seed: of dropout.
        team: the ranks that train together; None: this process alone.
        how: number format, memory.
        marks: what the run began with (`fingerprints`), kept with every checkpoint; another at resume is refused.
        fill: gives a model on the meta device its weights, once it is sharded.

    Raises:
        UsageError: data for another number of ranks; a part that shall learn and is not there.
    """

    def __init__(
        self,
        model: nn.Module,
        stage: TrainConfig,
        batches: Batches,
        *,
        steps: int,
        seed: int = 0,
        team: ProcessGroup | None = None,
        how: ComputeConfig = FOR_DEVICE,
        marks: Mapping[str, Any] | None = None,
        fill: Callable[[nn.Module], None] | None = None,
    ) -> None:
        team = team or ProcessGroup(device=next(model.parameters()).device)
        if batches.settings.ranks != team.ranks:
            raise UsageError(
                f"the data is shared out for {batches.settings.ranks} ranks, this loop has {team.ranks}; "
                f"set ranks={team.ranks}"
            )
        if steps < 1:
            raise UsageError(f"steps is {steps}, at least 1 needed")
        self.model, self.stage, self.batches, self.steps, self.seed = model, stage, batches, steps, seed
        self.team, self.marks, self.how = team, marks or {}, how.settled(team.device)
        self.learner = self._prepared()
        if fill is not None:
            fill(model)
        self.optimizer = precision.adamw(groups(model, stage), betas=stage.betas, eight_bit=how.eight_bit)
        self.step, self.place = 0, StreamPosition()

    def _prepared(self) -> Learner:
        """Frozen, in its number format, sharded: in this order, since shards are cut for what learns."""
        freeze(self.model, self.stage)
        if self.how.bfloat16:
            precision.halve_frozen(self.model)
        if self.how.gradient_checkpointing:
            precision.gradient_checkpointing(self.model)
        learner = Learner(self.model, anchored=self.team.ranks > 1)
        shard(learner, self.team, half=bool(self.how.bfloat16))
        return learner

    def run(
        self,
        out: Path,
        *,
        resume: bool = False,
        save_every: int = 100,
        watch: Callable[[StepResult], Any] | None = None,
    ) -> TrainOutcome:
        """Trains up to the last step, or until SIGTERM.

        Args:
            out: folder of the checkpoints.
            resume: go on with what lies there; without it a folder with checkpoints is refused.
            save_every: steps between two checkpoints; the last step always writes one.
            watch: called after each step.

        Raises:
            UsageError: checkpoints without resume, or of another run. DataError: broken data, a loss that is no
            number. CapacityError: too little memory.
        """
        self._begin(out, resume)
        self.learner.train()
        with _stop_requested() as came:
            while self.step < self.steps:
                done = self.one_step()
                if watch is not None:
                    watch(done)
                stop = self.team.sums(len(came))[0] > 0  # every rank must know before one of them writes
                if stop or self.step % save_every == 0 or self.step == self.steps:
                    self._save(out)
                if stop:
                    break
        return TrainOutcome(step=self.step, finished=self.step == self.steps)

    def one_step(self) -> StepResult:
        """The next optimiser step."""
        step = self.batches.step(self.place)
        torch.manual_seed((self.seed + 7_919 * self.team.rank) * 1_000_003 + self.step)
        mine = sum(self._backward(number, step) for number in range(len(step.packs[self.team.rank])))
        (loss,) = self.team.sums(mine)
        if not loss < float("inf"):  # NaN too
            raise DataError(
                f"the loss of step {self.step + 1} is {loss}; lower peak_rate ({self.stage.peak_rate:g} now)"
            )
        norm = clip(self.model, self.stage.clip)
        rate = self.stage.rate(self.step, steps=self.steps)
        for group in self.optimizer.param_groups:
            precision.set_rate(group, rate)
        self._update()
        self.step, self.place = self.step + 1, step.place
        return StepResult(
            step=self.step,
            loss=loss,
            norm=norm,
            rate=rate,
            tokens=step.tokens,
            labels=step.num_items,
            samples=self._samples(step),
        )

    def _samples(self, step: StepBatch) -> tuple[tuple[int, int], ...]:
        numbers = {source.name: number for number, source in enumerate(self.batches.mixture.sources)}
        every = [sample.draw for packs in step.packs for pack in packs for sample in pack]
        return tuple(sorted((numbers[draw.source.name], draw.index) for draw in every))

    def _backward(self, number: int, step: StepBatch) -> float:
        """Gradients of one pack of this rank; returns its share of the step's mean."""
        pack, ranks = step.packs[self.team.rank][number], self.team.ranks
        with_tower = ranks > 1 and any(sample.text.tiles for packs in step.packs for sample in packs[number])
        with _too_little_memory(lambda: self._too_large(pack)):
            batch = {name: value.to(self.team.device) for name, value in self.batches.tensors(pack).items()}
            with precision.computing(self.team.device, half=bool(self.how.bfloat16) and ranks == 1):
                loss = self.learner(batch, divisor=step.num_items, with_tower=with_tower)
            if loss.requires_grad:  # not where only the projector learns and a pack has no pictures
                (loss * ranks).backward()  # FSDP2 divides by the ranks again
        return float(loss.detach())

    def _update(self) -> None:
        stepping = precision.stepping(self.team.device, eight_bit=self.how.eight_bit)
        with _too_little_memory(self._no_room_for_moments), stepping:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _too_large(self, pack: Pack) -> str:
        tokens, tiles = sum(one.text.tokens for one in pack), sum(one.text.tiles for one in pack)
        remedies = [
            f"lower budget ({self.batches.settings.budget:,} now)",
            f"the hd of its source ({pack[0].draw.source.hd} now)",
        ]
        if not self.how.gradient_checkpointing:
            remedies.append("take --recompute")
        return (
            f"step {self.step + 1}: a pack of {len(pack)} conversations ({pack[0].draw.record.where} first) with "
            f"{tokens:,} tokens and {tiles:,} tiles does not fit the memory of {self.team.device}; "
            f"{', or '.join(remedies)}"
        )

    def _no_room_for_moments(self) -> str:
        learning = sum(weight.numel() for weight in self._trained().values())
        more = "take more devices" if self.how.eight_bit else "take --8-bit-optimizer or more devices"
        return (
            f"step {self.step + 1}: the moments of {learning:,} weights that learn do not fit the memory of "
            f"{self.team.device} ({self.team.ranks} share them); {more}"
        )

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _settings(self) -> dict[str, Any]:
        """What must not change between a checkpoint and its resumption; the number of ranks may."""
        mixture = self.batches.mixture
        return {
            "stage": self.stage.name,
            "steps": self.steps,
            "seed": [self.seed, mixture.seed],
            "samples": self.batches.settings.samples,
            "sources": {source.name: [source.count, source.weight, source.hd] for source in mixture.sources},
            **self.marks,
        }

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def _save(self, out: Path) -> None:
        progress = {"step": self.step, "place": asdict(self.place), "settings": self._settings()}
        checkpoint.save(
            optimizer_state.taken(self._trained(), self.optimizer, team=self.team), progress, out, team=self.team
        )
        if self.team.leads:
            checkpoint.prune(out)

    def _begin(self, out: Path, resume: bool) -> None:
        if not resume:
            if checkpoint.found(out):
                raise UsageError(f"{out} holds checkpoints of an earlier run; resume, or take a new folder")
            self.team.wait()  # before one of them writes into it
            return
        last = checkpoint.latest(out, team=self.team)
        if last is None:
            return
        self._check_same(last.progress["settings"], out)
        mine = self._trained()
        if not optimizer_state.fits(last, mine):
            raise UsageError(_other(out, ["parts that learn"]))
        tensors = optimizer_state.room_for(last, mine, team=self.team)
        checkpoint.read_into(tensors, last.folder, team=self.team)
        optimizer_state.put_back(tensors, mine, self.optimizer, team=self.team)
        self.step, self.place = last.progress["step"], StreamPosition(**last.progress["place"])

    def _check_same(self, theirs: Mapping[str, Any], out: Path) -> None:
        mine = self._settings()
        if theirs.get("base") != mine.get("base"):
            raise UsageError(
                f"the checkpoints in {out} were begun with other weights than this base model; name theirs with "
                "--model, or take a new folder"
            )
        before, now = theirs.get("data", {}), mine.get("data", {})
        edited = [name for name in now if name in before and before[name] != now[name]]
        if edited:
            raise UsageError(
                f"{', '.join(edited)} was edited since the run in {out} began, so samples would be lost or repeated; "
                "restore it, or take a new folder"
            )
        other = [key for key, value in mine.items() if theirs.get(key) != value]
        if other:
            raise UsageError(_other(out, other))


def _other(out: Path, different: list[str]) -> str:
    return f"the checkpoints in {out} are of another run (different: {', '.join(different)}); take a new folder"


@contextmanager
def _too_little_memory(said: Callable[[], str]) -> Iterator[None]:
    """Turns a device's or the machine's refusal into one line."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise CapacityError(said()) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise CapacityError(said()) from error


@contextmanager
def _stop_requested() -> Iterator[list[int]]:
    """A list that is no longer empty once SIGTERM came; the process goes on, and whoever called may end it with 0."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def merged(model: nn.Module) -> nn.Module:
    """A model with its LoRA folded in: `save_pretrained` of it writes an ordinary folder under published names.

    Raises:
        UsageError: no adapter to fold in.
    """
    fold = getattr(model, "merge_and_unload", None)
    if fold is None:
        raise UsageError(f"a {type(model).__name__} has no adapter to merge; add_adapter() comes first")
    return fold()
