import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from views_dagster.precipitation.bands import names
from views_dagster.precipitation.profile_plots import (
    attribution_profiles,
    first_layer_filters,
    importance_bars,
    importance_map,
    importance_of_blocks,
)

VARIABLES = ("temperature", "relative_humidity", "eastward_wind")
RNG = np.random.default_rng(0)
PRESSURE = np.array([1000.0, 850.0, 500.0, 200.0])


def pixels(png: bytes) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_only_the_strongest_filters_are_drawn() -> None:
    weights = RNG.normal(0, 1, (6, 3, 5))
    weights[2:] *= 0.01
    few = first_layer_filters(weights, VARIABLES, title="t", most=2)
    assert few == first_layer_filters(weights[:2], VARIABLES, title="t")
    assert pixels(first_layer_filters(weights, VARIABLES, title="t")).shape[1] > pixels(few).shape[1]


def test_filters_that_are_all_zero_can_be_drawn() -> None:
    assert pixels(first_layer_filters(np.zeros((1, 3, 3)), VARIABLES, title="t")).size


def test_bars_are_in_order_of_importance() -> None:
    bars = [
        importance_bars([VARIABLES[at] for at in order], np.array([0.1, 0.4, 0.2])[order], title="t", measure="m")
        for order in ([0, 1, 2], [2, 0, 1])
    ]
    assert bars[0] == bars[1]


def test_pressure_falls_and_height_grows_towards_the_top() -> None:
    top = np.zeros((3, 4))
    top[:, -1] = 1
    for levels, unit in ((PRESSURE, "hPa"), (np.array([100.0, 1500.0, 5500.0, 12_000.0]), "m")):
        picture = pixels(importance_map(top, VARIABLES, levels, unit, title="t", measure="m")).astype(int)
        # The darkest colour of the scale fills the upper quarter of the map and nothing below it.
        dark = (picture[:, 85:250].sum(axis=2) < 120).sum(axis=1)
        rows = np.flatnonzero(dark > 100)
        assert rows.max() < picture.shape[0] / 2


@pytest.mark.parametrize("with_inputs", [True, False])
def test_profiles_of_every_band_and_variable(with_inputs: bool) -> None:
    values = RNG.normal(0, 1, (5, 3, 4))
    inputs = {"inputs": RNG.normal(0, 1, (3, 4)), "units": ["K", "1", "m/s"]} if with_inputs else {}
    drawn = [
        attribution_profiles(each, names(), VARIABLES, PRESSURE, "hPa", title="t", measure="m", **inputs)  # type: ignore[arg-type]
        for each in (values, values, values[:, :, ::-1])
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert (pixels(drawn[0]).shape[0] > 500) == with_inputs


IMPORTANCE = pl.DataFrame(
    {
        "group": ["variable", "level", "block", "block", "surface", "members"],
        "variable": ["temperature", None, "temperature", "eastward_wind", "orography", "members"],
        "lowest": [1000.0, 850.0, 1000.0, 200.0, None, None],
        "highest": [200.0, 850.0, 850.0, 200.0, None, None],
        "increase": [0.5, 0.1, 0.3, 0.2, 0.0, 0.4],
    }
)


def test_levels_have_the_importance_of_their_block() -> None:
    expected = np.full((3, 4), np.nan)
    expected[0, :2], expected[2, 3] = 0.3, 0.2
    np.testing.assert_array_equal(importance_of_blocks(IMPORTANCE, VARIABLES, PRESSURE), expected)
