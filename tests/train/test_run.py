"""`ixc train` with a TrainConfig and `ixc merge`, as a user starts them: data, log, stop and resume, result."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands import Run
from model_folder import foreign_files
from PIL import Image
from safetensors.torch import load_file

from ixc.data.mixture import Mixture, Source
from ixc.data.records import JsonLines
from ixc.errors import UsageError, WeightsError
from ixc.inference.engine import load as load_engine
from ixc.model.loading import load, read_config
from ixc.runlog.jsonl import JsonlLog, read
from ixc.runlog.progress import ProgressLogger, StepProgress, StepResult
from ixc.train.adapter_files import find_adapter
from ixc.train.config import Adapter, TrainConfig, read_train_config
from ixc.train.export import load_adapter, merge_adapter
from ixc.train.param_groups import add_adapter
from ixc.train.setup import build_model, config_for_model, select_resolution, total_steps

RECIPES = Path(__file__).parents[2] / "recipes"
RECORDS, STEPS = 5, 5  # 2 epochs over 5 records, 2 a step

RECIPE = """
from dataclasses import replace
from pathlib import Path
from ixc.model.loading import read_config
from ixc.train.config import Adapter, Resolution, TrainedPart, read_train_config

def recipe():
    config = read_train_config(Path({nano!r}))
    return replace(
        config, name="tiny", model=read_config(Path({base!r})), learning_rate=2e-2, global_batch_size=2, epochs=2,
        max_seq_length=1024, max_tokens_per_batch=1024, resolutions=(Resolution(hd=1, dynamic=False),), {more}
    )
"""


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talks")
    lines = []
    for i in range(RECORDS):
        Image.effect_noise((100 + 50 * i, 300), 60).convert("RGB").save(folder / f"{i}.png")
        turns = [{"from": "human", "value": "<ImageHere>Which?"}, {"from": "gpt", "value": f"Number {i}."}]
        lines.append(json.dumps({"image": f"{i}.png", "conversations": turns}))
    (folder / "talks.jsonl").write_text("\n".join(lines))
    return folder / "talks.jsonl"


@pytest.fixture(scope="module")
def recipes(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("recipes")
    everything = 'adapter=None, trained=(TrainedPart(part="LLM"), TrainedPart(part="projector"))'
    for name, more in (("lora", ""), ("full", everything)):
        text = RECIPE.format(nano=str(RECIPES / "lora_nano.py"), base=str(tiny_folder), more=more)
        (folder / f"{name}.py").write_text(text)
    return SimpleNamespace(lora=folder / "lora.py", full=folder / "full.py")


def steps_in(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]


@contextmanager
def stop_at_3() -> Iterator[Callable[[str, int, int], None]]:
    """In the place of the progress line: SIGTERM after step 3."""

    def show(what: str, done: int, total: int) -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    yield show


def test_train_command_stopped_resumed_and_merged(
    run: Run,
    tiny_folder: Path,
    talks: Path,
    recipes: SimpleNamespace,
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["train", recipes.lora, "--data", talks, "--model", tiny_folder]
    code, out, err = run(*command, "--out", tmp_path / "whole")
    assert (code, out) == (0, f"{tmp_path / 'whole' / 'adapter'}\n"), err
    assert f"step {STEPS} of {STEPS}, loss " in err
    assert steps_in(tmp_path / "whole") == [1, 2, 3, 4, 5]

    parts = tmp_path / "parts"
    with monkeypatch.context() as patch:
        patch.setattr("ixc.cli.train.ticker", stop_at_3)
        code, out, err = run(*command, "--out", parts)
    assert (code, out) == (0, "")
    assert f"stopped at step 3 of {STEPS}; the same command with --resume goes on" in err
    with (parts / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "loss": 1}\n{"step": 5, "lo')
    code, _, err = run("merge", parts, tmp_path / "early")
    assert (code, "the run is not finished" in err) == (2, True)
    code, _, err = run(*command, "--out", parts)
    assert (code, "add --resume" in err) == (2, True)
    wider = recipes.lora.with_name("wider.py")
    text = recipes.lora.read_text().replace("epochs=2", "adapter=Adapter(r=4, alpha=4, dropout=0), epochs=2")
    wider.write_text(text)
    code, _, err = run("train", wider, *command[2:], "--out", parts, "--resume")
    assert (code, "of another run (different: parts that learn)" in err) == (2, True)
    code, out, err = run(*command, "--out", parts, "--resume", "--save-every", 1)
    assert (code, out) == (0, f"{parts / 'adapter'}\n"), err
    assert steps_in(parts) == [1, 2, 3, 4, 5]
    first, second = (load_file(find_adapter(k) / "adapter_model.safetensors") for k in (tmp_path / "whole", parts))
    assert all(torch.equal(first[name], second[name]) for name in first)

    code, out, err = run("merge", parts, tmp_path / "merged")
    assert (code, out, err) == (0, f"{tmp_path / 'merged'}\n", "")
    assert foreign_files(tmp_path / "merged") == set()
    assert_merged(tiny_folder, parts / "adapter", tmp_path / "merged", page)
    code, _, err = run("merge", parts, tmp_path / "merged")
    assert (code, "name a new or an empty folder" in err) == (2, True)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def assert_merged(base: Path, adapter: Path, folder: Path, page: Path) -> None:
    """The folder gives the logits of base and adapter, and answers as an engine with them does."""
    engine = load_engine(folder)
    assert engine.model.generation_config.max_new_tokens == 12
    ids = torch.randint(3, 90, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = load(base).eval()(ids).logits
        wanted = load_adapter(load(base), adapter).eval()(ids).logits
        found = load(folder).eval()(ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)  # float32, sums in another order
    assert (wanted - plain).abs().max() > 1e-2
    answer = engine.ask([page], "Which?").text
    engine.model = load_adapter(load(base), adapter).eval()
    assert engine.ask([page], "Which?").text == answer


def test_train_command_without_adapter_writes_a_model(
    run: Run, tiny_folder: Path, talks: Path, recipes: SimpleNamespace, page: Path, tmp_path: Path
) -> None:
    lines = talks.read_text().splitlines()
    broken = talks.with_name("broken.jsonl")
    broken.write_text("\n".join([*lines, "{", lines[0].replace("0.png", "none.png")]))
    command = ["train", recipes.full, "--data", f"{broken}:2", "--model", tiny_folder, "--out", tmp_path / "run"]
    code, _, err = run(*command)
    assert code == 1
    assert f"2 of 7 records cannot be used, 0 may be so; the first: {broken} line 6: broken JSON" in err
    assert not (tmp_path / "run").exists()
    code, out, err = run(*command, "--skip-invalid")
    assert (code, out) == (0, f"{tmp_path / 'run' / 'model'}\n"), err
    assert steps_in(tmp_path / "run") == [1, 2, 3, 4, 5]
    assert foreign_files(tmp_path / "run" / "model") == set()
    engine = load_engine(tmp_path / "run" / "model")
    assert engine.ask([page], "Which?").seconds > 0
    record = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    assert record["data"] == {str(broken): {"records": RECORDS, "hd": 2, "dynamic": False}}
    before, after = (load_file(k / "model.safetensors") for k in (tiny_folder, tmp_path / "run" / "model"))
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"model", "vision_proj"}  # published names: LLM and projector


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{nano}", "--data", "{talks}", "--hd", "4"], "takes no --data and no --hd"),
        (["{nano}", "--skip-invalid"], "takes no --skip-invalid"),
        (["{lora}"], "0 files are named; add --data FILE.jsonl"),
        (["{lora}", "--data", "{talks}"], "is for a model with width 32"),
        (["{lora}", "--data", "{talks}", "--data", "{talks}", "--model", "{tiny}"], "is named 2 times"),
        (["{lora}", "--data", "{talks}:9", "--hd", "4", "--model", "{tiny}"], "--hd 4 has no effect"),
        (["{lora}", "--data", "{talks}", "--model", "{tiny}", "--save-every", "0"], "0 is not in the range x>=1"),
        (["{lora}", "--data", "{talks}", "--model", "{tiny}", "--device", "tpu"], "no device 'tpu'"),
    ],
)
def test_train_command_used_wrongly(
    run: Run,
    tiny_folder: Path,
    talks: Path,
    recipes: SimpleNamespace,
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    names = {"nano": RECIPES / "nano.py", "lora": recipes.lora, "talks": talks, "tiny": tiny_folder}
    code, _, err = run("train", *(each.format(**names) for each in arguments), "--out", tmp_path / "run")
    assert (code, words in err) == (2, True), err
    assert not (tmp_path / "run").exists()


def test_config_for_model_refuses_a_quantised_folder(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "q")
    path = tmp_path / "q" / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"quantization_config": {"quant_method": "bitsandbytes"}})
    )
    for call in (
        lambda folder: config_for_model(three_bits(tiny_folder), folder),
        lambda folder: build_model(three_bits(tiny_folder), folder, torch.device("cpu")),
        lambda folder: merge_adapter(tmp_path, folder, None, tmp_path / "new"),
    ):
        with pytest.raises(WeightsError, match=r"holds quantised weights \(bitsandbytes\), and .* needs plain ones"):
            call(tmp_path / "q")
    assert not (tmp_path / "new").exists()


def test_select_resolution_of_several_needs_a_choice(tiny_folder: Path) -> None:
    paper = read_train_config(RECIPES / "sft_4khd.py")
    with pytest.raises(UsageError, match="2 settings"):
        select_resolution(paper, None)
    assert select_resolution(paper, 25).dynamic
    assert not select_resolution(paper, 9).dynamic
    with pytest.raises(UsageError, match=r"3 bits; set weight_bits to one of \(16, 4\)"):
        config_for_model(three_bits(tiny_folder), tiny_folder)


def three_bits(base: Path) -> TrainConfig:
    stage = read_train_config(RECIPES / "qlora.py")
    assert stage.adapter is not None
    return replace(stage, model=read_config(base), max_seq_length=1024, adapter=replace(stage.adapter, weight_bits=3))


def test_total_steps_of_epochs(talks: Path) -> None:
    mixture = Mixture([Source(name="talks", records=JsonLines(talks), hd=1)])
    assert total_steps(read_train_config(RECIPES / "lora_nano.py"), mixture) == 2  # 3 epochs of 5, 8 a step
    assert total_steps(read_train_config(RECIPES / "sft_4khd.py"), mixture) == 3500


def test_load_adapter_refuses_that_of_another_model(tiny_folder: Path, tmp_path: Path) -> None:
    model = with_lora(tiny_folder, layers="0")
    model.save_pretrained(tmp_path, save_embedding_layers=False)  # type: ignore[operator]
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    settings["target_modules"] = settings["target_modules"].replace("0", r"\d")
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match="10 tensors and 10 of them fit the model, which takes 20"):
        load_adapter(load(tiny_folder), tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="is damaged or of another model"):
        load_adapter(load(tiny_folder), tmp_path)


def with_lora(base: Path, *, layers: str) -> torch.nn.Module:
    return add_adapter(
        load(base), Adapter(r=2, alpha=2, dropout=0, target_modules=rf".*language_model\.layers\.{layers}\..*\.base")
    )


def test_jsonl_log_has_every_step_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 2}\nnull\n{"step": 3}\n{"step": 4')
    log = JsonlLog(path)
    log.add({"step": 3, "loss": 0.5})
    log.add({"step": 4, "loss": 0.25})
    assert [line["step"] for line in read(path)] == [1, 2, 3, 4]
    assert path.read_text().count("\n") == 4
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_jsonl_log_reads_fields_of_an_older_version(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": 2.0, "norm": 0.5, "rate": 0.001, "held_out_loss": 1.5}\n')
    assert list(read(path)) == [{"step": 1, "loss": 2.0, "grad_norm": 0.5, "learning_rate": 0.001, "eval_loss": 1.5}]
    JsonlLog(path).add({"step": 2, "loss": 1.0})
    assert [line["step"] for line in read(path)] == [1, 2]


def test_progress_logger_uses_the_estimator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 6.0])
    # The name in that module alone: threads of other tests' servers read the clock, too.
    monkeypatch.setattr("ixc.runlog.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    seen: list[StepProgress] = []
    logger = ProgressLogger(JsonlLog(tmp_path / "log.jsonl"), 10, [seen.append])
    for step in (1, 2):
        logger(StepResult(step=step, loss=1.0, grad_norm=1.0, learning_rate=1e-3, tokens=300, labels=3))
    assert [one.seconds_left for one in seen] == [18.0, 24.0]  # 9 steps of 2 s; 8 steps of 3 s on average
    assert seen[-1].tokens_per_second == 100.0
    assert "step 2 of 10, loss 1.0000, rate 1.00e-03, 100 tokens/s, 24 s left" in seen[-1].text()


def test_train_command_accepts_old_option_spellings_with_a_note(run: Run, tmp_path: Path) -> None:
    old = {"--skip-broken": "--skip-invalid", "--recompute": "--gradient-checkpointing",
           "--no-recompute": "--no-gradient-checkpointing", "--held-out=x": "--eval-data",
           "--track=tensorboard": "--report-to"}  # fmt: skip
    for given, new in old.items():
        code, _, err = run("train", RECIPES / "lora_nano.py", given, "--out", tmp_path / "run")
        assert code in (1, 2)  # no --data, or no file x: refused only after the option was understood
        assert f"note: {given.partition('=')[0]} is now {new}" in err
        assert "No such option" not in err
    code, _, err = run("train", RECIPES / "lora_nano.py", "--skip-invalid", "--out", tmp_path / "run")
    assert (code, "note:" in err) == (2, False)


@pytest.mark.slow
def test_readme_fine_tuning_in_three_commands(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word, with eight pages instead of 1600, and three questions."""
    readme = (RECIPES.parent / "README.md").read_text(encoding="utf-8")
    block = readme.partition("## Fine-tuning in three commands")[2].partition("```console\n")[2].partition("\n```")[0]
    commands = [
        line.removeprefix("$ ixc ").replace("-n 1600", "-n 8").replace("-n 200", "-n 3").split()
        for line in block.splitlines()
    ]
    assert [command[0] for command in commands] == ["synth", "train", "eval"]
    (tmp_path / "recipes").symlink_to(RECIPES)
    monkeypatch.chdir(tmp_path)
    for command in commands:
        code, out, err = run(*command)
        assert code == 0, err
    assert "| field |" in out
    steps = [json.loads(line) for line in (tmp_path / "runs/lora_boarding/log.jsonl").read_text().splitlines()]
    assert steps[0]["loss"] > 1.5  # nothing like the pages it knows
    page = next((tmp_path / "passes").glob("*.png"))
    assert load_engine(tmp_path / "runs/lora_boarding/model").ask([page], "What is the Gate?").text is not None


def test_train_command_dry_run_and_evaluation(
    run: Run, tiny_folder: Path, talks: Path, recipes: SimpleNamespace, tmp_path: Path
) -> None:
    command = ["train", recipes.lora, "--data", talks, "--model", tiny_folder, "--out", tmp_path / "run"]
    code, out, err = run(*command, "--dry-run")
    assert code == 0, err
    assert f"{STEPS} steps of 2 conversations, {RECORDS} in the data" in out
    assert not (tmp_path / "run").exists()
    page = Path(out.splitlines()[-1]).read_text(encoding="utf-8")
    learned = re.findall(r'<span class="learned">(.*?)</span>', page.partition("<article>")[2], re.S)
    assert len(learned) == page.count("<img") == 2
    assert all(re.match(r"Number \d\.", answer) for answer in learned)
    assert "Which?" in page
    assert "http" not in page

    code, _, err = run(*command, "--eval-data", talks, "--save-every", 3, "--merge")
    assert code == 0, err
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "eval_loss" in line] == [3, 5]
    assert log[-1]["eval_loss"] < log[0]["loss"]
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    code, _, err = run("train", recipes.full, *command[2:-1], tmp_path / "other", "--merge")
    assert (code, "0 adapters to merge" in err) == (2, True)
