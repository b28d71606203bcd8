from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from views_dagster.errors import ArtifactError
from views_dagster.precipitation.bands import exceedance
from views_dagster.precipitation.learners.boosting import Boosted, FittedBoosted
from views_dagster.precipitation.rebalancing import Resample
from views_dagster_tests.precipitation.columns_worlds import columns_world

LEARNER = Boosted.model_validate({"lightgbm": {"n_estimators": 15, "min_child_samples": 20, "learning_rate": 0.3}})


def test_an_edge_that_hardly_any_row_reaches_has_a_constant_fraction() -> None:
    train = columns_world(1024)
    dry_above = train.fractions.copy()
    dry_above[:, 2] += dry_above[:, 3:].sum(axis=1)
    dry_above[:, 3:] = 0
    fitted = LEARNER.fit(replace(train, fractions=dry_above), train.take(slice(0, 0)), seed=0)
    assert [edge.constant is None for edge in fitted.stored.edges] == [True, True, False, False]
    assert set(fitted.to_files()) == {"model.json", "above_0.01.lightgbm.txt", "above_0.5.lightgbm.txt"}
    above = exceedance(fitted.predict(train).fractions)
    # Laplace's rule: half a row in a thousand; an edge never exceeds the one below it.
    assert_allclose(above[:, 2], 0.5 / 1025, rtol=1e-3)
    assert (np.diff(above, axis=1) <= 1e-7).all()


def test_a_rebalanced_training_set_is_corrected_for() -> None:
    train, validation, unseen = (columns_world(4096, seed) for seed in range(3))
    learner = LEARNER.model_copy(update={"rebalance": Resample(distribution="uniform")})
    fitted = learner.fit(train, validation, seed=0)
    assert fitted.stored.rebalance.fractions_after[0] < 0.7 < fitted.stored.rebalance.fractions_before[0]
    plain = LEARNER.fit(train, validation, seed=0)
    for model in (fitted, plain):
        found = exceedance(model.predict(unseen).fractions).mean(axis=0)
        assert_allclose(found, exceedance(unseen.fractions).mean(axis=0), rtol=0.2)


def test_a_missing_file_is_refused() -> None:
    train = columns_world(512)
    files = LEARNER.fit(train, train, seed=0).to_files()
    del files["above_4.lightgbm.txt"]
    with pytest.raises(ArtifactError, match=r"lacks above_4\.lightgbm\.txt"):
        FittedBoosted.from_files(files)


def test_members_are_seen_where_the_settings_say_so() -> None:
    learner = Boosted.model_validate({"predictors": {"members": True}})
    assert learner.needs_members
    assert not LEARNER.needs_members
