"""One command from nothing to a model folder."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ixc.errors import DataError, UsageError
from ixc.model.model import IxcForConditionalGeneration
from ixc.train import language, sight, spelling, state
from ixc.train.export import export
from ixc.train.joint import Joint
from ixc.train.recipe import NanoRecipe, read_recipe

log = logging.getLogger(__name__)


def run(recipe: Path, *, out: Path, resume: bool = False, device: str = "auto") -> Path:
    """Train by a recipe file; returns the model folder `out/model`.

    Args:
        recipe: Python file with a function `recipe()`.
        out: folder of states and of the model.
        resume: go on with the states that lie in `out`; without it they are an error, never overwritten.
        device: `cpu` or `auto`; these sizes train fastest on the CPU of one machine.

    Raises:
        UsageError: no such recipe, states of an earlier run, another device.
        DataError: a state that cannot be read.
    """
    if device not in ("auto", "cpu"):
        raise UsageError(f"the embedded model trains on the CPU, not on {device}; use --device cpu")
    plan = read_recipe(recipe)
    found = sorted(p.name for p in out.glob("*.pt")) if out.is_dir() else []
    if found and not resume:
        raise UsageError(
            f"{out} holds {len(found)} states of an earlier run ({', '.join(found)}); add --resume or take a new folder"
        )
    began = time.monotonic()
    torch.manual_seed(plan.joint.seed)
    joint = Joint(plan.model, plan.joint, out)
    if not joint.resume():
        _begin(joint, plan, recipe, out)
    model = joint.run()
    export(model, out / "model", training=_record(plan, time.monotonic() - began))
    return out / "model"


def _begin(joint: Joint, plan: NanoRecipe, recipe: Path, out: Path) -> None:
    """Everything before the joint stage: three stages from nothing, or the weights of an earlier run."""
    if plan.begin is None:
        _first_stages(recipe, out)
        joint.start(*_learned(out))
        spelling.run(joint.model, joint.symbols, plan.spelling, out)
    else:
        earlier = IxcForConditionalGeneration.from_pretrained(plan.begin, dtype=torch.float32)
        joint.model.load_state_dict(earlier.state_dict())
    joint.save()


def _first_stages(recipe: Path, out: Path) -> None:
    """Hand and eyes, side by side on one core each where there are two."""
    if (os.cpu_count() or 1) < 2:
        _stage("language", recipe, out)
        _stage("sight", recipe, out)
        return
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=_stage, args=(name, recipe, out, 1)) for name in ("language", "sight")]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    if any(job.exitcode for job in jobs):
        raise DataError(f"a stage ended with exit codes {[job.exitcode for job in jobs]}; run again with --resume")


def _stage(name: str, recipe: Path, out: Path, threads: int = 0) -> None:
    if threads:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", datefmt="%H:%M:%S")
        torch.set_num_threads(threads)
    plan = read_recipe(recipe)
    if name == "language":
        language.run(plan.language, out)
    else:
        sight.run(plan.sight, out)


def _learned(out: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the tower, the decoder and the symbols from the states of the first two stages."""
    eyes, hand = state.load(out / "sight.pt"), state.load(out / "language.pt")
    if eyes is None or hand is None:
        raise DataError(f"{out} lacks sight.pt or language.pt; run again with --resume")
    return (
        _below(eyes["spotter"], "tower."),
        _below(hand["reader"], "decoder."),
        _below(hand["reader"], "symbols."),
    )


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _record(plan: NanoRecipe, seconds: float) -> dict[str, Any]:
    """What the model card tells of this run."""
    stages: dict[str, Any] = {}
    for name in ("language", "sight", "spelling", "joint"):
        stages[name] = {k: v for k, v in asdict(getattr(plan, name)).items() if k not in ("text", "vision")}
    return {"stages": stages, "seconds_of_this_start": round(seconds), "torch": torch.__version__}
