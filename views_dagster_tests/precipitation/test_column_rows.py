"""Column sets computed: values on levels, wind, joins, and the rules for what is missing or does not fit."""

from datetime import datetime

import numpy as np
import polars as pl
import pytest

from views_dagster.errors import MissingMonthsError, QuerysetError, SourceError
from views_dagster.precipitation.column_rows import compute
from views_dagster.precipitation.column_sets import ColumnSet
from views_dagster_tests.precipitation.raw_worlds import JANUARY, LISTS, raw_columns, raw_members, raw_rain, times

AS_IS = {"columns": "air", "rain": "gauges", "levels": {"unit": "hPa"}, "profiles": ["t"]}
ON_THREE = {**AS_IS, "levels": {"unit": "hPa", "values": [1000, 700, 500]}}


def run(attributes, columns, rain=None, members=None, first=JANUARY, last=JANUARY):
    """Compute months of a column set from frames."""
    settings = ColumnSet.model_validate(attributes)
    rain = raw_rain(columns) if rain is None else rain
    return compute(settings, columns.lazy(), rain.lazy(), None if members is None else members.lazy(), first, last)


def with_value(frame, row, name, value):
    """The frame with one cell changed."""
    values = frame[name].to_list()
    values[row] = value
    return frame.with_columns(pl.Series(name, values, dtype=frame.schema[name]))


def test_as_they_are_and_joined():
    columns = raw_columns(times(5))
    rain, members = raw_rain(columns), raw_members(columns)
    attributes = {**AS_IS, "members": "ensemble", "surface": {"pressure": "msl"}, "static": ["oro"]}
    shuffled = [frame.sample(fraction=1, shuffle=True, seed=3) for frame in (columns, rain, members)]
    frame, report = run(attributes, *shuffled)
    assert frame.columns == [
        *("month_id", "valid_time", "box_id", "latitude", "longitude", "t", "levels", "pressure", "oro"),
        *("fractions", "rain_mean", "rain_max", "missing", "members"),
    ]
    assert frame["t"].equals(columns["t"])
    assert frame["pressure"].to_list() == columns["msl"].to_list()
    assert frame["fractions"].equals(rain["fractions"])
    assert frame["members"].equals(members["members"])
    assert frame.schema["levels"] == frame.schema["members"] == LISTS
    assert (report.rows, report.without_rain, report.dropped_incomplete, report.reversed) == (20, 0, 0, 0)


def test_common_levels_in_log_pressure():
    columns = raw_columns(times(3), levels=(1000, 500, 250))
    frame, _ = run({**AS_IS, "levels": {"unit": "hPa", "values": [250, 500, 1000, 500 * 2**0.5]}}, columns)
    assert frame["levels"][0].to_list() == pytest.approx([1000, 707.1068, 500, 250])
    own = np.array(columns["t"].to_list())
    found = np.array(frame["t"].to_list())
    np.testing.assert_allclose(found[:, 1], own[:, :2].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(found[:, [0, 2, 3]], own, atol=1e-6)


def test_levels_from_a_profile():
    columns = raw_columns(times(2), levels=(10, 1000, 5000))
    pressure = np.array([1010.0, 900.0, 540.0]) - np.arange(8)[:, None]
    columns = columns.with_columns(pl.Series("p", pressure.astype(np.float32)).arr.to_list())
    attributes = {**ON_THREE, "levels": {"unit": "hPa", "values": [950, 600], "from": "p"}}
    frame, _ = run({**attributes, "profiles": {"t": "t", "height": "levels"}}, columns)
    weight = np.log(pressure[:, 0] / 950) / np.log(pressure[:, 0] / pressure[:, 1])
    heights = np.array(frame["height"].to_list())
    np.testing.assert_allclose(heights[:, 0], 10 + weight * 990, rtol=1e-5)
    assert frame["levels"][0].to_list() == [950, 600]
    back, _ = run({**AS_IS, "levels": {"unit": "m", "values": [500], "from": "z"}}, columns.with_columns(z="levels"))
    own = np.array(columns["t"].to_list())
    np.testing.assert_allclose(
        np.array(back["t"].to_list())[:, 0], own[:, 0] + (490 / 990) * (own[:, 1] - own[:, 0]), atol=1e-5
    )


@pytest.mark.parametrize(
    ("direction", "eastward", "northward"), [(0, 0, -10), (90, -10, 0), (180, 0, 10), (270, 10, 0), (225, 7.071, 7.071)]
)
def test_wind_blows_from_its_direction(direction, eastward, northward):
    columns = raw_columns(times(1), boxes=1).with_columns(
        ff=pl.Series([[10.0] * 3], dtype=LISTS), dd=pl.Series([[float(direction)] * 3], dtype=LISTS)
    )
    wind = {"speed": "ff", "direction": "dd", "keep_speed": True}
    frame, _ = run({**AS_IS, "profiles": [], "wind": wind}, columns)
    found = [frame[name][0][0] for name in ("eastward_wind", "northward_wind", "wind_speed")]
    assert found == pytest.approx([eastward, northward, 10], abs=1e-3)


def test_directions_either_side_of_north_do_not_become_south():
    columns = raw_columns(times(1), boxes=1, levels=(0, 100)).with_columns(
        ff=pl.Series([[10.0, 10.0]], dtype=LISTS), dd=pl.Series([[350.0, 10.0]], dtype=LISTS)
    )
    attributes = {**AS_IS, "levels": {"unit": "m", "values": [50]}, "profiles": []}
    frame, _ = run({**attributes, "wind": {"speed": "ff", "direction": "dd", "keep_speed": True}}, columns)
    assert frame["northward_wind"][0][0] == pytest.approx(-10 * np.cos(np.radians(10)), abs=1e-5)
    assert frame["wind_speed"][0][0] == pytest.approx(10 * np.cos(np.radians(10)), abs=1e-5)


def test_a_calm_needs_no_direction():
    columns = raw_columns(times(1), boxes=1).with_columns(
        ff=pl.Series([[0.0, 0.0, 5.0]], dtype=LISTS), dd=pl.Series([[None, float("nan"), 90.0]], dtype=LISTS)
    )
    frame, report = run({**AS_IS, "profiles": [], "wind": {"speed": "ff", "direction": "dd"}}, columns)
    assert frame["eastward_wind"][0].to_list() == pytest.approx([0, 0, -5], abs=1e-6)
    assert report.incomplete == {}


def test_components_and_surface_wind_stay():
    columns = raw_columns(times(2)).with_columns(u10="msl", v10="oro")
    attributes = {
        **AS_IS,
        "wind": {"eastward": "t", "northward": "z", "keep_speed": True},
        "surface_wind": {"eastward": "u10", "northward": "v10", "keep_speed": True},
    }
    frame, _ = run({**attributes, "profiles": []}, columns)
    assert frame["eastward_wind"].equals(columns["t"].alias("eastward_wind"))
    np.testing.assert_allclose(
        frame["surface_wind_speed"].to_numpy(),
        np.hypot(columns["msl"].to_numpy(), columns["oro"].to_numpy()),
        rtol=1e-6,
    )


def test_rows_without_rain_stay_and_rain_without_columns_is_counted():
    columns = raw_columns(times(6))
    rain = with_value(raw_rain(columns)[3:], 0, "fractions", None)
    frame, report = run(AS_IS, columns[:20], rain)
    assert (report.rows, report.without_rain, report.rain_without_columns) == (20, 4, 4)
    unknown = frame.filter(pl.col("fractions").is_null())
    assert unknown.select("rain_mean", "rain_max", "missing").null_count().row(0) == (4, 4, 4)
    none, later = run(AS_IS, columns, raw_rain(columns).clear())
    assert (none.height, later.without_rain) == (24, 24)


def test_rows_that_would_be_extrapolated_too_far_are_dropped():
    columns = raw_columns(times(1), boxes=4)
    own = [[1000, 850, 500], [990, 850, 500], [960, 850, 500], [1000, 850, 600]]
    columns = columns.with_columns(levels=pl.Series(own, dtype=LISTS))
    frame, report = run({**AS_IS, "levels": {"unit": "hPa", "values": [1000, 500], "extrapolate": 10}}, columns)
    assert frame["box_id"].to_list() == [0, 1]
    assert (report.held_below, report.dropped_below, report.dropped_above) == (1, 1, 1)
    assert frame["t"][1][0] == columns["t"][1][0]
    with pytest.raises(
        SourceError, match=r"of 4, 0 lack a value, 4 begin more than 0 hPa above .* raise levels.extrap"
    ):
        run({**AS_IS, "levels": {"unit": "hPa", "values": [1050, 850]}}, columns)


def test_rows_that_lack_a_value_are_dropped_and_counted_by_field():
    columns = raw_columns(times(2))
    columns = with_value(columns, 0, "t", [1.0, None, 2.0])
    columns = with_value(columns, 1, "t", None)
    columns = with_value(columns, 2, "msl", float("nan"))
    kept, report = run({**ON_THREE, "surface": ["msl"]}, columns)
    assert kept["box_id"].to_list() == [0, 3, 0, 1, 2, 3]
    assert (report.dropped_incomplete, report.bridged) == (2, 1)
    assert report.incomplete == {"t": 1, "msl": 1}
    stays, as_is = run({**AS_IS, "surface": ["msl"]}, columns)
    assert stays.height == 5
    assert (as_is.dropped_incomplete, as_is.incomplete) == (3, {"t": 2, "msl": 1})


def test_rows_may_have_levels_of_their_own_number():
    columns = raw_columns(times(1), boxes=2)
    columns = with_value(columns, 1, "levels", [1000.0, 500.0])
    columns = with_value(columns, 1, "t", [1.0, 3.0])
    frame, _ = run({**AS_IS, "levels": {"unit": "hPa", "values": [1000, 500]}}, columns)
    assert frame["t"][1].to_list() == [1, 3]
    with pytest.raises(SourceError, match="levels are not the same in all rows"):
        run(AS_IS, columns)
    with pytest.raises(SourceError, match=r"t of air in 2020-01 has not one value a level in 1 rows: .* 1 on 2 levels"):
        run(ON_THREE, with_value(columns, 1, "t", [1.0]))


def test_reversed_levels_are_turned_and_counted():
    columns = raw_columns(times(2))
    upside = columns.with_columns(pl.col("levels", "t").list.reverse())
    frame, report = run(AS_IS, upside)
    assert frame["t"].equals(columns["t"])
    assert frame["levels"][0].to_list() == [1000, 850, 500]
    assert report.reversed == 8


@pytest.mark.parametrize("unit", ["hPa", "m"])
def test_levels_in_another_unit_are_refused(unit):
    columns = raw_columns(times(1), levels=(100_000, 85_000, 50_000) if unit == "hPa" else (-900, 0, 100))
    with pytest.raises(SourceError, match="is not a level of the atmosphere"):
        run({**AS_IS, "levels": {"unit": unit}}, columns)


def test_repeated_rows_are_refused():
    columns = raw_columns(times(2))
    for twice in ("columns", "rain", "members"):
        frames = {"columns": columns, "rain": raw_rain(columns), "members": raw_members(columns)}
        frames[twice] = pl.concat([frames[twice], frames[twice][5:6]])
        with pytest.raises(SourceError, match=r"repeats 1 rows of 2020-01, the first at 2020-01-01 02:00 in box 1"):
            run({**AS_IS, "members": "ensemble"}, **frames)


def two_months():
    january = raw_columns(times(2))
    return january, raw_columns(times(2, datetime(2020, 2, 1, 1)), seed=1)


def test_a_month_alone_is_as_in_a_range():
    columns = pl.concat(two_months())
    attributes = {**ON_THREE, "members": "ensemble"}
    rain, members = raw_rain(columns), raw_members(columns)
    both, report = run(attributes, columns, rain, members, last=JANUARY + 1)
    one, first = run(attributes, columns, rain, members)
    other, second = run(attributes, columns, rain, members, first=JANUARY + 1, last=JANUARY + 1)
    assert pl.concat([one, other]).equals(both)
    assert report == first + second
    assert one.equals(run(attributes, columns[:8], rain[:8], members[:8])[0])


@pytest.mark.parametrize("together", [True, False])
def test_what_changes_between_months_is_refused(together):
    january, february = two_months()
    first = JANUARY if together else JANUARY + 1
    moved = pl.concat([january, february.with_columns(pl.col("longitude") + 0.5)])
    with pytest.raises(SourceError, match=r"lattice of air changed in 2020-02.* longitude of boxes 0, 1, 2, 3"):
        run(AS_IS, moved, first=first, last=JANUARY + 1)
    raised = pl.concat([january, february.with_columns(oro=pl.lit(7, pl.Float32))])
    with pytest.raises(SourceError, match=r"oro of air is not static in 2020-02.*name it in surface"):
        run({**AS_IS, "static": ["oro"]}, raised, first=first, last=JANUARY + 1)
    other = raw_columns(times(2, datetime(2020, 2, 1, 1)), levels=(1000, 850, 400))
    with pytest.raises(SourceError, match=r"air in 2020-02: levels are not the same.* in 8 rows of 8, .*400"):
        run(AS_IS, pl.concat([january, other]), first=first, last=JANUARY + 1)
    columns = pl.concat([january, february])
    grown = pl.concat([raw_members(january, 3), raw_members(february, 4)])
    with pytest.raises(SourceError, match="ensemble has 3 members in earlier rows and 4 in 2020-02"):
        run({**AS_IS, "members": "ensemble"}, columns, None, grown, first=first, last=JANUARY + 1)


def test_members_are_whole_or_absent():
    columns = raw_columns(times(2))
    members = with_value(with_value(raw_members(columns)[1:], 0, "members", None), 1, "members", [1.0, None, 2.0])
    frame, report = run({**AS_IS, "members": "ensemble"}, columns, None, members)
    assert (frame["members"].null_count(), report.without_members) == (3, 3)
    with pytest.raises(SourceError, match="ensemble has negative rain in 2020-01, -1 mm/h"):
        run({**AS_IS, "members": "ensemble"}, columns, None, with_value(members, 2, "members", [1.0, -1.0, 0.0]))
    alone, _ = run(AS_IS, columns)
    assert alone["members"].null_count() == 8


def test_fractions_must_be_of_these_bands():
    columns = raw_columns(times(1))
    with pytest.raises(
        SourceError, match=r"gauges in 2020-01 has 5 fractions a box, and edges of the column set make 3;"
    ):
        run({**AS_IS, "edges": [0.1, 1.0]}, columns)
    with pytest.raises(SourceError, match=r"1 rows of gauges in 2020-01 .* do not sum to 1"):
        run(AS_IS, columns, with_value(raw_rain(columns), 2, "fractions", [0.5, 0.0, 0.0, 0.0, 0.0]))
    holed = with_value(raw_rain(columns), 2, "fractions", [float("nan")] * 5)
    assert run(AS_IS, columns, holed)[1].without_rain == 1


def test_months_without_columns_are_named():
    with pytest.raises(MissingMonthsError, match=r"air has no columns in 2019-12, 2020-02"):
        run(AS_IS, raw_columns(times(1)), first=JANUARY - 1, last=JANUARY + 1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"profiles": ["tt"]}, "air has no field tt; did you mean t"),
        ({"profiles": ["msl"]}, "msl of air is not a profile"),
        ({"surface": ["z"]}, "z of air is no single-level field"),
        ({"members": "ensemble"}, "members: rows of a source"),
    ],
)
def test_fields_that_do_not_fit(changes, problem):
    with pytest.raises(QuerysetError, match=problem):
        run({**AS_IS, **changes}, raw_columns(times(1)))
