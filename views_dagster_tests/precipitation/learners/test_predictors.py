from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from views_dagster.precipitation.learners.predictors import Predictors, member_statistics
from views_dagster_tests.precipitation.columns_worlds import columns_world

WORLD = columns_world(64, levels=5, members=3)


@pytest.mark.parametrize("profiles", ["levels", "layers", "both", "none"])
@pytest.mark.parametrize("members", [False, True])
def test_each_column_of_the_table_has_a_name(profiles: str, members: bool) -> None:
    predictors = Predictors.model_validate({"profiles": profiles, "layers": 2, "members": members})
    names, table = predictors.names(WORLD), predictors.table(WORLD)
    assert len(set(names)) == len(names) == table.shape[1]
    assert table.dtype == np.float32
    for name in ("orography", "mean_sea_level_pressure"):
        assert_array_equal(table[:, names.index(name)], WORLD.surface[:, WORLD.surface_names.index(name)])


def test_levels_are_the_profile_itself() -> None:
    predictors = Predictors(profiles="levels")
    at = predictors.names(WORLD).index("temperature@12000m")
    assert_array_equal(predictors.table(WORLD)[:, at], WORLD.profiles[:, 2, -1])


def test_layers_are_means_and_differences() -> None:
    heights = replace(WORLD, levels=np.array([1, 2, 3, 4, 5], np.float32))
    predictors = Predictors(profiles="layers", layers=2, surface=False)
    names, table = predictors.names(heights), predictors.table(heights)
    lower, upper = (heights.profiles[:, 0, part].mean(axis=1) for part in (slice(0, 3), slice(3, 5)))
    assert names[:3] == ("cloud_fraction@1m..3m", "cloud_fraction@4m..5m", "cloud_fraction@4m..5m - 1m..3m")
    assert_allclose(table[:, :3], np.stack([lower, upper, upper - lower], axis=1), atol=1e-6)


def test_member_statistics_by_hand() -> None:
    members = np.array([[0.0, 0.5, 8.0]], dtype=np.float32)
    logs = np.log([0.01, 0.5, 8.0])
    wanted = [2 / 3, 2 / 3, 1 / 3, 0, np.cbrt(8.5 / 3), logs.mean(), logs.std(), logs.max()]
    assert_allclose(member_statistics(members, (0.01, 0.5, 4.0, 10.0)), [wanted], rtol=1e-6)


def test_something_must_be_seen() -> None:
    with pytest.raises(ValidationError, match="no predictors are left"):
        Predictors(profiles="none", surface=False)
