"""Several processes write one table at once, and nothing is lost."""

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import polars as pl
import pytest

from views_dagster.calendar import from_key
from views_dagster.storage.tables import TableStore
from views_dagster_tests.homes import SMALL, open_home, start_run, write_catalogue

PROCESSES, WRITES = 8, 3


def rows(months: list[int], value: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"month_id": months * 50, "unit_id": sorted(list(range(50)) * len(months)), "value": value},
        schema={"month_id": pl.Int32, "unit_id": pl.Int64, "value": pl.Int64},
    )


def months_of(process: int, write: int) -> list[int]:
    first = 121 + 2 * (process * WRITES + write)
    return [first, first + 1]


def write(location: str, process: int, writes: int, together: Barrier) -> None:
    """What each process does: wait for the others, then write its own months."""
    store = TableStore(location)
    store.exists("t")
    together.wait()
    for number in range(writes):
        months = months_of(process, number)
        store.write("t", rows(months, process), months, {"process": str(process)})


def write_at_once(location: str, writes: int) -> None:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(PROCESSES)
    started = [
        context.Process(target=write, args=(location, process, writes, together)) for process in range(PROCESSES)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * PROCESSES


@pytest.mark.slow
@pytest.mark.parametrize("before", ["no table", "a table", "a table without the column"])
def test_eight_processes_lose_nothing(tmp_path: Path, before: str) -> None:
    store = TableStore(str(tmp_path / "tables"))
    if before != "no table":
        every = list(range(121, 121 + 2 * PROCESSES * WRITES))
        old = rows(every, -1)
        store.write("t", old.rename({"value": "former"}) if "without" in before else old, every, {})
    write_at_once(store.location, WRITES)
    found = store.scan("t", 0, 9999).collect()
    for process in range(PROCESSES):
        for number in range(WRITES):
            of_write = found.filter(pl.col("month_id").is_in(months_of(process, number)))
            assert of_write.height == 2 * 50
            assert of_write["value"].unique().to_list() == [process]
    assert found.height == PROCESSES * WRITES * 2 * 50
    # Each write is one commit, and so is what came first: the creation, or creation and write of the table before.
    first = 0 if before == "no table" else 1
    assert store.open("t").version() == PROCESSES * WRITES + first


@pytest.mark.slow
def test_three_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    home = open_home(tmp_path, write_catalogue(tmp_path, SMALL), lasting=True)
    months = ["1991-01", "1991-02", "1991-03"]
    started = [start_run(home, "key:raw/ucdp_ged", month, month) for month in months]
    assert [process.wait() for process in started] == [0, 0, 0]
    alone = open_home(tmp_path / "alone", home.project)
    alone.run("key:raw/ucdp_ged", months[0], months[-1], checks=False)
    assert home.digests() == alone.digests()
    for month in months:
        assert home.metadata("raw/ucdp_ged", month)["digest"] == home.digests()["raw/ucdp_ged"][from_key(month)]
