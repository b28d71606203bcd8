"""Estimators: what they learn on chosen rows, and files that are the same each time and hold nothing else."""

import io
import zipfile

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import TypeAdapter

from views_dagster.errors import ArtifactError
from views_dagster.learners.regressors import Block, LightGBMRegressor
from views_dagster.learners.scikit import Classifier, Regressor

REGRESSORS = [
    {"lightgbm": {"n_estimators": 60, "learning_rate": 0.2}},
    {"sklearn": {"estimator": "HistGradientBoostingRegressor", "max_iter": 60, "learning_rate": 0.2}},
    {"sklearn": {"estimator": "RandomForestRegressor", "n_estimators": 20, "max_samples": None, "max_features": 1.0}},
    {"sklearn": {"estimator": "ExtraTreesRegressor", "n_estimators": 20, "max_samples": None, "max_features": 1.0}},
    {"sklearn": {"estimator": "Ridge"}},
    {"sklearn": {"estimator": "ElasticNet"}},
    {"sklearn": {"estimator": "PoissonRegressor", "alpha": 0.01}},
    {"sklearn": {"estimator": "TweedieRegressor", "alpha": 0.01}},
]
CLASSIFIERS = [
    {"lightgbm": {"n_estimators": 30}},
    {"sklearn": {"estimator": "HistGradientBoostingClassifier", "max_iter": 30}},
    {"sklearn": {"estimator": "RandomForestClassifier", "n_estimators": 20, "max_features": 1.0}},
    {"sklearn": {"estimator": "ExtraTreesClassifier", "n_estimators": 20, "max_features": 1.0}},
    {"sklearn": {"estimator": "LogisticRegression"}},
]
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(3000, 3)).astype(np.float32)
ROWS = np.arange(0, 3000, 2)
REGRESSOR: TypeAdapter[Block] = TypeAdapter(Regressor)
CLASSIFIER: TypeAdapter[Block] = TypeAdapter(Classifier)


def name(settings: dict[str, dict[str, object]]) -> str:
    return str(settings.get("sklearn", {"estimator": "lightgbm"})["estimator"])


@pytest.mark.parametrize("settings", REGRESSORS, ids=name)
def test_a_regressor_learns_its_rows_and_comes_back_from_its_file(settings: dict[str, object]) -> None:
    block = REGRESSOR.validate_python(settings)
    truth = np.exp(0.5 * FEATURES[:, 0].astype(np.float64))
    fits = [block.matrix(FEATURES).fit(ROWS, truth[ROWS], np.ones(1500), goal="mean", seed=3) for _ in range(2)]
    predicted = fits[0].predict(FEATURES[1::2])
    assert np.corrcoef(predicted, truth[1::2])[0, 1] > 0.9
    assert fits[0].to_bytes() == fits[1].to_bytes()
    assert_array_equal(block.read(fits[0].to_bytes()).predict(FEATURES[1::2]), predicted)


@pytest.mark.parametrize("settings", CLASSIFIERS, ids=name)
def test_a_classifier_gives_probabilities_not_labels(settings: dict[str, object]) -> None:
    block = CLASSIFIER.validate_python(settings)
    truth = np.where(FEATURES[:, 0] > 0, 0.7, 0.2)
    event = (np.random.default_rng(1).random(3000) < truth).astype(np.float64)
    predicted = (
        block.matrix(FEATURES).fit(ROWS, event[ROWS], np.ones(1500), goal="probability", seed=3).predict(FEATURES)
    )
    assert predicted[FEATURES[:, 0] > 1].mean() == pytest.approx(0.7, abs=0.12)
    assert predicted[FEATURES[:, 0] < -1].mean() == pytest.approx(0.2, abs=0.12)


@pytest.mark.parametrize(
    "settings",
    [
        {"lightgbm": {"num_leaves": 3, "min_child_samples": 200, "learning_rate": 0.1}},
        {
            "sklearn": {
                "estimator": "HistGradientBoostingRegressor",
                "max_leaf_nodes": 3,
                "min_samples_leaf": 200,
                "learning_rate": 0.1,
            }
        },
    ],
    ids=name,
)
def test_a_quantile_is_exceeded_as_often_as_it_says(settings: dict[str, object]) -> None:
    block = REGRESSOR.validate_python(settings)
    outcome = np.random.default_rng(2).exponential(1 + (FEATURES[:, 0] > 0))
    matrix = block.matrix(FEATURES)
    for probability in (0.5, 0.9):
        fitted = matrix.fit(ROWS, outcome[ROWS], np.ones(1500), goal=probability, seed=1)
        assert (outcome[1::2] <= fitted.predict(FEATURES[1::2])).mean() == pytest.approx(probability, abs=0.04)


@pytest.mark.parametrize("settings", REGRESSORS, ids=name)
def test_a_row_of_weight_zero_does_not_exist(settings: dict[str, object]) -> None:
    block = REGRESSOR.validate_python(settings)
    outcome = np.where(ROWS < 1000, 1.0, 1000.0)
    weight = np.where(ROWS < 1000, 1.0, 1e-12)
    fitted = block.matrix(FEATURES).fit(ROWS, outcome, weight, goal="mean", seed=1)
    assert_allclose(fitted.predict(FEATURES[:5]), 1.0, atol=1e-3)


def test_rows_with_fewer_zeros_than_the_whole_train() -> None:
    # LightGBM 4.7 corrupts memory where such rows are a subset of a dataset that is already binned.
    rng = np.random.default_rng(0)
    features = np.where(rng.random((20_000, 25)) < 0.05, rng.gamma(1, 9, (20_000, 25)), 0).astype(np.float32)
    matrix = LightGBMRegressor.model_validate({"lightgbm": {"n_estimators": 5, "min_child_samples": 1}}).matrix(
        features
    )
    for rows in (1, 2, 30, 500, 5000):
        chosen = np.sort(np.argsort((features == 0).sum(axis=1), kind="stable")[:rows])
        fitted = matrix.fit(chosen, features[chosen, 0].astype(float), np.ones(rows), goal="mean", seed=1)
        assert np.isfinite(fitted.predict(features[:10])).all()


def test_a_file_with_another_type_inside_is_refused() -> None:
    import skops.io
    from sklearn.ensemble import AdaBoostRegressor

    from views_dagster.learners.step_shift import StepShift

    block = REGRESSOR.validate_python({"sklearn": {"estimator": "Ridge"}})
    buffer = io.BytesIO(skops.io.dumps({"model": AdaBoostRegressor(), "other": StepShift}))
    with pytest.raises(ArtifactError, match="not a trusted scikit-learn model"):
        block.read(buffer.getvalue())
    for content in (b"", b"not a zip", b"\x80\x04N."):
        with pytest.raises(ArtifactError):
            block.read(content)


def test_skops_files_hold_no_addresses_and_no_time() -> None:
    block = REGRESSOR.validate_python({"sklearn": {"estimator": "Ridge"}})
    content = block.matrix(FEATURES).fit(ROWS, np.arange(1500.0), np.ones(1500), goal="mean", seed=1).to_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        numbers = [int(member.split(".")[0]) for member in archive.namelist() if member.endswith(".npy")]
    assert numbers
    assert max(numbers) < 1000
