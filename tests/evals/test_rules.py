"""Other official rules by name, of a task and from the command line. Oracle: lmms-eval's own scores of the mocks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from commands import Run

pytest.importorskip("pandas")

from ixc.errors import UsageError
from ixc.evals import predictions
from ixc.evals.tasks import TASKS

MOCK = Path(__file__).parents[1] / "goldens" / "metrics" / "mock"


def mean(values: list[Any]) -> float:
    return 100 * sum(map(float, values)) / len(values)


WANTED: dict[str, tuple[str, Any]] = {
    "chartqa": ("ChartQA_TEST", lambda w: 100 * w["relaxed_overall"]),
    "textvqa": ("TextVQA_VAL", lambda w: mean(w["per_row"])),
    "ocrbench": ("OCRBench", lambda w: sum(w["per_row"]) / 10),
    "ai2d": ("AI2D_TEST", lambda w: mean(w["per_row"])),
    "seedbench": ("SEEDBench_IMG", lambda w: mean(w["per_row"])),
    "mmstar": ("MMStar", lambda w: 100 * w["average_macro_over_l2"]),
    "mme": ("MME", lambda w: w["perception"] + w["cognition"]),
    "hallusion": ("HallusionBench", lambda w: (w["aAcc"] + w["fAcc"] + w["qAcc"]) / 3),
}
"""Task -> (folder, lmms-eval's figure of it on the paper's scale)."""


def said(folder: Path) -> dict[Any, str]:
    lines = map(json.loads, (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines())
    return {line["index"]: line["prediction"] for line in lines}


@pytest.mark.parametrize("name", WANTED)
def test_task_score_lmms_figure(name: str) -> None:
    folder, figure = MOCK / WANTED[name][0], WANTED[name][1]
    wanted = json.loads((folder / "expected.json").read_text())["lmms"]
    found = TASKS[name].score(TASKS[name].read(folder), said(folder), rule="lmms")
    assert found.name.endswith(", rule lmms")
    assert math.isclose(found.headline, figure(wanted), abs_tol=1e-9)


@pytest.mark.parametrize("name", ["mmbench_en", "mmbench_cn"])
def test_task_score_lmms_circular_hits(name: str) -> None:
    folder = MOCK / TASKS[name].dataset
    wanted = json.loads((folder / "expected.json").read_text())["lmms"]["static_hits"]
    found = TASKS[name].score(TASKS[name].read(folder), said(folder), rule="lmms")
    assert {str(index): hit for index, hit in found.per_row.items()} == wanted


def test_task_score_official_table_of_mmmu() -> None:
    folder = MOCK / "MMMU_DEV_VAL"
    task = TASKS["mmmu"]
    rows = task.read(folder)
    found = task.score(rows, said(folder), rule="official")
    validation = [row for row in rows if row["split"] == "validation"]
    overall = next(line for line in found.table if line["name"] == "Overall")
    assert overall["num"] == len(validation)
    assert abs(100 * overall["acc"] - found.headline) < 0.05
    assert sum(line["num"] for line in found.table if line["name"].startswith("Overall-")) == len(validation)


def test_task_score_names_every_rule() -> None:
    seen = 0
    for task in TASKS.values():
        if task.rules and not task.hidden and (MOCK / task.dataset).is_dir():
            rows = task.read(MOCK / task.dataset)
            for rule in task.rules:
                assert task.score(rows, said(MOCK / task.dataset), rule=rule).name.endswith(f", rule {rule}")
                seen += 1
    assert seen == 18
    with pytest.raises(UsageError, match="docvqa_val has no rule 'lmms'; choose vlmevalkit"):
        TASKS["docvqa_val"].score([], {}, rule="lmms")


def test_eval_score_takes_a_rule(tmp_path: Path, run: Run) -> None:
    def call(*arguments: object) -> tuple[int, str, str]:
        return run("eval", "score", *arguments)

    for name in ("chartqa", "docvqa_val"):
        dataset = TASKS[name].dataset
        answered = said(MOCK / dataset)
        header = predictions.Header(
            task=name, dataset=dataset, style="published", model="m", version="0", questions=len(answered), data=""
        )
        predictions.start_or_resume(tmp_path / "run" / f"{name}.jsonl", header)
        lines = [predictions.Prediction(index=index, prediction=text) for index, text in answered.items()]
        predictions.append(tmp_path / "run" / f"{name}.jsonl", lines)
        (tmp_path / f"{dataset}.tsv").write_bytes((MOCK / dataset / f"{dataset}.tsv").read_bytes())
    code, out, err = call(tmp_path / "run", "--data", tmp_path, "--rule", "lmms")
    assert (code, err) == (0, "")
    assert "relaxed accuracy, rule lmms" in out
    assert "has no rule lmms" in out
    assert sorted(path.name for path in (tmp_path / "run").glob("*.json")) == ["chartqa.score.lmms.json"]
    code, out, err = call(tmp_path / "run", "--data", tmp_path, "--rule", "official")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no rule 'official' here; chartqa: vlmevalkit, lmms, notebook; docvqa_val: vlmevalkit" in err
