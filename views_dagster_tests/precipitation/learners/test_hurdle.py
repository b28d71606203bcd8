import numpy as np
import pytest
from numpy.testing import assert_allclose

from views_dagster.errors import ArtifactError
from views_dagster.precipitation.learners.hurdle import FittedHurdle, Hurdle
from views_dagster.precipitation.learners.logistic import Logistic
from views_dagster_tests.precipitation.columns_worlds import columns_world

LEARNER = Hurdle(wet=Logistic(), bands=Logistic())
TRAIN, VALIDATION, UNSEEN = (columns_world(2048, seed) for seed in range(3))


@pytest.fixture(scope="module")
def fitted() -> FittedHurdle:
    return LEARNER.fit(TRAIN, VALIDATION, seed=0)


def test_it_is_the_chance_of_a_wet_box_times_the_fractions_of_wet_boxes(fitted: FittedHurdle) -> None:
    said, given = fitted.predict(UNSEEN), fitted.bands.predict(UNSEEN)
    chance = said.fractions[:, 1:].sum(axis=1) / given.fractions[:, 1:].sum(axis=1)
    assert ((chance > 0) & (chance < 1 + 1e-6)).all()
    assert_allclose(said.fractions[:, 1:], chance[:, None] * given.fractions[:, 1:], atol=1e-6)
    assert_allclose(said.rain_mean, chance * given.rain_mean, rtol=1e-3, atol=1e-7)
    wet = UNSEEN.fractions[:, 0] < 1
    assert chance.mean() == pytest.approx(wet.mean(), abs=0.05)


def test_what_counts_as_wet_is_a_setting() -> None:
    strict = Hurdle(wet=Logistic(), bands=Logistic(), wet_fraction=0.5).fit(TRAIN, VALIDATION, seed=0)
    # The fractions of boxes that are mostly wet are wetter.
    half_wet = LEARNER.fit(TRAIN, VALIDATION, seed=0).bands.predict(UNSEEN)
    assert strict.bands.predict(UNSEEN).fractions[:, 0].mean() < half_wet.fractions[:, 0].mean()


def test_members_are_needed_where_a_part_needs_them() -> None:
    part = Logistic.model_validate({"predictors": {"members": True}})
    assert Hurdle(wet=part).needs_members
    assert Hurdle(bands=part).needs_members
    assert not Hurdle().needs_members


def test_a_hurdle_without_one_of_its_parts_is_refused(fitted: FittedHurdle) -> None:
    files = {name: content for name, content in fitted.to_files().items() if not name.startswith("wet.")}
    with pytest.raises(ArtifactError, match="no files of 'wet'"):
        FittedHurdle.from_files(files)


def test_rows_are_wet_or_dry_for_the_first_part(fitted: FittedHurdle) -> None:
    assert len(fitted.wet.to_files()) == 1
    assert np.array(fitted.bands.predict(UNSEEN).fractions).shape == (2048, 5)
