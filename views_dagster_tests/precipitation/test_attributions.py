"""Attributions against finite differences and completeness, and of a world of which one knows where its rain comes from."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from views_dagster.precipitation.attributions import attributions, first_layer_filters, randomised_maps
from views_dagster.precipitation.learners.column_network import ColumnNetwork, FittedColumnNetwork
from views_dagster_tests.precipitation.columns_worlds import PROFILES, columns_world

WORLD = columns_world(4096, seed=2)
TEST = WORLD.take(slice(3500, 3564))


@pytest.fixture(scope="module")
def network() -> FittedColumnNetwork:
    learner = ColumnNetwork(depth=1, width=8, hidden=16, epochs=5, batch_size=256, learning_rate=1e-2, calibrate=True)
    return learner.fit(WORLD.take(slice(0, 3000)), WORLD.take(slice(3000, 3500)), seed=1)


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
