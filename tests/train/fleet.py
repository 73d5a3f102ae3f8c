"""Runs of `run` in forked processes: several ranks that train together, or one that is killed at any moment.

A program of its own, for tests: it imports torch once and never trains itself, because a process that went backward
through a graph cannot fork others that do.

    python fleet.py losses FOLDER     20 steps on 1 and on 2 ranks; 10 on 2, then resumed on 1 and on 4
    python fleet.py kills FOLDER N    N runs, each killed once at a random moment and resumed, beside an unbroken one
    python fleet.py shards FOLDER     2 ranks read their shards of a folder, once with an adapter and once without
    python fleet.py ended FOLDER      2 ranks stopped by SIGTERM, and what they leave

FOLDER holds `tiny`, a model folder. Prints one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # optimisers import it with their first step, every fork again
import torch.distributed
import torch.distributed.checkpoint
import torch.distributed.fsdp
from PIL import Image

from ixc.data.mixture import Source
from ixc.data.records import JsonLines
from ixc.model.loading import read_config
from ixc.processing.processing import IxcProcessor
from ixc.runlog.jsonl import read
from ixc.train.config import Adapter, Part, Resolution, TrainConfig, TrainedPart, read_train_config
from ixc.train.distributed import full_tensor, join_process_group, shard
from ixc.train.evaluation import EVAL_LOSS, Evaluation
from ixc.train.loss import LossModule
from ixc.train.param_groups import freeze
from ixc.train.run import RunConfig, run
from ixc.train.setup import SEED, build_model, make_encoder
from ixc.train.sharded_loading import empty_model, load_shards

RECIPES = Path(__file__).parents[2] / "recipes"
SIZES = [(300, 200), (700, 400), (336, 1000), (1200, 300), (40, 40), (500, 900)]
RECORDS = 10
CODE_OF_FAILURE = 3


def main() -> None:
    torch.set_num_threads(1)
    what, folder, *more = sys.argv[1:]
    made = {"losses": losses, "kills": kills, "shards": shards, "ended": stopped_by_sigterm}[what](
        Path(folder), *map(int, more)
    )
    print(json.dumps(made))


# -- what is trained --------------------------------------------------------------------------------------------------


def prepare(
    folder: Path, *, steps: int, samples: int, hd: int, parts: Sequence[Part] = ()
) -> tuple[Callable[..., None], Evaluation]:
    """Data and stage; gives the function that trains to the end in this process, and a test of its own data.

    Args:
        parts: what learns; none: everything.
    """
    config = json.loads((folder / "tiny" / "config.json").read_text())
    config["text_config"]["plora_dropout"] = 0.0  # drawn by rank: with it two ranks are another run than one
    (folder / "tiny" / "config.json").write_text(json.dumps(config))
    written(folder / "talks.jsonl")
    train_config = config_of(folder / "tiny", steps=steps, samples=samples, hd=hd)
    if parts:
        train_config = replace(train_config, trained=tuple(TrainedPart(part=part) for part in parts))
    processor = IxcProcessor.from_pretrained(folder / "tiny")

    source = Source(name="talks", records=JsonLines(folder / "talks.jsonl"), hd=hd)

    def train(out: Path, **options: Any) -> None:
        callbacks, evaluate = options.pop("callbacks", ()), options.pop("evaluate", None)
        config = RunConfig(
            train=train_config, base=folder / "tiny", out=out, resume=out.exists(), device="cpu", **options
        )
        run(config, [source], processor=processor, callbacks=callbacks, evaluate=evaluate)

    return train, Evaluation(
        [source],
        make_encoder(train_config, processor),
        max_tokens_per_batch=train_config.max_tokens_per_batch,
    )


def written(path: Path) -> None:
    """Conversations with a picture, with two, and of text alone: ranks see tower passes of all numbers, and none."""
    lines = []
    for i in range(RECORDS):
        pictures = [f"{i}-{k}.png" for k in range((1, 0, 2, 0, 1)[i % 5])]
        for k, name in enumerate(pictures):
            Image.effect_noise(SIZES[(i + k) % len(SIZES)], 60).convert("RGB").save(path.with_name(name))
        turns = [
            {"from": "human", "value": "<ImageHere>" * len(pictures) + f"What is {i}?"},
            {"from": "gpt", "value": f"It is {i * 7919}."},
        ]
        lines.append(json.dumps({"image": pictures, "conversations": turns}))
    path.write_text("\n".join(lines))


def config_of(base: Path, *, steps: int, samples: int, hd: int) -> TrainConfig:
    paper = read_train_config(RECIPES / "sft_4khd.py")
    one = Resolution(hd=hd, dynamic=False)
    return replace(
        paper,
        model=read_config(base),
        resolutions=(one,),
        global_batch_size=samples,
        steps=steps,
        learning_rate=5e-3,
        warmup_ratio=0.1,
        max_seq_length=2048,
        max_tokens_per_batch=2560,
    )


# -- processes --------------------------------------------------------------------------------------------------------


def forked(work: Callable[[], None], **variables: object) -> int:
    """Starts a process that does the work and ends; returns its number."""
    child = os.fork()
    if child:
        return child
    try:
        os.environ.update({name: str(value) for name, value in variables.items()})
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(CODE_OF_FAILURE)


def together(work: Callable[[], None], *, ranks: int) -> None:
    """One process a rank, to the end of all."""
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in launch(work, ranks=ranks)]
    assert not any(ends), f"exit codes by rank: {ends}"


def launch(work: Callable[[], None], *, ranks: int) -> list[int]:
    """One process a rank, as a launcher would start them; their numbers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [forked(work, RANK=rank, LOCAL_RANK=rank, **environment) for rank in range(ranks)]


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- several ranks ----------------------------------------------------------------------------------------------------


def losses(folder: Path) -> dict[str, Any]:
    """Name -> losses of its steps by the log, and last the loss of all the data under the last weights."""
    alone, test = prepare(folder, steps=20, samples=4, hd=4)
    train = partial(alone, evaluate=test, eval_every=20)
    runs = {name: folder / name for name in ("one", "two", "two-then-one", "two-then-four")}
    together(lambda: train(runs["one"]), ranks=1)
    together(lambda: train(runs["two"]), ranks=2)

    def half() -> None:
        train(runs["two-then-one"], save_every=10, callbacks=[stop_after_10])

    together(half, ranks=2)
    shutil.copytree(runs["two-then-one"], runs["two-then-four"])
    together(lambda: train(runs["two-then-one"]), ranks=1)
    together(lambda: train(runs["two-then-four"]), ranks=4)
    logs = {name: list(read(out / "log.jsonl")) for name, out in runs.items()}
    return {name: [line["loss"] for line in lines] + [lines[-1][EVAL_LOSS]] for name, lines in logs.items()}


def stop_after_10(progress: Any) -> None:
    if progress.result.step == 10:
        os.kill(os.getpid(), signal.SIGTERM)


def shards(folder: Path) -> dict[str, Any]:
    """Name -> (tensors, tensors of which a rank holds fewer rows, tensors that differ from those read whole)."""
    prepare(folder, steps=1, samples=2, hd=1)
    train_config = config_of(folder / "tiny", steps=1, samples=2, hd=1)
    lora = replace(train_config, trained=(TrainedPart(part="LoRA"),), adapter=Adapter(r=4, alpha=4, dropout=0.0))
    for name, one in (("all", train_config), ("lora", lora)):
        together(partial(compare, one, folder / "tiny", folder / f"{name}.json"), ranks=2)
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("all", "lora")}


def compare(config: TrainConfig, base: Path, report: Path) -> None:
    with join_process_group("cpu") as group:
        model, adapter_weights = empty_model(base, config.adapter, seed=SEED)
        freeze(model, config)
        shard(LossModule(model), group, bfloat16=False)
        load_shards(model, base, adapter_weights, device=group.device)
        read_whole = dict(build_model(config, base, group.device).named_parameters())
        mine: dict[str, Any] = dict(model.named_parameters())
        cut = sum(value.to_local().numel() < value.numel() for value in mine.values())
        wrong = [name for name, value in mine.items() if not torch.equal(full_tensor(value.detach()), read_whole[name])]
        assert mine.keys() == read_whole.keys()
        if group.is_main:
            report.write_text(json.dumps([len(mine), cut, wrong]))


def stopped_by_sigterm(folder: Path) -> dict[str, Any]:
    """SIGTERM from outside at both ranks, as a launcher passes it on; their exit codes, and the steps of the log."""
    train, _ = prepare(folder, steps=40, samples=2, hd=1, parts=("projector",))
    out = folder / "ended"
    children = launch(lambda: train(out, save_every=1000), ranks=2)
    appears(out / "log.jsonl")
    for child in children:
        os.kill(child, signal.SIGTERM)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    before = len(list(read(out / "log.jsonl")))
    checkpoints = [path.name for path in out.glob("step-*")]
    together(lambda: train(out, save_every=1000), ranks=2)
    return {"codes": codes, "steps": before, "checkpoints": checkpoints, "then": len(list(read(out / "log.jsonl")))}


# -- kills ------------------------------------------------------------------------------------------------------------


STEPS_KILLED = 8


def kills(folder: Path, number: int) -> dict[str, Any]:
    """How many of the killed runs ended as the unbroken one did, and where they were when it happened."""
    # Few weights, for a checkpoint of all takes longer than the step it follows.
    train, _ = prepare(
        folder, steps=STEPS_KILLED, samples=2, hd=1, parts=("projector", "newline and separator", "head")
    )
    whole, begun = folder / "whole", time.monotonic()
    wait(forked(lambda: train(whole, save_every=1)))
    seconds = time.monotonic() - begun
    wanted, chance, found = ended(folder, whole), random.Random(7), []
    out = folder / "killed"
    for i in range(number):
        shutil.rmtree(out, ignore_errors=True)
        child = forked(lambda: train(out, save_every=1))
        if i % 2:  # any moment of its life
            time.sleep(chance.uniform(0, seconds))
        else:  # any moment of the writing of a checkpoint
            appears(out / f".step-{chance.randint(1, STEPS_KILLED):08d}.partial")
            time.sleep(chance.uniform(0, seconds / STEPS_KILLED / 2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        stopped, writing = len(list(read(out / "log.jsonl"))), any(out.glob(".step-*.partial"))
        wait(forked(lambda: train(out, save_every=1)))
        found.append({"run": i, "stopped": stopped, "writing": writing, "same": ended(folder, out) == wanted})
        print(found[-1], file=sys.stderr, flush=True)
    return {"seconds": seconds, "samples": len(wanted["samples"]), "runs": found}


def appears(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} never came"
        time.sleep(0.001)


def wait(child: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, f"a run ended with {code}"


def ended(folder: Path, out: Path) -> dict[str, Any]:
    """What a run came to: its weights, and every sample it learned from, in order."""
    lines = list(read(out / "log.jsonl"))
    return {
        "weights": sum_of(out / "model" / "model.safetensors"),
        "samples": [tuple(sample) for line in lines for sample in line["samples"]],
        "losses": [line["loss"] for line in lines],
    }


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    main()
