"""Levels: profiles on common levels are those of a plain interpolation of each row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from views_dagster.errors import SourceError
from views_dagster.precipitation import levels
from views_dagster.precipitation.levels import implausible, interpolate


def row_by_row(profiles, coordinate, onto, unit):
    """`np.interp` on each row and variable, over the levels that have all values."""
    scale = (lambda level: level) if unit == "m" else (lambda level: -np.log(level))
    result = np.full((*profiles.shape[:2], len(onto)), np.nan)
    for row, (values, own) in enumerate(zip(profiles, coordinate, strict=True)):
        present = np.isfinite(own) & np.isfinite(values).all(axis=0)
        if not present.any():
            continue
        order = np.argsort(scale(own[present].astype(np.float64)))
        for variable, profile in enumerate(values):
            result[row, variable] = np.interp(
                scale(np.asarray(onto, float)), scale(own[present].astype(np.float64))[order], profile[present][order]
            )
    return result


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 30),
    depth=st.integers(1, 7),
    unit=st.sampled_from(["m", "hPa"]),
    holes=st.sampled_from([0.0, 0.15, 0.6]),
)
def test_agrees_with_numpy_on_each_row(seed, rows, depth, unit, holes):
    random = np.random.default_rng(seed)
    steps = random.uniform(10, 120, (rows, depth)).cumsum(axis=1)
    coordinate = (steps if unit == "m" else 1050 - steps).astype(np.float32)
    downward = random.random(rows) < 0.3
    coordinate[downward] = coordinate[downward, ::-1]
    coordinate[random.random(coordinate.shape) < holes / 2] = np.nan
    profiles = random.normal(size=(rows, 3, depth)).astype(np.float32)
    profiles[random.random(profiles.shape) < holes / 4] = np.nan
    onto = np.array([5, 80, 200, 333.3, 900]) if unit == "m" else np.array([1045, 970, 850.5, 700, 250])
    found = interpolate(profiles, coordinate, onto, unit=unit)
    expected = row_by_row(profiles, coordinate, onto, unit)
    np.testing.assert_allclose(found.values, expected, atol=2e-5)
    np.testing.assert_array_equal(found.empty, np.isnan(expected[:, 0, 0]))


def test_chunks_do_not_show(monkeypatch):
    random = np.random.default_rng(1)
    coordinate = random.uniform(10, 500, (50, 6)).cumsum(axis=1)
    profiles = random.normal(size=(50, 2, 6)).astype(np.float32)
    whole = interpolate(profiles, coordinate, np.array([100.0, 900.0]), unit="m").values
    monkeypatch.setattr(levels, "_CHUNK_VALUES", 40)
    np.testing.assert_array_equal(interpolate(profiles, coordinate, np.array([100.0, 900.0]), unit="m").values, whole)


def test_pressure_is_interpolated_in_its_logarithm():
    # Half way between 1000 and 250 hPa in the logarithm lies their geometric mean, 500 hPa.
    profile = np.array([[[10.0, 30.0]]], dtype=np.float32)
    found = interpolate(profile, np.array([1000.0, 250.0]), np.array([1000.0, 500.0, 250.0]), unit="hPa")
    assert found.values[0, 0].tolist() == [10.0, 20.0, 30.0]
    height = interpolate(profile, np.array([0.0, 100.0]), np.array([25.0]), unit="m")
    assert height.values[0, 0, 0] == 15.0


def test_says_how_far_outside_the_rows_own_levels():
    profile = np.array([[[1.0, 2.0]], [[1.0, 2.0]]], dtype=np.float32)
    found = interpolate(profile, np.array([[900.0, 500.0], [1013.0, 300.0]]), np.array([1000.0, 400.0]), unit="hPa")
    assert found.below.tolist() == [100.0, 0.0]
    assert found.above.tolist() == [100.0, 0.0]
    assert found.values[0, 0].tolist() == [1.0, 2.0]
    height = interpolate(profile[:1], np.array([50.0, 500.0]), np.array([20.0, 510.0]), unit="m")
    assert (height.below[0], height.above[0]) == (30.0, 10.0)


def test_a_level_without_a_value_is_bridged_for_all_variables():
    profiles = np.array([[[0.0, np.nan, 4.0], [1.0, 9.0, 3.0]]], dtype=np.float32)
    found = interpolate(profiles, np.array([0.0, 10.0, 20.0]), np.array([10.0]), unit="m")
    assert found.values[0, :, 0].tolist() == [2.0, 2.0]
    assert found.bridged.tolist() == [True]
    short = interpolate(profiles[:, 1:], np.array([[0.0, 10.0, np.nan]]), np.array([10.0]), unit="m")
    assert short.values[0, 0, 0] == 9.0
    assert short.bridged.tolist() == [False]


def test_levels_from_the_top_down_are_turned():
    profile = np.array([[[1.0, 2.0, 3.0]]], dtype=np.float32)
    found = interpolate(profile, np.array([30.0, 20.0, 10.0]), np.array([10.0, 30.0]), unit="m")
    assert found.values[0, 0].tolist() == [3.0, 1.0]
    assert found.reversed.tolist() == [True]


@pytest.mark.parametrize("disordered", [[10.0, 30.0, 20.0], [10.0, 10.0, 20.0], [30.0, 10.0, 20.0]])
def test_levels_in_no_order_are_refused(disordered):
    profiles = np.zeros((2, 1, 3), dtype=np.float32)
    with pytest.raises(SourceError, match=r"levels of 1 columns neither rise nor fall.*column 1"):
        interpolate(profiles, np.array([[10.0, 20.0, 30.0], disordered]), np.array([15.0]), unit="m")


@pytest.mark.parametrize(
    ("found", "unit", "plausible"),
    [
        ([1013.0, 1.0], "hPa", True),
        ([101300.0], "hPa", False),
        ([0.0], "hPa", False),
        ([-100.0, 80_000.0], "m", True),
        ([500_000.0], "m", False),
        ([np.nan], "hPa", True),
    ],
)
def test_plausible_levels(found, unit, plausible):
    assert (implausible(np.array(found), unit) is None) == plausible
