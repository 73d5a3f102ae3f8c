"""docs/findings.md from made-up results: means, intervals, verdicts, the paper's figures; and that it is current."""

import json
from pathlib import Path

import pytest
from studies.resolution_plan import made_up

from ixc.errors import DataError
from studies.resolution import paper, report
from studies.resolution.results import estimate, load, read

ROOT = Path(__file__).parents[2]


def test_estimate_has_students_interval() -> None:
    found = estimate([1.0, 2.0, 3.0])
    assert found is not None
    # s = 1, t(0.975, 2) = 4.303: 2 +- 4.303 / sqrt(3)
    assert found.value == pytest.approx(2.0)
    assert found.high - found.value == pytest.approx(2.4843, abs=1e-3)
    one = estimate([4.0])
    assert one is not None
    assert (one.low, one.high, one.seeds) == (4.0, 4.0, 1)


def test_reading_is_the_mean_of_three_benchmarks() -> None:
    assert paper.reading(paper.RESOLUTION["HD-9", "HD-9"]) == pytest.approx((79.4 + 50.5 + 73.8) / 3)


def test_made_from_made_up_results(tmp_path: Path) -> None:
    made_up(tmp_path / "results", right={"hd9": 40, "hd16": 45, "hd9-no-overview": 47, "4khd-resampler": 20})
    text, plots = report.made(tmp_path / "results", benchmarks=ROOT / "benchmarks")
    assert "| HD-16 less HD-9, each trained so | **+5.0 ± 0.0** | 3 | +5.9 | agrees |" in text
    assert "| HD-9 without overview less with | **+7.0 ± 0.0** | 3 | -2.2 | disagrees |" in text
    assert "| HD-9 | 42.0 ± 2.5 |" in text  # 41, 42, 43
    assert "| *re-sampler less concat* | **-30.0 ± 0.0** |" in text
    for row in (*paper.RESOLUTION.values(), *paper.MERGES.values(), *paper.WITHOUT_NEWLINE.values()):
        assert " | ".join(f"{v:g}" for v in row) in text
    assert "Time against image tokens" in text
    assert len(plots) == 8
    assert all(f"({name})" in text and drawn.startswith("<svg") for name, drawn in plots.items())


def test_made_without_results_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"python -m studies\.resolution"):
        report.made(tmp_path, benchmarks=tmp_path)


def test_made_equals_the_committed_page() -> None:
    text, plots = report.made(ROOT / "studies/resolution/results", benchmarks=ROOT / "benchmarks")
    assert (ROOT / "docs/findings.md").read_text(encoding="utf-8") == text
    for name, drawn in plots.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == drawn


def test_load_refuses_language_models_of_two_shapes(tmp_path: Path) -> None:
    made_up(tmp_path / "results", right={})
    path = tmp_path / "results" / "hd9-4.json"
    run = json.loads((tmp_path / "results" / "hd9-1.json").read_text())
    path.write_text(json.dumps(run | {"seed": 4, "start": run["start"] | {"width": 256, "layers": 6}}))
    with pytest.raises(DataError, match=r"128 wide with 4 layers \(36, .*\) and 256 wide with 6 layers \(1, hd9-4"):
        load(tmp_path / "results")


def test_read_maps_the_keys_of_older_files() -> None:
    run = read(ROOT / "studies/resolution/results/hd9-1.json")
    assert (run["start"]["width"], run["start"]["layers"]) == (128, 4)
    assert run["start"]["cpu_seconds"].keys() == {"vision_encoder", "language_model", "pool", "fit"}
    assert run["recipe"]["learner"]["glyph_mse_weight"] == 0.02
    assert run["recipe"]["vision_encoder"]["images"] == [2, 1]
    assert len(run["start"]["curriculum"]) == 8
