"""A stored column set as arrays."""

import numpy as np
import polars as pl
import pytest

from views_dagster.errors import PanelError
from views_dagster.precipitation.column_arrays import padded, to_columns
from views_dagster.precipitation.column_rows import compute
from views_dagster.precipitation.column_sets import ColumnSet
from views_dagster_tests.precipitation.raw_worlds import JANUARY, LISTS, raw_columns, raw_members, raw_rain, times

SETTINGS = ColumnSet.model_validate(
    {
        "columns": "air",
        "rain": "gauges",
        "members": "ensemble",
        "levels": {"unit": "hPa"},
        "profiles": ["z", "t"],
        "surface": ["msl"],
        "static": ["oro"],
    }
)


@pytest.fixture(scope="module")
def frame():
    columns = raw_columns(times(5))
    rain, members = raw_rain(columns)[2:], raw_members(columns)[:-3]
    return compute(SETTINGS, columns.lazy(), rain.lazy(), members.lazy(), JANUARY, JANUARY)[0]


def test_values_are_those_of_the_table(frame):
    columns = to_columns(frame, SETTINGS)
    assert columns.profiles.shape == (20, 2, 3)
    assert columns.profiles.dtype == columns.fractions.dtype == columns.members.dtype == np.float32
    np.testing.assert_array_equal(columns.profiles[:, 1], np.array(frame["t"].to_list(), dtype=np.float32))
    np.testing.assert_array_equal(columns.surface[:, 1], frame["oro"].to_numpy())
    assert columns.levels.tolist() == [1000, 850, 500]
    assert (columns.profile_names, columns.surface_names) == (("z", "t"), ("msl", "oro"))
    assert columns.valid_time[4] == np.datetime64("2020-01-01T02:00:00")
    assert columns.valid_time.dtype == np.dtype("datetime64[s]")
    assert np.flatnonzero(~columns.observed).tolist() == [0, 1]
    assert np.isnan(columns.rain_mean[:2]).all()
    assert np.flatnonzero(np.isnan(columns.members).any(axis=1)).tolist() == [17, 18, 19]
    assert (columns.level_unit, columns.edges) == ("hPa", (0.01, 0.5, 4.0, 10.0))


def test_rows_are_sorted_by_time_and_box(frame):
    sorted_, shuffled = (to_columns(rows, SETTINGS) for rows in (frame, frame.sample(fraction=1, shuffle=True, seed=1)))
    for name in ("valid_time", "box_id", "profiles", "surface", "fractions", "members", "latitude"):
        np.testing.assert_array_equal(getattr(sorted_, name), getattr(shuffled, name))


def test_without_members_there_are_none(frame):
    columns = to_columns(frame.with_columns(members=pl.lit(None, LISTS)), SETTINGS)
    assert columns.members.shape == (20, 0)


def test_what_cannot_be_learned_from(frame):
    def refused(rows, problem):
        with pytest.raises(PanelError, match=problem):
            to_columns(rows, SETTINGS)

    refused(frame.clear(), "has no rows")
    refused(frame.drop("t", "oro"), "has no t, oro")
    refused(pl.concat([frame, frame[:1]]), "repeats 1 rows")
    refused(frame.with_columns(msl=pl.lit(None, pl.Float32)), "msl has no value in 20 rows")
    refused(frame.with_columns(t=pl.lit(None, LISTS)), "t has no value in 20 rows")
    refused(frame.with_columns(pl.col("t").list.head(2)), "t has lists that are not 3 long")
    refused(frame.with_columns(pl.col("fractions").list.head(4)), "fractions has lists that are not 5 long")
    other = frame[:1].with_columns(levels=pl.Series([[1000, 850, 400]], dtype=LISTS))
    refused(pl.concat([frame[1:], other]), "levels differ between rows")
    fewer = frame[:1].with_columns(pl.col("members").list.head(2))
    refused(pl.concat([fewer, frame[1:]]), "2 and 3 members")
    wanted = SETTINGS.model_copy(update={"levels": SETTINGS.levels.model_copy(update={"values": (900.0,)})})
    with pytest.raises(PanelError, match="on other levels"):
        to_columns(frame, wanted)


def test_lists_are_padded():
    lists = pl.Series([[1.0, 2.0], None, [], [3.0, None, 5.0]], dtype=LISTS)
    expected = [[1, 2, np.nan], [np.nan] * 3, [np.nan] * 3, [3, np.nan, 5]]
    np.testing.assert_array_equal(padded(lists), np.array(expected, dtype=np.float32))
