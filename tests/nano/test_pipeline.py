"""A training from nothing as a user watches it, breaks it off and goes on: logs, time left, weights after a kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folder import foreign_files
from safetensors.torch import load_file

from ixc.errors import DataError, UsageError
from ixc.model.loading import check
from ixc.nano import state
from ixc.nano.drawn_config import read_recipe
from ixc.nano.export import GLYPH_TOKENS, OLD_GLYPH_TOKENS, export, training_folder, weights
from ixc.nano.stages import character_pretrain, layout_lm, ocr_alignment
from ixc.nano.stages.joint import Joint
from ixc.nano.step_report import ProgressEstimator, Remaining, StagePlan, StepReport
from ixc.synth.config import PageFamily

pipeline = import_module("ixc.nano.drawn_pipeline")
TINY = Path(__file__).with_name("tiny_recipe.py")
STEPS = {"layout_lm": 8, "character_pretrain": 6, "projector_init": 3, "ocr_alignment": 4, "joint": 4}
"""Of the tiny recipe."""
SIDE_BY_SIDE = {"layout_lm", "character_pretrain"}
"""Stages that run together."""


class Killed(BaseException):
    """In the place of SIGKILL: nothing that the run would do afterwards is done."""


def lines(out: Path, *stages: str) -> dict[str, list[dict[str, float]]]:
    """The logs without what a clock says."""
    found = {}
    for stage in stages or STEPS:
        read = [json.loads(line) for line in (out / f"{stage}.jsonl").read_text().splitlines()]
        found[stage] = [{k: v for k, v in line.items() if k != "seconds"} for line in read]
    return found


def same_weights(first: Path, second: Path) -> bool:
    one, other = (load_file(out / "model" / "model.safetensors") for out in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """All stages in this process, one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 1)
        yield


@pytest.fixture(scope="module")
def whole(one_core: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[StepReport, Remaining]]]:
    """An unbroken run and what it told."""
    out, told = tmp_path_factory.mktemp("nothing") / "whole", []
    pipeline.run(TINY, out=out, watch=lambda *both: told.append(both))
    return out, told


@pytest.mark.slow
def test_run_reports_every_step_of_every_stage(whole: tuple[Path, list[tuple[StepReport, Remaining]]]) -> None:
    out, told = whole
    for stage, steps in STEPS.items():
        assert [step.step for step, _ in told if step.stage == stage] == list(range(1, steps + 1))
    assert {k: [line["step"] for line in v] for k, v in lines(out).items()} == {
        stage: list(range(1, steps + 1)) for stage, steps in STEPS.items()
    }
    done = [view.done for _, view in told]
    assert done == sorted(done)
    assert done[-1] == told[-1][1].total == sum(STEPS.values())
    assert told[-1][1].seconds_left == 0
    kinds = {"form", "receipt", "table", "notice"}
    assert kinds & told[-1][0].scores.keys()
    assert all(0 <= told[-1][0].scores[kind] <= 1 for kind in kinds & told[-1][0].scores.keys())


@pytest.mark.slow
def test_run_resumes_after_a_kill_in_every_stage(
    whole: tuple[Path, list[tuple[StepReport, Remaining]]], tmp_path: Path
) -> None:
    """Same weights, and the same lines in every log.

    Stages run side by side: while one is killed, the next of the list may have ended. Stages alone are always met.
    """
    killed: set[str] = set()
    for stage, steps in STEPS.items():
        moment = random.randint(1, steps)

        def kill(step: StepReport, _: Remaining, stage: str = stage, moment: int = moment) -> None:
            ended = stage in SIDE_BY_SIDE and step.stage not in SIDE_BY_SIDE  # before it could be killed
            if ended or (step.stage == stage and step.step >= moment):
                killed.add(step.stage)
                raise Killed

        with suppress(Killed):
            pipeline.run(TINY, out=tmp_path, resume=True, watch=kill)
    assert killed >= STEPS.keys() - {"character_pretrain"}
    pipeline.run(TINY, out=tmp_path, resume=True)
    assert same_weights(whole[0], tmp_path)
    assert lines(whole[0]) == lines(tmp_path)


@pytest.mark.parametrize("stage", ["layout_lm", "character_pretrain"])
def test_pipeline_stage_resumes_after_two_kills(stage: str, tmp_path: Path) -> None:
    """The same state and the same lines, whatever was done between the last state and the kill."""
    plan = read_recipe(TINY)
    options = {"layout_lm": plan.layout_lm, "character_pretrain": replace(plan.character_pretrain, steps=5)}
    run, one = {"layout_lm": layout_lm.run, "character_pretrain": character_pretrain.run}[stage], options[stage]
    run(one, tmp_path / "whole")
    for moment in sorted(random.sample(range(1, 6), 2)):

        def kill(step: StepReport, moment: int = moment) -> None:
            if step.step == moment:
                raise Killed

        with pytest.raises(Killed):
            run(one, tmp_path / "broken", watch=kill)
    run(one, tmp_path / "broken")
    whole, broken = (state.load(tmp_path / name / f"{stage}.pt") for name in ("whole", "broken"))
    weights = {"layout_lm": "model", "character_pretrain": "classifier"}[stage]
    assert whole is not None
    assert broken is not None
    assert all(torch.equal(whole[weights][name], broken[weights][name]) for name in whole[weights])
    assert lines(tmp_path / "whole", stage) == lines(tmp_path / "broken", stage)


def data_parallel_recipe(init_from: Path, folder: Path) -> Path:
    """A recipe that continues from a model with two replicas and every auxiliary loss."""
    recipe = folder / "replicas.py"
    recipe.write_text(
        "from dataclasses import replace\nfrom pathlib import Path\nfrom ixc.nano.drawn_config import read_recipe\n"
        "from ixc.nano.losses.attention_supervision import AttentionSupervision as Head\n"
        "TARGETS = ('answer_copy', 'queried_word', 'query_word_copy', 'row_key', 'value_owner')\n"
        "HEADS = tuple(Head(layer=i % 3, head=i % 2, weight=0.1, target=t) for i, t in enumerate(TARGETS))\n"
        f"def recipe():\n    first = read_recipe(Path({str(TINY)!r}))\n"
        "    first.model.text_config.num_hidden_layers = 3\n"
        f"    return replace(first, init_from=Path({str(init_from)!r}), continue_pretraining=True,\n"
        "        ocr_alignment=replace(first.ocr_alignment, steps=3, data_parallel=2),\n"
        "        joint=replace(first.joint, data_parallel=2, focused=True, attention_supervision=HEADS, steps=3,\n"
        "            copy_task_share=0.5, probes=(0, 0.1)), bf16_cpu=True)\n"
    )
    return recipe


def three_layers(folder: Path) -> Path:
    """A tiny model with three decoder layers, written to `deep` there."""
    plan = read_recipe(TINY)
    plan.model.text_config.num_hidden_layers = 3
    joint = Joint(plan.model, plan.joint, folder)
    export(joint.model, joint.glyph_tokens, folder / "deep", hd=1, training={})
    return folder / "deep"


@pytest.mark.slow
def test_run_data_parallel_gives_the_same_weights_on_one_core_and_on_two(
    one_core: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two cores: replicas in processes of their own, killed in each stage."""
    recipe, reports = data_parallel_recipe(three_layers(tmp_path), tmp_path), []
    pipeline.run(recipe, out=tmp_path / "one", watch=lambda *both: reports.append(both))
    stages = ("ocr_alignment", "joint")
    assert [(step.stage, step.step) for step, _ in reports] == [(s, i) for s in stages for i in range(1, 4)]
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for stage in stages:

        def kill(step: StepReport, _: Remaining, stage: str = stage) -> None:
            if (step.stage, step.step) == (stage, 2):
                raise Killed

        with pytest.raises(Killed):
            pipeline.run(recipe, out=tmp_path / "two", resume=True, watch=kill)
    pipeline.run(recipe, out=tmp_path / "two", resume=True)
    assert same_weights(tmp_path / "one", tmp_path / "two")
    assert lines(tmp_path / "one", *stages) == lines(tmp_path / "two", *stages)


def exported(folder: Path) -> Joint:
    """A tiny model in which nothing is silent, written to `model` there."""
    plan = read_recipe(TINY)
    small = Joint(plan.model, plan.joint, folder)
    for parameter in (*small.model.parameters(), *small.glyph_tokens.parameters()):
        torch.nn.init.normal_(parameter, std=0.05)
    export(small.model, small.glyph_tokens, folder / "model", hd=1, training={})
    return small


@pytest.mark.slow
def test_run_continues_from_a_model(whole: tuple[Path, list[tuple[StepReport, Remaining]]], tmp_path: Path) -> None:
    """Killed in each of them."""
    recipe = tmp_path / "more.py"
    recipe.write_text(
        "from dataclasses import replace\nfrom pathlib import Path\nfrom ixc.nano.drawn_config import read_recipe\n"
        f"def recipe():\n    first = read_recipe(Path({str(TINY)!r}))\n"
        f"    return replace(first, init_from=Path({str(whole[0] / 'model')!r}), continue_pretraining=True)\n"
    )
    pipeline.run(recipe, out=tmp_path / "whole")
    for stage in ("ocr_alignment", "joint"):

        def kill(step: StepReport, _: Remaining, stage: str = stage) -> None:
            if (step.stage, step.step) == (stage, 3):
                raise Killed

        with pytest.raises(Killed):
            pipeline.run(recipe, out=tmp_path / "broken", resume=True, watch=kill)
    pipeline.run(recipe, out=tmp_path / "broken", resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "broken")
    name = "model.tok_embeddings.weight"
    began, ended = (load_file(out / "model" / "model.safetensors") for out in (whole[0], tmp_path / "whole"))
    assert not torch.equal(ended[name], began[name])


def test_load_initial_refuses_another_shape(tmp_path: Path) -> None:
    exported(tmp_path)
    plan = read_recipe(TINY)
    plan.model.vision_config.hidden_size = 64
    large = Joint(plan.model, plan.joint, tmp_path)
    with pytest.raises(DataError, match=r"cannot initialise this model .*size mismatch.*in the same shape"):
        pipeline.load_initial(tmp_path / "model", large.model, large.glyph_tokens)


def test_export_writes_a_model_folder_and_training_state_beside_it(tmp_path: Path) -> None:
    for _ in range(2):  # the second time over the first
        exported(tmp_path)
        assert foreign_files(tmp_path / "model") == set()
        check(tmp_path / "model")
        assert [path.name for path in training_folder(tmp_path / "model").iterdir()] == [GLYPH_TOKENS]
        assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"model", "model_training"}


@pytest.mark.parametrize("place", ["beside", "old", "link"])
def test_load_initial_finds_glyph_tokens(tmp_path: Path, place: str) -> None:
    """Beside the folder, in the folder itself as older versions wrote them, beside what a link leads to."""
    small, folder = exported(tmp_path), tmp_path / "model"
    if place == "old":
        (training_folder(folder) / GLYPH_TOKENS).rename(folder / OLD_GLYPH_TOKENS)
    if place == "link":
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "name").symlink_to(folder)
        folder = tmp_path / "other" / "name"
    plan = read_recipe(TINY)
    joint = pipeline.Joint(plan.model, plan.joint, tmp_path)
    pipeline.load_initial(folder, joint.model, joint.glyph_tokens)
    assert torch.equal(joint.glyph_tokens.rows, small.glyph_tokens.rows)
    assert torch.equal(joint.glyph_tokens.special_embeddings, small.glyph_tokens.special_embeddings)


@pytest.mark.parametrize("content", [None, b"torn"])
def test_load_initial_refuses_missing_or_damaged_glyph_tokens(tmp_path: Path, content: bytes | None) -> None:
    exported(tmp_path)
    (file := training_folder(tmp_path / "model") / GLYPH_TOKENS).unlink()
    if content is not None:
        file.write_bytes(content)
    plan = read_recipe(TINY)
    joint = pipeline.Joint(plan.model, plan.joint, tmp_path)
    reason = "model_training/glyph_tokens.safetensors is not beside it" if content is None else ""
    with pytest.raises(DataError, match=rf"cannot initialise this model \(.*{reason}.*name a folder"):
        pipeline.load_initial(tmp_path / "model", joint.model, joint.glyph_tokens)


def test_load_initial_of_the_embedded_model(tmp_path: Path) -> None:
    """As `recipes/nano_more.py` starts; the file of glyph tokens has the names of an older version."""
    plan = read_recipe(TINY.parents[2] / "recipes" / "nano_more.py")
    assert plan.init_from is not None
    joint = Joint(plan.model, plan.joint, tmp_path)
    pipeline.load_initial(plan.init_from, joint.model, joint.glyph_tokens)
    stored = load_file(training_folder(plan.init_from) / GLYPH_TOKENS)
    assert stored.keys() == {"rows", "marks"}
    assert torch.equal(joint.glyph_tokens.rows, stored["rows"].float())
    assert torch.equal(joint.glyph_tokens.special_embeddings, stored["marks"].float())


def test_listen_raises_the_error_of_a_stage(tmp_path: Path) -> None:
    """Across the pipe, as one line; the other stage ends."""
    (tmp_path / "character_pretrain.pt").write_bytes(b"torn")
    end, other = pipeline.get_context("spawn").Pipe(duplex=False)
    pipeline._run_in_process("character_pretrain", read_recipe(TINY), tmp_path, other)
    other.close()
    with pytest.raises(DataError, match=r"character_pretrain\.pt is not a whole training state"):
        pipeline._listen({end: "character_pretrain"}, None)


@pytest.mark.slow
def test_run_ignores_edits_of_the_recipe(
    whole: tuple[Path, list[tuple[StepReport, Remaining]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every stage has processes of its own, which begin behind the edit."""
    recipe = data_parallel_recipe(three_layers(tmp_path), tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    model = pipeline.run(
        recipe, out=tmp_path / "run", watch=lambda *_: recipe.write_text("def recipe():\n    return 3\n")
    )
    assert (model / "model.safetensors").is_file()


def report(stage: str, step: int, *, steps: int, seconds: float, tokens: int = 100) -> StepReport:
    return StepReport(
        stage=stage, step=step, steps=steps, loss=1.0, tokens=tokens, seconds=seconds, scores={"form": 0.5}
    )


def test_groups_leave_out_a_stage_without_steps() -> None:
    plan = replace(read_recipe(TINY), init_from=Path("model"), continue_pretraining=True)
    assert pipeline.groups(plan) == (("ocr_alignment",),)
    none = replace(plan, ocr_alignment=replace(plan.ocr_alignment, steps=0))
    assert pipeline.groups(none) == ()
    assert [[stage.stage for stage in group] for group in pipeline.stage_plans(none)] == [["joint"]]
    assert ProgressEstimator(pipeline.stage_plans(none))(report("joint", 1, steps=4, seconds=2.0)).seconds_left > 0


def test_groups_give_a_data_parallel_stage_the_cores_alone() -> None:
    plan = replace(read_recipe(TINY), init_from=Path("model"), continue_pretraining=True)
    parallel = replace(plan, ocr_alignment=replace(plan.ocr_alignment, data_parallel=2))
    assert pipeline.groups(parallel) == (("ocr_alignment",),)
    assert pipeline.groups(read_recipe(TINY)) == (("layout_lm", "character_pretrain"),)


@pytest.mark.parametrize("stage", ["layout_lm", "character_pretrain", "ocr_alignment", "joint"])
def test_load_reads_states_of_older_versions(stage: str, tmp_path: Path) -> None:
    """Under the file and entry names of versions before 30 November 2026: a resumed run ends with the same weights."""
    old_files = {"layout_lm": "language", "character_pretrain": "sight", "ocr_alignment": "spelling"}
    plan, out = read_recipe(TINY), tmp_path / "run"
    joint = Joint(plan.model, plan.joint, out)
    if stage == "joint":
        joint.joint_step()
        joint.save()
    elif stage == "ocr_alignment":
        ocr_alignment.run(joint.model, joint.glyph_tokens, plan.ocr_alignment, out)
    else:
        {"layout_lm": layout_lm.run, "character_pretrain": character_pretrain.run}[stage](getattr(plan, stage), out)
    path = out / f"{stage}.pt"
    today = torch.load(path, weights_only=True)
    path.unlink()
    old = out / f"{old_files.get(stage, stage)}.pt"
    torch.save(as_written_before(today), old)
    assert "classifier" not in as_written_before(today)
    found = state.load(path, old=old.name)
    assert_same(found, today)


def as_written_before(found: Any) -> Any:
    """A state under the names of older versions."""
    names = {new: old for old, new in state.OLD_KEYS.items()}
    if isinstance(found, dict):
        keys = {k: ".".join(names.get(part, part) for part in k.split(".")) if isinstance(k, str) else k for k in found}
        return {keys[k]: as_written_before(v) for k, v in found.items()}
    return [as_written_before(value) for value in found] if isinstance(found, list) else found


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert_same(found[key], wanted[key])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, torch.Tensor):
        assert torch.equal(found, wanted)
    else:
        assert found == wanted


def test_progress_estimator_counts_parallel_stages_once() -> None:
    first = (StagePlan(stage="a", steps=100, pace=1.0), StagePlan(stage="b", steps=50, pace=3.0))
    course = ProgressEstimator([first, (StagePlan(stage="c", steps=10, pace=2.0),)])
    view = course(report("a", 40, steps=100, seconds=0.5))
    assert view.seconds_left == 150 + 20  # b has told nothing: as expected
    assert (view.done, view.total) == (40, 160)
    view = course(report("b", 40, steps=50, seconds=0.5, tokens=300))
    assert view.seconds_left == 30 + 20  # a's 60 steps at 0.5 s are longer than b's 10
    assert view.tokens_per_second == pytest.approx(200 + 600)
    assert view.text.startswith("a 40 of 100, loss 1.000, form 0.5; b 40 of 50, ")
    assert view.text.endswith("; 800 tokens/s, 50 s left")
    course(report("a", 100, steps=100, seconds=0.5))
    view = course(report("c", 1, steps=10, seconds=4.0))
    assert view.seconds_left == 9 * 4
    assert view.done == 100 + 50 + 1


def test_progress_estimator_distrusts_the_first_steps() -> None:
    course = ProgressEstimator([[StagePlan(stage="a", steps=100, pace=1.0)]])
    assert course(report("a", 1, steps=100, seconds=0.1)).seconds_left == 99
    assert course(report("a", 50, steps=100, seconds=0.1)).seconds_left == pytest.approx(5)


def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ixc", "train", str(TINY), "--out", str(out), *more]
    with open(out.with_suffix(".log"), "ab") as errors:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)


@pytest.mark.slow
def test_run_leaves_no_process_behind_after_sigkill(
    whole: tuple[Path, list[tuple[StepReport, Remaining]]], tmp_path: Path
) -> None:
    """SIGKILL at random moments to the command alone: its stages end by themselves. One core has two cores' weights."""
    for attempt in range(40):
        run = start(tmp_path / "run", "--resume")
        try:  # longer from time to time: on a busy machine imports alone may take half a minute
            run.wait(timeout=random.uniform(6, 25) * 1.08**attempt)
        except subprocess.TimeoutExpired:
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            continue
        assert run.returncode == 0, (tmp_path / "run.log").read_text()
        break
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a stage of a killed run is still there")
    assert same_weights(whole[0], tmp_path / "run")
    assert lines(whole[0]) == lines(tmp_path / "run")


def test_layout_lm_draws_the_family_of_its_recipe(tmp_path: Path) -> None:
    """A family of one kind: no other kind of page is scored."""
    family = PageFamily(shares=(("notice", 1.0),), settings=(1,), fonts=("Lato",), coloured=0.0)
    plan = replace(read_recipe(TINY).layout_lm, family=family, steps=4)
    told: list[StepReport] = []
    layout_lm.run(plan, tmp_path, watch=told.append)
    assert {name for step in told for name in step.scores} - {"curriculum_stage", "exact_match"} == {"notice"}


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_export_stores_weights_in_the_given_type(tmp_path: Path, stored: torch.dtype) -> None:
    plan = read_recipe(TINY)
    joint = pipeline.Joint(plan.model, plan.joint, tmp_path)
    before = {name: value.clone() for name, value in joint.model.state_dict().items()}
    export(joint.model, joint.glyph_tokens, tmp_path / "model", hd=1, training={}, stored=stored)
    assert {v.dtype for v in load_file(tmp_path / "model" / "model.safetensors").values()} == {stored}
    again = pipeline.Joint(plan.model, plan.joint, tmp_path)
    pipeline.load_initial(tmp_path / "model", again.model, again.glyph_tokens)
    for name, value in again.model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name].to(stored).float()), name


def test_init_weight_average_is_the_mean_with_the_initial_weights(tmp_path: Path) -> None:
    """Half of them: the mean of the folder begun from and of what the same run gives without it."""
    plan = read_recipe(TINY)
    first = pipeline.Joint(plan.model, plan.joint, tmp_path)
    export(first.model, first.glyph_tokens, tmp_path / "first", hd=1, training={})
    found = {}
    for kept in (0.0, 0.5):
        recipe = tmp_path / f"average{kept}.py"
        recipe.write_text(
            "from dataclasses import replace\nfrom pathlib import Path\nfrom ixc.nano.drawn_config import read_recipe\n"
            f"first = read_recipe(Path({str(TINY)!r}))\n"
            "def recipe():\n"
            f"    return replace(first, init_from=Path({str(tmp_path / 'first')!r}), init_weight_average={kept},\n"
            "        joint=replace(first.joint, steps=2, muon_lr=0.1))\n"
        )
        pipeline.run(recipe, out=tmp_path / str(kept))
        found[kept] = weights(tmp_path / str(kept) / "model").state_dict()
    began, apart = weights(tmp_path / "first").state_dict(), 0.0
    for name, value in found[0.5].items():
        torch.testing.assert_close(value, (began[name] + found[0.0][name]) / 2)
        apart = max(apart, (began[name] - value).abs().max().item())
    assert apart > 1e-3
    with pytest.raises(UsageError, match="init_weight_average is 1; use 0 to below 1"):
        replace(plan, init_from=tmp_path, init_weight_average=1.0)
    with pytest.raises(UsageError, match="only together with init_from"):
        replace(plan, init_weight_average=0.5)
