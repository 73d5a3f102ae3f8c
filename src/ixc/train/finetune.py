"""Fine-tuning on one device: the plain loop over the steps of `data.batches`.

    place --Batches.step--> packs --model--> sum of losses / labels of the whole step --> clip, rate, AdamW --> place

Dropout is drawn from (seed, step) and the data from the place, so a run that is stopped and resumed ends with the
weights of one that never stopped. SIGTERM: the step is finished, a checkpoint written, and the loop returns.
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

from ixc.data.batches import Batches, Pack, Step
from ixc.data.mixture import Place
from ixc.errors import CapacityError, DataError, UsageError
from ixc.train import checkpoints
from ixc.train.checkpoints import Checkpoint
from ixc.train.groups import freeze, groups
from ixc.train.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Done:
    """One step, told to whoever watches."""

    step: int
    """Steps done, from 1."""
    loss: float
    """Mean over the labels of the step."""
    norm: float
    """Of the gradient, before it was clipped."""
    rate: float
    """Of a part of scale 1."""
    tokens: int
    """Tokens of the step."""
    labels: int
    """Those learned from."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    step: int
    """Steps done."""
    finished: bool
    """False: stopped by SIGTERM; resume goes on."""


class Finetune:
    """A model, its stage and its data.

    Args:
        model: with its adapter, if the stage has one (`groups.add_adapter`), on its device.
        steps: optimiser steps of the whole run.
        seed: of dropout.

    Raises:
        UsageError: data for more than one device; a part that shall learn and is not there.
    """

    def __init__(self, model: nn.Module, stage: Stage, batches: Batches, *, steps: int, seed: int = 0) -> None:
        if batches.settings.ranks != 1:
            raise UsageError(f"the data is shared out for {batches.settings.ranks} ranks, this loop has 1; set ranks=1")
        if steps < 1:
            raise UsageError(f"steps is {steps}, at least 1 needed")
        self.model, self.stage, self.batches, self.steps, self.seed = model, stage, batches, steps, seed
        freeze(model, stage)
        self.optimizer = torch.optim.AdamW([one.for_optimizer() for one in groups(model, stage)], betas=stage.betas)
        self.step, self.place = 0, Place()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def run(
        self, out: Path, *, resume: bool = False, save_every: int = 100, watch: Callable[[Done], Any] | None = None
    ) -> Outcome:
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
        self.model.train()
        with _stop_requested() as stopped:
            while self.step < self.steps and not stopped:
                done = self.one_step()
                if watch is not None:
                    watch(done)
                if stopped or self.step % save_every == 0 or self.step == self.steps:
                    checkpoints.save(self._checkpoint(), out)
        return Outcome(step=self.step, finished=self.step == self.steps)

    def one_step(self) -> Done:
        """The next optimiser step."""
        step = self.batches.step(self.place)
        torch.manual_seed(self.seed * 1_000_003 + self.step)
        loss = sum(self._backward(pack, step) for pack in step.packs[0])
        if not loss < float("inf"):  # NaN too
            raise DataError(
                f"the loss of step {self.step + 1} is {loss}; lower peak_rate ({self.stage.peak_rate:g} now)"
            )
        norm = nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.grad is not None], self.stage.clip)
        rate = self.stage.rate(self.step, steps=self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step, self.place = self.step + 1, step.place
        return Done(step=self.step, loss=loss, norm=float(norm), rate=rate, tokens=step.tokens, labels=step.num_items)

    def _backward(self, pack: Pack, step: Step) -> float:
        """Gradients of one pack, its share of the step's mean."""
        batch = {name: value.to(self.device) for name, value in self.batches.tensors(pack).items()}
        try:
            loss = self.model(**batch, use_cache=False, logits_to_keep=1, num_items_in_batch=step.num_items).loss
            loss.backward()
        except torch.OutOfMemoryError as error:
            tokens, tiles = sum(one.text.tokens for one in pack), sum(one.text.tiles for one in pack)
            raise CapacityError(
                f"step {self.step + 1}: a pack of {len(pack)} conversations ({pack[0].draw.record.where} first) with "
                f"{tokens:,} tokens and {tiles:,} tiles does not fit the memory of {self.device}; lower budget "
                f"({self.batches.settings.budget:,} now) or the hd of its source ({pack[0].draw.source.hd} now)"
            ) from error
        return float(loss.detach())

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _settings(self) -> dict[str, Any]:
        """What must not change between a checkpoint and its resumption."""
        mixture = self.batches.mixture
        return {
            "stage": self.stage.name,
            "steps": self.steps,
            "seed": [self.seed, mixture.seed],
            "samples": self.batches.settings.samples,
            "sources": {source.name: [source.count, source.weight, source.hd] for source in mixture.sources},
        }

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            trained={name: value.detach() for name, value in self._trained().items()},
            optimizer=self.optimizer.state_dict(),
            progress={"step": self.step, "place": asdict(self.place), "settings": self._settings()},
        )

    def _begin(self, out: Path, resume: bool) -> None:
        if not resume:
            if checkpoints.found(out):
                raise UsageError(f"{out} holds checkpoints of an earlier run; resume, or take a new folder")
            return
        last = checkpoints.latest(out)
        if last is None:
            return
        settings = last.progress["settings"]
        other = [key for key, value in self._settings().items() if settings.get(key) != value]
        mine = self._trained()
        if other or _shapes(last.trained) != _shapes(mine):
            raise UsageError(
                f"the checkpoints in {out} are of another run (different: {', '.join(other) or 'parts that learn'}); "
                "take a new folder"
            )
        with torch.no_grad():
            for name, value in last.trained.items():
                mine[name].copy_(value)
        self.optimizer.load_state_dict(last.optimizer)
        self.step, self.place = last.progress["step"], Place(**last.progress["place"])


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in tensors.items()}


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
