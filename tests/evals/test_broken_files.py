"""Broken data sets and prediction files: each gets one line with the file, the place, the numbers and the remedy."""

from __future__ import annotations

import base64
import gzip
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("pandas")

from ixc.errors import DataError
from ixc.evals import table
from ixc.evals.task import TASKS


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(bytes(range(52)), 0))
    + _chunk(b"IEND", b"")
)
IMAGE = base64.b64encode(PNG).decode()
HEAD = "index\timage\tquestion\tanswer"
MCQ = "index\timage\tquestion\tA\tB\tanswer\tcategory"
VISTA = "index\timage\tquestion\tanswer\tquestion_type\tanswer_type\tanswer_option\tchoices\ttask\tskills"
Text = str | bytes


def rows(*lines: str, head: str = HEAD) -> str:
    return "\n".join([head, *lines, ""]).replace("IMAGE", IMAGE)


TABLES: dict[str, tuple[str, Text, str]] = {
    # kind -> (task, contents, what the line says)
    "empty file": ("docvqa_val", "", "empty, 0 bytes; give a table with a header"),
    "blank file": ("docvqa_val", "\n\n \n", "empty, 4 bytes"),
    "header only": ("docvqa_val", rows(), "a header of 4 columns and 0 rows; give at least 1"),
    "not UTF-8": ("docvqa_val", rows("1\tIMAGE\tq\ta").encode() + b"2\t1\t\xff\xfe\ta\n", "is not UTF-8; save"),
    "UTF-16": ("docvqa_val", rows("1\tIMAGE\tq\ta").encode("utf-16"), "binary, byte .* is zero; give tab-separated"),
    "gzip": ("docvqa_val", gzip.compress(rows("1\tIMAGE\tq\ta").encode()), "compressed .gzip.; unpack it"),
    "workbook": ("docvqa_val", b"PK\x03\x04rest", "a zip archive or a workbook; give the tab-separated"),
    "web page": ("docvqa_val", "<!DOCTYPE html><html>404</html>", "a web page; download the file again"),
    "git-lfs": ("docvqa_val", "version https://git-lfs.github.com/spec/v1\noid x\n", "a pointer of Git LFS; fetch"),
    "commas": ("docvqa_val", "index,image,question,answer\n1,x,q,a\n", "1 column, with 3 commas .* by tabs"),
    "no index column": ("docvqa_val", rows("IMAGE\tq\ta", head="image\tquestion\tanswer"), "no column index among"),
    "no image column": ("docvqa_val", rows("1\tq\ta", head="index\tquestion\tanswer"), "no column image among its 3"),
    "no question column": ("docvqa_val", rows("1\tIMAGE\ta", head="index\timage\tanswer"), "no column question"),
    "no answer column": ("docvqa_val", rows("1\tIMAGE\tq", head="index\timage\tquestion"), "answer .* docvqa_val need"),
    "column twice": ("docvqa_val", rows("1\tIMAGE\tq\ta\tb", head=HEAD + "\tanswer"), "2 columns are called answer"),
    "cells without columns": ("docvqa_val", rows("1\tIMAGE\tq\ta\tmore"), "more cells than the 4 columns"),
    "one long row": ("docvqa_val", rows("1\tIMAGE\tq\ta", "2\tIMAGE\tq\ta\tb\tc"), "in line 3, saw 6; check tabs"),
    "open quote": ("docvqa_val", rows("1\tIMAGE\tq\ta", '2\tIMAGE\t"q\ta'), "EOF inside string .* quotes"),
    "index twice": ("docvqa_val", rows("7\tIMAGE\tq\ta", "7\tIMAGE\tq\ta"), "row 2: index 7 stands in row 1"),
    "index missing": ("docvqa_val", rows("1\tIMAGE\tq\ta", "\tIMAGE\tq\ta"), "row 2: the index is missing; give"),
    "no image at all": ("docvqa_val", rows("1\t\tq\ta", "2\t\tq\ta"), "none of its 2 rows has an image; fill"),
    "question missing": ("docvqa_val", rows("1\tIMAGE\tq\ta", "2\tIMAGE\t\ta"), "row 2 .index 2.: the question"),
    "bad base64": ("docvqa_val", rows(f"1\t{'?*' * 40}\tq\ta"), "row 1 .index 1.: its image is no base64 .80 char"),
    "base64 cut": ("docvqa_val", rows(f"1\t{IMAGE[:-7]}\tq\ta"), "no base64 .* encode it again"),
    "not an image": ("docvqa_val", rows(f"1\t{base64.b64encode(b'text' * 20).decode()}\tq\ta"), "80 bytes begin with"),
    "PNG cut off": ("docvqa_val", rows(f"1\t{base64.b64encode(PNG[:-20]).decode()}\tq\ta"), "cut off .it has no IEND"),
    "reference to nowhere": ("docvqa_val", rows("2\t9\tq\ta"), "row 1 .index 2.: its image is '9'"),
    "reference to itself": ("docvqa_val", rows("2\t2\tq\ta"), "refers to row 2, which only refers"),
    "list of images broken": ("docvqa_val", rows("1\t['IMAGE]\tq\ta"), "list of images cannot be read; write"),
    "list of no text": ("docvqa_val", rows(f"1\t[{', '.join('1' * 30)}]\tq\ta"), "list of images has 30 usable texts"),
    "answer missing": ("docvqa_val", rows("1\tIMAGE\tq\ta", "2\tIMAGE\tq\t"), "index 2: the answer is missing; fill"),
    "answer list broken": ("textvqa", rows("1\tIMAGE\tq\t['a'"), r"answer is \"\['a'\", no list of at least 1"),
    "answer list empty": ("textvqa", rows("1\tIMAGE\tq\t[]"), "no list of at least 1; write"),
    "no options": ("mmstar", rows("1\tIMAGE\tq\tA"), "0 columns of options, at least 2 needed; name"),
    "all options missing": ("mmstar", rows("1\tIMAGE\tq\t\t\tA\tx", head=MCQ), "all 2 options are missing; fill"),
    "answer no letter": ("ai2d", rows("1\tIMAGE\tq\tx\ty\tcat\tx", head=MCQ), "answer is 'cat'; use one of A, B"),
    "rotation alone": ("mmbench_en", rows("1000001\tIMAGE\tq\tx\ty\tA\tx", head=MCQ), "base question 1 is not among 1"),
    "rotation of letters": ("mmbench_cn", rows("a\tIMAGE\tq\tx\ty\tA\tx", head=MCQ), "a: the index is no integer"),
    "image not there": ("mmmu", rows("1\tIMAGE\t<image 2>\tx\ty\tA\tx", head=MCQ), "<image 2> and has 1 images; list"),
    "no paths": ("mme", rows("1\tIMAGE\tq\tYes\tOCR", head=HEAD + "\tcategory"), "no column image_path .* mme needs"),
    "not yes or no": (
        "mme", rows("1\tIMAGE\tq\tTrue\tOCR\tx", head=HEAD + "\tcategory\timage_path"), "use one of Yes, No"
    ),
    "categories missing": (
        "mme", rows("1\tIMAGE\tq\tYes\tOCR\tx", head=HEAD + "\tcategory\timage_path"), "13 of 14 categories have no"
    ),
    "short index": (
        "hallusion", rows("0_VD\tIMAGE\tq\tYes\tVD\tx", head=HEAD + "\tcategory\tl2-category"), "2 parts .* 6 needed"
    ),
    "unknown category": ("ocrbench", rows("1\tIMAGE\tq\t['a']\tcats", head=HEAD + "\tcategory"), "category is 'cats'"),
    "unknown type": (
        "mathvista", rows("1\tIMAGE\tq\ta\tfree\ttext\t\t\tx\t['y']", head=VISTA), "question_type is 'free'; use one of"
    ),
    "choices broken": (
        "mathvista", rows("1\tIMAGE\tq\ta\tmulti_choice\ttext\tA\tx,y\tx\t['y']", head=VISTA), "is 'x,y', no list"
    ),
    "unknown capability": ("mmvet", rows("1\tIMAGE\tq\ta\tocr,see", head=HEAD + "\tcategory"), "'see'; join some"),
}  # fmt: skip


def told(call: Callable[[], object], file: str) -> str:
    with pytest.raises(DataError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    assert file in line
    assert len(line) < 400 + len(line.split(file)[0])
    return line


@pytest.mark.parametrize("kind", TABLES)
def test_task_read_broken_data_set_is_one_line(kind: str, tmp_path: Path) -> None:
    name, contents, says = TABLES[kind]
    path = tmp_path / f"{TASKS[name].dataset}.tsv"
    path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    line = told(lambda: TASKS[name].read(tmp_path), path.name)
    assert re.search(says, line), line


BROKEN_CELLS = {
    # kind -> (image cell of the second of three rows, what the reason says); the first row holds an image
    "bad base64": ("?*" * 40, "no base64"),
    "text": (base64.b64encode(b"text" * 20).decode(), "80 bytes begin with 74657874, no image"),
    "PNG cut off": (base64.b64encode(PNG[:-20]).decode(), "cut off"),
    "short text": ("cats", "its image is 'cats'"),
    "reference to itself": ("2", "refers to row 2, which only refers on"),
    "reference to a reference": ("3", "refers to row 3, which only refers on"),
    "list": ("['IMAGE]".replace("IMAGE", IMAGE), "its list of images cannot be read"),
}


@pytest.mark.parametrize("kind", BROKEN_CELLS)
@pytest.mark.parametrize("style", ["published", "clean"])
def test_read_keeps_the_rows_beside_a_broken_picture(kind: str, style: str, tmp_path: Path) -> None:
    cell, says = BROKEN_CELLS[kind]
    path = tmp_path / "DocVQA_VAL.tsv"
    path.write_text(rows("1\tIMAGE\tq\ta", f"2\t{cell}\tq\ta", "3\t1\tq\ta"))
    task = TASKS["docvqa_val"]
    first, second, third = task.questions(task.read(path), style=style)
    assert (first.broken, third.broken) == (None, None)
    assert first.images == third.images == (PNG,)
    assert second.images == ()
    assert second.broken is not None
    assert second.broken.startswith("DocVQA_VAL.tsv row 2 (index 2): ")
    assert says in second.broken


def test_read_lets_mmmu_name_images_of_a_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "MMMU_DEV_VAL.tsv"
    path.write_text(rows("1\tIMAGE\t<image 1>\tx\ty\tA\tx", f"2\t{'?*' * 40}\t<image 2>\tx\ty\tA\tx", head=MCQ))
    assert len(TASKS["mmmu"].read(path)) == 2


def test_task_read_takes_the_table_before_it_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text(rows("1\tIMAGE\tq\ta", "2\t1\tq\ta"))
    assert [row["image"] for row in TASKS["docvqa_val"].read(path)] == [(PNG,), (PNG,)]


def test_task_read_missing_data_set(tmp_path: Path) -> None:
    assert "no such file; give --data" in told(lambda: TASKS["chartqa"].read(tmp_path), "ChartQA_TEST.tsv")


def test_read_rows_refuse_a_folder(tmp_path: Path) -> None:
    assert "a folder; name the file" in told(lambda: table.read_rows(tmp_path), tmp_path.name)


def said(*lines: object) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


GOOD = {"index": 1, "prediction": "a"}
PREDICTIONS: dict[str, tuple[str, Text, str]] = {
    # kind -> (file, contents, what the line says)
    "other kind of file": ("said.csv", "index,prediction\n", "ends in one of .xlsx, .tsv, .jsonl, not in '.csv'"),
    "empty": ("said.jsonl", "", "0 predictions; give at least 1 line"),
    "no JSON": ("said.jsonl", said(GOOD) + "{'index': 2}\n", "line 2: no JSON .* one object a line"),
    "torn line": ("said.jsonl", said(GOOD) + '{"index": 2, "pred', "line 2: no JSON"),
    "no object": ("said.jsonl", said([1, "a"]), "line 1: a list; give an object"),
    "no prediction": ("said.jsonl", said(GOOD, {"index": 2, "answer": "a"}), "line 2: no prediction among its 2 keys"),
    "no index": ("said.jsonl", said({"prediction": "a"}), "line 1: no index among its 1 keys; add it"),
    "prediction a number": (
        "said.jsonl",
        said({"index": 1, "prediction": 7}),
        "index 1.: the prediction is a int; give",
    ),
    "prediction null": ("said.jsonl", said({"index": 1, "prediction": None}), "is a NoneType; give a string"),
    "index a list": ("said.jsonl", said({"index": [1], "prediction": "a"}), "the index is a list; give an integer"),
    "index twice": ("said.jsonl", said(GOOD, GOOD), "row 2: index 1 was in row 1 already; keep 1"),
    "not UTF-8": ("said.jsonl", b'{"index": 1, "prediction": "\xff"}\n', "byte 28 is not UTF-8; save"),
    "no workbook": ("said.xlsx", "index\tprediction\n", "no workbook, it begins with 696e6465; save it as .xlsx"),
    "empty workbook": ("said.xlsx", "", "empty, 0 bytes; write the predictions again"),
    "damaged workbook": ("said.xlsx", b"PK\x03\x04" + bytes(99), "a damaged workbook .* save it again"),
    "tsv without predictions": (
        "said.tsv",
        "index\tanswer\n1\ta\n",
        "no column prediction among its 2 .index, answer.",
    ),
    "tsv without an index": ("said.tsv", "index\tprediction\n\ta\n", "row 1: the index is missing; give every"),
    "tsv with an index twice": ("said.tsv", "index\tprediction\n1\ta\n1\tb\n", "row 2: index 1 was in row 1 already"),
    "tsv of a header": ("said.tsv", "index\tprediction\n", "a header of 2 columns and 0 rows"),
}


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_read_predictions_broken_file_is_one_line(kind: str, tmp_path: Path) -> None:
    name, contents, says = PREDICTIONS[kind]
    path = tmp_path / name
    path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    line = told(lambda: table.read_predictions(path), name)
    assert re.search(says, line), line


def test_read_predictions_missing_file(tmp_path: Path) -> None:
    assert "no such file" in told(lambda: table.read_predictions(tmp_path / "said.jsonl"), "said.jsonl")


def test_read_predictions_zip_without_workbook(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "said.xlsx", "w") as archive:
        archive.writestr("note.txt", "x")
    assert "a damaged workbook" in told(lambda: table.read_predictions(tmp_path / "said.xlsx"), "said.xlsx")


def small(tmp_path: Path) -> list[table.Row]:
    path = tmp_path / "DocVQA_VAL.tsv"
    path.write_text(rows("1\tIMAGE\tq\ta", "2\t1\tq\ta"))
    return TASKS["docvqa_val"].read(path)


def test_task_score_predictions_of_another_data_set(tmp_path: Path) -> None:
    line = told(lambda: TASKS["docvqa_val"].score(small(tmp_path), {1: "a", 7: "b", 8: "c"}), "DocVQA_VAL.tsv")
    assert "2 of 3 predictions have an index that none of the 2 questions" in line
    assert "the first is 7; give the data set they were made on" in line


def test_task_score_predictions_with_the_other_type_of_index(tmp_path: Path) -> None:
    line = told(lambda: TASKS["docvqa_val"].score(small(tmp_path), {"1": "a"}), "DocVQA_VAL.tsv")
    assert "the first is '1'" in line


def test_task_score_without_predictions(tmp_path: Path) -> None:
    assert "0 predictions for the 2 questions" in told(
        lambda: TASKS["docvqa_val"].score(small(tmp_path), {}), "DocVQA_VAL.tsv"
    )


def test_table_and_predictions_break_in_at_least_forty_ways() -> None:
    assert len(TABLES) + len(PREDICTIONS) >= 40
