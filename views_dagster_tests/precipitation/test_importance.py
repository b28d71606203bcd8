"""Permutation importance of a model of which one knows what it looks at."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from views_dagster.errors import PanelError
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.importance import level_blocks, permutation_importance
from views_dagster.precipitation.learners.base import Diagnosis, FittedDiagnosis
from views_dagster_tests.precipitation.columns_worlds import columns_world


class Humid(FittedDiagnosis):
    """Wet where relative humidity on level 2 is above 60, and dry elsewhere; higher orography makes it wetter."""

    def predict(self, columns: Columns) -> Diagnosis:
        wet = (columns.profiles[:, 1, 2] > 60) * 0.6 + (columns.surface[:, 0] > 400) * 0.2
        fractions = np.stack([1 - wet, wet, 0 * wet, 0 * wet, 0 * wet], axis=1).astype(np.float32)
        return Diagnosis(fractions, wet.astype(np.float32))

    def to_files(self) -> dict[str, bytes]:
        raise NotImplementedError

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "Humid":
        raise NotImplementedError


def as_the_humid_model_says(columns: Columns) -> Columns:
    return replace(columns, fractions=Humid().predict(columns).fractions)


def test_importance_is_0_but_for_what_the_model_looks_at() -> None:
    world = as_the_humid_model_says(columns_world(512, members=2))
    found = permutation_importance(Humid(), world, repeats=2, seed=1)
    assert (found["score"] == 0).all()
    humid = pl.col("variable") == "relative_humidity"
    looked_at = (
        ((pl.col("group") == "variable") & humid)
        | ((pl.col("group") == "level") & (pl.col("lowest") == float(world.levels[2])))
        | ((pl.col("group") == "block") & humid & pl.lit(float(world.levels[2])).is_between("lowest", "highest"))
        | (pl.col("variable") == "orography")
    )
    assert found.filter(looked_at).height == 4
    assert (found.filter(looked_at)["increase"] > 0).all()
    assert (found.filter(~looked_at)["increase"] == 0).all()
    assert found["group"].value_counts().filter(pl.col("group") == "members")["count"].to_list() == [1]


def test_importance_is_what_moving_the_rows_by_hand_gives() -> None:
    world = as_the_humid_model_says(columns_world(200))
    found = permutation_importance(Humid(), world, repeats=3, seed=5, groups=["surface"])
    draw = np.random.default_rng(5)
    high, low = world.surface[:, 0] > 400, []
    for _ in range(3):
        order = draw.permutation(200)
        # The fraction above the first edge moves by .2 where the other row's orography is another side of 400 m.
        low.append(np.mean((high != high[order]) * 0.2**2))
    orography = found.row(by_predicate=pl.col("variable") == "orography", named=True)
    assert orography["increase"] == pytest.approx(np.mean(low), rel=1e-5)
    assert orography["spread"] == pytest.approx(np.std(low), rel=1e-4)


def test_levels_that_move_together_are_one_block() -> None:
    draw = np.random.default_rng(0)
    first, second, third = draw.normal(size=(3, 500, 1))
    profiles = np.stack(
        [np.concatenate([first, first, second, second, third], axis=1), np.tile(first, 5), np.ones((500, 5))], axis=1
    )
    found = level_blocks(profiles + draw.normal(0, 0.01, (500, 3, 5)) * np.array([[1], [1], [0]]), 0.9)
    assert found[0] == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert found[1] == [slice(0, 5)]
    assert found[2] == [slice(level, level + 1) for level in range(5)], "a constant field correlates with nothing"


def test_importance_needs_observed_rain() -> None:
    with pytest.raises(PanelError, match="observed rain"):
        permutation_importance(Humid(), columns_world(100, unobserved=0.2))
