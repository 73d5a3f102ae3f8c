"""The page from made-up results: means, intervals, verdicts and the paper's figures; the committed one is new."""

from pathlib import Path

import pytest
from studies.tiny import made_up

from ixc.errors import DataError
from studies.resolution import paper, report
from studies.resolution.results import estimate

ROOT = Path(__file__).parents[2]


def test_the_interval_is_students() -> None:
    found = estimate([1.0, 2.0, 3.0])
    assert found is not None
    # s = 1, t(0.975, 2) = 4.303: 2 +- 4.303 / sqrt(3)
    assert found.value == pytest.approx(2.0)
    assert found.high - found.value == pytest.approx(2.4843, abs=1e-3)
    one = estimate([4.0])
    assert one is not None
    assert (one.low, one.high, one.seeds) == (4.0, 4.0, 1)


def test_the_mean_of_the_papers_reading_benchmarks() -> None:
    assert paper.reading(paper.RESOLUTION["HD-9", "HD-9"]) == pytest.approx((79.4 + 50.5 + 73.8) / 3)


def test_page_of_made_up_results(tmp_path: Path) -> None:
    made_up(tmp_path / "ablate", right={"hd9": 40, "hd16": 45, "hd9-no-overview": 47, "4khd-resampler": 20})
    text, plots = report.made(tmp_path / "ablate", benchmarks=ROOT / "benchmarks")
    assert "| HD-16 less HD-9, each trained so | **+5.0 ± 0.0** | 3 | +5.9 | agrees |" in text
    assert "| HD-9 without overview less with | **+7.0 ± 0.0** | 3 | -2.2 | disagrees |" in text
    assert "| HD-9 | 42.0 ± 2.5 |" in text  # 41, 42, 43
    assert "| *re-sampler less concat* | **-30.0 ± 0.0** |" in text
    for row in (*paper.RESOLUTION.values(), *paper.MERGES.values(), *paper.WITHOUT_NEWLINE.values()):
        assert " | ".join(f"{v:g}" for v in row) in text
    assert "Time against image tokens" in text
    assert len(plots) == 8
    assert all(f"({name})" in text and drawn.startswith("<svg") for name, drawn in plots.items())


def test_no_results_say_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ixc bench ablate"):
        report.made(tmp_path, benchmarks=tmp_path)


def test_the_committed_page_is_what_the_files_give() -> None:
    text, plots = report.made(ROOT / "studies/resolution/results", benchmarks=ROOT / "benchmarks")
    assert (ROOT / "docs/findings.md").read_text(encoding="utf-8") == text
    for name, drawn in plots.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == drawn
