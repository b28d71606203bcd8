import numpy as np
import pytest
from numpy.testing import assert_allclose

from views_dagster.errors import ArtifactError
from views_dagster.precipitation.learners.trees import (
    DiagnosisTrees,
    Outcomes,
    grow,
    predict_all,
    read_trees,
    shifted,
    trees_in,
)


def rows(count: int, seed: int, noise: float = 0.05) -> Outcomes:
    draw = np.random.default_rng(seed)
    table = draw.normal(size=(count, 4)).astype(np.float32)
    chance = 1 / (1 + np.exp(-2 * table[:, 0] + 1))
    labels = np.clip(chance + draw.normal(0, noise, count), 0, 1)
    return Outcomes(table, np.stack([labels, labels**2], axis=1).astype(np.float32))


NONE = Outcomes(np.zeros((0, 4), np.float32), np.zeros((0, 2), np.float32))
SETTINGS = DiagnosisTrees(n_estimators=60, min_child_samples=20, colsample_bytree=1.0, patience=4)


def test_fractions_are_learnt_as_soft_labels() -> None:
    grown = grow(rows(3000, 0), rows(500, 1), SETTINGS, objective="cross_entropy", seed=0)
    unseen = rows(500, 2, noise=0)
    found = predict_all([read_trees(one.text) for one in grown], unseen.table)
    for number in range(2):
        assert np.abs(found[number] - unseen.labels[:, number]).mean() < 0.04


def test_growth_stops_when_validation_gets_no_better_and_keeps_the_best() -> None:
    labels = np.random.default_rng(3).random((800, 1)).astype(np.float32)
    noise = Outcomes(rows(800, 3).table, labels)
    told: list[int] = []
    (grown,) = grow(
        noise,
        Outcomes(rows(800, 4).table, labels[::-1].copy()),
        SETTINGS,
        objective="cross_entropy",
        seed=0,
        report=lambda number, score: told.append(number),
    )
    assert trees_in(grown.text) + SETTINGS.patience == len(told) < SETTINGS.n_estimators


def test_without_validation_all_trees_are_kept() -> None:
    first, second = grow(rows(800, 0), NONE, SETTINGS, objective="cross_entropy", seed=0)
    assert trees_in(first.text) == trees_in(second.text) == SETTINGS.n_estimators


def test_the_report_is_told_the_squared_error_over_all_outcomes() -> None:
    told: list[float] = []
    validation = rows(500, 1)
    grown = grow(
        rows(3000, 0),
        validation,
        SETTINGS,
        objective="cross_entropy",
        seed=0,
        report=lambda number, score: told.append(score),
    )
    found = np.stack(predict_all([read_trees(one.text) for one in grown], validation.table), axis=1)
    assert told[-1] == pytest.approx(((found - validation.labels) ** 2).mean(axis=0).sum())


def test_log_odds_are_shifted() -> None:
    # Odds of 1 to 3, times 3, are even.
    assert_allclose(shifted(np.array([0.0, 0.25, 1.0]), np.log(3)), [0, 0.5, 1])


def test_as_much_of_a_shift_is_kept_as_validation_bears_out() -> None:
    # Training rows of which the wet are ten times as many as in the world.
    draw = np.random.default_rng(0)
    table = draw.normal(size=(2000, 4)).astype(np.float32)
    often, seldom = ((draw.random((2000, 1)) < share).astype(np.float32) for share in (0.5, 0.05))
    shift = np.log(0.05 / 0.95)
    (right,) = grow(
        Outcomes(table, often),
        Outcomes(table, seldom),
        SETTINGS,
        objective="cross_entropy",
        seed=0,
        shift=np.array([shift]),
    )
    (wrong,) = grow(
        Outcomes(table, often),
        Outcomes(table, often),
        SETTINGS,
        objective="cross_entropy",
        seed=0,
        shift=np.array([shift]),
    )
    assert right.shift == pytest.approx(shift)
    assert wrong.shift == 0


def test_text_that_is_no_booster_is_refused() -> None:
    with pytest.raises(ArtifactError, match="not a LightGBM model"):
        read_trees(b"tree")
