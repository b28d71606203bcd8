"""Rebalancing recomputed by counting, and the prior correction against Bayes' theorem."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from views_dagster.errors import PanelError, QuerysetError
from views_dagster.precipitation.rebalancing import (
    NoRebalance,
    Rebalance,
    RebalanceReport,
    Resample,
    Weights,
)

EDGES = (0.5, 4.0)
COUNTS = (80, 15, 5)


def one_hot(counts: tuple[int, ...] = COUNTS) -> NDArray[np.float32]:
    """Rows that lie in one band each, dry ones first."""
    return np.eye(len(counts), dtype=np.float32)[np.repeat(np.arange(len(counts)), counts)]


def mixed(seed: int, n: int = 200) -> NDArray[np.float32]:
    return np.random.default_rng(seed).dirichlet([3, 1, 0.5], n).astype(np.float32)


def test_none_takes_every_row_once() -> None:
    found = NoRebalance().apply(mixed(0), EDGES, seed=1)
    assert found.rows.tolist() == list(range(200))
    assert (found.weights == 1).all()
    assert (found.correction == 1).all()


def test_resampling_meets_the_stated_counts_with_the_least_repetition() -> None:
    found = Resample(distribution=(0.4, 0.4, 0.2), max_repeats=100).apply(one_hot(), EDGES, seed=3)
    used = Counter(found.rows.tolist())
    assert found.report.rows_after == (40, 40, 20)
    assert {used[row] for row in range(80)} == {0, 1}, "a dry row is kept or not, never repeated"
    assert sorted(used[row] for row in range(80, 95)) == [2] * 5 + [3] * 10, "40 of 15 rows: each 2 times, ten 3 times"
    assert [used[row] for row in range(95, 100)] == [4] * 5
    assert found.report.most_repeats == (1, 3, 4)


def test_the_cap_on_repetition_binds_and_is_told() -> None:
    found = Resample(distribution=(0.4, 0.4, 0.2), max_repeats=2).apply(one_hot(), EDGES, seed=3)
    assert found.report.rows_after == (40, 30, 10)
    assert found.report.prevented == (0, 10, 10)
    assert max(Counter(found.rows.tolist()).values()) == 2


def test_thinning_keeps_what_min_keep_says_and_size_sets_the_total() -> None:
    found = Resample(distribution=(0.0, 0.5, 0.5), max_repeats=9, min_keep=0.25, size=20).apply(
        one_hot(), EDGES, seed=3
    )
    assert found.report.rows_after == (20, 10, 10)


@pytest.mark.parametrize(("distribution", "wanted"), [("uniform", [1 / 3] * 3), ("sqrt", [0.7, 0.2, 0.1])])
def test_named_distributions(distribution: str, wanted: list[float]) -> None:
    rows = one_hot((49, 4, 1))
    found = Resample.model_validate({"distribution": distribution}).apply(rows, EDGES, seed=0)
    np.testing.assert_allclose(found.report.wanted, wanted)


def test_a_band_that_no_row_has_gets_no_share_by_name_and_is_reported_by_number() -> None:
    rows = one_hot((80, 20, 0))
    assert Resample(distribution="uniform").apply(rows, EDGES, seed=0).report.wanted == (0.5, 0.5, 0)
    stated = Resample(distribution=(0.5, 0.25, 0.25)).apply(rows, EDGES, seed=0).report
    assert stated.rows_after == (50, 25, 0)
    assert stated.prevented == (0, 0, 25)


def test_weights_make_the_bands_count_as_stated() -> None:
    found = Weights(distribution=(0.5, 0.3, 0.2), max_weight=100).apply(one_hot(), EDGES, seed=0)
    by_band = [found.weights[:80].sum(), found.weights[80:95].sum(), found.weights[95:].sum()]
    np.testing.assert_allclose(by_band, [50, 30, 20], rtol=1e-6)
    assert found.rows.tolist() == list(range(100))


def test_weights_are_capped_and_have_mean_1() -> None:
    found = Weights(distribution=(0.5, 0.3, 0.2), max_weight=2).apply(one_hot(), EDGES, seed=0)
    # Ratios .625, 2, 4 -> 2, whose mean over rows is .8 * .625 + .15 * 2 + .05 * 2 = .9
    np.testing.assert_allclose(found.report.weight, np.array([0.625, 2, 2]) / 0.9)
    assert found.report.prevented == pytest.approx((0, 0, 0.1))


@given(seed=st.integers(0, 99), kind=st.sampled_from(["resample", "weights"]), cap=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_the_report_is_what_counting_the_rows_gives(seed: int, kind: str, cap: int) -> None:
    fractions = mixed(seed)
    rebalance = Resample(max_repeats=cap) if kind == "resample" else Weights(max_weight=cap)
    found = rebalance.apply(fractions, EDGES, seed=seed)
    band = [max(range(3), key=lambda b, row=row: (row[b], b)) for row in fractions.tolist()]
    assert found.report.rows_before == tuple(band.count(b) for b in range(3))
    assert found.report.rows_after == tuple(sum(band[row] == b for row in found.rows.tolist()) for b in range(3))
    total = np.zeros(3)
    for row, weight in zip(found.rows.tolist(), found.weights.tolist(), strict=True):
        total += weight * fractions[row].astype(np.float64)
    np.testing.assert_allclose(found.report.fractions_after, total / found.weights.sum(dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(found.report.fractions_before, fractions.mean(axis=0), rtol=1e-5)
    assert (np.diff(found.rows) >= 0).all()


def test_equal_seeds_draw_equal_rows_and_others_do_not() -> None:
    first, again, other = (Resample().apply(mixed(1), EDGES, seed=seed).rows.tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_prior_correction_is_exact_under_label_shift() -> None:
    # A predictor with 7 values; p(band | x) by counting in the population, and in the rebalanced rows.
    draw = np.random.default_rng(4)
    x, fractions = draw.integers(0, 7, 5000), one_hot((4000, 800, 200))
    x += fractions.argmax(axis=1)
    found = Weights(distribution="uniform", max_weight=100).apply(fractions, EDGES, seed=0)

    def posterior(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        joint = np.stack([np.bincount(x, weights * fractions[:, band], 9) for band in range(3)], axis=1)
        return joint / joint.sum(axis=1, keepdims=True)

    biased, true = posterior(found.weights.astype(np.float64)), posterior(np.ones(5000))
    corrected = biased * found.correction
    corrected /= corrected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(corrected, true, atol=1e-6)
    assert np.abs(biased - true).max() > 0.2
    np.testing.assert_allclose(corrected[x].mean(axis=0), fractions.mean(axis=0), atol=1e-6)


def test_the_report_as_json_and_as_a_frame() -> None:
    report = Resample(distribution=(0.4, 0.4, 0.2), max_repeats=2).apply(one_hot(), EDGES, seed=3).report
    assert RebalanceReport.model_validate_json(report.model_dump_json()) == report
    frame = report.frame()
    assert frame["band"].to_list() == ["0-0.5", "0.5-4", "4+"]
    assert frame["share_before"].to_list() == [0.8, 0.15, 0.05]
    assert frame["share_after"].to_list() == [0.5, 0.375, 0.125]


def test_settings_that_cannot_be_meant_are_refused() -> None:
    settings_of = TypeAdapter[Rebalance](Rebalance)
    with pytest.raises(ValidationError, match=r"sum to 0.9, not to 1"):
        settings_of.validate_python({"kind": "resample", "distribution": [0.5, 0.4]})
    with pytest.raises(ValidationError, match="uniform"):
        settings_of.validate_python({"kind": "weights", "distribution": "even"})
    with pytest.raises(QuerysetError, match="2 shares, but there are 3 bands"):
        Resample(distribution=(0.5, 0.5)).apply(one_hot(), EDGES, seed=0)


def test_a_band_that_would_be_lost_is_refused() -> None:
    with pytest.raises(PanelError, match=r"no row with rain in band \[2\]"):
        Resample(distribution=(0.5, 0.5, 0.0)).apply(one_hot(), EDGES, seed=0)
    with pytest.raises(PanelError, match="no row to train on"):
        Resample(distribution=(0.0, 0.0, 1.0)).apply(one_hot((80, 20, 0)), EDGES, seed=0)


def test_rows_without_rain_are_refused() -> None:
    fractions = mixed(0)
    fractions[3] = np.nan
    with pytest.raises(PanelError, match="observed rain"):
        Resample().apply(fractions, EDGES, seed=0)
