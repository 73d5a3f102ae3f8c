"""A run of several tasks: what is refused before anything is downloaded or asked, and scoring again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from run_fakes import header

pytest.importorskip("pandas")

from ixc.errors import DataError, UsageError
from ixc.evals import download, predictions, suite
from ixc.evals.question import Question
from ixc.evals.tasks import TASKS

MOCK = Path(__file__).parents[1] / "goldens" / "metrics" / "mock" / "MMStar"


def never(asked: Sequence[Question]) -> list[str]:
    raise AssertionError("the model was asked")


@pytest.mark.parametrize(
    ("changes", "judge", "line"),
    [
        ({"style": "kind"}, None, "unknown prompts 'kind'; take one of published, clean"),
        ({"limit": 0}, None, "limit is 0"),
        ({"hd": 0}, None, "at least 1, got 0"),
        ({}, str, "a judge has no effect on mmstar"),
    ],
)
def test_run_suite_refuses_before_a_download(
    changes: dict[str, Any], judge: Any, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "urlopen", never)
    plan = suite.SuitePlan(model="m", version="0", folder=tmp_path, data=tmp_path, **changes)
    with pytest.raises(UsageError, match=line):
        list(suite.run_suite([TASKS["mmstar"]], never, plan=plan, judge=judge))


@pytest.mark.parametrize("changes", [{"model": "another"}, {"settings": {"weights": "b" * 16}}])
def test_run_suite_refuses_the_folder_of_another_model(changes: dict[str, Any], tmp_path: Path) -> None:
    def plan(**values: Any) -> suite.SuitePlan:
        settings = {"weights": "a" * 16}
        given = {"model": "m", "version": "0", "folder": tmp_path, "data": MOCK, "limit": 1, "settings": settings}
        return suite.SuitePlan(**{**given, **values})

    list(suite.run_suite([TASKS["mmstar"]], lambda asked: ["A"] * len(asked), plan=plan()))
    with pytest.raises(DataError, match=r"was begun with (model 'm', this run has|weights 'aa*', this run has)"):
        list(suite.run_suite([TASKS["mmstar"]], never, plan=plan(**changes)))


def test_rescore_refuses_other_data(tmp_path: Path) -> None:
    index = TASKS["mmstar"].read(MOCK)[0]["index"]
    path = tmp_path / "mmstar.jsonl"
    md5 = download.md5_of(MOCK / "MMStar.tsv")
    for made_on in (md5, ""):
        predictions.start_or_resume(path, header(data=made_on))
        predictions.append(path, [predictions.Prediction(index=index, prediction="A")])
        assert suite.rescore(predictions.read(path), MOCK).result is not None
        path.unlink()
    predictions.start_or_resume(path, header())
    with pytest.raises(DataError, match=f"made on data with MD5 0{{32}}, .* has {md5}"):
        suite.rescore(predictions.read(path), MOCK)
    with pytest.raises(DataError, match=r"MMStar\.tsv: no such file; give --data"):
        suite.rescore(predictions.read(path), tmp_path / "nowhere")
