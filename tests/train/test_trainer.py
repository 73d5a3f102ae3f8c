"""The fine-tuning loop: stopped and resumed, broken checkpoints, LoRA."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from ixc.data.batching import Batches, BatchSettings
from ixc.data.encoding import Encoder
from ixc.data.mixture import Mixture, Source
from ixc.data.records import JsonLines
from ixc.errors import CapacityError, DataError, MissingPackageError, UsageError
from ixc.model.loading import load
from ixc.processing.processing import IxcProcessor
from ixc.runlog.progress import StepResult
from ixc.train import checkpoint
from ixc.train.config import Adapter, TrainConfig, TrainedPart, read_train_config
from ixc.train.export import merge_lora
from ixc.train.fingerprints import data_fingerprints, model_fingerprint
from ixc.train.param_groups import add_adapter
from ixc.train.precision import ComputeConfig
from ixc.train.trainer import Trainer, TrainerOptions

RECIPES = Path(__file__).parents[2] / "recipes"
STEPS = 4


@pytest.fixture(scope="module")
def batches(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Batches:
    folder = tmp_path_factory.mktemp("talks")
    lines = []
    for i in range(5):
        Image.effect_noise((100 + 50 * i, 300), 60).convert("RGB").save(folder / f"{i}.png")
        turns = [{"from": "human", "value": "<ImageHere>Which?"}, {"from": "gpt", "value": f"Number {i}."}]
        lines.append(json.dumps({"image": f"{i}.png", "conversations": turns}))
    (folder / "talks.jsonl").write_text("\n".join(lines))
    encoder = Encoder(IxcProcessor.from_pretrained(tiny_folder), max_seq_length=1024)
    mixture = Mixture([Source(name="talks", records=JsonLines(folder / "talks.jsonl"), hd=1)])
    return Batches(
        mixture, encoder, settings=BatchSettings(global_batch_size=2, max_tokens_per_batch=700), partition="native"
    )


def run_of(tiny_folder: Path, batches: Batches, *, lora: bool = False, **options: Any) -> Trainer:
    model: nn.Module = load(tiny_folder)
    config = tiny_config(load(tiny_folder).config, lora=lora)
    if config.adapter is not None:
        torch.manual_seed(0)
        model = add_adapter(model, config.adapter)
    return Trainer(model, config, batches, options=TrainerOptions(steps=STEPS, seed=4, **options))


def tiny_config(model_config: object, *, lora: bool) -> TrainConfig:
    paper = read_train_config(RECIPES / "sft_4khd.py")
    config = replace(paper, model=model_config, learning_rate=1e-2)  # type: ignore[arg-type]
    if not lora:
        return config
    adapter = Adapter(r=4, alpha=4, dropout=0.05)
    return replace(config, trained=(TrainedPart(part="LoRA"),), adapter=adapter)


def weights(run: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in run.model.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("lora", [False, True])
def test_trainer_stopped_and_resumed_ends_with_the_same_weights(
    tiny_folder: Path, batches: Batches, tmp_path: Path, lora: bool
) -> None:
    whole = run_of(tiny_folder, batches, lora=lora)
    losses: list[StepResult] = []
    assert whole.run(tmp_path / "whole", save_every=100, callbacks=[losses.append]).finished
    assert losses[-1].loss < losses[0].loss

    def stop(done: StepResult) -> None:
        if done.step in (1, 3):
            os.kill(os.getpid(), signal.SIGTERM)

    steps = []
    for resume in (False, True, True):
        part = run_of(tiny_folder, batches, lora=lora)
        outcome = part.run(tmp_path / "parts", resume=resume, save_every=100, callbacks=[stop])
        steps.append((outcome.step, outcome.finished))
    assert steps == [(1, False), (3, False), (4, True)]
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(part)[name]), name


def test_checkpoint_latest_skips_damaged_ones(
    tiny_folder: Path, batches: Batches, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run_of(tiny_folder, batches)
    whole.run(tmp_path, save_every=3)
    first, last = checkpoint.folders_in(tmp_path)
    assert (first.name, last.name) == ("step-00000003", "step-00000004")
    data = bytearray((last / "__0_0.distcp").read_bytes())
    data[len(data) // 2] ^= 1
    (last / "__0_0.distcp").write_bytes(data)
    again = run_of(tiny_folder, batches)
    assert again.run(tmp_path, resume=True).step == STEPS
    assert "step-00000004 is skipped: the checksum of __0_0.distcp differs" in caplog.text
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(whole).items())
    for folder in checkpoint.folders_in(tmp_path):
        (folder / checkpoint.MANIFEST).unlink()
    with pytest.raises(DataError, match="2 checkpoints and 0 are whole"):
        run_of(tiny_folder, batches).run(tmp_path, resume=True)


def test_checkpoint_of_an_older_version_is_resumed(tiny_folder: Path, batches: Batches, tmp_path: Path) -> None:
    whole = run_of(tiny_folder, batches)
    whole.run(tmp_path, save_every=3)
    first, last = checkpoint.folders_in(tmp_path)
    shutil.rmtree(last)
    progress = json.loads((first / checkpoint.PROGRESS).read_text())
    progress["place"] = progress.pop("position")
    settings = progress["settings"]
    settings["stage"], settings["samples"] = settings.pop("recipe"), settings.pop("global_batch_size")
    assert set(progress) == {"step", "place", "settings"}  # as version 0.x wrote it
    assert set(settings) == {"stage", "steps", "seed", "samples", "sources"}
    (first / checkpoint.PROGRESS).write_text(json.dumps(progress))
    manifest = json.loads((first / checkpoint.MANIFEST).read_text())
    manifest[checkpoint.PROGRESS] = hashlib.sha256((first / checkpoint.PROGRESS).read_bytes()).hexdigest()
    (first / checkpoint.MANIFEST).write_text(json.dumps(manifest))
    again = run_of(tiny_folder, batches)
    results: list[StepResult] = []
    assert again.run(tmp_path, resume=True, callbacks=[results.append]).finished
    assert [one.step for one in results] == [4]
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(whole).items())


def test_trainer_refuses_checkpoints_of_another_run(tiny_folder: Path, batches: Batches, tmp_path: Path) -> None:
    run_of(tiny_folder, batches).run(tmp_path)
    with pytest.raises(UsageError, match="holds checkpoints of an earlier run"):
        run_of(tiny_folder, batches).run(tmp_path)
    with pytest.raises(UsageError, match="of another run"):
        run_of(tiny_folder, batches, lora=True).run(tmp_path, resume=True)


def test_merge_lora_equals_unmerged(tiny_folder: Path, batches: Batches, tmp_path: Path) -> None:
    run = run_of(tiny_folder, batches, lora=True)
    run.run(tmp_path / "run")
    model = run.model.eval()
    batch = batches.tensors(batches.step(run.position).packs[0][0])
    labels = batch.pop("labels")
    assert (labels != -100).any()
    with torch.no_grad():
        wanted = model(**batch, use_cache=False).logits
        plain = load(tiny_folder).eval()(**batch, use_cache=False).logits
        merge_lora(model).save_pretrained(tmp_path / "merged")  # type: ignore[operator]
        found = load(tmp_path / "merged").eval()(**batch, use_cache=False).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)  # float32, sums in another order
    assert (wanted - plain).abs().max() > 1e-2


def test_trainer_refuses_data_for_several_ranks(tiny_folder: Path, batches: Batches) -> None:
    many = Batches(
        batches.mixture,
        batches.encoder,
        settings=BatchSettings(global_batch_size=4, max_tokens_per_batch=1024, world_size=2),
    )
    with pytest.raises(UsageError, match="for 2 ranks, this loop has 1"):
        run_of(tiny_folder, many)


def test_trainer_refuses_to_resume_with_other_weights_or_edited_data(
    tiny_folder: Path, batches: Batches, tmp_path: Path
) -> None:
    base, data = tmp_path / "base", tmp_path / "talks.jsonl"
    shutil.copytree(tiny_folder, base)
    assert isinstance(batches.mixture.sources[0].records, JsonLines)
    shutil.copy(batches.mixture.sources[0].records.path, data)
    source = replace(batches.mixture.sources[0], records=JsonLines(data))

    def fingerprints() -> dict[str, Any]:
        return {"base": model_fingerprint(base), "data": data_fingerprints([source])}

    out = tmp_path / "run"
    run_of(tiny_folder, batches, fingerprints=fingerprints()).run(out)
    assert run_of(tiny_folder, batches, fingerprints=fingerprints()).run(out, resume=True).finished
    data.write_text(data.read_text().replace("Number 3", "Number 4"))
    with pytest.raises(UsageError, match=r"^talks was edited since the run in .* began.*; restore it, or take a new"):
        run_of(tiny_folder, batches, fingerprints=fingerprints()).run(out, resume=True)
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1  # same header, same size
    (base / "model.safetensors").write_bytes(weights)
    with pytest.raises(UsageError, match="begun with other weights than this base model; name theirs with --model"):
        run_of(tiny_folder, batches, fingerprints=fingerprints()).run(out, resume=True)


def test_trainer_out_of_memory_names_batch_and_remedy(
    tiny_folder: Path, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_folder, batches)
    before, loss_module, optimizer = weights(run), run.loss_module, run.optimizer
    pack = batches.step(run.position).packs[0][0]
    tokens, tiles = sum(one.text.tokens for one in pack), sum(one.text.tiles for one in pack)

    def full(*arguments: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(loss_module, "forward", full)
    with pytest.raises(CapacityError) as caught:
        run.one_step()
    said = str(caught.value)
    assert f"step 1: a pack of {len(pack)} conversations ({pack[0].sampled.record.where} first)" in said
    assert f"with {tokens:,} tokens and {tiles:,} tiles does not fit the memory of cpu" in said
    assert said.endswith(
        "lower max_tokens_per_batch (700 now), or the hd of its source (1 now), or take --gradient-checkpointing"
    )
    monkeypatch.undo()
    monkeypatch.setattr(optimizer, "step", full)
    with pytest.raises(CapacityError, match=r"the moments of [\d,]+ weights that learn do not fit.*8-bit-optimizer"):
        run.one_step()
    assert all(torch.equal(value, weights(run)[name]) for name, value in before.items())


def test_compute_config_number_formats_and_gradient_checkpointing(tiny_folder: Path, batches: Batches) -> None:
    plain, again, half = (
        run_of(tiny_folder, batches, lora=lora, compute=compute)
        for lora, compute in (
            (True, ComputeConfig()),
            (True, ComputeConfig(gradient_checkpointing=True)),
            (True, ComputeConfig(bfloat16=True)),
        )
    )
    losses = [run.one_step().loss for run in (plain, again, half)]
    assert losses[1] == losses[0]
    assert losses[2] != losses[0]
    assert losses[2] == pytest.approx(losses[0], rel=1e-2)  # 8 bits of mantissa
    for name, value in weights(plain).items():
        assert torch.equal(value, weights(again)[name]), name
    dtypes = {(value.requires_grad, value.dtype) for value in half.model.parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}


def test_compute_config_eight_bit_moments(
    tiny_folder: Path, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torchao.optim", None)
        with pytest.raises(MissingPackageError, match=r"torchao; install it: pip install 'ixc-4khd.eight-bit.'"):
            run_of(tiny_folder, batches, compute=ComputeConfig(eight_bit=True))
    pytest.importorskip("torchao.optim", reason="8-bit moments need torchao, of the extra eight-bit")
    whole = run_of(tiny_folder, batches, compute=ComputeConfig(eight_bit=True))
    losses: list[StepResult] = []
    assert whole.run(tmp_path, save_every=2, callbacks=[losses.append]).finished
    assert losses[-1].loss < losses[0].loss
    shutil.rmtree(checkpoint.folders_in(tmp_path)[-1])
    again = run_of(tiny_folder, batches, compute=ComputeConfig(eight_bit=True))
    resumed: list[StepResult] = []
    assert again.run(tmp_path, resume=True, callbacks=[resumed.append]).finished
    assert resumed == losses[2:]
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(whole).items())
