"""Data sets and prediction files against what the official reader made of them (goldens/metrics/mock)."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")

from ixc.errors import MissingPackageError, UsageError
from ixc.evals import table

MOCK = Path(__file__).parents[1] / "goldens" / "metrics" / "mock"
FOLDERS = sorted(MOCK.iterdir())


def expected(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "expected.json").read_text())


def mock_rows(folder: Path) -> list[table.Row]:
    return table.read_rows(folder / f"{expected(folder)['dataset']}.tsv")


def size(png: bytes) -> tuple[int, int]:
    return struct.unpack(">II", png[16:24])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_read_rows_equals_the_official_rows(folder: Path) -> None:
    golden = expected(folder)
    found = [
        {"index": r["index"], "images": [[hashlib.sha1(i).hexdigest()[:12], *size(i)] for i in r["image"]]}
        for r in mock_rows(folder)
    ]
    assert len(found) == golden["rows_after_load"]
    assert found == golden["images"]


@pytest.mark.parametrize("folder", [f for f in FOLDERS if (f / "eval_file.xlsx").exists()], ids=lambda f: f.name)
def test_round_trip_equals_the_official_workbook(folder: Path) -> None:
    rows = mock_rows(folder)
    pandas = table.pandas()
    frame = pandas.read_excel(folder / "eval_file.xlsx")
    official = {str(line["index"]): line for line in frame.to_dict("records")}
    said = {str(k): v for k, v in table.read_predictions(folder / "predictions.jsonl").items() if str(k) in official}
    ours = table.round_trip(rows, {r["index"]: said[str(r["index"])] for r in rows if str(r["index"]) in said})
    assert len(ours) == len(official)
    for row in ours:
        theirs = official[str(row["index"])]
        for name, cell in row.items():
            if name == "prediction":
                assert cell == str(theirs[name])
            elif name != "index":
                assert str(cell) == str(None if pandas.isna(theirs[name]) else theirs[name])


@pytest.mark.parametrize("folder", [f for f in FOLDERS if (f / "eval_file.xlsx").exists()], ids=lambda f: f.name)
def test_read_predictions_of_a_workbook_equals_the_round_trip(folder: Path) -> None:
    rows = mock_rows(folder)
    read = table.read_predictions(folder / "eval_file.xlsx")
    again = {row["index"]: row["prediction"] for row in table.round_trip(rows, read, file_format="jsonl")}
    assert again == read


@pytest.mark.parametrize("name", ["quirk_tsv_numeric_predictions", "quirk_tsv_roundtrip", "quirk_xlsx_roundtrip"])
def test_read_predictions_as_the_official_evaluation(name: str) -> None:
    golden = expected(MOCK / name)
    said = table.read_predictions(MOCK / name / "predictions.jsonl")
    rows = table.round_trip(mock_rows(MOCK / name), said, file_format=golden["eval_file_format"])
    assert [(r["index"], r["prediction"]) for r in rows] == [
        (r["index"], r["prediction_as_read"]) for r in golden["per_row"]
    ]


def test_round_trip_jsonl_changes_no_prediction() -> None:
    folder = MOCK / "quirk_xlsx_roundtrip"
    said = table.read_predictions(folder / "predictions.jsonl")
    kept = table.round_trip(mock_rows(folder), said, file_format="jsonl")
    assert {row["index"]: row["prediction"] for row in kept} == said


def test_round_trip_refuses_an_unknown_format() -> None:
    with pytest.raises(UsageError, match="take one of xlsx, tsv, jsonl"):
        table.round_trip([], {}, file_format="csv")  # type: ignore[arg-type]


def test_read_predictions_of_a_tsv(tmp_path: Path) -> None:
    path = tmp_path / "said.tsv"
    path.write_text("index\tprediction\n1\tyes\n2\tNone\n")
    assert table.read_predictions(path) == {1: "yes", 2: "nan"}


def test_read_predictions_with_an_odd_line_separator(tmp_path: Path) -> None:
    path = tmp_path / "said.jsonl"
    path.write_text(json.dumps({"index": 1, "prediction": "a\u2028b"}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert table.read_predictions(path) == {1: "a\u2028b"}


def test_round_trip_loses_a_text_too_long_for_a_cell() -> None:
    rows = [{"index": 1, "question": "q", "image": ()}, {"index": 2, "question": "q", "image": ()}]
    read = table.round_trip(rows, {1: "x" * (table.CELL_LENGTH + 1), 2: "x"})
    assert [row["prediction"] for row in read] == ["nan", "x"]


def test_read_rows_keeps_equal_images_once() -> None:
    rows = mock_rows(MOCK / "DocVQA_VAL")
    assert rows[1]["image"] is rows[0]["image"]


def test_read_rows_takes_line_breaks_in_base64(tmp_path: Path) -> None:
    png = mock_rows(MOCK / "DocVQA_VAL")[0]["image"][0]
    path = tmp_path / "x.tsv"
    path.write_text(f'index\timage\tquestion\n1\t"{base64.encodebytes(png).decode()}"\tq\n')
    assert table.read_rows(path)[0]["image"] == (png,)


def test_pandas_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'ixc-4khd\[eval\]'"):
        table.pandas()
