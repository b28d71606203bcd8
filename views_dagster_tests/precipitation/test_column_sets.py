"""Settings of column sets: what cannot be meant is refused when definitions load."""

import pytest
from pydantic import ValidationError

from views_dagster.errors import QuerysetError
from views_dagster.precipitation.column_sets import ColumnSet, check

LEAST = {"columns": "air", "rain": "gauges", "levels": {"unit": "hPa"}, "profiles": ["temperature"]}


def test_names_are_those_of_the_table():
    settings = ColumnSet.model_validate(
        {
            **LEAST,
            "profiles": {"cloud": "clc", "height": "levels"},
            "wind": {"speed": "ff", "direction": "dd", "keep_speed": True},
            "surface": {"pressure": "msl"},
            "surface_wind": {"eastward": "u10", "northward": "v10"},
            "static": ["orography"],
            "levels": {"unit": "hPa", "values": [500, 1000, 850], "from": "p"},
            "members": "ensemble",
        }
    )
    assert settings.profile_names == ("cloud", "height", "eastward_wind", "northward_wind", "wind_speed")
    assert settings.surface_names == ("pressure", "surface_eastward_wind", "surface_northward_wind", "orography")
    assert settings.source_profiles == ("clc", "ff", "dd", "p")
    assert settings.source_fields == ("msl", "u10", "v10", "orography")
    assert settings.levels.ascending == (1000, 850, 500)
    assert settings.sources == {"air", "gauges", "ensemble"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"profiles": []}, "there are no profiles"),
        ({"profiles": ["t", "t"]}, "t is named twice"),
        ({"profiles": ["t"], "surface": ["t"]}, "t: a variable may not be named like another"),
        ({"profiles": ["rain_mean"]}, "rain_mean: a variable may not be named"),
        ({"profiles": ["eastward_wind"], "wind": {"eastward": "u", "northward": "v"}}, "eastward_wind: a variable"),
        ({"levels": {"unit": "hPa", "values": [1000, 100000]}}, "not a level of the atmosphere"),
        ({"levels": {"unit": "m", "values": [10, 10]}}, "given twice"),
        ({"levels": {"unit": "hPa", "from": "p"}}, "give the values"),
        ({"levels": {"unit": "hPa", "extrapolate": 5}}, "extrapolate says nothing"),
        ({"levels": {"unit": "Pa"}}, "hPa"),
        ({"edges": [0.5, 0.1]}, "must be positive, finite and rise"),
        ({"edges": [0.0, 0.1]}, "must be positive, finite and rise"),
        ({"wind": {"speed": "ff"}}, "direction"),
        ({"colums": "air"}, "colums"),
    ],
)
def test_what_cannot_be_meant(changes, problem):
    with pytest.raises(ValidationError, match=problem):
        ColumnSet.model_validate({**LEAST, **changes})


def test_every_name_that_does_not_exist_is_reported_with_its_place():
    settings = ColumnSet.model_validate({**LEAST, "rain": "gages", "profiles": ["temprature"], "static": ["oro"]})
    offered = {"air": frozenset({"temperature", "oro"}), "gauges": frozenset({"fractions"})}
    with pytest.raises(QuerysetError) as caught:
        check(settings, offered)
    lines = str(caught.value).splitlines()
    assert lines == [
        "rain: no source is called gages; did you mean gauges? There are: air, gauges",
        "profiles: air has no field temprature; did you mean temperature? There are: oro, temperature",
    ]
    check(ColumnSet.model_validate(LEAST), offered, {"air": "hPa"})


def test_levels_in_another_unit_need_a_profile_of_them():
    settings = ColumnSet.model_validate({**LEAST, "levels": {"unit": "hPa", "values": [850]}})
    offered = {"air": frozenset({"temperature", "p"}), "gauges": frozenset({"fractions"})}
    with pytest.raises(QuerysetError, match=r"levels\.unit: levels of air are in m; take that, or name in `from`"):
        check(settings, offered, {"air": "m"})
    brought = ColumnSet.model_validate({**LEAST, "levels": {"unit": "hPa", "values": [850], "from": "p"}})
    check(brought, offered, {"air": "m"})
