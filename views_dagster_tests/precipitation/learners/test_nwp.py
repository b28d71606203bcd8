from dataclasses import replace

import numpy as np
from numpy.testing import assert_allclose

from views_dagster.precipitation.learners.inputs import ranked_score
from views_dagster.precipitation.learners.nwp import CalibratedNwp, Nwp
from views_dagster_tests.precipitation.columns_worlds import columns_world


def test_fractions_are_shares_of_members_and_an_edge_belongs_to_the_band_above() -> None:
    world = columns_world(64)
    members = np.tile(np.array([0.0, 0.01, 0.4999, 0.5, 12.0], np.float32), (64, 1))
    said = Nwp().fit(columns_world(64, members=2), columns_world(64, members=2), seed=0)
    found = said.predict(replace(world, members=members))
    assert_allclose(found.fractions, np.tile([0.2, 0.4, 0.2, 0.0, 0.2], (64, 1)), rtol=1e-6)
    assert_allclose(found.rain_mean, (0.01 + 0.4999 + 0.5 + 12) / 5, rtol=1e-6)


def test_one_member_makes_fractions_of_0_and_1() -> None:
    world = columns_world(512, members=1)
    found = Nwp().fit(world, world, seed=0).predict(world)
    assert set(np.unique(found.fractions)) == {0.0, 1.0}
    assert_allclose(found.rain_mean, world.members[:, 0])


def test_calibration_removes_the_bias() -> None:
    train, unseen = (columns_world(4096, seed, members=6) for seed in (0, 5))
    raw, calibrated = (learner.fit(train, train, seed=0).predict(unseen) for learner in (Nwp(), CalibratedNwp()))
    # The world's members drizzle where it is dry: calibrated, they do not.
    assert raw.fractions[:, 0].max() < 0.1
    assert abs(calibrated.fractions.mean(axis=0) - unseen.fractions.mean(axis=0)).max() < 0.02
    truth = unseen.fractions
    assert ranked_score(calibrated.fractions, truth) < 0.1 * ranked_score(raw.fractions, truth)


def test_calibration_works_with_one_member() -> None:
    train, unseen = (columns_world(4096, seed, members=1) for seed in (0, 5))
    raw, calibrated = (learner.fit(train, train, seed=0).predict(unseen) for learner in (Nwp(), CalibratedNwp()))
    assert ranked_score(calibrated.fractions, unseen.fractions) < 0.5 * ranked_score(raw.fractions, unseen.fractions)
