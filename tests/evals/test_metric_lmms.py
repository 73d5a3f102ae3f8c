"""lmms-eval's scores of the mock data sets, wherever the goldens give them, by the rules named after it."""

import csv
import json
from typing import Any

import pytest
from metric_goldens import GOLDENS, same

from ixc.evals.metrics import accuracy, anls, choice, circular, hallusion, mme, ocrbench, relaxed, vqa, yes_no
from ixc.evals.metrics.cells import answers

LETTERS = "ABCD"


def mock(name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(rows with their predictions, lmms-eval's results) of a mock, in the order of the table."""
    folder = GOLDENS / "mock" / name
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    said = {str(line["index"]): str(line["prediction"]) for line in map(json.loads, lines)}
    with (folder / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row | {"prediction": said[row["index"]]} for row in csv.DictReader(file, delimiter="\t")]
    return rows, json.loads((folder / "expected.json").read_text(encoding="utf-8"))["lmms"]


def item(row: dict[str, Any]) -> choice.ChoiceItem:
    choices = {letter: row[letter] for letter in LETTERS if row.get(letter)}
    return choice.ChoiceItem(
        index=int(row["index"]), choices=choices, answer=row["answer"], prediction=row["prediction"]
    )


@pytest.mark.parametrize("name", ["DocVQA_VAL", "InfoVQA_VAL"])
def test_anls_lmms_of_documents(name: str) -> None:
    rows, wanted = mock(name)
    scores = [anls.anls(row["prediction"], answers(row["answer"])) for row in rows]
    assert same(scores, wanted["per_row"])
    assert same(sum(scores) / len(scores), wanted["anls_mean"])


def test_relaxed_lmms_of_charts() -> None:
    rows, wanted = mock("ChartQA_TEST")
    scores = [relaxed.relaxed(row["prediction"], answers(row["answer"])[:1], rule="lmms") for row in rows]
    assert same(sum(scores) / len(scores), wanted["relaxed_overall"])


def test_vqa_lmms_of_scene_text() -> None:
    rows, wanted = mock("TextVQA_VAL")
    assert same([vqa.vqa(r["prediction"], answers(r["answer"]), rule="lmms") for r in rows], wanted["per_row"])


def test_ocrbench() -> None:
    rows, wanted = mock("OCRBench")
    hits = [ocrbench.hit(r["prediction"], answers(r["answer"]), r["category"], rule="lmms") for r in rows]
    assert hits == wanted["per_row"]


@pytest.mark.parametrize(("name", "rule"), [("AI2D_TEST", "ai2d"), ("SEEDBench_IMG", "seed"), ("MMStar", "mmstar")])
def test_choice_lmms_hits(name: str, rule: str) -> None:
    rows, wanted = mock(name)
    hits = [choice.hit(item(row), rule=f"lmms-{rule}") for row in rows]
    assert same(hits, wanted["per_row"])
    if name == "MMStar":
        table = [(None, None, row["l2_category"], hit) for row, hit in zip(rows, hits, strict=True)]
        assert same(accuracy.macro(table), wanted["average_macro_over_l2"])


def test_choice_lmms_infer_of_qbench() -> None:
    rows, wanted = mock("Q-Bench1_VAL")
    found = [choice.infer(row["prediction"], item(row).choices, rule="lmms-mmmu") for row in rows]
    assert [letter or "RANDOM" for letter in found] == wanted["parsed"]


@pytest.mark.parametrize("name", ["MMBench_DEV_EN", "MMBench_DEV_CN"])
def test_circular(name: str) -> None:
    rows, wanted = mock(name)
    hits = circular.circular([item(row) for row in rows], rule="lmms")
    assert {str(index): hit for index, hit in hits.items()} == wanted["static_hits"]


def test_mme() -> None:
    rows, wanted = mock("MME")
    points = mme.mme(
        (r["category"], r["image_path"], yes_no.yes_no(r["prediction"], rule="lmms") == r["answer"]) for r in rows
    )
    assert same([points["perception"], points["reasoning"]], [wanted["perception"], wanted["cognition"]])


def test_hallusion() -> None:
    rows, wanted = mock("HallusionBench")
    judged = [
        hallusion.HallusionRow(
            index=row["index"],
            category=row["category"],
            subcategory=row["l2-category"],
            right=yes_no.yes_no(row["prediction"], rule="notebook") == row["answer"],
        )
        for row in rows
    ]
    assert same(list(hallusion.shares(judged, rule="lmms")), [wanted["aAcc"], wanted["fAcc"], wanted["qAcc"]])
