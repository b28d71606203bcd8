"""Extended logistic regression: it finds the line that fractions came from, and tells edges it hardly saw."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from views_dagster.precipitation.bands import exceedance
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.extended_logistic import ExtendedLogistic
from views_dagster.precipitation.learners.inputs import from_exceedance
from views_dagster.precipitation.learners.predictors import Predictors
from views_dagster_tests.precipitation.columns_worlds import columns_world

SURFACE = Predictors(profiles="none")


def with_line(columns: Columns, weight: float, slope: float) -> Columns:
    """The columns with fractions whose log-odds are a line in the first surface field and the root of the edge."""
    field = columns.surface[:, 0].astype(np.float64)
    field = (field - field.mean()) / field.std()
    above = expit(weight * field[:, None] + slope * np.cbrt(columns.edges))
    return replace(columns, fractions=from_exceedance(above).astype(np.float32))


def test_it_finds_the_line() -> None:
    columns = with_line(columns_world(2000, 0, levels=4), 1.5, -2.0)
    learner = ExtendedLogistic(predictors=SURFACE, penalties=(1e-7,))
    fitted = learner.fit(columns, columns.take(np.arange(0)), seed=0)
    assert fitted.stored.line.weights[0] == pytest.approx(1.5, rel=0.02)
    assert fitted.stored.line.slope == pytest.approx(-2.0, rel=0.02)
    np.testing.assert_allclose(fitted.predict(columns).fractions, columns.fractions, atol=0.01)


def test_edges_that_were_hardly_reached_are_told_by_the_others() -> None:
    columns = with_line(columns_world(4000, 1, levels=4), 2.0, -4.0)
    above = exceedance(columns.fractions)
    calm = np.flatnonzero(above[:, 2] < np.quantile(above[:, 2], 0.5))
    storm = np.flatnonzero(above[:, 2] > np.quantile(above[:, 2], 0.95))
    fitted = ExtendedLogistic(predictors=SURFACE, penalties=(1e-6,)).fit(
        columns.take(calm), columns.take(calm[:0]), seed=0
    )
    said = exceedance(fitted.predict(columns.take(storm)).fractions)[:, 2].mean()
    assert said == pytest.approx(above[storm, 2].mean(), rel=0.4)
    assert said > 5 * above[calm, 2].mean()


def test_a_training_without_rain_is_dry_everywhere() -> None:
    columns = columns_world(500, 2, levels=4)
    dry = np.zeros_like(columns.fractions)
    dry[:, 0] = 1.0
    columns = replace(columns, fractions=dry, rain_mean=np.zeros_like(columns.rain_mean))
    said = ExtendedLogistic().fit(columns, columns, seed=0).predict(columns)
    assert said.fractions[:, 0].min() > 0.95
