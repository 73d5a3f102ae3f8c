"""Pipeline of the studies: every variant runs, finished runs are not repeated, kills do not change results."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from studies.resolution_plan import PLAN, initial_model, made_up

from ixc.errors import DataError, UsageError
from ixc.inference.model_folder import EMBEDDED
from studies.resolution import language_model, pages, pipeline
from studies.resolution.language_model import CURRICULUM, PageStage
from studies.resolution.learner import LearnerConfig
from studies.resolution.pipeline import Folders, Plan
from studies.resolution.scale import TEXT
from studies.resolution.variants import VARIANTS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    """For as long as this file's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Folders:
    """A folder with the start and the pool of the tiny plan, on pages of four forms instead of twenty."""
    patch.setattr(pages, "FORMS", 4)
    patch.setattr(
        language_model,
        "CURRICULUM",
        (PageStage(rows=2, columns=8, letters=(20, 30), pages=2, questions=2),) * len(CURRICULUM),
    )
    out = tmp_path_factory.mktemp("studies")
    folders = Folders(out=out, results=out / "results", init_from=initial_model(out))
    for job in (("vision_encoder",), ("language_model",)):
        pipeline.do(job, PLAN, folders)
    for collection, view in PLAN.needed(PLAN.variants):
        pipeline.do(("pool", collection, view.rule, str(view.hd)), PLAN, folders)
    for variant in PLAN.variants.values():
        pipeline.do(("fit", variant.merge, "1"), PLAN, folders)
    return folders


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def result(path: Path) -> dict[str, Any]:
    """A result file without what differs from start to start: time."""
    found = json.loads(path.read_text())
    return {key: value for key, value in found.items() if key not in ("cpu_seconds", "start")}


@pytest.mark.slow
def test_do_repeats_every_variant_with_the_same_result(start: Folders, one_thread: None) -> None:
    first, again = (replace(start, results=start.out / name) for name in ("first", "again"))
    for name in PLAN.variants:
        pipeline.do(("run", name, "1"), PLAN, first)
        found = result(first.results / f"{name}-1.json")
        assert sum(row["asked"] for row in found["scores"]) == 3 * 4  # three questions on a page of each form
        assert {row["view"] for row in found["scores"]} == {view.name for view in PLAN.variants[name].exams}
    pipeline.do(("run", "any", "1"), PLAN, again)
    assert result(again.results / "any-1.json") == result(first.results / "any-1.json")
    start_of = json.loads((first.results / "any-1.json").read_text())["start"]
    assert (start_of["width"], start_of["layers"]) == (TEXT.hidden_size, TEXT.num_hidden_layers) == (128, 4)


def test_run_skips_finished_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(tmp_path / "results", right={})
    begun: list[Any] = []
    monkeypatch.setattr(pipeline, "_work", lambda stages, *_: begun.append([job for stage in stages for job in stage]))
    folders = Folders(out=tmp_path, results=tmp_path / "results")
    pipeline.run(folders)
    (tmp_path / "results" / "hd9-no-newline-2.json").unlink()
    files = pipeline.run(folders)
    assert len(files) == 3 * len(VARIANTS)
    stored = [("pool", "training", "original", hd) for hd in ("9", "25", "55")]
    before = [
        ("vision_encoder",),
        ("language_model",),
        *stored,
        ("pool", "test", "original", "9"),
        ("fit", "concat", "2"),
    ]
    assert begun == [[], [*before, ("run", "hd9-no-newline", "2")]]


def test_run_refuses_results_of_another_plan(tmp_path: Path) -> None:
    made_up(tmp_path / "results", right={})
    with pytest.raises(DataError, match="other numbers \\(learner\\)"):
        pipeline.run(Folders(out=tmp_path, results=tmp_path / "results"), plan=Plan(learner=LearnerConfig(steps=9)))
    (tmp_path / "results" / "hd9-1.json").write_text("{")
    with pytest.raises(DataError, match=r"no result of python -m studies\.resolution"):
        pipeline.run(Folders(out=tmp_path, results=tmp_path / "results"))


def test_run_refuses_unknown_variants_and_no_workers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no variant hd7"):
        pipeline.run(Folders(out=tmp_path, results=tmp_path), only=("hd7",))
    with pytest.raises(UsageError, match="workers is 0"):
        pipeline.run(Folders(out=tmp_path, results=tmp_path), workers=0)


def test_runs_of_finishes_a_seed_before_the_next() -> None:
    plan = pipeline.Plan()
    runs = pipeline.runs_of(plan, ["hd9", "hd16"], ())
    assert runs == [("hd9", 1), ("hd16", 1), ("hd9", 2), ("hd16", 2), ("hd9", 3), ("hd16", 3)]


def test_run_refuses_results_of_another_language_model(tmp_path: Path) -> None:
    made_up(tmp_path / "results", right={})
    path = tmp_path / "results" / "hd9-1.json"
    run = json.loads(path.read_text())
    path.write_text(json.dumps(run | {"start": run["start"] | {"width": 256, "layers": 6}}))
    with pytest.raises(DataError, match=r"256 wide with 6 layers, and this one is 128 wide with 4 layers.*--results"):
        pipeline.run(Folders(out=tmp_path, results=tmp_path / "results"), only=("hd16",), seeds=(4,))


def test_initial_weights_refuses_another_shape(tmp_path: Path) -> None:
    model = initial_model(tmp_path)
    assert language_model.initial_weights(model)["decoder.tok_embeddings.weight"].shape == (128, 128)
    with pytest.raises(DataError, match=r"256 wide with 6 layers, and the studies' is 128 wide with 4.*--init-from"):
        language_model.initial_weights(EMBEDDED)


SCRIPT = """import sys
from pathlib import Path
from studies.resolution import pipeline
from studies.resolution_plan import PLAN
if __name__ == "__main__":
    out = Path(sys.argv[1])
    folders = pipeline.Folders(out=out, results=out / "results", init_from=Path(sys.argv[2]))
    pipeline.run(folders, plan=PLAN, workers=1)
"""


@pytest.mark.slow
def test_run_gives_the_same_results_after_kills(tmp_path: Path) -> None:
    script, model = tmp_path / "set.py", initial_model(tmp_path)
    script.write_text(SCRIPT)
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, script, whole, model], check=True, env=path)
    for seconds in (6.0, 10.0):
        running = subprocess.Popen([sys.executable, script, killed, model], env=path, start_new_session=True)
        time.sleep(seconds)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    subprocess.run([sys.executable, script, killed, model], check=True, env=path)
    for name in PLAN.variants:
        assert result(killed / "results" / f"{name}-1.json") == result(whole / "results" / f"{name}-1.json")
