"""Which row learns which outcome, what is held out, and that nothing but seed and data decides the result."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from pydantic import ValidationError

from views_dagster.errors import ArtifactError, PanelError
from views_dagster.learners.step_rows import KEPT, QUIET, Sampling, log_recent_mean, rows_of_step, split_in_time
from views_dagster.learners.step_shift import FittedStepShift, StepShift
from views_dagster.learners.stepped import OwnHistory
from views_dagster.panel import Panel
from views_dagster_tests.learners.panels import panel_of, world

NAN = np.nan
STUMPS = {"lightgbm": {"n_estimators": 40, "learning_rate": 0.5, "min_child_samples": 5, "num_leaves": 8}}


def tiers(panel: Panel) -> NDArray[np.uint8]:
    return Sampling().tiers(panel)


def test_a_row_learns_the_target_k_months_later_of_its_own_unit() -> None:
    panel = panel_of(np.array([[1, 10, NAN], [2, 20, NAN], [3, 30, 300], [4, NAN, 400]]))
    rows = rows_of_step(panel, 1, tiers(panel), 10 * np.arange(12.0).reshape(4, 3))
    assert_array_equal(rows.rows, [0, 1, 3, 4, 6, 8])
    assert_array_equal(rows.month, [0, 0, 1, 1, 2, 2])
    assert_array_equal(rows.outcome, [2, 20, 3, 30, 4, 400])
    assert_array_equal(rows.anchor, [0, 10, 30, 40, 60, 80])
    later = rows_of_step(panel, 3, tiers(panel))
    assert_array_equal(later.rows, [0])
    assert_array_equal(later.outcome, [4])
    assert_array_equal(later.anchor, [0])


def test_quiet_rows_have_a_year_of_zeros_and_a_zero_outcome() -> None:
    target = np.zeros((30, 1))
    target[10] = 5
    panel = panel_of(target)
    rows = rows_of_step(panel, 2, tiers(panel))
    loud = {8, *range(10, 22)}
    assert_array_equal(rows.tier == QUIET, [month not in loud for month in range(28)])
    assert_array_equal(rows.tier == KEPT, [month in loud for month in range(28)])


def test_held_out_months_come_after_everything_known_at_the_cut_off() -> None:
    panel = panel_of(np.ones((50, 2)))
    rows = rows_of_step(panel, 10, tiers(panel))
    known, held = split_in_time(rows, step=10, months=50, holdout=0.5)
    # 40 months have an outcome; the latest 20 are held out, and month 20 knows the outcomes of months up to 10.
    assert_array_equal(np.unique(held.month), np.arange(20, 40))
    assert_array_equal(np.unique(known.month), np.arange(0, 11))


def test_the_recent_mean_counts_only_months_in_which_the_unit_existed() -> None:
    target = np.array([[NAN, 4], [3, NAN], [5, NAN], [NAN, 8]])
    expected = [[0, 4], [3, 4], [4, 0], [5, 8]]
    assert_allclose(np.expm1(log_recent_mean(panel_of(target), 2)), expected, rtol=1e-12)


@pytest.mark.parametrize("step", [1, 3])
def test_forecasts_are_shifted_by_exactly_their_step(step: int) -> None:
    # The target repeats every seven months and the feature says where in the cycle a month is.
    cycle = np.array([0, 3, 50, 7, 1, 20, 120])
    month = np.arange(210)
    target = np.repeat(cycle[month % 7][:, None], 3, axis=1)
    panel = panel_of(target, np.repeat((month % 7)[:, None, None], 3, axis=1))
    learner = StepShift.model_validate(
        {"regressor": STUMPS, "sampling": {"share": 1}, "draws_from": {"kind": "residuals", "neighbours": 10}}
    )
    forecast = learner.fit(panel, steps=[step], seed=1).predict(panel, draws=9, seed=1)
    assert_allclose(forecast.draws, cycle[(209 + step) % 7], rtol=1e-3)


def test_own_history_is_a_share_of_the_draws() -> None:
    panel = world(months=80)
    unit = 1
    plain = StepShift.model_validate({"regressor": STUMPS})
    mixed = plain.model_copy(update={"own_history": OwnHistory(share=0.25, months=12)})
    forecast = mixed.fit(panel, steps=[2], seed=1).predict(panel, draws=48, seed=1)
    model = plain.fit(panel, steps=[2], seed=1).predict(panel, draws=36, seed=1)
    own = panel.target[-12:, panel.current[unit]]
    together = np.concatenate([model.draws[unit, 0], own])
    assert_array_equal(np.sort(forecast.draws[unit, 0]), np.sort(together))


def test_own_history_of_a_new_unit_is_the_months_it_has() -> None:
    panel = world(months=80)
    newest = int(np.flatnonzero(panel.units[panel.current] == 8)[0])
    learner = StepShift.model_validate({"regressor": STUMPS, "own_history": {"share": 0.5, "months": 12}})
    draws = learner.fit(panel, steps=[1], seed=1).predict(panel, draws=10, seed=1).draws[newest, 0]
    assert (draws == panel.target[-1, 7]).sum() >= 5


def test_the_number_of_workers_changes_nothing() -> None:
    panel = world(months=80)
    files = [
        StepShift.model_validate({"regressor": STUMPS, "workers": workers})
        .fit(panel, steps=(1, 2, 3, 4), seed=1)
        .to_files()
        for workers in (1, 4)
    ]
    assert files[0] == files[1]


def test_dropping_quiet_rows_keeps_the_weight_of_all() -> None:
    panel = panel_of(np.where(np.arange(4000) % 40 == 0, 3, 0).reshape(400, 10))
    rows = rows_of_step(panel, 1, tiers(panel))
    kept, weight = rows.thinned(Sampling(share=0.2), seed=1)
    assert len(kept) < len(rows) / 2
    assert (kept.outcome > 0).sum() == (rows.outcome > 0).sum()
    assert_allclose(weight.sum(), len(rows), rtol=0.05)


def test_too_little_history_names_the_months_it_needs() -> None:
    learner = StepShift.model_validate({"regressor": STUMPS})
    with pytest.raises(PanelError, match=r"step 36 needs at least 74 months .* has 73"):
        learner.fit(world(months=73), steps=range(1, 37), seed=1)
    quantiles = StepShift.model_validate({"regressor": STUMPS, "draws_from": {"kind": "quantiles"}})
    with pytest.raises(PanelError, match=r"step 36 needs at least 37 months"):
        quantiles.fit(world(months=36), steps=range(1, 37), seed=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regressor": {"lightgbm": {"n_estimator": 10}}}, "n_estimator"),
        ({"regressor": {"catboost": {}}}, "write one of"),
        ({"regressor": {"sklearn": {"estimator": "SVR"}}}, "SVR"),
        ({"regressor": {"sklearn": {"estimator": "Ridge", "alhpa": 1}}}, "alhpa"),
        ({"regressor": {"lightgbm": {"objective": "poisson"}}}, "transform identity"),
        ({"regressor": {"lightgbm": {}}, "anchor": 12, "transform": "identity"}, "anchor"),
        ({"regressor": {"sklearn": {"estimator": "Ridge"}}, "draws_from": {"kind": "quantiles"}}, "quantiles needs"),
        ({"regressor": {"lightgbm": {}}, "draws_from": {"kind": "bootstrap"}}, "bootstrap"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_read(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StepShift.model_validate(settings)


def test_missing_and_foreign_files_are_refused() -> None:
    files = StepShift.model_validate({"regressor": STUMPS}).fit(world(months=80), steps=(1, 2), seed=1).to_files()
    for name in files:
        with pytest.raises(ArtifactError):
            FittedStepShift.from_files({other: data for other, data in files.items() if other != name})
    with pytest.raises(ArtifactError):
        FittedStepShift.from_files({**files, "step-01-level.lightgbm.txt": b"import os"})
