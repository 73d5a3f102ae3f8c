"""Bootstrap and paired tests against closed forms, textbook values and coverage on drawn data."""

import numpy as np
import pytest

from ixc.errors import DataError, UsageError
from ixc.evals.intervals import EXACT, Unit, bootstrap, compare, figure, mcnemar


def units(scores: list[float]) -> list[Unit]:
    return [Unit(sums=(s,), counts=(1,)) for s in scores]


def test_bootstrap_interval_of_a_share_is_binomial() -> None:
    # 200 of 400: half width 1.96 x sqrt(0.25 / 400) = 4.9 points; 0.6 allows for 2000 draws and steps of 0.25
    found = bootstrap(units([0.0, 1.0] * 200))
    assert found.value == 50.0
    assert found.low == pytest.approx(45.1, abs=0.6)
    assert found.high == pytest.approx(54.9, abs=0.6)
    assert found.units == 400


def test_bootstrap_draws_questions_about_one_picture_together() -> None:
    single = bootstrap(units([0.0] * 100 + [1.0] * 100))
    pictures = bootstrap([Unit(sums=(10.0 * k,), counts=(10,)) for k in [0] * 10 + [1] * 10])
    # the same 200 answers, but only 20 independent pictures: wider by sqrt(10)
    assert (pictures.high - pictures.low) / (single.high - single.low) == pytest.approx(10**0.5, rel=0.15)


def test_bootstrap_interval_covers_95_percent() -> None:
    rng = np.random.default_rng(5)
    runs = [bootstrap(units([*(rng.random(60) < 0.7)]), resamples=400, seed=k) for k in range(200)]
    covered = sum(run.low <= 70 <= run.high for run in runs)
    assert 178 <= covered <= 199  # 95 % of 200, three standard deviations, less the percentile method's small-n bias


def test_bootstrap_equal_seeds_give_equal_intervals() -> None:
    data = units([k / 97 for k in range(97)])
    assert bootstrap(data) == bootstrap(data)
    assert bootstrap(data, seed=1) != bootstrap(data)


def test_figure_adds_strata_and_components() -> None:
    mme = [
        Unit(stratum="color", sums=(2, 1), counts=(2, 1)),
        Unit(stratum="color", sums=(1, 0), counts=(2, 1)),
        Unit(stratum="count", sums=(0, 0), counts=(2, 1)),
    ]
    assert figure(mme) == 75 + 50  # acc 3 of 4 and acc+ 1 of 2 in one category, nothing in the other
    assert bootstrap(mme).value == 125
    assert bootstrap(mme).high == 200  # the first picture twice


def test_figure_without_counts_is_zero() -> None:
    assert figure([Unit(sums=(0,), counts=(0,))]) == 0


def test_mcnemar_against_hand_computed_values() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(10, 2) == pytest.approx(2 * (1 + 12 + 66) / 4096)
    assert mcnemar(7, 7) == 1
    assert mcnemar(2, 10) == mcnemar(10, 2)


def test_mcnemar_normal_approximation_continues_the_exact_test() -> None:
    exact, near = mcnemar(EXACT // 2 - 40, EXACT // 2 + 40), mcnemar(EXACT // 2 - 40, EXACT // 2 + 41)
    assert near == pytest.approx(exact, abs=1e-3)  # the correction for continuity is good to that at 1000 pairs


def test_compare_finds_the_better_run() -> None:
    rng = np.random.default_rng(2)
    first = (rng.random(300) < 0.5).astype(float)
    second = np.maximum(first, rng.random(300) < 0.2)
    found = compare(units([*first]), units([*second]), [*zip(first, second, strict=True)])
    assert found.difference.low > 0
    assert found.p_bootstrap < 0.01
    assert found.p_mcnemar is not None
    assert found.p_mcnemar < 0.01
    assert found.only_first == 0
    assert found.only_second == int((second > first).sum())


def test_compare_equal_runs() -> None:
    scores = [0.0, 1.0, 1.0]
    found = compare(units(scores), units(scores), [(s, s) for s in scores])
    assert (found.difference.low, found.difference.high, found.p_bootstrap, found.p_mcnemar) == (0, 0, 1, 1)


def test_mcnemar_is_not_for_partial_scores() -> None:
    assert compare(units([0.5]), units([1.0]), [(0.5, 1.0)]).p_mcnemar is None


def test_intervals_refusals() -> None:
    with pytest.raises(DataError, match="0 scored questions"):
        bootstrap([])
    with pytest.raises(UsageError, match="5 resamples, at least 100"):
        bootstrap(units([1.0]), resamples=5)
    with pytest.raises(DataError, match="no order of units"):
        compare(units([1.0]), units([1.0, 0.0]), [])
