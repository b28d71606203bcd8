import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from views_dagster.evaluation.metrics import crps
from views_dagster.learners.climatology import (
    FittedClimatology,
    NegativeBinomialClimatology,
    negative_binomial_draws,
)
from views_dagster.panel import Panel
from views_dagster_tests.learners.panels import panel_of, world

NAN = np.nan
EVEN = NegativeBinomialClimatology(window=4, half_life=None, prior_months=0)


def fit(learner: NegativeBinomialClimatology, panel: Panel) -> FittedClimatology:
    fitted = learner.fit(panel, steps=[1, 2, 3], seed=0)
    assert isinstance(fitted, FittedClimatology)
    return fitted


def test_moments_by_hand() -> None:
    # The last four months are 0, 2, 4, 10: mean 4, variance (16 + 4 + 0 + 36) / 3, dispersion (56/3 - 4) / 16.
    panel = panel_of([[99], [0], [2], [4], [10]])
    mean, dispersion, months = EVEN.moments(panel.target, panel.exists)
    assert_allclose(mean, [4])
    assert_allclose(dispersion, [(56 / 3 - 4) / 16])
    assert_allclose(months, [4])


def test_moments_with_forgetting_by_hand() -> None:
    # With a half-life of a month the weights are 1/4, 1/2, 1 for 8, 4, 0.
    learner = NegativeBinomialClimatology(window=3, half_life=1.0)
    panel = panel_of([[8], [4], [0]])
    mean, dispersion, months = learner.moments(panel.target, panel.exists)
    expected_mean = (2 + 2 + 0) / 1.75
    squares = (8 - expected_mean) ** 2 / 4 + (4 - expected_mean) ** 2 / 2 + expected_mean**2
    variance = squares / (1.75 - (1 / 16 + 1 / 4 + 1) / 1.75)
    assert_allclose(mean, [expected_mean])
    assert_allclose(dispersion, [(variance - expected_mean) / expected_mean**2])
    assert_allclose(months, [1.75**2 / (1 / 16 + 1 / 4 + 1)])


def test_moments_count_only_months_in_which_a_unit_existed() -> None:
    target = [[7, 5, NAN, 3], [NAN, 5, NAN, 0], [NAN, 5, NAN, 0], [9, 5, 6, NAN]]
    panel = panel_of(target)
    mean, dispersion, months = EVEN.moments(panel.target, panel.exists)
    assert_allclose(mean, [8, 5, 6, 1])
    assert_allclose(months, [2, 4, 1, 3])
    # Variance 2 about 8; none about 5; one month tells nothing; variance 3 about 1.
    assert_allclose(dispersion, [(2 - 8) / 64, -5 / 25, NAN, 2.0])


def test_the_pooled_dispersion_is_the_median_of_units_with_events() -> None:
    # Dispersions of the columns: (variance - mean) / mean^2 with two months; the last two columns have none.
    learner = NegativeBinomialClimatology(window=2, half_life=None)
    panel = panel_of([[0, 0, 5, 0, NAN], [2, 10, 5, 0, 3]])
    own = [(2 - 1) / 1, (50 - 5) / 25, 0.0]
    assert_allclose(fit(learner, panel).dispersion, np.median(own))


@pytest.mark.parametrize("target", [np.zeros((12, 3)), [[4.0, 2.0]]])
def test_without_any_information_the_dispersion_is_geometric(target: object) -> None:
    assert fit(NegativeBinomialClimatology(), panel_of(np.asarray(target))).dispersion == 1


def test_draws_have_the_moments_of_the_negative_binomial() -> None:
    mean, dispersion = np.array([0.0, 3.0, 40.0, 200.0]), np.array([1.0, 0.0, 0.5, 3.0])
    draws = negative_binomial_draws(mean, dispersion, draws=20_000, seed=0)
    assert_allclose(draws.mean(axis=1), mean, rtol=0.01)
    assert_allclose(draws.var(axis=1), mean + dispersion * mean**2, rtol=0.05)
    assert_array_equal(draws, np.round(draws))


def test_draws_agree_with_the_distribution_function() -> None:
    # With size 1 it is geometric: P(X <= k) = 1 - (mean / (1 + mean))^(k + 1).
    draws = negative_binomial_draws(np.array([9.0]), np.array([1.0]), draws=1000, seed=4)[0]
    for k in (0, 3, 20):
        assert abs((draws <= k).mean() - (1 - 0.9 ** (k + 1))) <= 1.5 / 1000


def test_the_mean_of_stratified_draws_is_unbiased() -> None:
    means = [
        negative_binomial_draws(np.array([50.0]), np.array([5.0]), draws=64, seed=seed).mean() for seed in range(400)
    ]
    assert abs(np.mean(means) - 50) < 1


def test_units_without_events_forecast_zero_and_new_units_their_month() -> None:
    panel = panel_of([[0, 4, NAN], [0, 0, NAN], [0, 8, NAN], [0, 4, 20]])
    result = fit(EVEN, panel).predict(panel, draws=400, seed=0)
    assert not result.draws[0].any()
    assert_allclose(result.mean[1], 4, rtol=0.05)
    assert_allclose(result.mean[2], 20, rtol=0.05)


def test_an_underdispersed_unit_becomes_poisson() -> None:
    panel = panel_of(np.full((12, 1), 30.0))
    learner = NegativeBinomialClimatology(window=12, half_life=None, prior_months=0)
    draws = fit(learner, panel).predict(panel, draws=4000, seed=0).draws[0, 0]
    assert_allclose(draws.var(), 30, rtol=0.05)


def test_the_prior_pulls_dispersion_to_the_pool() -> None:
    # Unit 1 alternates without noise, the pool (units 2 and 3) is wild; with a strong prior unit 1 spreads like them.
    panel = panel_of([[9, 0, 0], [11, 0, 0], [9, 0, 0], [11, 90, 40]])
    weak = fit(EVEN, panel).predict(panel, draws=500, seed=0).draws[0, 0]
    strong = fit(EVEN.model_copy(update={"prior_months": 1e6}), panel).predict(panel, draws=500, seed=0).draws[0, 0]
    assert weak.var() < 15
    assert strong.var() > 100
    assert_allclose(weak.mean(), strong.mean(), rtol=0.1)


def test_all_steps_have_the_same_margin_and_units_move_together() -> None:
    wave = np.tile([0.0, 3.0, 30.0, 9.0, 1.0], 12)
    panel = panel_of(np.stack([wave, 10 * wave], axis=1))
    draws = fit(NegativeBinomialClimatology(), panel).predict(panel, draws=50, seed=1).draws
    assert_array_equal(np.sort(draws[:, 0], axis=-1), np.sort(draws[:, 2], axis=-1))
    assert np.corrcoef(draws[0, 0], draws[1, 0])[0, 1] > 0.6


def test_it_beats_a_zero_forecast_where_there_are_events() -> None:
    panel = world(months=80, units=30, seed=3)
    past = panel.until(panel.origin - 3)
    result = fit(NegativeBinomialClimatology(), past).predict(past, draws=100, seed=0)
    truth = panel.target[-3:][:, np.searchsorted(panel.units, result.units)].T
    known = ~np.isnan(truth)
    score = crps(result.draws, truth)[known].mean()
    assert score < crps(np.zeros_like(result.draws), truth)[known].mean()


def test_settings_are_checked() -> None:
    for wrong in ({"window": 0}, {"half_life": 0}, {"prior_months": -1}):
        with pytest.raises(ValueError):
            NegativeBinomialClimatology.model_validate(wrong)
