"""Explanations against finite differences, completeness, and models of which one knows what they look at."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from views_dagster.errors import PanelError
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.explaining import (
    attributions,
    first_layer_filters,
    level_blocks,
    permutation_importance,
    randomised_maps,
)
from views_dagster.precipitation.learners.base import Diagnosis, FittedDiagnosis
from views_dagster.precipitation.learners.column_network import ColumnNetwork, FittedColumnNetwork
from views_dagster_tests.precipitation.columns_worlds import PROFILES, columns_world

WORLD = columns_world(4096, seed=2)
TEST = WORLD.take(slice(3500, 3564))


@pytest.fixture(scope="module")
def network() -> FittedColumnNetwork:
    learner = ColumnNetwork(depth=1, width=8, hidden=16, epochs=5, batch_size=256, learning_rate=1e-2, calibrate=True)
    return learner.fit(WORLD.take(slice(0, 3000)), WORLD.take(slice(3000, 3500)), seed=1)


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


def test_integrated_gradients_add_up_to_the_difference_from_the_mean_column(network: FittedColumnNetwork) -> None:
    found = attributions(network, TEST, steps=64)
    normalisation = network.normalisation
    mean = replace(
        TEST.take(slice(0, 1)), profiles=normalisation.profile_mean[None], surface=normalisation.surface_mean[None]
    )
    difference = network.predict(TEST).fractions - network.predict(mean).fractions
    total = found.profiles.sum(axis=(2, 3)) + found.surface.sum(axis=2)
    assert found.profiles.shape == (5, 64, 5, 12)
    np.testing.assert_allclose(total.T, difference, atol=5e-3)
    assert np.abs(difference).max() > 0.3


def test_saliency_is_the_slope_of_the_prediction(network: FittedColumnNetwork) -> None:
    found = attributions(network, TEST, "saliency")
    step = 1e-2
    for variable, level in ((1, 2), (2, 11)):
        move = np.zeros_like(TEST.profiles)
        move[:, variable, level] = step / network.normalisation.profile_factor[variable, level]
        up, down = (
            network.predict(replace(TEST, profiles=TEST.profiles + sign * move)).fractions.astype(np.float64)
            for sign in (1, -1)
        )
        slope = np.abs(up - down) / (2 * step)
        np.testing.assert_allclose(found.profiles[:, :, variable, level].T, slope, atol=5e-3)
        assert slope.max() > 0.02


def test_the_network_looks_where_the_rain_of_the_world_comes_from(network: FittedColumnNetwork) -> None:
    dry = attributions(network, WORLD.take(slice(0, 512)), steps=16).frame().filter(pl.col("band") == "0-0.01")
    by_variable = dict(dry.group_by("variable").agg(pl.col("magnitude").sum()).iter_rows())
    assert by_variable["relative_humidity"] + by_variable["cloud_fraction"] > 2 * by_variable["eastward_wind"]
    humid = dry.filter(pl.col("variable") == "relative_humidity").sort("level")["magnitude"].to_numpy()
    assert humid[:4].sum() > 2 * humid[-4:].sum(), "low humidity rains, high cloud does not"


def test_the_frame_of_maps_averages_columns(network: FittedColumnNetwork) -> None:
    maps = attributions(network, TEST, steps=8)
    frame = maps.frame()
    assert frame.height == 5 * (5 * 12 + 2)
    row = frame.row(
        by_predicate=(pl.col("band") == "0.5-4")
        & (pl.col("variable") == "temperature")
        & (pl.col("level") == float(TEST.levels[7])),
        named=True,
    )
    assert row["mean"] == pytest.approx(maps.profiles[2, :, 2, 7].mean(), abs=1e-7)
    assert row["magnitude"] == pytest.approx(np.abs(maps.profiles[2, :, 2, 7]).mean(), abs=1e-7)
    assert frame.filter(pl.col("level").is_null())["variable"].unique().sort().to_list() == [
        "mean_sea_level_pressure",
        "orography",
    ]


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients"])
def test_a_map_does_not_depend_on_the_rows_beside_it(network: FittedColumnNetwork, method: str) -> None:
    together = attributions(network, TEST, method, steps=8)  # type: ignore[arg-type]
    alone = attributions(network, TEST.take(slice(9, 10)), method, steps=8)  # type: ignore[arg-type]
    np.testing.assert_allclose(alone.profiles[:, 0], together.profiles[:, 9], atol=1e-5)


def test_a_field_that_was_constant_in_training_is_attributed_nothing() -> None:
    profiles = WORLD.profiles.copy()
    profiles[:, 3, 4] = 7.0
    flat = replace(WORLD, profiles=profiles)
    model = ColumnNetwork(depth=0, width=4, hidden=4, epochs=1).fit(
        flat.take(slice(0, 500)), flat.take(slice(500, 600)), seed=0
    )
    assert (attributions(model, TEST, "saliency").profiles[:, :, 3, 4] == 0).all()
    assert (attributions(model, TEST, "saliency").profiles[:, :, 3, 5] != 0).any()


def test_a_shuffled_network_gives_other_maps(network: FittedColumnNetwork) -> None:
    found = randomised_maps(network, TEST, seed=1)
    assert found["layer"].to_list() == ["head", "join", "block0.out", "block0.in", "stem"]
    assert found["rank_correlation"][-1] < 0.5
    assert found["rank_correlation"][0] > found["rank_correlation"][-1]
    assert randomised_maps(network, TEST, seed=1).equals(found)


def test_filters_are_the_first_convolution(network: FittedColumnNetwork) -> None:
    filters = first_layer_filters(network)
    assert filters.weights.shape == (8, 5, 3)
    assert filters.profile_names == PROFILES
    assert filters.weights[2, 3, 1] == network.parameters["stem.weight"][2, 3, 0, 1]


def test_importance_needs_observed_rain() -> None:
    with pytest.raises(PanelError, match="observed rain"):
        permutation_importance(Humid(), columns_world(100, unobserved=0.2))
