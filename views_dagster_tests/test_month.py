"""The whole catalogue for one month: nothing reads the future, and another machine makes the same bytes.

Models are the catalogue's with fewer trees and draws, which changes how long they take and nothing that is tested here.

Two homes make the same month. One does so undisturbed; the other after garbage has been written into every later month of
its raw data and features, in a process with another hash seed and number of threads. Every table must agree.
"""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from views_dagster.calendar import FIRST_KEY, from_key, to_key
from views_dagster_tests.homes import (
    HISTORY,
    RELEASE,
    ROOT,
    Home,
    open_home,
    row_keys,
    start_run,
    table_names,
    write_catalogue,
)

NEWEST = "1996-06"
"""Late enough for a backtest, which needs five years before its origin, and for weights trained on it."""

pytestmark = pytest.mark.slow


def poison(home: Home) -> list[str]:
    """Write garbage into the year after the newest month of raw data and features; returns the tables."""
    last = from_key(NEWEST)
    later = range(last + 1, last + 13)
    tables = [*table_names(home.defs, "raw_data"), *table_names(home.defs, "processed_features")]
    keys = row_keys(home.defs)
    for table in tables:
        rows = home.rows(table, NEWEST)
        numbers = [name for name in rows.columns if rows[name].dtype.is_float() and name not in keys[table]]
        garbage = rows.head(rows.height // 2).with_columns(
            pl.lit(-1e9).cast(rows[name].dtype).alias(name) for name in numbers
        )
        frame = pl.concat(garbage.with_columns(month_id=pl.lit(month, pl.Int32)) for month in later)
        home.store.write(table, frame, later, {})
    return tables


def smaller(value: Any) -> Any:
    """Settings with at most 3 trees and 16 draws."""
    if not isinstance(value, dict):
        return value
    most = {"n_estimators": 3, "max_iter": 3, "draws": 16}
    return {key: min(inner, most[key]) if key in most else smaller(inner) for key, inner in value.items()}


def entries() -> dict[str, Any]:
    """The catalogue's entries by room and name."""
    return {
        "/".join(path.parts[-3:-1]): yaml.safe_load(path.read_text())["attributes"]
        for path in sorted((ROOT / "assets").rglob("defs.yaml"))
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("undisturbed")
    home = open_home(folder, write_catalogue(folder, smaller(entries())))
    home.history(NEWEST, checks=False)
    home.release(NEWEST, checks=False)
    return home


@pytest.fixture(scope="module")
def poisoned(undisturbed: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = open_home(tmp_path_factory.mktemp("poisoned"), undisturbed.project, lasting=True)
    home.history(NEWEST, checks=False)
    tables = poison(home)
    assert all(max(home.store.months(table)) == from_key(NEWEST) + 12 for table in tables)
    # Features once more, now with garbage in the later months of what they read; raw data keeps its own.
    features = start_run(
        home, "group:processed_features", FIRST_KEY, NEWEST, PYTHONHASHSEED="11", POLARS_MAX_THREADS="1"
    )
    assert features.wait() == 0
    release = start_run(home, RELEASE, NEWEST, NEWEST, PYTHONHASHSEED="12", POLARS_MAX_THREADS="1")
    assert release.wait() == 0
    return home


def test_every_table_of_the_month_is_the_same(undisturbed: Home, poisoned: Home) -> None:
    expected, found = undisturbed.digests(until=NEWEST), poisoned.digests(until=NEWEST)
    assert set(expected) == set(found) == set(table_names(undisturbed.defs))
    different = {
        table: [to_key(month) for month in expected[table] if expected[table][month] != found[table].get(month)]
        for table in expected
        if expected[table] != found[table]
    }
    assert not different


def test_every_queryset_and_learner_took_part(undisturbed: Home) -> None:
    made = undisturbed.digests()
    for place, attributes in entries().items():
        room, name = place.split("/")
        if room == "features":
            assert f"features/{name}" in made
        if room == "models" and attributes.get("maturity") != "retired":
            assert made[f"forecasts/{name}"].keys() == {from_key(NEWEST)}


def test_digests_are_recorded_as_they_are_stored(undisturbed: Home) -> None:
    for table, months in undisturbed.digests().items():
        assert undisturbed.metadata(table, NEWEST)["digest"] == months[from_key(NEWEST)], table


def test_the_release_holds_every_deployed_model_unit_step_and_no_other(undisturbed: Home) -> None:
    released = undisturbed.rows("forecasts", NEWEST)
    deployed = {place.split("/")[1] for place, entry in entries().items() if entry.get("maturity") == "deployed"}
    assert set(released["model"]) == deployed
    units = undisturbed.rows("raw/countries", NEWEST)["unit_id"].n_unique()
    counts = released.group_by("model", "target").agg(
        pl.len(), pl.col("unit_id").n_unique().alias("units"), pl.col("step").n_unique().alias("steps")
    )
    assert counts.select("len", "units", "steps").unique().rows() == [(units * 36, units, 36)]
    assert released["target_month"].to_list() == (released["month_id"] + released["step"]).to_list()


def test_the_manifest_names_every_table_behind_the_release(undisturbed: Home) -> None:
    manifest = json.loads(undisturbed.rows("release_manifests", NEWEST)["manifest"].item())
    digests = undisturbed.digests()
    assert {"raw/countries", "raw/ucdp_ged"} <= set(manifest["made_from"])
    for table, vintage in manifest["made_from"].items():
        assert vintage["digest"] == digests[table][from_key(NEWEST)], table
        rows = undisturbed.rows(table, NEWEST, vintage["table_version"])
        assert rows.height == undisturbed.metadata(table, NEWEST)["dagster/partition_row_count"]


def test_the_month_made_again_is_the_same(undisturbed: Home) -> None:
    before = undisturbed.digests()
    undisturbed.run(HISTORY, NEWEST, checks=False)
    undisturbed.run("group:ensembles or key:forecasts", NEWEST, checks=False)
    assert undisturbed.digests() == before
    for table in table_names(undisturbed.defs, "raw_data"):
        recorded = undisturbed.metadata(table, NEWEST)
        assert [recorded[f"rows_{what}"] for what in ("added", "dropped", "revised")] == [0, 0, 0]


def test_where_the_tables_are_does_not_count(undisturbed: Home, poisoned: Home) -> None:
    first, second = (
        json.loads(home.rows("release_manifests", NEWEST)["manifest"].item()) for home in (undisturbed, poisoned)
    )
    assert {table: vintage["digest"] for table, vintage in first["made_from"].items()} == {
        table: vintage["digest"] for table, vintage in second["made_from"].items()
    }
    assert str(Path(undisturbed.folder)) not in json.dumps(first)
