"""Chances and amounts of a known mixture are found, and the mixture is drawn from in the right proportion."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pydantic import ValidationError

from views_dagster.learners.hurdle import FittedHurdle, Hurdle, expit, platt
from views_dagster.panel import Panel
from views_dagster_tests.learners.panels import panel_of

TREES = {"lightgbm": {"n_estimators": 40, "learning_rate": 0.1, "num_leaves": 4, "min_child_samples": 50}}
CHANCES = np.array([0.05, 0.3, 0.8])
AMOUNTS = np.array([2.0, 10.0, 100.0])


@pytest.fixture(scope="module")
def panel() -> Panel:
    """Units of three sorts, told by the one feature: how often something happens, and how much it then is."""
    rng = np.random.default_rng(0)
    sort = np.arange(60) % 3
    happens = rng.random((200, 60)) < CHANCES[sort]
    amount = np.maximum(np.rint(AMOUNTS[sort] * rng.lognormal(0, 0.3, (200, 60))), 1)
    features = np.broadcast_to(sort.astype(float), (200, 60))[:, :, None]
    return panel_of(np.where(happens, amount, 0), features)


@pytest.fixture(scope="module")
def fitted(panel: Panel) -> FittedHurdle:
    learner = Hurdle.model_validate(
        {"classifier": TREES, "regressor": TREES, "draws_from": {"kind": "residuals", "neighbours": 50}}
    )
    return learner.fit(panel, steps=[2], seed=1)


def test_probabilities_are_recovered(fitted: FittedHurdle, panel: Panel) -> None:
    assert isinstance(fitted.learner, Hurdle)
    chance = fitted.learner.probability(fitted.parts[0], panel.features[-1])
    assert_allclose(chance, CHANCES[np.arange(60) % 3], atol=0.05)


def test_draws_are_zero_as_often_as_nothing_happens(fitted: FittedHurdle, panel: Panel) -> None:
    draws = fitted.predict(panel, draws=400, seed=1).draws[:, 0]
    for sort in range(3):
        mine = draws[sort::3]
        assert (mine > 0).mean() == pytest.approx(CHANCES[sort], abs=0.05)
        assert np.median(mine[mine > 0]) == pytest.approx(AMOUNTS[sort], rel=0.15)


def test_platt_recovers_a_distorted_chance() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(-1, 2, 200_000)
    event = rng.random(200_000) < expit(0.5 + 0.6 * raw)
    assert_allclose(platt(raw, event, np.ones(200_000)), [0.5, 0.6], atol=0.02)


def test_platt_counts_weights_as_rows() -> None:
    rng = np.random.default_rng(1)
    raw, weight = rng.normal(size=300), rng.integers(1, 6, 300)
    event = rng.random(300) < expit(raw)
    repeated = platt(np.repeat(raw, weight), np.repeat(event, weight), np.ones(weight.sum()))
    assert_allclose(platt(raw, event, weight.astype(float)), repeated, rtol=1e-8)


def test_platt_stays_finite_where_the_chances_separate_the_events() -> None:
    raw = np.linspace(-8, 8, 200)
    line = platt(raw, raw > 0, np.ones(200))
    assert np.isfinite(line).all()
    assert 0 < line[1] < 10


def test_counts_are_refused_because_they_have_zeros_of_their_own() -> None:
    with pytest.raises(ValidationError, match="zeros of their own"):
        Hurdle.model_validate({"classifier": TREES, "regressor": TREES, "draws_from": {"kind": "counts"}})


def test_calibration_holds_where_few_rows_stand_for_very_many() -> None:
    # Plain Newton steps overshoot here and end at odds of exp(-3647).
    rng = np.random.default_rng(0)
    raw = np.concatenate([np.full(2000, -3.0), rng.normal(4.0, 1.0, 40)])
    event = np.concatenate([np.zeros(2000, dtype=bool), rng.random(40) < 0.1])
    weight = np.where(event, 1.0, 100.0)
    intercept, slope = platt(raw, event, weight)
    chance = expit(intercept + slope * raw)
    # The score equation of the intercept, whose prior has precision one.
    assert (weight * chance).sum() == pytest.approx(event.sum() - intercept, rel=1e-6)
    assert 0 < slope < 2
