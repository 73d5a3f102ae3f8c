"""The command `ixc plan-train`: what a full-size run would do and need; no weight is made."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated

import typer

from ixc.cli_words import Json, quiet_libraries
from ixc.terminal import existing

PLAN_TRAIN_EXAMPLES = (
    "ixc plan-train recipes/sft_4khd.py",
    "ixc plan-train recipes/qlora.py --gpus 1 --gpu-memory 24 --json",
)


def plan_train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Python file whose recipe() returns a Stage.")],
    gpus: Annotated[int, typer.Option("--gpus", help="Devices the weights are spread over.")] = 8,
    gpu_memory: Annotated[float, typer.Option("--gpu-memory", help="Memory of one device, GB.")] = 80,
    eight_bit: Annotated[bool, typer.Option("--8-bit-optimizer", help="Moments of AdamW in 8 bit.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a training stage would do: weights by part, rate of every group, steps, memory of one device."""
    quiet_libraries()
    from ixc.train.outlook import outlook
    from ixc.train.stage import read_stage

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for an old name
        found = outlook(read_stage(existing(str(recipe))), gpus=gpus, gpu_memory=gpu_memory * 1e9, eight_bit=eight_bit)
    print(json.dumps(found.as_dict()) if as_json else "\n".join(found.text()))
