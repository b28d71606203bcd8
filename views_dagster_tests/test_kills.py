"""Runs that are killed leave no half-written month, and the next run makes what an undisturbed one would have made.

A kill is SIGKILL to the whole process group, at the moment in which given files appear.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from views_dagster.calendar import FIRST_KEY, from_key
from views_dagster.storage.tables import TableStore
from views_dagster_tests.homes import HISTORY, RELEASE, ROOT, SMALL, Home, open_home, start_run, write_catalogue

NEWEST = "1990-12"
MONTHS = set(range(from_key(FIRST_KEY), from_key(NEWEST) + 1))
POLL_SECONDS = 0.001
PATIENCE_SECONDS = 500

WRITER = """
import sys
import polars as pl
from views_dagster.storage.tables import TableStore
store, months = TableStore(sys.argv[1]), list(range(121, 421))
for value in range(1000):
    frame = pl.DataFrame({"month_id": months * 20, "unit_id": sorted(list(range(20)) * 300), "value": value},
                         schema={"month_id": pl.Int32, "unit_id": pl.Int64, "value": pl.Int64})
    store.write("t", frame, months, {})
"""


def kill_when(process: "subprocess.Popen[bytes]", happened: Callable[[], bool]) -> None:
    """Kill the process's group as soon as something has happened; it must not end before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert process.poll() is None, "the run ended before the moment in which it should be killed"
        assert time.monotonic() < deadline, "the moment in which the run should be killed never came"
        time.sleep(POLL_SECONDS)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def data_files(folder: Path, table: str) -> int:
    return sum(1 for _ in (folder / "tables" / table).glob("month_id=*/*.parquet"))


def commits(folder: Path, table: str) -> int:
    return sum(1 for _ in (folder / "tables" / table / "_delta_log").glob("*.json"))


@pytest.mark.parametrize("extra_files", [1, 150, 299])
def test_a_killed_write_shows_all_of_the_old_months_or_all_of_the_new(tmp_path: Path, extra_files: int) -> None:
    """Killed while 300 files are written over 300 older ones, early, half-way and before the last."""
    store = TableStore(str(tmp_path / "tables"))
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, store.location], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    )
    # The table's creation is its first commit, each write one more.
    kill_when(process, lambda: commits(tmp_path, "t") >= 3 and data_files(tmp_path, "t") % 300 >= extra_files)
    rows = store.scan("t", 0, 9999).collect()
    assert rows.height == 300 * 20
    assert rows["value"].n_unique() == 1
    assert rows["value"][0] == store.open("t").version() - 1
    for version in range(1, store.open("t").version() + 1):
        assert store.scan("t", 0, 9999, version).select(pl.col("value").unique()).collect()["value"].to_list() == [
            version - 1
        ]
    assert store.write("t", rows.with_columns(value=pl.lit(-1)), range(121, 421), {}) == store.open("t").version()
    assert store.scan("t", 0, 9999).collect()["value"].unique().to_list() == [-1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A year of history and a release of its last month."""
    folder = tmp_path_factory.mktemp("undisturbed")
    home = open_home(folder, write_catalogue(folder, SMALL))
    home.history(NEWEST, checks=False)
    home.release(NEWEST, checks=False)
    return home


def assert_no_half_month(home: Home, undisturbed: Home, *, until: set[int]) -> None:
    """Every table holds all of its months or none, and those it holds are the undisturbed ones."""
    expected = undisturbed.digests()
    for table, found in home.digests().items():
        assert found.keys() in (set(), until & expected[table].keys()), table
        assert found == {month: expected[table][month] for month in found}, table


@pytest.mark.slow
def test_a_killed_history_is_completed_by_the_next_run(undisturbed: Home, tmp_path: Path) -> None:
    home = open_home(tmp_path, undisturbed.project, lasting=True)
    moments = [
        lambda: data_files(tmp_path, "raw.ucdp_ged") >= 3,
        lambda: commits(tmp_path, "raw.countries") >= 2,
        lambda: data_files(tmp_path, "features.little") >= 1,
    ]
    for happened in moments:
        kill_when(start_run(home, HISTORY, FIRST_KEY, NEWEST), happened)
        assert_no_half_month(home, undisturbed, until=MONTHS)
    home.history(NEWEST, checks=False)
    expected = undisturbed.digests()
    assert home.digests() == {table: expected[table] for table in ("raw/countries", "raw/ucdp_ged", "features/little")}
    assert home.metadata("features/little", NEWEST)["digest"] == expected["features/little"][from_key(NEWEST)]


@pytest.mark.slow
def test_a_killed_release_is_completed_by_the_next_run(undisturbed: Home, tmp_path: Path) -> None:
    home = open_home(tmp_path, undisturbed.project, lasting=True)
    home.history(NEWEST, checks=False)
    moments = [
        lambda: data_files(tmp_path, "artifacts.quiet_echo") >= 1,
        lambda: commits(tmp_path, "forecasts.still_water") >= 2,
        lambda: commits(tmp_path, "forecasts") >= 2,
    ]
    for happened in moments:
        kill_when(start_run(home, RELEASE, NEWEST, NEWEST), happened)
        assert_no_half_month(home, undisturbed, until=MONTHS)
    home.release(NEWEST, checks=False)
    assert home.digests() == undisturbed.digests()
    assert home.metadata("forecasts", NEWEST)["digest"] == undisturbed.metadata("forecasts", NEWEST)["digest"]
