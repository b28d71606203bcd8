"""Several systems in one catalogue: the release of months that one of them does not have, and what a deployment has."""

import json
from pathlib import Path

import polars as pl
import pytest

from resources.storage import BEGINS
from views_dagster.calendar import FIRST_KEY
from views_dagster.components.blocks import CatalogueError
from views_dagster.errors import MissingMonthsError
from views_dagster_tests.homes import RELEASE, SMALL, Home, open_home, table_names, write_catalogue
from views_dagster_tests.skies import MONTH, MONTH_ID, SKY

OLD = "1990-12"
DIAGNOSES = "released_fractions"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Both systems, released for a month in which only one of them has data."""
    folder = tmp_path_factory.mktemp("both")
    home = open_home(folder, write_catalogue(folder, {**SMALL, **SKY}))
    home.history(OLD, checks=False)
    home.history(OLD, first=OLD, checks=False)
    home.release(OLD)
    return home


def younger(home: Home) -> set[str]:
    """Tables that begin later than the calendar."""
    specs = home.defs.resolve_all_asset_specs()
    return {spec.key.to_user_string() for spec in specs if spec.metadata.get(BEGINS, FIRST_KEY) > OLD}


def test_a_month_that_one_system_does_not_have_is_released_with_the_other(both: Home) -> None:
    assert set(both.rows("forecasts", OLD)["model"]) == {"quiet_echo", "still_water", "white_mustang"}
    assert not both.store.exists(DIAGNOSES)
    manifest = json.loads(both.rows("release_manifests", OLD)["manifest"].item())
    assert manifest["release"]["table"] == "forecasts"
    assert DIAGNOSES not in manifest["release"]
    assert not younger(both) & manifest["made_from"].keys()
    assert both.metadata("forecasts", OLD)["models"] == 3


def test_what_begins_later_has_no_table_yet(both: Home) -> None:
    names = {place.rsplit("/", 1)[1] for place in SKY}
    assert {table.split("/")[1] for table in younger(both)} == names
    assert not [table for table in younger(both) if both.store.exists(table)]


def test_the_release_is_that_of_the_system_alone(both: Home, small_home: Home, tmp_path: Path) -> None:
    alone = small_home.copy(tmp_path)
    alone.history(OLD, first=OLD, checks=False)
    alone.release(OLD, checks=False)
    assert alone.digests(until=OLD)["forecasts"] == both.digests(until=OLD)["forecasts"]


# A release of the sky alone.


@pytest.fixture(scope="module")
def released(sky_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = sky_home.copy(tmp_path_factory.mktemp("released"))
    home.history(MONTH, first=MONTH, checks=False)
    home.release(MONTH)
    return home


def test_the_release_holds_every_deployed_model_and_no_other(released: Home) -> None:
    rows = released.rows(DIAGNOSES, MONTH)
    boxes = released.rows("features/storm_columns", MONTH).height
    assert dict(rows.group_by("model").len().iter_rows()) == dict.fromkeys(
        ("deep_column", "mean_season", "pooled_storm"), boxes
    )
    assert rows.select("model", "valid_time", "box_id").is_unique().all()
    assert not released.store.exists("forecasts"), "there is nothing of the other system"


def test_rows_of_a_release_name_the_artifact_that_made_them(released: Home) -> None:
    rows = released.rows(DIAGNOSES, MONTH)
    digests = dict(rows.select("model", "artifact").unique().iter_rows())
    assert digests == {
        "deep_column": released.metadata("artifacts/deep_column", MONTH)["digest"],
        "mean_season": released.metadata("artifacts/mean_season", MONTH)["digest"],
        "pooled_storm": None,
    }


def test_the_manifest_names_every_table_behind_the_release(released: Home) -> None:
    manifest = json.loads(released.rows("release_manifests", MONTH)["manifest"].item())
    part = manifest["release"][DIAGNOSES]
    assert (part["table"], part["leading"]) == (DIAGNOSES, "pooled_storm")
    assert part["rows"] == released.rows(DIAGNOSES, MONTH).height
    digests = released.digests()
    assert {"raw/atmosphere", "raw/rain", "raw/nwp", "features/storm_columns"} <= manifest["made_from"].keys()
    for table, vintage in manifest["made_from"].items():
        assert vintage["digest"] == digests[table][MONTH_ID], table


def test_rows_that_no_run_recorded_are_not_released(released: Home, tmp_path: Path) -> None:
    rows = released.rows("forecasts/mean_season", MONTH)
    version = released.store.open(DIAGNOSES).version()
    changed = rows.with_columns(rain_mean=pl.col("rain_mean") + 1)
    released.store.write("forecasts/mean_season", changed, [MONTH_ID], {})
    with pytest.raises(
        MissingMonthsError, match="forecasts/mean_season for 2022-07 are not the ones that were recorde"
    ):
        released.run("key:forecasts", MONTH)
    assert released.store.open(DIAGNOSES).version() == version
    released.store.write("forecasts/mean_season", rows, [MONTH_ID], {})
    assert released.run("key:forecasts", MONTH).success


def test_a_month_that_no_system_has_is_no_release(sky_home: Home, tmp_path: Path) -> None:
    home = sky_home.copy(tmp_path)
    with pytest.raises(
        MissingMonthsError, match="nothing that is deployed here has a forecast of 2022-03: its sources"
    ):
        home.run(RELEASE, "2022-03")
    assert not home.store.exists("release_manifests")


# What a deployment has.

REAL_UNITS = "countries: {kind: countries, states: states.csv, adjacency: pairs.csv}\n"
REAL_EVENTS = "ucdp_ged: {kind: ucdp_files, annual: ged241.csv}\n"
BOXES = "{latitude: 45, longitude: 5, step: 1, rows: 2, columns: 2}"
REAL_SKY = f"""\
atmosphere:
  kind: column_files
  grid: {BOXES}
  first_month: 2010-01
  time_step: 1h
  level: {{dimension: level, unit: hPa}}
  profiles:
    relative_humidity: {{files: "r.%Y.nc", variable: r}}
    temperature: {{files: "t.%Y.nc", variable: t}}
  static:
    orography: {{files: "z.nc", variable: z}}
"""
REAL_RAIN = f"""\
rain:
  kind: rain_files
  grid: {BOXES}
  first_month: 2012-06
  rain: {{files: "rain.%Y.nc", variable: tp}}
  interval: 1h
"""
REAL_MEMBERS = REAL_RAIN.replace("rain:\n  kind: rain_files", "nwp:\n  kind: member_files")
CONFLICT = {"raw/countries", "raw/ucdp_ged", "features/little", "forecasts/quiet_echo", "ensembles/white_mustang"}
SKY_TABLES = {"raw/atmosphere", "raw/rain", "raw/nwp", "features/storm_columns", "forecasts/level_line"}


def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> set[str]:
    """Tables of a deployment with these sources."""
    monkeypatch.delenv("VIEWS_SOURCES", raising=False)
    if text is not None:
        (tmp_path / "sources.yaml").write_text(text)
        monkeypatch.setenv("VIEWS_SOURCES", str(tmp_path / "sources.yaml"))
    return set(table_names(open_home(tmp_path, write_catalogue(tmp_path, {**SMALL, **SKY})).defs))


def test_without_sources_of_its_own_a_deployment_has_both_demo_worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deployed(tmp_path, monkeypatch, None) >= CONFLICT | SKY_TABLES


@pytest.mark.parametrize(
    ("text", "there", "gone"),
    [
        (REAL_UNITS + REAL_EVENTS, CONFLICT, SKY_TABLES),
        (REAL_EVENTS, CONFLICT, SKY_TABLES),
        (REAL_SKY + REAL_RAIN + REAL_MEMBERS, SKY_TABLES, CONFLICT),
        (REAL_UNITS + REAL_EVENTS + REAL_SKY + REAL_RAIN + REAL_MEMBERS, CONFLICT | SKY_TABLES, set()),
        (REAL_SKY + REAL_RAIN, {"raw/atmosphere", "raw/rain"}, {*CONFLICT, "raw/nwp", "features/storm_columns"}),
        (REAL_SKY, {"raw/atmosphere"}, {*CONFLICT, "raw/rain", "features/storm_columns"}),
    ],
    ids=["conflict", "events alone", "sky", "both", "a sky without members", "a sky without rain"],
)
def test_a_world_that_a_deployment_does_not_name_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, there: set[str], gone: set[str]
) -> None:
    tables = deployed(tmp_path, monkeypatch, text)
    assert there <= tables
    assert not gone & tables
    assert "forecasts" in tables


def test_real_sources_begin_when_their_files_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sources.yaml").write_text(REAL_SKY + REAL_RAIN + REAL_MEMBERS)
    monkeypatch.setenv("VIEWS_SOURCES", str(tmp_path / "sources.yaml"))
    defs = open_home(tmp_path, write_catalogue(tmp_path, {**SMALL, **SKY})).defs
    begins = {spec.key.to_user_string(): spec.metadata.get(BEGINS) for spec in defs.resolve_all_asset_specs()}
    assert begins["raw/atmosphere"] == "2010-01"
    assert begins["raw/rain"] == begins["features/storm_columns"] == "2012-06"
    assert begins["forecasts/level_line"] == "2012-10"


def test_invented_rain_beside_a_real_sky_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CatalogueError, match=r"sources\.yaml.*: rain: the demo world's rain cannot stand beside real"):
        deployed(tmp_path, monkeypatch, REAL_SKY + "rain: {kind: demo_rain}\n")
