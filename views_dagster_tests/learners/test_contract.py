"""What every learner of the union promises, whatever its algorithm. A new kind needs an example here, nothing else."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath
from typing import get_args

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pydantic import TypeAdapter, ValidationError
from scipy.stats import spearmanr

from views_dagster.errors import PanelError
from views_dagster.forecasts import Forecast
from views_dagster.learners.base import FittedModel, Learner
from views_dagster.learners.baselines import Average, Conflictology, Locf, Zero
from views_dagster.learners.climatology import NegativeBinomialClimatology
from views_dagster.learners.hurdle import Hurdle
from views_dagster.learners.registry import AnyLearner, load_artifact, save_artifact
from views_dagster.learners.step_shift import StepShift
from views_dagster.panel import Panel
from views_dagster_tests.learners.panels import panel_of, world

STEPS = (1, 2, 5)
DRAWS = 24

TREES = {"lightgbm": {"n_estimators": 5, "min_child_samples": 5}}
FOREST = {"sklearn": {"estimator": "RandomForestRegressor", "n_estimators": 5}}
LOGISTIC = {"sklearn": {"estimator": "LogisticRegression"}}

EXAMPLES: dict[str, Learner] = {
    "zero": Zero(),
    "locf": Locf(),
    "average": Average(window=6),
    "conflictology": Conflictology(window=12),
    "conflictology_neighbours": Conflictology.model_validate({"window": 12, "neighbours": {"ring": 1, "share": 0.5}}),
    "negative_binomial_climatology": NegativeBinomialClimatology(window=12),
    "step_shift_residuals": StepShift.model_validate({"regressor": TREES}),
    "step_shift_counts": StepShift.model_validate({"regressor": FOREST, "draws_from": {"kind": "counts"}}),
    "step_shift_quantiles": StepShift.model_validate(
        {"regressor": TREES, "draws_from": {"kind": "quantiles", "probabilities": (0.5, 0.9)}, "anchor": 6}
    ),
    "step_shift_own_history": StepShift.model_validate({"regressor": TREES, "own_history": {"share": 0.5}}),
    "step_shift_counts_balanced": StepShift.model_validate(
        {"regressor": FOREST, "draws_from": {"kind": "counts"}, "balance": {}, "sampling": {"near": ["x0"]}}
    ),
    "step_shift_balanced": StepShift.model_validate(
        {"regressor": TREES, "balance": {"months": 24}, "own_history": {"share": 0.25}, "trained_steps": [1, 4]}
    ),
    "hurdle_balanced": Hurdle.model_validate({"classifier": TREES, "regressor": TREES, "balance": {}}),
    "hurdle": Hurdle.model_validate({"classifier": TREES, "regressor": TREES}),
    "hurdle_scikit": Hurdle.model_validate({"classifier": LOGISTIC, "regressor": FOREST}),
}
NOT_RANDOM = {"zero", "locf", "average"}
IGNORES_FEATURES = {*NOT_RANDOM, "conflictology", "negative_binomial_climatology"}


def kind_of(learner: Learner) -> str:
    return str(learner.model_dump()["kind"])


@pytest.fixture(params=EXAMPLES, scope="module")
def learner(request: pytest.FixtureRequest) -> Learner:
    return EXAMPLES[request.param]


@pytest.fixture(scope="module")
def panel() -> Panel:
    return world()


@pytest.fixture(scope="module")
def fitted(learner: Learner, panel: Panel) -> FittedModel:
    return learner.fit(panel, steps=STEPS, seed=1)


def check(forecast: Forecast, panel: Panel, draws: int) -> None:
    assert forecast.origin == panel.origin
    assert_array_equal(forecast.units, panel.units[panel.exists[-1]])
    assert_array_equal(forecast.steps, STEPS)
    assert forecast.draws.shape == (len(forecast.units), len(STEPS), draws)
    assert forecast.draws.dtype == np.float32
    assert np.isfinite(forecast.draws).all()
    assert (forecast.draws >= 0).all()


def test_every_kind_has_an_example() -> None:
    union, _ = get_args(AnyLearner)
    kinds = {get_args(member.model_fields["kind"].annotation)[0] for member in get_args(union)}
    assert {kind_of(example) for example in EXAMPLES.values()} == kinds


@pytest.mark.parametrize("draws", [1, DRAWS])
def test_draws_are_valid(fitted: FittedModel, panel: Panel, draws: int) -> None:
    check(fitted.predict(panel, draws=draws, seed=1), panel, draws)


def test_equal_seeds_give_equal_bytes(learner: Learner, fitted: FittedModel, panel: Panel) -> None:
    again = learner.fit(panel, steps=STEPS, seed=1)
    assert again.to_files() == fitted.to_files()
    first, second = (model.predict(panel, draws=DRAWS, seed=7).draws for model in (fitted, again))
    assert first.tobytes() == second.tobytes()


def test_another_seed_changes_what_is_random_and_nothing_else(
    learner: Learner, fitted: FittedModel, panel: Panel
) -> None:
    first, second = (fitted.predict(panel, draws=DRAWS, seed=seed) for seed in (1, 2))
    assert_array_equal(first.units, second.units)
    assert_array_equal(first.steps, second.steps)
    assert (first.draws.tobytes() == second.draws.tobytes()) == (kind_of(learner) in NOT_RANDOM)


def test_a_stored_model_predicts_what_it_did_before(learner: Learner, fitted: FittedModel, panel: Panel) -> None:
    files = save_artifact(learner, fitted, panel=panel, steps=STEPS, seed=1, inputs={})
    loaded = load_artifact(
        files, learner=learner, feature_names=panel.feature_names, target=panel.target_name, origin=panel.origin
    )
    before, after = (model.predict(panel, draws=DRAWS, seed=3).draws for model in (fitted, loaded))
    assert before.tobytes() == after.tobytes()
    assert loaded.to_files() == fitted.to_files()


def test_files_cannot_hold_code(fitted: FittedModel) -> None:
    for name, content in fitted.to_files().items():
        members = {name: content}
        if zipfile.is_zipfile(io.BytesIO(content)):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                members |= {member: archive.read(member) for member in archive.namelist()}
        for member, data in members.items():
            assert PurePath(member).suffix in {".json", ".txt", ".npy", ".npz", ".skops", ".safetensors"}
            assert not data.startswith(b"\x80"), f"{member} starts like a pickle"
            assert not (member.endswith(".npy") and b"'|O'" in data[:128]), f"{member} is an array of objects"


def test_the_future_is_not_seen(learner: Learner, fitted: FittedModel, panel: Panel) -> None:
    months, units = panel.target.shape
    rng = np.random.default_rng(0)
    # A year of garbage, in which a ninth unit appears and the second vanishes.
    target = np.full((months + 12, units + 1), np.nan)
    target[:months, :units] = panel.target
    target[months:] = rng.gamma(1, 1e6, (12, units + 1))
    target[months:, 1] = np.nan
    features = np.full((*target.shape, panel.features.shape[2]), np.nan)
    features[:months, :units] = panel.features
    features[months:] = rng.normal(0, 1e6, features[months:].shape)
    known = panel_of(target, features).until(panel.origin)
    blind = learner.fit(known, steps=STEPS, seed=1)
    assert blind.to_files() == fitted.to_files()
    first, second = (
        model.predict(given, draws=DRAWS, seed=1).draws for model, given in ((fitted, panel), (blind, known))
    )
    assert first.tobytes() == second.tobytes()


def test_the_panel_is_left_as_it_was(learner: Learner, panel: Panel) -> None:
    copy = replace(panel, target=panel.target.copy(), features=panel.features.copy(), exists=panel.exists.copy())
    learner.fit(copy, steps=STEPS, seed=1).predict(copy, draws=DRAWS, seed=1)
    for name in ("target", "features", "exists"):
        assert_array_equal(getattr(copy, name), getattr(panel, name))


def test_units_that_ended_are_not_forecast_and_new_ones_are(fitted: FittedModel, panel: Panel) -> None:
    units = fitted.predict(panel, draws=DRAWS, seed=1).units
    assert 7 not in units
    assert 8 in units
    assert panel.exists[:, 7].sum() == 1


def test_a_unit_never_seen_in_training_is_forecast(learner: Learner, panel: Panel) -> None:
    earlier = panel.until(panel.origin - 1)
    assert 8 not in earlier.units
    check(learner.fit(earlier, steps=STEPS, seed=1).predict(panel, draws=DRAWS, seed=1), panel, DRAWS)


def test_a_model_forecasts_from_a_later_origin(learner: Learner, panel: Panel) -> None:
    trained = learner.fit(panel.until(panel.origin - 12), steps=STEPS, seed=1)
    check(trained.predict(panel, draws=DRAWS, seed=1), panel, DRAWS)


def test_nan_in_the_newest_features_is_refused(fitted: FittedModel, panel: Panel) -> None:
    features = panel.features.copy()
    features[-1, 2, 1] = np.nan
    with pytest.raises(PanelError, match="x1"):
        fitted.predict(replace(panel, features=features), draws=DRAWS, seed=1)


def test_nan_in_the_target_is_refused(learner: Learner, panel: Panel) -> None:
    target = panel.target.copy()
    target[20, 2] = np.nan
    with pytest.raises(PanelError, match="y"):
        learner.fit(replace(panel, target=target), steps=STEPS, seed=1)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if kind_of(EXAMPLES[name]) not in IGNORES_FEATURES])
def test_nan_in_the_features_of_training_is_refused(name: str, panel: Panel) -> None:
    features = panel.features.copy()
    features[20, 2, 1] = np.nan
    with pytest.raises(PanelError, match="x1"):
        EXAMPLES[name].fit(replace(panel, features=features), steps=STEPS, seed=1)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda panel: replace(panel, feature_names=("x0", "other", "x2")),
        lambda panel: replace(panel, feature_names=("x1", "x0", "x2")),
        lambda panel: replace(panel, feature_names=("x0", "x1"), features=panel.features[:, :, :2]),
    ],
    ids=["renamed", "reordered", "fewer"],
)
def test_other_features_than_in_training_are_refused(
    fitted: FittedModel, panel: Panel, spoil: Callable[[Panel], Panel]
) -> None:
    with pytest.raises(PanelError, match="trained on"):
        fitted.predict(spoil(panel), draws=DRAWS, seed=1)


@pytest.mark.parametrize("months", [1, 2, 6, 7])
def test_a_tiny_history_works_or_is_refused(learner: Learner, months: int) -> None:
    small = world(months=max(months, 2)).until(120 + months)
    try:
        trained = learner.fit(small, steps=STEPS, seed=1)
    except PanelError:
        return
    check(trained.predict(small, draws=DRAWS, seed=1), small, DRAWS)


def test_a_panel_without_any_event_gives_forecasts_near_zero(learner: Learner, panel: Panel) -> None:
    quiet = replace(panel, target=np.where(panel.exists, np.float32(0), np.float32(np.nan)))
    forecast = learner.fit(quiet, steps=STEPS, seed=1).predict(quiet, draws=DRAWS, seed=1)
    check(forecast, quiet, DRAWS)
    assert forecast.draws.mean() < 0.1


@pytest.mark.parametrize("name", [name for name in EXAMPLES if kind_of(EXAMPLES[name]) not in NOT_RANDOM])
def test_units_that_suffered_together_are_high_in_the_same_draws(name: str) -> None:
    wave = np.tile([1.0, 4.0, 30.0, 9.0, 2.0, 15.0, 60.0], 12) + np.arange(84) % 5
    target = np.stack([wave, 3 * wave], axis=1)
    together = panel_of(target, np.log1p(target)[:, :, None])
    draws = EXAMPLES[name].fit(together, steps=STEPS, seed=1).predict(together, draws=48, seed=1).draws
    for step in range(len(STEPS)):
        assert spearmanr(*draws[:, step]).statistic > 0.9


def test_settings_survive_json_and_refuse_typos(learner: Learner) -> None:
    union: TypeAdapter[Learner] = TypeAdapter(AnyLearner)
    settings = learner.model_dump(mode="json")
    assert union.validate_python(settings) == learner
    with pytest.raises(ValidationError, match="windwo"):
        union.validate_python({**settings, "windwo": 3})
