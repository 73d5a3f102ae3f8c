"""Every task against the mocks: prompts, images and settings of the published run, scores of every row, tables."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")

from ixc.core.chat_format import IMAGE_PLACEHOLDER, TURN_START
from ixc.errors import DataError, UsageError
from ixc.evals import table
from ixc.evals.prompts import IMAGE_TAG, at_tags
from ixc.evals.question import Question
from ixc.evals.task import TASKS, Score, Task

MOCK = Path(__file__).parents[1] / "goldens" / "metrics" / "mock"
CASES = Path(__file__).parents[1] / "cases"
FOLDERS = sorted(MOCK.iterdir())
BY_DATASET = {task.dataset: task for task in TASKS.values()}
PUBLISHED = {  # paper, table 3 and (validation) tables 6 to 9
    "docvqa_val": 89.0, "docvqa_test": 90.0, "chartqa": 81.0, "infovqa_val": 69.3, "infovqa_test": 68.6,
    "textvqa": 77.2, "ocrbench": 67.5, "mmstar": 54.1, "mathvista": 57.8, "ai2d": 80.9, "mmmu": 39.7, "mme": 2204.9,
    "mmbench_en": 80.2, "mmbench_en_test": 80.2, "mmbench_cn": 77.7, "mmbench_cn_test": 77.7, "seedbench": 74.7,
    "qbench": 71.8, "qbench_test": 71.8, "mmvet": 54.9, "hallusion": 40.9,
    "hrbench_4k": None, "hrbench_8k": None, "vstar": None, "mme_realworld": None,
}  # fmt: skip


def golden(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "expected.json").read_text())


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / "predictions.jsonl").read_text().splitlines()]


def task_of(folder: Path) -> Task:
    return BY_DATASET[golden(folder)["dataset"]]


def scripted(folder: Path, rows: list[table.Row]) -> Callable[[str], str] | None:
    """A judge that gives the recorded answers in order, the last one again and again; it knows rows by question."""
    scripts = {line["index"]: list(line["judge_outputs"]) for line in lines(folder) if "judge_outputs" in line}

    def judge(prompt: str) -> str:
        asked = [row for row in rows if row["question"] in prompt]
        script = scripts[max(asked, key=lambda row: prompt.rfind(row["question"]))["index"]]
        return script.pop(0) if len(script) > 1 else script[0]

    return judge if scripts else None


def score(folder: Path) -> Score:
    task, expected = task_of(folder), golden(folder)
    rows = task.read(folder)
    said = table.read_predictions(folder / "predictions.jsonl")
    wanted = set(expected.get("subset_index_order", [row["index"] for row in rows]))
    said = {index: text for index, text in said.items() if index in wanted}
    return task.score(rows, said, judge=scripted(folder, rows), file_format=expected["eval_file_format"])


def same(ours: Any, theirs: Any) -> bool:
    numbers = isinstance(ours, int | float) and isinstance(theirs, int | float)
    return abs(ours - theirs) < 1e-9 if numbers else ours == theirs  # the order of a sum may differ


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_task_score_equals_the_official_tables(folder: Path) -> None:
    expected, found = golden(folder), score(folder)
    theirs = expected["table"] if isinstance(expected["table"], list) else [expected["table"]]
    name = next(iter(theirs[0]))
    assert len(found.table) == len(theirs)
    for line in theirs:  # upstream orders splits and categories by sets: compare by name
        mine = found.table[0] if len(theirs) == 1 else next(row for row in found.table if row[name] == line[name])
        assert set(mine) == set(line)
        assert not {key: (mine[key], cell) for key, cell in line.items() if not same(mine[key], cell)}
    assert [str(i) for i in sorted(found.per_row, key=str)] == sorted(str(row["index"]) for row in expected["per_row"])
    for row in expected["per_row"]:
        right = row.get("hit", row.get("score"))
        assert right is None or same(found.per_row[row["index"]], float(right)), row


PROMPTED = [folder for folder in FOLDERS if golden(folder).get("prompts")]


@pytest.mark.parametrize("folder", PROMPTED, ids=lambda f: f.name)
def test_task_question_published_prompts_equal_the_recorded_ones(folder: Path) -> None:
    task, expected = task_of(folder), golden(folder)
    asked = {q.index: q for q in task.questions(task.read(folder), style="published")}
    pictures = {row["index"]: row["images"] for row in expected["images"]}
    assert set(asked) == {line["index"] for line in expected["prompts"]}
    for line in expected["prompts"]:
        question, recorded = asked[line["index"]], line["ixc2_4khd"]
        assert question.prompt_format.published
        assert question.text == IMAGE_PLACEHOLDER + recorded["text"]
        assert (question.hd, question.num_beams, question.max_new_tokens) == (
            recorded["hd_num"],
            recorded["beams"],
            recorded["max_token"],
        )
        assert len(question.images) == len(recorded["images"]) == 1
        assert hashlib.sha1(question.images[0]).hexdigest()[:12] == pictures[line["index"]][0][0]


def clean(name: str) -> dict[int | str, Question]:
    task = task_of(MOCK / name)
    return {q.index: q for q in task.questions(task.read(MOCK / name), style="clean")}


@pytest.mark.parametrize("folder", PROMPTED, ids=lambda f: f.name)
def test_task_question_clean_has_the_words_only(folder: Path) -> None:
    task = task_of(folder)
    for row in (rows := task.read(folder)):
        question = task.question(row, style="clean")
        assert not question.prompt_format.published
        assert (IMAGE_TAG.sub("", row["question"]) if task.image_tags else row["question"]) in question.text
        assert TURN_START not in question.text
        assert task.image_tags or "  " not in question.text.replace(row["question"], "")
        assert question.images == row["image"]
        assert question.num_beams == 1
    assert len(rows) == golden(folder)["rows_after_load"]


def test_task_question_clean_word_for_word() -> None:
    assert clean("MMBench_DEV_EN")[1].text == (
        'Hint: Look closely, "carefully"\nQuestion: What is object 0 in the picture?\nOptions:\nA. Paris\nB. 2.5 kg\n'
        "C. river\nD. Market St\nAnswer with the option's letter from the given choices directly."
    )
    assert clean("ChartQA_TEST")[1].text == (
        "What is the value of bar 0 in ladder?\nAnswer the question using a single word or phrase."
    )
    assert clean("MME")[0].text == "Is this lamp number 0? Please answer yes or no."
    assert clean("HallusionBench")["5_VD_ocr_0_0_1"].text == "Is the ladder larger?\nPlease answer yes or no."
    assert clean("OCRBench")[1].hd == 55


def test_task_question_clean_keeps_all_images() -> None:
    assert len(clean("MMMU_DEV_VAL")[3].images) == 2


def shown(question: Question) -> str:
    """The user's message with [n] where image n of the row, from 1, is shown."""
    (turn,) = question.messages
    return "".join(part if isinstance(part, str) else f"[{part.source + 1}]" for part in turn.content)


def test_task_question_clean_has_images_at_their_tags() -> None:
    task = TASKS["mmmu"]
    asked = [task.question(row, style="clean") for row in task.read(CASES / "benchmarks" / "tsv_mmmu")]
    instruction = "\nAnswer with the option's letter from the given choices directly."
    cities = "\nOptions:\nA. Bremen\nB. Oslo\nC. Porto" + instruction
    assert [shown(question) for question in asked] == [
        "Question: Which slip goes to Porto?\nOptions:\nA. [1]\nB. [2]\nC. [3]" + instruction,
        "Question: In [2] where is the parcel sent, unlike in [1]?" + cities,
        "Question: Where does [1] go?\nOptions:\nA. Bremen\nB. Oslo\nC. Porto" + instruction,
    ]
    assert [len(question.images) for question in asked] == [3, 2, 1]
    assert all(question.prompt_format.images_in_place for question in asked)
    published = [task.question(row) for row in task.read(CASES / "benchmarks" / "tsv_mmmu")]
    assert [len(question.images) for question in published] == [1, 1, 1]
    assert "C. <image 3>" in published[0].text


@pytest.mark.parametrize(
    ("text", "images", "wanted"),
    [
        ("a <image 1> b", 1, "a [1] b"),
        ("<image 2><image 1>", 2, "[2][1]"),
        ("<image 1> as <image 1>", 1, "[1] as [1]"),
        ("<image 2>?", 3, "[1][3][2]?"),
        ("none", 2, "[1][2]none"),
        ("<image 3> of <image 0>, <image x>", 1, "[1]<image 3> of <image 0>, <image x>"),
        ("none", 0, "none"),
    ],
)
def test_at_tags(text: str, images: int, wanted: str) -> None:
    found = at_tags(text, images)
    assert "".join(part if isinstance(part, str) else f"[{part.source + 1}]" for part in found) == wanted


def test_check_rows_needs_the_images_that_options_name() -> None:
    task = TASKS["mmmu"]
    row = {**task.read(CASES / "benchmarks" / "tsv_mmmu")[0]}
    row["image"] = row["image"][:2]
    with pytest.raises(DataError, match="names <image 3> and has 2 images"):
        task.check_rows([row])


def test_task_prediction_of_an_answer() -> None:
    assert TASKS["mmstar"].prediction(" b. C)") == "C"
    assert TASKS["mmstar"].prediction("neither") == "Z"
    assert TASKS["mmstar"].prediction(" b. C)", style="clean") == " b. C)"
    assert TASKS["mmmu"].prediction(" B. ladder") == " B. ladder"
    assert TASKS["docvqa_val"].prediction("Paris") == "Paris"


def test_tasks_registry_is_complete() -> None:
    assert {name: task.paper for name, task in TASKS.items()} == PUBLISHED
    assert all(name == task.name for name, task in TASKS.items())
    assert len(BY_DATASET) == len(TASKS)
    assert {folder.name for folder in FOLDERS if "quirk" not in folder.name} <= set(BY_DATASET)
    for task in TASKS.values():
        assert task.md5 is None or re.fullmatch("[0-9a-f]{32}", task.md5)
        assert task.url is None or (task.url.startswith("https://") and task.url.endswith(".tsv"))
        assert task.hidden == (task.submission is not None)
        assert task.source


def test_tasks_of_documents_have_hd_65() -> None:
    assert (TASKS["docvqa_test"].hd, TASKS["infovqa_test"].hd) == (65, 65)


@pytest.mark.parametrize("name", ["MathVista_MINI", "MMVet"])
def test_task_score_without_a_judge_has_another_name(name: str) -> None:
    task = task_of(MOCK / name)
    rows, said = task.read(MOCK / name), table.read_predictions(MOCK / name / "predictions.jsonl")
    alone = task.score(rows, said)
    assert task.judged
    assert alone.name.endswith("(no judge)")
    assert alone.name != score(MOCK / name).name
    assert 0 <= alone.headline <= 100


@pytest.mark.parametrize("dataset", ["HRBench4K", "HRBench8K"])
def test_task_score_hrbench_is_the_mean_over_orders(dataset: str) -> None:
    rows = [
        {"index": 4 * kind + cycle, "question": "q", "A": "x", "B": "y", "answer": "A", "image": (),
         "category": ("single", "cross")[kind], "cycle_category": f"cycle_{cycle}"}
        for kind in range(2) for cycle in range(4)
    ]  # fmt: skip
    said = {row["index"]: "A" if row["index"] < 6 else "B" for row in rows}
    found = BY_DATASET[dataset].score(rows, said)
    averages = {line["type"]: line["accuracy"] for line in found.table if line["cycle"] == "Average"}
    assert averages == {"all": 0.75, "cross": 0.5, "single": 1.0}
    assert found.headline == 75.0


def test_task_score_refuses_hidden_answers() -> None:
    with pytest.raises(UsageError, match="kept by a server"):
        TASKS["docvqa_test"].score([], {})


def test_task_questions_unknown_style() -> None:
    with pytest.raises(UsageError, match="take one of published, clean"):
        TASKS["chartqa"].questions([{"index": 1, "image": (), "question": "q"}], style="own")


def test_task_score_refuses_a_part_of_mme() -> None:
    rows = TASKS["mme"].read(MOCK / "MME")
    with pytest.raises(DataError, match="13 of 14 categories"):
        TASKS["mme"].score(rows, {0: "Yes", 1: "No"})
