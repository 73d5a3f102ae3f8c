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
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from model_folder import foreign_files
from safetensors.torch import load_file

from ixc.errors import DataError, UsageError
from ixc.model.loading import check
from ixc.nano import state
from ixc.nano.drawn_config import read_recipe
from ixc.nano.export import GLYPH_TOKENS, OLD_GLYPH_TOKENS, export, training_folder, weights
from ixc.nano.stages import character_pretrain, layout_lm
from ixc.nano.stages.joint import Joint
from ixc.nano.step_report import ProgressEstimator, Remaining, StagePlan, StepReport
from ixc.synth.config import PageFamily

room = import_module("ixc.nano.drawn_pipeline")  # the function of the same name hides it in its package
TINY = Path(__file__).with_name("tiny_recipe.py")
STEPS = {"language": 8, "sight": 6, "align": 3, "spelling": 4, "joint": 4}
"""Of the tiny recipe."""


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
    room.run(TINY, out=out, watch=lambda *both: told.append(both))
    return out, told


@pytest.mark.slow
def test_every_step_of_every_stage_is_told(whole: tuple[Path, list[tuple[StepReport, Remaining]]]) -> None:
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
def test_killed_in_every_stage_and_gone_on_with(
    whole: tuple[Path, list[tuple[StepReport, Remaining]]], tmp_path: Path
) -> None:
    """Same weights, and the same lines in every log."""
    for stage, steps in STEPS.items():
        moment = random.randint(1, steps)

        def kill(step: StepReport, _: Remaining, stage: str = stage, moment: int = moment) -> None:
            if (step.stage, step.step) == (stage, moment):
                raise Killed

        with pytest.raises(Killed):
            room.run(TINY, out=tmp_path, resume=True, watch=kill)
    room.run(TINY, out=tmp_path, resume=True)
    assert same_weights(whole[0], tmp_path)
    assert lines(whole[0]) == lines(tmp_path)


@pytest.mark.parametrize("stage", ["language", "sight"])
def test_a_stage_killed_twice_and_gone_on_with(stage: str, tmp_path: Path) -> None:
    """The same state and the same lines, whatever was done between the last state and the kill."""
    plan = read_recipe(TINY)
    how = {"language": (layout_lm.run, plan.language), "sight": (character_pretrain.run, replace(plan.sight, steps=5))}
    run, one = how[stage]
    run(one, tmp_path / "whole")
    for moment in sorted(random.sample(range(1, 6), 2)):

        def kill(step: StepReport, moment: int = moment) -> None:
            if step.step == moment:
                raise Killed

        with pytest.raises(Killed):
            run(one, tmp_path / "broken", watch=kill)
    run(one, tmp_path / "broken")
    whole, broken = (state.load(tmp_path / name / f"{stage}.pt") for name in ("whole", "broken"))
    weights = {"language": "reader", "sight": "spotter"}[stage]
    assert whole is not None
    assert broken is not None
    assert all(torch.equal(whole[weights][name], broken[weights][name]) for name in whole[weights])
    assert lines(tmp_path / "whole", stage) == lines(tmp_path / "broken", stage)


def with_parts(begin: Path, folder: Path) -> Path:
    """A recipe that goes on from a model, deeper, with two parts a step and pointers."""
    recipe = folder / "parts.py"
    recipe.write_text(
        "from dataclasses import replace\nfrom pathlib import Path\nfrom ixc.nano.drawn_config import read_recipe\n"
        "from ixc.nano.losses.attention_supervision import Pointer\n"
        "POINTERS = (Pointer(layer=2, head=1, weight=0.3), Pointer(layer=1, head=0, weight=0.1, at='asked'),\n"
        "    Pointer(layer=1, head=1, weight=0.1, at='named'), Pointer(layer=1, head=0, weight=0.1, at='beside'),\n"
        "    Pointer(layer=2, head=0, weight=0.1, at='owner'))\n"
        f"def recipe():\n    first = read_recipe(Path({str(TINY)!r}))\n"
        "    first.model.text_config.num_hidden_layers = 3\n"
        "    first.model.vision_config.num_hidden_layers = 2\n"
        f"    return replace(first, begin=Path({str(begin)!r}), again=True,\n"
        "        language=replace(first.language, parts=2, focused=True, pointers=POINTERS, steps=5,\n"
        "            aloud=0.3, bearings=(0, 0.1),\n"
        "            climbed=(0.0, 0.5, 0.5), text=first.model.text_config),\n"
        "        spelling=replace(first.spelling, steps=3, parts=2),\n"
        "        joint=replace(first.joint, parts=2, focused=True, pointers=POINTERS, steps=3, aloud=0.5,\n"
        "            bearings=(0, 0.1)), quick=True)\n"
    )
    return recipe


@pytest.mark.slow
def test_steps_in_parts_have_the_same_weights_on_one_core_and_on_two(
    whole: tuple[Path, list[tuple[StepReport, Remaining]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two: processes that meet, killed in each stage. The decoder has grown from one layer to three."""
    recipe, told = with_parts(whole[0] / "model", tmp_path), []
    room.run(recipe, out=tmp_path / "one", watch=lambda *both: told.append(both))
    assert [(step.stage, step.step) for step, _ in told] == [
        *(("language", i) for i in range(1, 6)),
        *(("spelling", i) for i in range(1, 4)),
        *(("joint", i) for i in range(1, 4)),
    ]
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for stage in ("language", "spelling", "joint"):

        def kill(step: StepReport, _: Remaining, stage: str = stage) -> None:
            if (step.stage, step.step) == (stage, 3 if stage == "language" else 2):
                raise Killed

        with pytest.raises(Killed):
            room.run(recipe, out=tmp_path / "two", resume=True, watch=kill)
    room.run(recipe, out=tmp_path / "two", resume=True)
    assert same_weights(tmp_path / "one", tmp_path / "two")
    stages = ("language", "spelling", "joint")
    assert lines(tmp_path / "one", *stages) == lines(tmp_path / "two", *stages)
    names = load_file(tmp_path / "two" / "model" / "model.safetensors")
    assert sum(name.endswith("attention_norm.weight") for name in names) == 3
    assert sum(name.endswith("layer_norm1.weight") for name in names) == 2


def exported(folder: Path) -> Joint:
    """A tiny model in which nothing is silent, written to `model` there."""
    plan = read_recipe(TINY)
    small = Joint(plan.model, plan.joint, folder)
    for parameter in (*small.model.parameters(), *small.symbols.parameters()):
        torch.nn.init.normal_(parameter, std=0.05)
    export(small.model, small.symbols, folder / "model", hd=1, training={})
    return small


@pytest.mark.parametrize("width", [32, 48, 64])
def test_a_larger_model_sees_and_answers_as_the_one_it_began_as(tmp_path: Path, width: int) -> None:
    """Until it learns: what is added says nothing, and all of it can learn."""
    small = exported(tmp_path)
    plan = read_recipe(TINY)
    plan.model.text_config.num_hidden_layers, plan.model.vision_config.num_hidden_layers = 4, 3
    text = plan.model.text_config
    text.hidden_size, text.num_attention_heads, text.num_key_value_heads = width, width // 16, width // 16
    text.intermediate_size = 3 * width
    large = room.Joint(plan.model, plan.joint, tmp_path)
    room.begin(tmp_path / "model", large.model, large.symbols)
    assert large.model.num_parameters() > small.model.num_parameters()
    reads = large.model.model.language_model.layers[0].feed_forward.w1.base.weight.detach()[:, :32]
    old, new = reads[:64].norm(dim=1).mean(), reads[64:].norm(dim=1).mean()
    assert new.item() == pytest.approx(old.item(), rel=1e-4), "new units begin as loud as old ones"
    pixels, grids = torch.randn(1, 3, 336, 336), torch.tensor([[1, 1]])
    both = [joint.model for joint in (small, large)]
    with torch.no_grad():
        first, second = (torch.stack(model.model.get_image_features(pixels, grids).pooler_output) for model in both)
        # Up to rounding: products of other widths add in another order on some processors (a Xeon, not an EPYC).
        torch.testing.assert_close(second[..., :32], first, rtol=1e-5, atol=1e-6)
        assert not second[..., 32:].any()
        types = torch.ones(first.shape[:2], dtype=torch.long)
        answers = [
            model(inputs_embeds=seen, mm_token_type_ids=types).logits
            for model, seen in zip(both, (first, second), strict=True)
        ]
    far = (answers[1] - answers[0]).abs().max() / answers[0].abs().max()
    assert far < (1e-6 if width == 32 else 2e-2)  # the epsilon of a norm weighs more where channels are zero
    assert torch.equal(large.symbols.rows[:, :32], small.symbols.rows)


def test_the_added_channels_learn(tmp_path: Path) -> None:
    """Neither what reads nor what writes them is stuck at zero."""
    exported(tmp_path)
    plan = read_recipe(TINY)
    text = plan.model.text_config
    text.hidden_size, text.num_attention_heads, text.num_key_value_heads, text.intermediate_size = 48, 3, 3, 96
    large = room.Joint(plan.model, plan.joint, tmp_path)
    room.begin(tmp_path / "model", large.model, large.symbols)
    before = {name: value.clone() for name, value in large.model.model.language_model.state_dict().items()}
    for _ in range(2):
        large.joint_step()
    for name, value in large.model.model.language_model.state_dict().items():
        if name.endswith(("wo.base.weight", "w2.base.weight")):
            assert (value[32:] != before[name][32:]).any(), name
            assert (value[:, -8:] != before[name][:, -8:]).any(), name
        elif name.endswith(("wqkv.base.weight", "w1.base.weight")):
            assert (value[:, 32:] != before[name][:, 32:]).any(), name


@pytest.mark.slow
def test_a_run_goes_on_from_a_model_with_all_stages(
    whole: tuple[Path, list[tuple[StepReport, Remaining]]], tmp_path: Path
) -> None:
    """Killed in each of them; the letters of the first run stand still until the joint stage."""
    recipe = tmp_path / "more.py"
    recipe.write_text(
        "from dataclasses import replace\nfrom pathlib import Path\nfrom ixc.nano.drawn_config import read_recipe\n"
        f"def recipe():\n    first = read_recipe(Path({str(TINY)!r}))\n"
        f"    return replace(first, begin=Path({str(whole[0] / 'model')!r}), again=True)\n"
    )
    room.run(recipe, out=tmp_path / "whole")
    for stage in ("language", "spelling", "joint"):

        def kill(step: StepReport, _: Remaining, stage: str = stage) -> None:
            if (step.stage, step.step) == (stage, 3):
                raise Killed

        with pytest.raises(Killed):
            room.run(recipe, out=tmp_path / "broken", resume=True, watch=kill)
    room.run(recipe, out=tmp_path / "broken", resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "broken")
    name = "model.tok_embeddings.weight"
    began, ended = (load_file(out / "model" / "model.safetensors") for out in (whole[0], tmp_path / "whole"))
    learned = state.load(tmp_path / "whole" / "language.pt")
    assert learned is not None
    assert torch.equal(learned["reader"]["decoder.tok_embeddings.weight"], began[name])
    assert not torch.equal(ended[name], began[name])


@pytest.mark.parametrize("part", ["tower", "heads"])
def test_what_cannot_grow_is_refused(tmp_path: Path, part: str) -> None:
    exported(tmp_path)
    plan = read_recipe(TINY)
    if part == "tower":
        plan.model.vision_config.hidden_size = 64
    else:
        plan.model.text_config.hidden_size, plan.model.text_config.head_dim = 64, 32
    large = Joint(plan.model, plan.joint, tmp_path)
    with pytest.raises(DataError, match="size mismatch" if part == "tower" else "are 16 wide, those of the recipe 32"):
        room.begin(tmp_path / "model", large.model, large.symbols)


def test_export_writes_a_model_folder_and_training_state_beside_it(tmp_path: Path) -> None:
    for _ in range(2):  # the second time over the first
        exported(tmp_path)
        assert foreign_files(tmp_path / "model") == set()
        check(tmp_path / "model")
        assert [path.name for path in training_folder(tmp_path / "model").iterdir()] == [GLYPH_TOKENS]
        assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"model", "model_training"}


@pytest.mark.parametrize("place", ["beside", "old", "link"])
def test_begin_finds_glyph_tokens(tmp_path: Path, place: str) -> None:
    """Beside the folder, in the folder itself as older versions wrote them, beside what a link leads to."""
    small, folder = exported(tmp_path), tmp_path / "model"
    if place == "old":
        (training_folder(folder) / GLYPH_TOKENS).rename(folder / OLD_GLYPH_TOKENS)
    if place == "link":
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "name").symlink_to(folder)
        folder = tmp_path / "other" / "name"
    plan = read_recipe(TINY)
    joint = room.Joint(plan.model, plan.joint, tmp_path)
    room.begin(folder, joint.model, joint.symbols)
    assert torch.equal(joint.symbols.rows, small.symbols.rows)
    assert torch.equal(joint.symbols.marks, small.symbols.marks)


@pytest.mark.parametrize("content", [None, b"torn"])
def test_begin_without_whole_glyph_tokens_is_refused(tmp_path: Path, content: bytes | None) -> None:
    exported(tmp_path)
    (file := training_folder(tmp_path / "model") / GLYPH_TOKENS).unlink()
    if content is not None:
        file.write_bytes(content)
    plan = read_recipe(TINY)
    joint = room.Joint(plan.model, plan.joint, tmp_path)
    reason = "model_training/glyph_tokens.safetensors is not beside it" if content is None else ""
    with pytest.raises(DataError, match=rf"cannot be gone on from \(.*{reason}.*name a folder that ixc train wrote"):
        room.begin(tmp_path / "model", joint.model, joint.symbols)


def test_begin_from_the_embedded_model() -> None:
    """As `recipes/nano_more.py` and `ixc bench ablate` begin."""
    from ixc.inference.model_folder import EMBEDDED
    from studies.resolution.language_model import embedded

    found, learned = embedded(), load_file(training_folder(EMBEDDED) / GLYPH_TOKENS)
    assert learned.keys() == {"rows", "marks"}
    assert all(torch.equal(found[f"symbols.{name}"], value) for name, value in learned.items())


def test_an_error_of_a_stage_is_the_error_of_the_run(tmp_path: Path) -> None:
    """Across the pipe, as one line; the other stage ends."""
    (tmp_path / "sight.pt").write_bytes(b"torn")
    end, other = room.get_context("spawn").Pipe(duplex=False)
    room._alone("sight", read_recipe(TINY), tmp_path, other)
    other.close()
    with pytest.raises(DataError, match=r"sight\.pt is not a whole training state"):
        room._listen({end: "sight"}, None)


@pytest.mark.slow
def test_a_recipe_that_is_edited_meanwhile_changes_nothing(
    whole: tuple[Path, list[tuple[StepReport, Remaining]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every stage has processes of its own, which begin behind the edit."""
    recipe = with_parts(whole[0] / "model", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    model = room.run(recipe, out=tmp_path / "run", watch=lambda *_: recipe.write_text("def recipe():\n    return 3\n"))
    assert (model / "model.safetensors").is_file()


def report(stage: str, step: int, *, steps: int, seconds: float, tokens: int = 100) -> StepReport:
    return StepReport(
        stage=stage, step=step, steps=steps, loss=1.0, tokens=tokens, seconds=seconds, scores={"form": 0.5}
    )


def test_a_stage_without_steps_is_in_no_group() -> None:
    """None at all: the joint stage alone is left, and its time can be told."""
    plan = replace(read_recipe(TINY), begin=Path("model"), again=True)
    assert room.groups(plan) == (("language", "spelling"),)
    parted = replace(plan, spelling=replace(plan.spelling, parts=2))
    assert room.groups(parted) == (("language",), ("spelling",))
    still = replace(plan, spelling=replace(plan.spelling, steps=0))
    assert room.groups(still) == (("language",),)
    none = replace(still, language=replace(plan.language, steps=0))
    assert room.groups(none) == ()
    assert [[leg.stage for leg in group] for group in room.legs(none)] == [["joint"]]
    assert ProgressEstimator(room.legs(none))(report("joint", 1, steps=4, seconds=2.0)).seconds_left > 0


def test_the_time_left_counts_stages_side_by_side_once() -> None:
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


def test_the_small_first_steps_do_not_promise_too_much() -> None:
    course = ProgressEstimator([[StagePlan(stage="a", steps=100, pace=1.0)]])
    assert course(report("a", 1, steps=100, seconds=0.1)).seconds_left == 99
    assert course(report("a", 50, steps=100, seconds=0.1)).seconds_left == pytest.approx(5)


def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ixc", "train", str(TINY), "--out", str(out), *more]
    with open(out.with_suffix(".log"), "ab") as errors:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)


@pytest.mark.slow
def test_killed_for_good_it_leaves_nobody_behind(
    whole: tuple[Path, list[tuple[StepReport, Remaining]]], tmp_path: Path
) -> None:
    """SIGKILL at random moments to the command alone: its stages end by themselves. One core has two cores' weights."""
    for _ in range(40):
        run = start(tmp_path / "run", "--resume")
        try:
            run.wait(timeout=random.uniform(6, 25))
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


def test_lessons_and_family_of_a_recipe_are_what_is_drawn(tmp_path: Path) -> None:
    """A family of one kind: no other kind of page is scored."""
    family = PageFamily(shares=(("notice", 1.0),), settings=(1,), fonts=("Lato",), coloured=0.0)
    plan = replace(read_recipe(TINY).language, family=family, steps=4)
    told: list[StepReport] = []
    layout_lm.run(plan, tmp_path, watch=told.append)
    assert {name for step in told for name in step.scores} - {"lesson", "read"} == {"notice"}


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_are_stored_as_asked_for_and_gone_on_from(tmp_path: Path, stored: torch.dtype) -> None:
    plan = read_recipe(TINY)
    joint = room.Joint(plan.model, plan.joint, tmp_path)
    before = {name: value.clone() for name, value in joint.model.state_dict().items()}
    export(joint.model, joint.symbols, tmp_path / "model", hd=1, training={}, stored=stored)
    assert {v.dtype for v in load_file(tmp_path / "model" / "model.safetensors").values()} == {stored}
    again = room.Joint(plan.model, plan.joint, tmp_path)
    room.begin(tmp_path / "model", again.model, again.symbols)
    for name, value in again.model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name].to(stored).float()), name


def test_a_share_of_the_weights_begun_from_is_kept(tmp_path: Path) -> None:
    """Half of them: the mean of the folder begun from and of what the same run gives without it."""
    plan = read_recipe(TINY)
    first = room.Joint(plan.model, plan.joint, tmp_path)
    export(first.model, first.symbols, tmp_path / "first", hd=1, training={})
    found = {}
    for kept in (0.0, 0.5):
        recipe = tmp_path / f"kept{kept}.py"
        recipe.write_text(
            "from dataclasses import replace\nfrom pathlib import Path\nfrom ixc.nano.drawn_config import read_recipe\n"
            f"first = read_recipe(Path({str(TINY)!r}))\n"
            "def recipe():\n"
            f"    return replace(first, begin=Path({str(tmp_path / 'first')!r}), kept={kept},\n"
            "        joint=replace(first.joint, steps=2, muon_lr=0.1))\n"
        )
        room.run(recipe, out=tmp_path / str(kept))
        found[kept] = weights(tmp_path / str(kept) / "model").state_dict()
    began, apart = weights(tmp_path / "first").state_dict(), 0.0
    for name, value in found[0.5].items():
        torch.testing.assert_close(value, (began[name] + found[0.0][name]) / 2)
        apart = max(apart, (began[name] - value).abs().max().item())
    assert apart > 1e-3
    with pytest.raises(UsageError, match="kept=1 of the weights"):
        replace(plan, begin=tmp_path, kept=1.0)
    with pytest.raises(UsageError, match="with `begin` only"):
        replace(plan, kept=0.5)
