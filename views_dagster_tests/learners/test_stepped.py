"""What all learners with a model a step share: the level of the draws, and steps that borrow their model."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from views_dagster.learners.balance import BALANCE, FACTORS
from views_dagster.learners.base import Learner
from views_dagster.learners.hurdle import Hurdle
from views_dagster.learners.registry import AnyLearner
from views_dagster.learners.step_rows import moving_sum
from views_dagster.learners.step_shift import StepShift
from views_dagster.learners.stepped import SteppedLearner
from views_dagster.learners.stepped_model import SteppedModel
from views_dagster.panel import Panel
from views_dagster_tests.learners.panels import panel_of

TREES = {"lightgbm": {"n_estimators": 20, "min_child_samples": 20}}
TWEEDIE = {"lightgbm": {"n_estimators": 20, "min_child_samples": 20, "objective": "tweedie"}}
COUNTS: dict[str, object] = {
    "kind": "step_shift",
    "transform": "identity",
    "regressor": TWEEDIE,
    "draws_from": {"kind": "counts"},
}
LEARNERS: dict[str, dict[str, object]] = {
    "residuals": {"kind": "step_shift", "regressor": TREES},
    "counts": COUNTS,
    "hurdle": {"kind": "hurdle", "classifier": TREES, "regressor": TREES},
    "own history": {**COUNTS, "own_history": {"share": 0.5}},
}


def rare(months: int = 150, units: int = 120, *, outlier: float = 0.0, seed: int = 0) -> Panel:
    """A few units with waves of heavy-tailed events and many with hardly any."""
    rng = np.random.default_rng(seed)
    risk = np.where(np.arange(units) % 10 == 0, 0.15, 0.004)
    target = np.where(rng.random((months, units)) < risk, np.ceil(rng.pareto(1.8, (months, units)) * 8), 0.0)
    target[12, 10] += outlier
    features = np.stack([np.log1p(moving_sum(target, window)) for window in (1, 12, 60)], axis=2)
    return panel_of(target, features)


def learner_of(settings: dict[str, object]) -> SteppedLearner:
    union: TypeAdapter[Learner] = TypeAdapter(AnyLearner)
    learner = union.validate_python(settings)
    assert isinstance(learner, SteppedLearner)
    return learner


def fitted(learner: SteppedLearner, panel: Panel, steps: tuple[int, ...]) -> SteppedModel:
    model = learner.fit(panel, steps=steps, seed=1)
    assert isinstance(model, SteppedModel)
    return model


def draws_in_training(model: SteppedModel, panel: Panel, step: int) -> NDArray[np.float64]:
    """Draws of every row that the step could learn from, made as a forecast makes them, without own months."""
    part = model.parts[model.trained_steps.index(step)]
    features = panel.features[:-step].reshape(-1, panel.features.shape[2])
    number = 64
    levels = (np.arange(number) + np.random.default_rng(3).random((len(features), number))) / number
    learnt = model.learner.quantiles(part, features, np.zeros(len(features)), np.clip(levels, 1e-9, 1 - 1e-9))
    return learnt * (part.tables[BALANCE][0] if BALANCE in part.tables else 1.0)


@pytest.mark.parametrize("name", ["residuals", "counts", "hurdle"])
@pytest.mark.parametrize("share", [1.0, 0.2])
def test_the_mean_of_balanced_draws_is_the_mean_that_was_observed(name: str, share: float) -> None:
    panel = rare()
    learner = learner_of({**LEARNERS[name], "balance": {}, "sampling": {"share": share}})
    model = fitted(learner, panel, (1, 6))
    for step in (1, 6):
        mean = draws_in_training(model, panel, step).mean()
        assert mean == pytest.approx(panel.target[step:].mean(dtype=float), rel=0.05)


def test_own_months_count_in_the_balance() -> None:
    panel = rare()
    model = fitted(learner_of({**LEARNERS["own history"], "balance": {}}), panel, (3,))
    own = moving_sum(panel.target.astype(float), 12) / np.minimum(np.arange(150) + 1, 12)[:, None]
    mean = 0.5 * draws_in_training(model, panel, 3).mean() + 0.5 * own[:-3].mean()
    assert mean == pytest.approx(panel.target[3:].mean(dtype=float), rel=0.05)


def test_the_latest_months_alone_leave_an_old_outlier_out() -> None:
    panel = rare(outlier=300_000.0)
    everything, latest = (
        fitted(learner_of({**LEARNERS["hurdle"], "balance": balance}), panel, (1,)) for balance in ({}, {"months": 60})
    )
    used, wanted = everything.parts[0].tables[BALANCE]
    assert wanted > used == FACTORS[1]
    assert abs(np.log(latest.parts[0].tables[BALANCE][0])) < np.log(2)
    mean = draws_in_training(latest, panel, 1)[-60 * 120 :].mean()
    assert mean == pytest.approx(panel.target[-60:].mean(dtype=float), rel=0.15)


def test_rare_events_are_not_lost_between_draws() -> None:
    panel = rare(units=400)
    balanced = {**LEARNERS["hurdle"], "balance": {}}
    with_level, without = (
        fitted(learner_of(settings), panel, (1,)).predict(panel, draws=16, seed=1).mean[:, 0]
        for settings in (balanced, LEARNERS["hurdle"])
    )
    quiet = panel.features[-1, :, 2] == 0
    # Events of one in 250 fall between sixteen fixed levels.
    assert without[quiet].max() == 0
    assert 0.2 < with_level[quiet].mean() / panel.target[:, np.arange(400) % 10 != 0].mean(dtype=float) < 3


def test_without_balance_nothing_is_stored_of_it() -> None:
    assert "balance.npy" not in fitted(learner_of(LEARNERS["hurdle"]), rare(), (1,)).to_files()


def test_quantiles_cannot_be_balanced() -> None:
    with pytest.raises(ValidationError, match="balance needs a mean"):
        StepShift.model_validate({"regressor": TREES, "balance": {}, "draws_from": {"kind": "quantiles"}})


def test_steps_lie_between_the_trained_ones() -> None:
    learner = StepShift.model_validate({"regressor": TREES, "trained_steps": [1, 4, 12]})
    assert learner.shares(1) == {1: 1.0}
    assert learner.shares(2) == pytest.approx({1: 2 / 3, 4: 1 / 3})
    assert learner.shares(10) == pytest.approx({4: 0.25, 12: 0.75})
    assert learner.shares(36) == {12: 1.0}
    assert StepShift.model_validate({"regressor": TREES, "trained_steps": [4]}).shares(1) == {4: 1.0}
    panel = rare()
    model = fitted(learner, panel, (1, 2, 3, 9))
    assert model.trained_steps == (1, 4, 12)
    forecast = model.predict(panel, draws=20, seed=1)
    assert_array_equal(forecast.steps, [1, 2, 3, 9])
    draws = np.sort(forecast.draws, axis=2)
    ends = fitted(StepShift.model_validate({"regressor": TREES}), panel, (1, 4)).predict(panel, draws=20, seed=1)
    first, fourth = np.sort(ends.draws, axis=2).swapaxes(0, 1)
    assert_array_equal(draws[:, 0], first)
    assert_allclose(draws[:, 1], 2 / 3 * first + 1 / 3 * fourth, rtol=1e-5, atol=1e-6)
    files = model.to_files()
    assert {name for name in files if name.startswith("step")} == {
        f"step-{step:02d}-level.lightgbm.txt" for step in (1, 4, 12)
    }
    again = type(model).from_files(files).predict(panel, draws=20, seed=1)
    assert again.draws.tobytes() == forecast.draws.tobytes()


@pytest.mark.parametrize("steps", [[4, 1], [1, 1, 6], [0, 3]])
def test_trained_steps_are_ascending(steps: list[int]) -> None:
    with pytest.raises(ValidationError, match="not ascending from 1 on"):
        StepShift.model_validate({"regressor": TREES, "trained_steps": steps})


def test_columns_that_the_settings_name_are_said() -> None:
    learner = Hurdle.model_validate({"classifier": TREES, "regressor": TREES, "sampling": {"near": ["a", "b"]}})
    assert learner.needed_columns == ("a", "b")
    assert not learner.needs_cells
