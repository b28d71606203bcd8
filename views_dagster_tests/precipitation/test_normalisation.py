"""Normalisation against numpy in float64, and its rules for constant fields and gaps."""

from dataclasses import replace

import numpy as np
import pytest

from views_dagster.errors import ArtifactError, PanelError
from views_dagster.precipitation.normalisation import Normalisation
from views_dagster_tests.precipitation.columns_worlds import columns_world

WORLD = columns_world(600)


def test_normalised_training_rows_have_mean_0_and_spread_1_in_the_order_level_variable() -> None:
    found = Normalisation.fit(WORLD).profiles(WORLD)
    wide = WORLD.profiles.astype(np.float64)
    expected = (wide - wide.mean(axis=0)) / wide.std(axis=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.transpose(0, 2, 1), atol=1e-4)


def test_surface_fields_of_other_rows_are_scaled_by_the_training_rows() -> None:
    train, other = WORLD.take(slice(0, 300)), WORLD.take(slice(300, None))
    expected = (other.surface - train.surface.mean(axis=0)) / train.surface.std(axis=0)
    np.testing.assert_allclose(Normalisation.fit(train).surface(other), expected, atol=1e-3)


def test_a_field_that_is_constant_in_training_says_nothing_later() -> None:
    surface = WORLD.surface.copy()
    surface[:, 1] = np.float32(101_325.0) + np.float32(0.0078125) * (np.arange(600) % 2)  # one float32 step of noise
    profiles = WORLD.profiles.copy()
    profiles[:, 0, 3] = 0.0
    normalisation = Normalisation.fit(replace(WORLD, surface=surface, profiles=profiles))
    assert (normalisation.surface(WORLD)[:, 1] == 0).all()
    assert (normalisation.profiles(WORLD)[:, 3, 0] == 0).all()
    assert (normalisation.profiles(WORLD)[:, 4, 0] != 0).any()


def test_columns_without_surface_fields_are_normalised() -> None:
    bare = replace(WORLD, surface=WORLD.surface[:, :0], surface_names=())
    assert Normalisation.fit(bare).surface(bare).shape == (600, 0)


def test_arrays_round_trip() -> None:
    normalisation = Normalisation.fit(WORLD)
    again = Normalisation.from_arrays(normalisation.to_arrays(), variables=5, levels=12, surface=2)
    assert again.profiles(WORLD).tobytes() == normalisation.profiles(WORLD).tobytes()


@pytest.mark.parametrize("change", [{"levels": 11}, {"surface": 3}])
def test_arrays_of_another_shape_are_refused(change: dict[str, int]) -> None:
    sizes = {"variables": 5, "levels": 12, "surface": 2} | change
    with pytest.raises(ArtifactError, match="train the model again"):
        Normalisation.from_arrays(Normalisation.fit(WORLD).to_arrays(), **sizes)


def test_gaps_and_no_rows_are_refused() -> None:
    profiles = WORLD.profiles.copy()
    profiles[7, 2, 3] = np.nan
    with pytest.raises(PanelError, match=r"profiles to normalise by are not finite at \[2, 3\]"):
        Normalisation.fit(replace(WORLD, profiles=profiles))
    with pytest.raises(PanelError, match="no columns"):
        Normalisation.fit(WORLD.take(slice(0, 0)))
