"""Distributions around a level: known ones are recovered, and each is a proper quantile function."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError
from scipy.stats import nbinom

from views_dagster.learners.predictive import KNOTS, Counts, Quantiles, Residuals, negative_binomial_fit

GRID = (np.arange(100) + 0.5) / 100


def test_residuals_are_the_outcomes_of_the_nearest_held_out_rows() -> None:
    level = np.repeat([0.0, 1.0, 3.0], 100)
    outcome = np.concatenate([np.zeros(100), np.tile([0.0, 2.0], 50), np.arange(100.0)])
    method = Residuals(neighbours=100)
    tables = method.tabulate(level, outcome, np.ones(300))
    draws = method.quantiles(np.array([0.0, 3.0]), tables, np.broadcast_to(GRID, (2, 100)))
    assert_array_equal(draws[0], 0)
    assert_allclose(draws[1], np.arange(100.0), atol=1e-9)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 9.0), (0.5, np.expm1(np.log(10) + 0.5)), (1.0, 10 * np.e - 1)])
def test_positive_outcomes_move_with_the_level_and_zeros_stay(shift: float, expected: float) -> None:
    method = Residuals(neighbours=10, shift=shift)
    tables = method.tabulate(np.full(10, 2.0), np.tile([0.0, 9.0], 5), np.ones(10))
    draws = method.quantiles(np.array([3.0]), tables, np.array([[0.25, 0.75]]))
    assert_allclose(draws, [[0.0, expected]])


def test_a_row_of_weight_four_counts_as_four_rows() -> None:
    rng = np.random.default_rng(0)
    level, outcome = rng.random(60), rng.poisson(3, 60).astype(float)
    weight = rng.integers(1, 5, 60)
    method = Residuals(neighbours=int(weight.sum()), shift=0)
    once = method.tabulate(level, outcome, weight.astype(float))
    repeated = method.tabulate(np.repeat(level, weight), np.repeat(outcome, weight), np.ones(weight.sum()))
    assert_allclose(once["outcomes"], repeated["outcomes"])


def test_windows_reach_from_the_bottom_to_the_top() -> None:
    level = np.arange(1000.0)
    knots, levels, _ = Residuals(neighbours=50).windows(level, level, np.ones(1000))
    assert levels.shape == (KNOTS, 50)
    assert_array_equal(levels[0], np.arange(50))
    assert_array_equal(levels[-1], np.arange(950, 1000))
    assert (np.diff(knots) > 0).all()
    assert np.diff(knots)[-1] < np.diff(knots)[0]


def test_negative_binomials_are_recovered_at_every_level() -> None:
    rng = np.random.default_rng(0)
    level = np.repeat([0.5, 3.0], 5_000)
    mean, dispersion = np.array([0.5, 30.0]), np.array([4.0, 0.5])
    size = 1 / dispersion
    outcome = np.concatenate([rng.negative_binomial(r, r / (r + m), 5_000) for r, m in zip(size, mean, strict=True)])
    method = Counts(neighbours=4_000)
    tables = method.tabulate(level, outcome.astype(float), np.ones(10_000))
    draws = method.quantiles(np.array([0.5, 3.0]), tables, np.broadcast_to(GRID, (2, 100)))
    exact = nbinom.ppf(GRID, size[:, None], (size / (size + mean))[:, None])
    assert_allclose(draws.mean(axis=1), exact.mean(axis=1), rtol=0.1)
    assert_allclose((draws == 0).mean(axis=1), (exact == 0).mean(axis=1), atol=0.03)


def test_the_dispersion_maximises_the_likelihood() -> None:
    counts = np.random.default_rng(1).negative_binomial(0.7, 0.1, (1, 400)).astype(float)
    mean, dispersion = negative_binomial_fit(counts)

    def likelihood(value: float) -> float:
        return float(nbinom.logpmf(counts, 1 / value, 1 / (1 + value * mean[0])).sum())

    assert mean[0] == counts.mean()
    assert likelihood(dispersion[0]) >= max(likelihood(dispersion[0] * factor) for factor in (0.8, 1.25))


def test_quantiles_are_interpolated_and_the_tail_goes_on() -> None:
    method = Quantiles(probabilities=(0.5, 0.9))
    logs = np.array([[1.0, 2.0]])
    inside = method.quantiles(logs, np.array([[0.25, 0.5, 0.7, 0.9]]))
    assert_allclose(np.log1p(inside), [[0.5, 1.0, 1.5, 2.0]])
    # From 0.5 to 0.9 the log rises by 1 while 1 - p falls to a fifth; 0.98 is another fifth.
    assert_allclose(np.log1p(method.quantiles(logs, np.array([[0.98]]))), [[2 + 1 / np.log(5) * np.log(5)]])
    steep = method.quantiles(np.array([[0.0, 9.0]]), np.array([[0.98]]))
    assert_allclose(np.log1p(steep), 9 + np.log(5))


@given(st.lists(st.floats(-5, 12), min_size=3, max_size=3))
def test_crossed_quantiles_still_give_ascending_finite_draws(levels: list[float]) -> None:
    method = Quantiles(probabilities=(0.1, 0.5, 0.95))
    draws = method.quantiles(np.array([levels]), GRID[None, :])
    assert np.isfinite(draws).all()
    assert (draws >= 0).all()
    assert (np.diff(draws) >= 0).all()


@given(st.integers(0, 2**32 - 1), st.integers(20, 300), st.floats(-2, 12))
def test_residual_draws_ascend_whatever_the_rows(seed: int, rows: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    outcome = np.where(rng.random(rows) < 0.5, 0, rng.pareto(0.5, rows)).clip(0, 1e6)
    method = Residuals(neighbours=50)
    tables = method.tabulate(rng.normal(1, 2, rows), outcome, rng.choice([1.0, 10.0], rows))
    draws = method.quantiles(np.array([level]), tables, GRID[None, :])
    assert np.isfinite(draws).all()
    assert (draws >= 0).all()
    assert (np.diff(draws) >= 0).all()


@pytest.mark.parametrize("probabilities", [(0.5,), (0.9, 0.5), (0.0, 0.5), (0.5, 1.0)])
def test_probabilities_out_of_order_are_refused(probabilities: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="ascending"):
        Quantiles(probabilities=probabilities)
