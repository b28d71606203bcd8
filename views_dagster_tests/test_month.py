"""The whole catalogue for one month: nothing reads the future, and another machine makes the same bytes.

Models are the catalogue's with fewer trees and draws, which changes how long they take and nothing that is tested here.

A system whose sources begin later takes part, and has nothing yet.

Two homes make the same month. One does so undisturbed; the other after garbage has been written into every later month of
its raw data and features, in a process with another hash seed and number of threads. Every table must agree.
"""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from resources.storage import BEGINS
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


def begun(home: Home, group: str | None = None) -> list[str]:
    """Tables, of all groups or one, that the newest month is not too early for."""
    begins = {
        spec.key.to_user_string(): spec.metadata.get(BEGINS, FIRST_KEY) for spec in home.defs.resolve_all_asset_specs()
    }
    return [table for table in table_names(home.defs, group) if begins[table] <= NEWEST]


def poison(home: Home, group: str) -> None:
    """Write garbage into the year after the newest month of a group's tables."""
    later = range(from_key(NEWEST) + 1, from_key(NEWEST) + 13)
    keys = row_keys(home.defs)
    for table in begun(home, group):
        rows = home.rows(table, NEWEST)
        numbers = [name for name in rows.columns if rows[name].dtype.is_float() and name not in keys[table]]
        garbage = rows.head(rows.height // 2).with_columns(
            pl.lit(-1e9).cast(rows[name].dtype).alias(name) for name in numbers
        )
        frame = pl.concat(garbage.with_columns(month_id=pl.lit(month, pl.Int32)) for month in later)
        home.store.write(table, frame, later, {})
        assert max(home.store.months(table)) == later[-1]


def smaller(value: Any) -> Any:
    """Settings with at most 3 trees and 16 draws."""
    if not isinstance(value, dict):
        return value
    most = {"n_estimators": 3, "max_iter": 3, "draws": 16}
    return {key: min(inner, most[key]) if key in most else smaller(inner) for key, inner in value.items()}


def entries() -> dict[str, Any]:
    """The catalogue's entries by system, room and name, each with its type."""
    documents = {
        "/".join(path.parts[-4:-1]): yaml.safe_load(path.read_text())
        for path in sorted((ROOT / "assets").rglob("defs.yaml"))
    }
    return {place: {"type": document["type"], **document["attributes"]} for place, document in documents.items()}


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Home]:
    """The undisturbed home and the poisoned one; each step of theirs runs at the same time."""
    project = write_catalogue(tmp_path_factory.mktemp("catalogue"), smaller(entries()))
    undisturbed, poisoned = (
        open_home(tmp_path_factory.mktemp(name), project, lasting=True) for name in ("undisturbed", "poisoned")
    )
    elsewhere = {"PYTHONHASHSEED": "11", "POLARS_MAX_THREADS": "1"}
    for group in ("raw_data", "processed_features"):
        runs = [
            start_run(undisturbed, f"group:{group}", FIRST_KEY, NEWEST),
            start_run(poisoned, f"group:{group}", FIRST_KEY, NEWEST, **elsewhere),
        ]
        assert [run.wait() for run in runs] == [0, 0]
        poison(poisoned, group)
    runs = [
        start_run(undisturbed, RELEASE, NEWEST, NEWEST),
        start_run(poisoned, RELEASE, NEWEST, NEWEST, **elsewhere),
    ]
    assert [run.wait() for run in runs] == [0, 0]
    return undisturbed, poisoned


@pytest.fixture(scope="module")
def undisturbed(homes: tuple[Home, Home]) -> Home:
    return homes[0]


@pytest.fixture(scope="module")
def poisoned(homes: tuple[Home, Home]) -> Home:
    return homes[1]


def test_every_table_of_the_month_is_the_same(undisturbed: Home, poisoned: Home) -> None:
    expected, found = undisturbed.digests(until=NEWEST), poisoned.digests(until=NEWEST)
    assert set(expected) == set(found) == set(begun(undisturbed))
    different = {
        table: [to_key(month) for month in expected[table] if expected[table][month] != found[table].get(month)]
        for table in expected
        if expected[table] != found[table]
    }
    assert not different


def test_every_queryset_and_learner_took_part(undisturbed: Home) -> None:
    made, begin = undisturbed.digests(), begun(undisturbed)
    for place, attributes in entries().items():
        system, room, name = place.split("/")
        if room == "features":
            assert (f"features/{name}" in made) == (f"features/{name}" in begin) == (system == "conflict")
        if room == "models" and attributes.get("maturity") != "retired":
            months = {from_key(NEWEST)} if system == "conflict" else set()
            assert made.get(f"forecasts/{name}", {}).keys() == months


def test_digests_are_recorded_as_they_are_stored(undisturbed: Home) -> None:
    for table, months in undisturbed.digests().items():
        assert undisturbed.metadata(table, NEWEST)["digest"] == months[from_key(NEWEST)], table


def test_the_release_holds_every_deployed_model_unit_step_and_no_other(undisturbed: Home) -> None:
    released = undisturbed.rows("forecasts", NEWEST)
    deployed = {
        place.split("/")[2]
        for place, entry in entries().items()
        if entry.get("maturity") == "deployed" and place.startswith("conflict/")
    }
    assert set(released["model"]) == deployed
    counts = released.group_by("model", "target", "level").agg(
        pl.len(), pl.col("unit_id").n_unique().alias("units"), pl.col("step").n_unique().alias("steps")
    )
    for level, table in (("cm", "raw/countries"), ("pgm", "raw/prio_grid")):
        units = undisturbed.rows(table, NEWEST)["unit_id"].n_unique()
        of_level = counts.filter(pl.col("level") == level)
        assert of_level.select("len", "units", "steps").unique().rows() == [(units * 36, units, 36)]
    assert counts["level"].unique().sort().to_list() == ["cm", "pgm"]
    assert released["target_month"].to_list() == (released["month_id"] + released["step"]).to_list()


def test_reconciled_cells_sum_to_their_countries(undisturbed: Home) -> None:
    cells = undisturbed.rows("ensembles/patient_river", NEWEST)
    held = undisturbed.rows("raw/prio_grid", NEWEST).select("unit_id", parent="parent_id")
    sums = cells.join(held, on="unit_id").group_by("parent", "step").agg(pl.col("mean").cast(pl.Float64).sum())
    countries = undisturbed.rows("ensembles/white_mustang", NEWEST)
    draws = countries.select("unit_id", "step", pl.col("draws").list.to_array(countries["draws"].list.len()[0]))
    both = sums.join(draws, left_on=["parent", "step"], right_on=["unit_id", "step"])
    assert both.height == sums.height
    assert (both["mean"] > 0).any()
    # Zero where no cell has any draw above zero, else within the range of the country's draws.
    assert (both["mean"] <= both["draws"].arr.max() * (1 + 1e-5)).all()


def test_the_manifest_names_every_table_behind_the_release(undisturbed: Home) -> None:
    manifest = json.loads(undisturbed.rows("release_manifests", NEWEST)["manifest"].item())
    digests = undisturbed.digests()
    assert {"raw/countries", "raw/ucdp_ged"} <= set(manifest["made_from"])
    for table, vintage in manifest["made_from"].items():
        assert vintage["digest"] == digests[table][from_key(NEWEST)], table
        rows = undisturbed.rows(table, NEWEST, vintage["table_version"])
        assert rows.height == undisturbed.metadata(table, NEWEST)["dagster/partition_row_count"]


def test_data_and_features_made_again_are_the_same(undisturbed: Home) -> None:
    before = undisturbed.digests()
    undisturbed.run(HISTORY, NEWEST, checks=False)
    assert undisturbed.digests() == before
    for table in table_names(undisturbed.defs, "raw_data"):
        recorded = undisturbed.metadata(table, NEWEST)
        if BEGINS in recorded:
            continue  # A source that begins later has no rows to compare.
        assert [recorded[f"rows_{what}"] for what in ("added", "dropped", "revised")] == [0, 0, 0]


def test_where_the_tables_are_does_not_count(undisturbed: Home, poisoned: Home) -> None:
    first, second = (
        json.loads(home.rows("release_manifests", NEWEST)["manifest"].item()) for home in (undisturbed, poisoned)
    )
    assert {table: vintage["digest"] for table, vintage in first["made_from"].items()} == {
        table: vintage["digest"] for table, vintage in second["made_from"].items()
    }
    assert str(Path(undisturbed.folder)) not in json.dumps(first)
