"""The whole set: every variant learns under its switches, nothing finished is done again, kills change nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from studies.tiny import PLAN, made_up

from ixc.errors import DataError, UsageError
from studies.resolution import language_model, pages, pipeline
from studies.resolution.language_model import LESSONS, Lesson
from studies.resolution.learner import LearnerRecipe
from studies.resolution.pipeline import Plan
from studies.resolution.variants import VARIANTS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    """For as long as this file's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Path:
    """A folder with the start and the pool of the tiny plan, on pages of four forms instead of twenty."""
    patch.setattr(pages, "FORMS", 4)
    patch.setattr(
        language_model, "LESSONS", (Lesson(rows=2, columns=8, letters=(20, 30), pages=2, questions=2),) * len(LESSONS)
    )
    out = tmp_path_factory.mktemp("ablate")
    for job in (("eyes",), ("hand",)):
        pipeline.do(job, PLAN, out, out / "results")
    for collection, view in PLAN.needed(PLAN.variants):
        pipeline.do(("pool", collection, view.rule, str(view.hd)), PLAN, out, out / "results")
    for variant in PLAN.variants.values():
        pipeline.do(("fit", variant.merge, "1"), PLAN, out, out / "results")
    return out


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
def test_every_variant_runs_and_runs_again_to_the_same_result(start: Path, one_thread: None) -> None:
    for name in PLAN.variants:
        pipeline.do(("run", name, "1"), PLAN, start, start / "first")
        found = result(start / "first" / f"{name}-1.json")
        assert sum(row["asked"] for row in found["scores"]) == 3 * 4  # three questions on a page of each form
        assert {row["view"] for row in found["scores"]} == {view.name for view in PLAN.variants[name].exams}
    pipeline.do(("run", "any", "1"), PLAN, start, start / "again")
    assert result(start / "again" / "any-1.json") == result(start / "first" / "any-1.json")


def test_what_is_finished_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(tmp_path / "results", right={})
    begun: list[Any] = []
    monkeypatch.setattr(pipeline, "_work", lambda stages, *_: begun.append([job for stage in stages for job in stage]))
    pipeline.run(tmp_path, tmp_path / "results")
    (tmp_path / "results" / "hd9-no-newline-2.json").unlink()
    files = pipeline.run(tmp_path, tmp_path / "results")
    assert len(files) == 3 * len(VARIANTS)
    shelves = [("pool", "training", "original", hd) for hd in ("9", "25", "55")]
    before = [("eyes",), ("hand",), *shelves, ("pool", "test", "original", "9"), ("fit", "concat", "2")]
    assert begun == [[], [*before, ("run", "hd9-no-newline", "2")]]


def test_results_of_other_numbers_are_refused(tmp_path: Path) -> None:
    made_up(tmp_path / "results", right={})
    with pytest.raises(DataError, match="other numbers \\(learner\\)"):
        pipeline.run(tmp_path, tmp_path / "results", plan=Plan(learner=LearnerRecipe(steps=9)))
    (tmp_path / "results" / "hd9-1.json").write_text("{")
    with pytest.raises(DataError, match="no result of ixc bench ablate"):
        pipeline.run(tmp_path, tmp_path / "results")


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no variant hd7"):
        pipeline.run(tmp_path, tmp_path, only=("hd7",))
    with pytest.raises(UsageError, match="workers is 0"):
        pipeline.run(tmp_path, tmp_path, workers=0)


def test_seeds_come_one_after_the_other() -> None:
    plan = pipeline.Plan()
    runs = pipeline.runs_of(plan, ["hd9", "hd16"], ())
    assert runs == [("hd9", 1), ("hd16", 1), ("hd9", 2), ("hd16", 2), ("hd9", 3), ("hd16", 3)]


@pytest.mark.slow
def test_a_killed_set_ends_with_the_same_results(tmp_path: Path) -> None:
    code = """import sys
from pathlib import Path
from studies.tiny import PLAN
from studies.resolution import pipeline
if __name__ == "__main__":
    pipeline.run(Path(sys.argv[1]), Path(sys.argv[1]) / "results", plan=PLAN, workers=1)
"""
    script = tmp_path / "set.py"
    script.write_text(code)
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "src")))}
    whole_run, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, script, whole_run], check=True, env=path)
    for seconds in (6.0, 10.0):
        running = subprocess.Popen([sys.executable, script, killed], env=path, start_new_session=True)
        time.sleep(seconds)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    subprocess.run([sys.executable, script, killed], check=True, env=path)
    for name in PLAN.variants:
        assert result(killed / "results" / f"{name}-1.json") == result(whole_run / "results" / f"{name}-1.json")
