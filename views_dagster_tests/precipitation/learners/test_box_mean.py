from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from views_dagster.errors import ArtifactError
from views_dagster.precipitation.bands import exceedance
from views_dagster.precipitation.learners.box_mean import BoxMean, FittedBoxMean, Line, Ridge
from views_dagster.precipitation.learners.predictors import Predictors
from views_dagster_tests.precipitation.columns_worlds import columns_world

TREES = {"kind": "boosted", "lightgbm": {"n_estimators": 30, "min_child_samples": 20, "learning_rate": 0.2}}
TRAIN, VALIDATION, UNSEEN = (columns_world(4096, seed) for seed in range(3))


@pytest.fixture(scope="module")
def fitted() -> FittedBoxMean:
    return BoxMean.model_validate({"regressor": TREES}).fit(TRAIN, VALIDATION, seed=0)


def test_the_fraction_above_an_edge_never_falls_with_the_mean(fitted: FittedBoxMean) -> None:
    said = fitted.predict(UNSEEN)
    order = np.argsort(said.rain_mean, kind="stable")
    assert (np.diff(exceedance(said.fractions)[order], axis=0) > -1e-6).all()
    assert np.all(np.diff(fitted.stored.curve.means) > 0)


def test_the_share_of_variance_explained_is_told(fitted: FittedBoxMean) -> None:
    error = ((fitted.predict(VALIDATION).rain_mean - VALIDATION.rain_mean) ** 2).mean()
    assert fitted.stored.r2 == pytest.approx(1 - error / VALIDATION.rain_mean.var(), abs=1e-4)
    assert fitted.stored.r2 is not None
    assert fitted.stored.r2 > 0.5


def test_fractions_are_as_frequent_as_observed(fitted: FittedBoxMean) -> None:
    found = exceedance(fitted.predict(UNSEEN).fractions).mean(axis=0)
    assert_allclose(found, exceedance(UNSEEN.fractions).mean(axis=0), rtol=0.15)


def test_a_line_is_found_again_and_cut_off_at_zero() -> None:
    draw = np.random.default_rng(0)
    table = (draw.normal(size=(500, 2)) * [1, 1000] + [0, 5e4]).astype(np.float32)
    line = Line.fitted(table, 2 + table @ np.array([0.5, 1e-4]), penalty=1e-9)
    assert_allclose(line.weights, [0.5, 1e-4], rtol=1e-3)
    assert line.predict(np.array([[-1000, 0]], np.float32)).tolist() == [0]


def test_rows_of_one_time_train_a_model() -> None:
    same = replace(TRAIN, valid_time=np.full_like(TRAIN.valid_time, TRAIN.valid_time[0]))
    learner = BoxMean(regressor=Ridge(), predictors=Predictors(profiles="layers"))
    assert len(learner.fit(same, VALIDATION, seed=0).predict(UNSEEN).rain_mean) == len(UNSEEN)


def test_a_model_without_its_trees_is_refused(fitted: FittedBoxMean) -> None:
    with pytest.raises(ArtifactError, match=r"lacks mean\.lightgbm\.txt"):
        FittedBoxMean.from_files({"model.json": fitted.to_files()["model.json"]})
