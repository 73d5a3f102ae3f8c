"""Runs for tests of the report: sixteen benchmarks of drawn pictures with known scores, and folders of real mocks."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ixc.evals import predictions
from ixc.evals.paper_scores import AXES
from ixc.evals.report.run_report import ReportRun, TaskReport
from ixc.evals.report.task_report import Scores, TaskRun, task_report
from ixc.evals.tasks import TASKS

MOCK = Path(__file__).parents[1] / "goldens" / "metrics" / "mock"
EVIL = "</script><script>document.title='owned'</script><img src=http://192.0.2.1/x onerror=alert(1)>\ud800\0"
"""What a model may write; 192.0.2.1 is an address for examples, nobody has it."""
PLAIN = (1.0, 0.0, 1.0, 1.0, 0.0, 1.0)
"""Scores of a fake benchmark; question 4 has the evil prediction."""


def picture(width: int, height: int, *, form: str = "PNG") -> bytes:
    image = Image.new("RGB", (width, height), "#dfe8f2")
    pen = ImageDraw.Draw(image)
    pen.line((0, 0, width, height), fill="#345", width=3)
    pen.text((10, 10), f"{width} x {height}", fill="black")
    out = io.BytesIO()
    image.save(out, format=form)
    return out.getvalue()


PICTURES = (picture(300, 200), picture(400, 900), picture(800, 600, form="JPEG"))


def rows() -> list[dict]:
    return [
        {"index": i, "image": (PICTURES[i % 3],), "question": f"How many lamps in room {i}?", "A": "two", "answer": "A"}
        for i in range(len(PLAIN))
    ]


def report_of(**values: Any) -> TaskReport:
    return task_report(TaskRun(**values))


@cache
def fake_run(name: str = "ours", *, scores: tuple[float, ...] = PLAIN, skip: tuple[str, ...] = ()) -> ReportRun:
    """A run whose benchmarks all have the same questions, `mme` and `hall` without an interval."""
    results = tuple(
        report_of(
            task=axis.key,
            dataset=axis.datasets[-1] if axis.key == "doc" else axis.datasets[0],
            title=axis.title,
            hd=9,
            scores=Scores(
                metric="share",
                headline=100 * sum(scores) / len(scores),
                table=({"Overall": 1},),
                per_row=dict(enumerate(scores)),
                stand_in=axis.key == "mmvet",
            ),
            predictions={i: EVIL if i == 4 else f"said {i}" for i in range(len(scores))},
            rows=rows(),
        )
        for axis in AXES
        if axis.key not in skip
    )
    return ReportRun(name=name, results=results)


def mock_folder(folder: Path) -> Path:
    """A run's folder with the published mock predictions of all sixteen benchmarks."""
    for task in TASKS.values():
        source = MOCK / task.dataset / "predictions.jsonl"
        if not source.exists():
            continue
        lines = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
        header = predictions.Header(
            task=task.name, dataset=task.dataset, style="published", model="fake", version="0", questions=len(lines),
            data="",
        )  # fmt: skip
        path = predictions.path_of(folder, task.name)
        predictions.start_or_resume(path, header)
        answers = [predictions.Prediction(index=line["index"], prediction=str(line["prediction"])) for line in lines]
        predictions.append(path, answers)
    return folder
