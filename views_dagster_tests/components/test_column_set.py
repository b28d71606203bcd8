"""Column sets in Dagster: months before there is any sky, checks that stop a month, and what does not load."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from views_dagster.calendar import from_key
from views_dagster.components.blocks import CatalogueError
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.demo_weather_readers import DemoColumns, DemoMembers, DemoRain
from views_dagster.sources.base import RawMonths
from views_dagster_tests.homes import Home, open_home, write_catalogue
from views_dagster_tests.skies import AFTER, BEFORE, BEGINS, MONTH, MONTH_ID, RAW, SKY, TABLE, rewrite, without_rain

SET = "precipitation/features/storm_columns"
HISTORY = "group:raw_data or group:processed_features"
Write = Callable[[Mapping[str, Mapping[str, Any]]], dg.Definitions]


@pytest.fixture(scope="module")
def young(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An empty home."""
    folder = tmp_path_factory.mktemp("young")
    return open_home(folder, write_catalogue(folder, SKY))


def test_months_before_the_sources_begin_store_nothing(young: Home) -> None:
    assert young.history("2021-12", first="2021-11").success
    assert not any(young.store.exists(table) for table in (*RAW, TABLE))


def test_a_range_over_the_beginning_stores_what_there_is(young: Home) -> None:
    young.history("2022-02", first="2021-11", checks=False)
    months = {from_key(BEGINS), from_key(BEGINS) + 1}
    assert [young.store.months(table) for table in (*RAW, TABLE)] == [months] * 4
    assert young.store.open(TABLE).version() <= 1, "a range is one commit"


def test_rows_are_columns_on_the_common_levels_beside_the_rain_that_fell(sky_home: Home) -> None:
    rows, rain, members = (sky_home.rows(table, MONTH) for table in (TABLE, "raw/rain", "raw/nwp"))
    assert rows["levels"].unique().to_list() == [[925.0, 700.0, 500.0]]
    assert rows["relative_humidity"].list.len().unique().to_list() == [3]
    keys = ["valid_time", "box_id"]
    assert rows.select(keys).rows() == rain.select(keys).sort(keys).rows()
    assert rows["members"].to_list() == members.sort(keys)["members"].to_list()
    for column in ("fractions", "rain_mean", "rain_max"):
        assert rows[column].to_list() == rain.sort(keys)[column].to_list()


def test_a_materialisation_counts_what_it_did(sky_copy: Home) -> None:
    metadata = sky_copy.metadata(TABLE, MONTH)
    rows = sky_copy.rows(TABLE, MONTH)
    counted = metadata["rows_and_repairs"]
    assert "without_rain" in counted
    assert str(rows["fractions"].null_count()) in counted
    assert metadata["dagster/partition_row_count"] == rows.height
    assert metadata["read"].keys() == set(RAW)


def test_a_month_depends_on_no_other_month(sky_copy: Home) -> None:
    before = sky_copy.metadata(TABLE, MONTH)["digest"]
    for table in RAW:
        garbage = sky_copy.rows(table, MONTH).with_columns(pl.col(pl.Float32) * 0 - 1e6)
        rewrite(sky_copy, table, AFTER, garbage)
    rewrite(sky_copy, "raw/rain", BEFORE, sky_copy.rows("raw/rain", MONTH))
    sky_copy.run(f"key:{TABLE}", MONTH, checks=False)
    assert sky_copy.metadata(TABLE, MONTH)["digest"] == before


def wrong(result: dg.ExecuteInProcessResult) -> set[str]:
    """Checks that failed and stop what comes after."""
    return {
        f"{check.asset_key.to_user_string()} {check.check_name}"
        for check in result.get_asset_check_evaluations()
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR
    }


def test_the_invented_sky_passes(sky_home: Home, tmp_path: Path) -> None:
    result = sky_home.copy(tmp_path).run(HISTORY, MONTH)
    checks = result.get_asset_check_evaluations()
    assert {check.asset_key.to_user_string() for check in checks} == {TABLE}
    assert {check.metadata["month"].value for check in checks} == {MONTH}
    assert not wrong(result)


def hotter(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("temperature").list.eval(pl.element() * 2))


def stuck(rows: pl.DataFrame) -> pl.DataFrame:
    first = rows.filter(pl.col("valid_time") == pl.col("valid_time").min())
    return rows.select("valid_time", "box_id").join(first.drop("valid_time"), on="box_id").select(rows.columns)


def few(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("box_id") < 20)


def spilt(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(rain_mean=pl.col("rain_mean") + 100)


@pytest.mark.parametrize(
    ("reader", "poison", "check"),
    [
        (DemoColumns, hotter, "input_physical_bounds"),
        (DemoColumns, stuck, "input_repeated_times"),
        (DemoColumns, few, "input_missing_boxes"),
        (DemoRain, spilt, "input_rain_consistency"),
        (DemoRain, lambda rows: without_rain(rows, MONTH_ID), "input_rain_missing"),
    ],
    ids=["temperature doubled", "a stuck feed", "few boxes", "rain that contradicts itself", "no rain known"],
)
def test_a_poisoned_month_stops_before_the_models(
    sky_home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reader: type[DemoColumns] | type[DemoRain],
    poison: Callable[[pl.DataFrame], pl.DataFrame],
    check: str,
) -> None:
    home, read = sky_home.copy(tmp_path), reader.read
    monkeypatch.setattr(
        reader, "read", lambda self, first, last: RawMonths(frame=poison(read(self, first, last).frame))
    )
    result = home.run(f"{HISTORY} or key:artifacts/mean_season", MONTH, raise_on_error=False)
    assert not result.success
    assert f"{TABLE} {check}" in wrong(result)
    assert not home.store.exists("artifacts/mean_season")
    again = home.run("key:artifacts/mean_season", MONTH, raise_on_error=False)
    assert not again.success, "a later run must not build on the month either"


def test_a_month_whose_rain_is_not_known_yet_is_no_error_where_the_set_says_so(
    sky_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = {**SKY, SET: {**SKY[SET], "drift": {"rain_missing_error": 1.0}}}
    home, read = sky_home.copy(tmp_path, project=write_catalogue(tmp_path, patient)), DemoRain.read
    monkeypatch.setattr(
        DemoRain,
        "read",
        lambda self, first, last: RawMonths(frame=without_rain(read(self, first, last).frame, MONTH_ID)),
    )
    result = home.run(HISTORY, MONTH)
    assert not wrong(result)
    failed = {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}
    assert failed == {"input_rain_missing"}, "it is told, and does not stop the month"
    assert home.rows(TABLE, MONTH)["fractions"].null_count() == home.rows(TABLE, MONTH).height


# What does not load.


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def load(changes: Mapping[str, Mapping[str, Any]]) -> dg.Definitions:
        return open_home(tmp_path, write_catalogue(tmp_path, {**SKY, **changes})).defs

    return load


def entry_line(folder: Path, entry: str, text: str) -> str:
    """`<entry>/defs.yaml:<line>` of the first line with this text."""
    (file,) = folder.rglob(f"{entry}/defs.yaml")
    lines = file.read_text().splitlines()
    number = next(at for at, line in enumerate(lines, start=1) if line.strip().startswith(text))
    return f"{entry}/defs.yaml:{number}: "


@pytest.mark.parametrize(
    ("changes", "at", "message"),
    [
        ({"columns": "atmosfere"}, "columns:", "columns: no source is called atmosfere; did you mean atmosphere?"),
        ({"rain": "rains"}, "rain:", "rain: no source is called rains; did you mean rain?"),
        ({"members": "npw"}, "members:", "members: no source is called npw; did you mean nwp?"),
        (
            {"profiles": ["relative_humidty"]},
            "profiles:",
            "profiles: atmosphere has no field relative_humidty; did you mean relative_humidity?",
        ),
        ({"static": ["orografy"]}, "static:", "static: atmosphere has no field orografy; did you mean orography?"),
        (
            {"levels": {"unit": "m", "values": [500.0, 1500.0]}},
            "unit:",
            "levels.unit: levels of atmosphere are in hPa",
        ),
        ({"edges": [0.1, 1.0]}, "edges:", "edges: rain has the bands [0.01, 0.5, 4.0, 10.0], not [0.1, 1.0]"),
        ({"columns": "rain"}, "columns:", "columns: rain is no source of columns"),
        ({"rain": "nwp"}, "rain:", "rain: nwp is no source of rain in bands"),
        ({"members": "rain"}, "members:", "members: rain is no source of NWP members"),
        ({"profile": ["temperature"]}, "profile:", "profile: there is no setting profile; did you mean profiles?"),
        (
            {"drift": {"mean_shift_warn": 1.0}},
            "mean_shift_warn:",
            "drift.mean_shift_warn: there is no setting mean_shift_warn; did you mean mean_shift_warning?",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_names_its_line(write: Write, tmp_path: Path, changes: dict[str, Any], at: str, message: str) -> None:
    with pytest.raises(CatalogueError) as raised:
        write({SET: {**SKY[SET], **changes}})
    assert entry_line(tmp_path, SET, at) + message in str(raised.value)


def test_all_mistakes_are_named_at_once(write: Write) -> None:
    with pytest.raises(CatalogueError) as raised:
        write({SET: {**SKY[SET], "rain": "rains", "profiles": ["temprature"], "static": ["orografy"]}})
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == ["rain", "profiles", "static"]


def test_sources_on_different_boxes_do_not_load(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    other = BoxGrid(latitude=0, longitude=0, step=1, rows=2, columns=3)
    monkeypatch.setattr(DemoMembers, "grid", property(lambda self: other))
    with pytest.raises(CatalogueError, match=r"storm_columns/defs.yaml:\d+: columns: its sources are on different box"):
        write({})


def test_the_common_lattice_is_that_of_the_sources(sky_home: Home) -> None:
    rows = sky_home.rows(TABLE, MONTH)
    latitude, longitude = DemoColumns().grid.centres(np.array(rows["box_id"]))
    np.testing.assert_allclose(rows["latitude"], latitude, rtol=1e-6)
    np.testing.assert_allclose(rows["longitude"], longitude, rtol=1e-6)
