"""The report's tables, charts and files, on fakes with known scores and on the mocks of all sixteen benchmarks."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_fakes import EVIL, MOCK, PICTURES, PLAIN, fake_run, mock_folder, picture, report_of, rows

from ixc.core.tiling import partition
from ixc.errors import DataError, UsageError
from ixc.evals.paper_scores import AXES
from ixc.evals.report import as_dict, gather, markdown, page, thumbnails, write
from ixc.evals.report.bootstrap_units import ROTATION, Scored, units_of
from ixc.evals.report.case_browser import browser
from ixc.evals.report.radar import radar, rims, series
from ixc.evals.report.run_report import ReportRun
from ixc.evals.report.tables import beyond, comparison, pairs, resolutions
from ixc.evals.report.task_report import CASE_BYTES, CASES, Scores, sample


@pytest.fixture(scope="module")
def mocks(tmp_path_factory: pytest.TempPathFactory) -> ReportRun:
    """All sixteen mock data sets, scored by the real metrics."""
    folder = mock_folder(tmp_path_factory.mktemp("run"))
    return gather(folder, rows_of=lambda task, style: task.read(MOCK / task.dataset), name="mock")


# -- on the mocks -----------------------------------------------------------------------------------------------------


def test_comparison_of_sixteen_benchmarks_fills_sixteen_axes(mocks: ReportRun) -> None:
    assert [line.ours[0] is not None for line in comparison([mocks])] == [True] * 16
    assert beyond(mocks) == []
    assert mocks.notes == ()


def test_gather_units_give_the_headline_of_every_benchmark(mocks: ReportRun) -> None:
    for result in mocks.results:
        assert result.interval is not None, result.task
        assert result.interval.value == pytest.approx(result.headline, rel=1e-9), result.task
        assert result.interval.low <= result.interval.value <= result.interval.high, result.task


def test_comparison_marks_judged_benchmarks_without_a_judge(mocks: ReportRun) -> None:
    footnotes = {line.axis.key: line.footnotes for line in comparison([mocks])}
    assert {key for key, found in footnotes.items() if "°" in found} == {"mathvista", "mmvet"}
    assert {key for key, found in footnotes.items() if "*" in found} == {"doc", "info", "mmb", "mmbcn", "qbench"}


def test_gather_sizes_are_those_of_the_goldens(mocks: ReportRun) -> None:
    for result in mocks.results:
        expected = json.loads((MOCK / result.dataset / "expected.json").read_text())
        sizes = {tuple(image[1:]) for row in expected["images"] for image in row["images"]}
        assert set(result.sizes) == sizes, result.dataset


def test_gather_rotation_of_a_question_is_no_case(mocks: ReportRun) -> None:
    result = mocks.result("mmbench_en")
    assert result is not None
    assert result.cases
    assert all(case.index < ROTATION and case.score is not None for case in result.cases)  # type: ignore[operator]


def test_case_browser_published_prompt_shows_one_picture(mocks: ReportRun) -> None:
    result = mocks.result("mmmu")
    assert result is not None
    assert any(len(case.pictures) > 1 for case in result.cases)
    html = browser([mocks])
    assert html.count("not shown to the model") > 0


def test_write_is_deterministic(mocks: ReportRun, tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write([mocks], out=tmp_path / "a")]
    assert first == [path.read_bytes() for path in write([mocks], out=tmp_path / "b")]
    assert [len(content) > 1000 for content in first] == [True] * 3


def test_gather_stored_score_needs_no_data(tmp_path: Path) -> None:
    folder = mock_folder(tmp_path)
    for path in folder.glob("*.jsonl"):
        if path.stem != "chartqa":
            path.unlink()
    kept = {"name": "relaxed accuracy", "headline": 50.0, "table": [{"Overall": 50.0}], "per_row": {"0": 1, "1": 0}}
    with pytest.raises(DataError, match=r"no chartqa\.score\.json, and no data"):
        gather(folder, rows_of=lambda task, style: None)
    (folder / "chartqa.score.json").write_text(json.dumps(kept))
    run = gather(folder, rows_of=lambda task, style: None)
    assert run.name == "fake"
    assert (run.results[0].headline, run.results[0].cases, run.results[0].sizes) == (50.0, (), ())
    assert "Cases" not in page([run])
    assert any("ChartQA_TEST.tsv is missing; give --data" in note for note in run.notes)
    (folder / "chartqa.score.json").write_text(json.dumps(kept | {"answered": 3}))
    with pytest.raises(DataError, match="is of 3 answers, not 12"):
        gather(folder, rows_of=lambda task, style: None)
    strange = {"answered": 12, "header": kept.get("header", {}) | {"model": "another"}}
    (folder / "chartqa.score.json").write_text(json.dumps(kept | strange))
    with pytest.raises(DataError, match="or of another run"):
        gather(folder, rows_of=lambda task, style: None)
    again = gather(folder, rows_of=lambda task, style: task.read(MOCK / task.dataset))
    assert again.results[0].headline == pytest.approx(200 / 3)
    (folder / "chartqa.score.json").write_text(json.dumps(kept | {"headline": None, "per_row": {"0": None}}))
    nothing = gather(folder, rows_of=lambda task, style: None)
    assert (nothing.results[0].headline, dict(nothing.results[0].per_row)) == (None, {})
    write([nothing], out=tmp_path / "nothing")
    (folder / "chartqa.score.json").write_text("[]")
    with pytest.raises(DataError, match="holds a list, a JSON object needed"):
        gather(folder, rows_of=lambda task, style: None)
    (folder / "chartqa.score.json").write_text('{"name": "x"}')
    with pytest.raises(DataError, match="holds no score"):
        gather(folder, rows_of=lambda task, style: None)


def test_gather_grid_follows_the_settings_of_the_run(tmp_path: Path) -> None:
    folder = mock_folder(tmp_path)
    path = folder / "chartqa.jsonl"
    first, rest = path.read_text().split("\n", 1)
    header = json.loads(first) | {"settings": {"hd": 4, "partition": "native"}}
    path.write_text(json.dumps(header) + "\n" + rest)
    run = gather(folder, rows_of=lambda task, style: task.read(MOCK / task.dataset))
    result = run.result("chartqa")
    assert result is not None
    assert {(case.hd, case.partition) for case in result.cases} == {(4, "native")}
    assert "HD-4: 1 × 1 tiles" in browser([run])


def test_gather_notes_missing_data(tmp_path: Path) -> None:
    folder = mock_folder(tmp_path)

    def rows_of(task, style):
        if task.name == "mme":
            raise DataError("MME.tsv: no such file; fetch it")
        return task.read(MOCK / task.dataset)

    run = gather(folder, rows_of=rows_of)
    assert run.result("mme") is None
    assert any("mme is left out" in note for note in run.notes)
    assert "mme is left out" in markdown([run])
    assert "mme is left out" in page([run])


def test_gather_without_a_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder of a run"):
        gather(tmp_path / "none", rows_of=lambda task, style: None)
    with pytest.raises(DataError, match="0 finished files of predictions"):
        gather(tmp_path, rows_of=lambda task, style: None)


# -- figures ----------------------------------------------------------------------------------------------------------


def test_units_of_another_headline_is_empty() -> None:
    scored = [Scored(index=i, score=1.0, picture="", row={}) for i in range(4)]
    assert units_of("MMStar", scored, 100.0)[0]
    assert units_of("MMStar", scored, 99.0)[0] == {}
    assert units_of("MMStar", scored, None)[0] == {}
    assert units_of("MMStar", [], 100.0)[0] == {}


def test_units_of_questions_about_one_picture_are_one() -> None:
    result = fake_run().results[0]
    assert result.interval is not None
    assert result.interval.units == len(PICTURES)


def test_markdown_prints_the_published_figures() -> None:
    text = markdown([fake_run()])
    assert "| DocVQA* (test) | 82.2 | 88.4 | 88.1 | 48.3 | 57.7 | 90.0 | 66.7 [" in text
    assert "| MM-Vet° (all) | 54.5 | 56.8 | 59.2 | 30.1 | 46.7 | 54.9 | 66.7 [" in text


def test_comparison_marks_a_part_of_the_questions() -> None:
    run = fake_run()
    part = replace(run, results=tuple(replace(r, total=99) for r in run.results))
    assert all("†" in line.footnotes for line in comparison([part]))
    assert "only some of the questions" in page([part])


def test_resolutions_are_minimum_median_maximum() -> None:
    line = resolutions([fake_run()])[0]
    assert (line.pictures, line.least, line.middle, line.most) == (3, (300, 200), 400 * 900, (800, 600))
    assert line.above_4k == 0


def test_pairs_compare_what_both_answered() -> None:
    one, two = fake_run(), fake_run("theirs", scores=(1.0, 1.0, 1.0, 1.0, 0.0, 1.0), skip=("mme",))
    found = pairs([one, two])
    assert len(found) == 15
    paired = found[0].paired
    assert paired is not None
    assert (paired.only_first, paired.only_second, paired.questions) == (0, 1, 6)
    assert paired.difference.value == pytest.approx(100 / 6)
    assert pairs([one]) == []


def test_pairs_refuse_other_metrics_and_other_questions() -> None:
    one, two = fake_run(), fake_run("theirs")
    other = replace(two, results=tuple(replace(r, metric="judged") for r in two.results))
    assert "scored by share and by judged" in (pairs([one, other])[0].why)
    empty = replace(two, results=tuple(replace(r, units={}) for r in two.results))
    assert "no image" in pairs([one, empty])[0].why
    assert "no image" in page([one, empty])
    assert "no image" in markdown([one, empty])


# -- drawing ----------------------------------------------------------------------------------------------------------


def test_radar_leaves_gaps_and_hides_no_axis() -> None:
    run = fake_run(skip=("text",))
    drawn = series([run])
    assert [one.name for one in drawn] == ["GPT-4V", "Gemini Pro", "IXC2-4KHD-7B", "ours"]
    assert drawn[3].figures[3] is None  # not measured
    assert drawn[3].figures[14] is None  # a rule in place of the judge
    assert all(0 < (one.figures[k] or rim) <= rim for one in drawn for k, rim in enumerate(rims(drawn)))
    svg = radar([run])
    assert svg.count('class="axis"') == len(AXES)
    assert svg.count("<polygon") == 4 + 3  # rings, and the three lines without a gap


def test_case_browser_grid_is_the_partition() -> None:
    html = browser([fake_run()])
    part = partition(800, 600, hd=9)
    assert f'viewBox="0 0 {part.canvas_width} {part.canvas_height}"' in html
    assert f'x="{part.pad_left}" y="{part.pad_top}" width="{part.resized_width}"' in html
    assert f"800 × 600 px, HD-9: {part.grid_w} × {part.grid_h} tiles" in html


def test_page_stores_a_picture_once() -> None:
    html = page([fake_run(), fake_run("again")])
    assert html.count("data:image/webp") == len(PICTURES)
    assert html.count("<use ") == 2 * 16 * len(PLAIN)


def test_page_loads_nothing_from_outside() -> None:
    html = page([fake_run()])
    assert "default-src 'none'" in html
    assert re.findall(r'(?:href|src)="(?!#|data:)[^"]*"', html) == []
    assert html.count("<script") == html.count("</script") == 1
    assert "unsafe" not in html
    assert "style=" not in html  # the policy knows one style sheet, by its hash


def test_write_half_a_surrogate_pair(tmp_path: Path) -> None:
    assert "\ud800" in EVIL
    for path in write([fake_run()], out=tmp_path):
        path.read_text(encoding="utf-8")


def test_as_dict_holds_every_figure() -> None:
    value = json.loads(json.dumps(as_dict([fake_run()])))
    assert len(value["comparison"]) == len(value["runs"][0]["results"]) == 16
    assert value["runs"][0]["results"][0]["per_row"]["0"] == 1
    assert value["runs"][0]["results"][0]["interval"]["value"] == pytest.approx(100 * sum(PLAIN) / 6)


def test_markdown_escapes_a_bar_in_a_name() -> None:
    assert "a\\|b" in markdown([fake_run("a|b")])


def test_write_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 runs"):
        write([], out=tmp_path)
    with pytest.raises(UsageError, match="2 of 2 runs are called 'ours'"):
        write([fake_run(), fake_run()], out=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write([fake_run()], out=tmp_path / "file")


# -- pictures and cases -----------------------------------------------------------------------------------------------


def test_thumbnails_are_reduced_and_never_enlarged() -> None:
    big, little = thumbnails.thumbnail(picture(3000, 1000)), thumbnails.thumbnail(picture(30, 20))
    assert big is not None
    assert little is not None
    assert (big.width, big.height) == (3000, 1000)
    assert thumbnails.size_of(big.data) == (640, 213)
    assert thumbnails.size_of(little.data) == (30, 20)


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", PICTURES[0][:60], PICTURES[2][:300]])
def test_thumbnails_of_broken_pictures(data: bytes) -> None:
    assert thumbnails.thumbnail(data) is None
    result = report_of(
        task="x", dataset="MMStar", title="X", hd=9, predictions={0: "a"},
        scores=Scores(metric="m", headline=0.0, table=(), per_row={0: 0.0}),
        rows=[{"index": 0, "image": (data,), "question": "?", "answer": "b"}],
    )  # fmt: skip
    assert "cannot be read" in browser([ReportRun(name="r", results=(result,))])


def test_case_browser_names_a_picture_too_thin_for_a_grid() -> None:
    result = report_of(
        task="x", dataset="MMStar", title="X", hd=1, predictions={0: "a"},
        scores=Scores(metric="m", headline=0.0, table=(), per_row={0: 0.0}),
        rows=[{"index": 0, "image": (picture(1000, 1),), "question": "?", "answer": "b"}],
    )  # fmt: skip
    assert "aspect ratio" in browser([ReportRun(name="r", results=(result,))])


def test_sample_has_equal_parts_in_order() -> None:
    verdicts = ["right"] * 90 + ["wrong"] * 5 + ["partly"] * 30
    places = sample(verdicts, 24)
    assert places == sorted(set(places))
    kinds = [verdicts[place] for place in places]
    assert (kinds.count("wrong"), len(kinds)) == (5, 24)
    assert abs(kinds.count("right") - kinds.count("partly")) <= 1
    assert sample(verdicts[:3], 24) == [0, 1, 2]
    assert sample([], 24) == []


def test_task_report_limits_cases_and_bytes() -> None:
    import io

    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)

    def noise() -> bytes:
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(out, format="PNG", compress_level=0)
        return out.getvalue()

    noisy = [{"index": i, "image": (noise(),), "question": "?", "answer": "x"} for i in range(CASES + 6)]
    scores = Scores(metric="m", headline=0.0, table=(), per_row=dict.fromkeys(range(len(noisy)), 0.0))
    result = report_of(
        task="x", dataset="MMStar", title="X", hd=9, predictions=dict.fromkeys(range(len(noisy)), "a"), scores=scores,
        rows=noisy,
    )  # fmt: skip
    shown = [p.data for case in result.cases for p in case.pictures if p]
    assert 0 < len(shown) < CASES
    assert sum(map(len, shown)) <= CASE_BYTES


def test_task_report_cuts_long_answers() -> None:
    result = report_of(
        task="x", dataset="MMStar", title="X", hd=9, predictions={0: "la " * 9999},
        scores=Scores(metric="m", headline=0.0, table=(), per_row={0: 0.0}), rows=rows()[:1],
    )  # fmt: skip
    assert result.cases[0].prediction.endswith("(29,997 characters)")
    assert len(result.cases[0].prediction) < 2100
    assert result.cases[0].question == "How many lamps in room 0?\nA. two"
    assert result.total == 1


def test_gather_joins_scores_and_rows_by_text_or_number() -> None:
    result = report_of(
        task="x", dataset="MMStar", title="X", hd=9, predictions={0: "a", 1: "b"},
        scores=Scores(metric="m", headline=50.0, table=(), per_row={"0": 1.0, "1": 0.0}), rows=rows()[:2],
    )  # fmt: skip
    assert result.per_row == {0: 1.0, 1: 0.0}
    assert [case.verdict for case in result.cases] == ["right", "wrong"]


def test_pairs_refuse_runs_on_different_data(tmp_path: Path) -> None:
    ours, theirs = fake_run("ours"), fake_run("theirs")
    one = replace(ours, results=tuple(replace(r, data="a" * 32) for r in ours.results))
    two = replace(theirs, results=tuple(replace(r, data="b" * 32) for r in theirs.results))
    assert all(pair.paired is None and "asked on different data, MD5 aaa" in pair.why for pair in pairs([one, two]))
    text = markdown([one, two])
    assert "the runs were asked on different data files: not comparable" in text
    assert "‡" not in markdown([one, replace(one, name="again")])
    assert "‡" not in markdown([one, theirs]), "of a file without its MD5 nothing is known"
    found = as_dict([one, two])
    assert {line["data"] for run in found["runs"] for line in run["results"]} == {"a" * 32, "b" * 32}


def test_gather_data_of_another_md5_has_no_cases(tmp_path: Path) -> None:
    folder = mock_folder(tmp_path)
    (path, *others) = sorted(folder.glob("*.jsonl"))
    for other in others:
        other.unlink()
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(header), "data": "a" * 32}), *lines]) + "\n")
    (run,) = (gather(folder, rows_of=lambda t, style: t.read(MOCK / t.dataset), md5_of=lambda t: "a" * 32),)
    assert run.results[0].cases
    score = path.with_name(f"{path.stem}.score.json")
    if not score.exists():
        score.write_text(json.dumps({"name": "x", "headline": 1.0, "table": [], "per_row": {}}))
    run = gather(folder, rows_of=lambda t, style: t.read(MOCK / t.dataset), md5_of=lambda t: "b" * 32)
    assert not run.results[0].cases
    assert any("answers were made on data with MD5 aaa" in note and "bbb" in note for note in run.notes)
