"""PostgreSQL and an object store: the same code makes the same bytes there, and nothing is lost where processes are killed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from views_dagster.calendar import FIRST_KEY, FIRST_MONTH, to_key
from views_dagster_tests.deployment.conftest import Bucket
from views_dagster_tests.deployment.months import TRAINED, Installation, install, materialize
from views_dagster_tests.homes import HISTORY, RELEASE, SMALL, open_home

pytestmark = pytest.mark.slow
NEWEST = "1996-03"
"""The first month with enough history to train a model of 36 steps."""
PROCESSES, MONTHS_EACH, KILLED = 8, 3, 2
TABLE = "raw/countries"
PATIENCE_SECONDS = 300


def deployed(postgres_url: str, bucket: Bucket) -> dict[str, str]:
    """What makes an installation a deployment, and nothing else does."""
    return {"VIEWS_POSTGRES_URL": postgres_url, "VIEWS_TABLES": bucket.tables, **bucket.environment}


def test_a_month_on_services_is_the_month_on_a_laptop(tmp_path: Path, postgres_url: str, bucket: Bucket) -> None:
    """By the command line, from raw data to release."""
    deployment = install(tmp_path / "cluster", TRAINED, deployed(postgres_url, bucket))
    done = deployment.dagster(materialize(HISTORY, FIRST_KEY, NEWEST), materialize(RELEASE, NEWEST))
    assert done.returncode == 0, done.stdout
    laptop = open_home(tmp_path / "laptop", deployment.project)
    laptop.history(NEWEST)
    laptop.release(NEWEST)
    expected = laptop.digests()
    assert {TABLE, "features/little", "artifacts/purple_alien", "ensembles/white_mustang", "forecasts"} < set(expected)
    assert deployment.digests() == expected
    # Nothing of it is on this machine's disk.
    assert not Path(deployment.environment["VIEWS_HOME"], "tables").exists()
    assert not list(Path(deployment.environment["DAGSTER_HOME"]).rglob("*.db"))
    # What commits rest on: a number that is taken is refused.
    written = [each for each in bucket.store.requests() if each["method"] == "PUT" and bucket.name in each["path"]]
    commits = [each for each in written if "/_delta_log/" in each["path"]]
    assert {each["if_none_match"] for each in commits if each["path"].endswith(".json")} == {"*"}


def kill_when(process: "subprocess.Popen[bytes]", happened: Callable[[], bool]) -> None:
    """Kill the process's group as soon as something has happened; it must not end before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert process.poll() is None, "the run ended before the moment in which it should be killed"
        assert time.monotonic() < deadline, "the moment in which the run should be killed never came"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def recorded(installation: Installation, table: str) -> dict[str, str]:
    """Digest that Dagster's newest record of each month names."""
    with installation.instance() as instance:
        key = dg.AssetKey.from_user_string(table)
        records = instance.fetch_materializations(dg.AssetRecordsFilter(key), limit=1000).records
    newest: dict[str, str] = {}
    for record in records:
        assert record.asset_materialization is not None
        assert record.partition_key is not None
        newest.setdefault(record.partition_key, str(record.asset_materialization.metadata["digest"].value))
    return newest


def logs(deployment: Installation, shares: list[list[str]], ended: list[int]) -> str:
    """What the processes that failed have said."""
    failed = [share[0] for share, code in zip(shares, ended, strict=True) if code > 0]
    return "\n".join((deployment.project / f"{month}.log").read_text() for month in failed)


def test_eight_processes_make_24_months_and_two_are_killed(
    tmp_path: Path, postgres_url: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is killed while it writes a month's file, one after; both are started again."""
    monkeypatch.setenv("VIEWS_POSTGRES_URL", postgres_url)
    deployment = install(tmp_path / "cluster", SMALL, deployed(postgres_url, bucket))
    shares = [
        [to_key(FIRST_MONTH + process * MONTHS_EACH + number) for number in range(MONTHS_EACH)]
        for process in range(PROCESSES)
    ]
    started = [deployment.start_months(TABLE, share) for share in shares]
    folder = "tables/raw.countries"
    for victim in range(KILLED):
        # The first in its second month, the second in its third.
        month = FIRST_MONTH + victim * MONTHS_EACH + 1 + victim
        kill_when(started[victim], lambda month=month: bool(bucket.objects(f"{folder}/month_id={month}/")))
    ended = [process.wait() for process in started]
    assert ended == [-signal.SIGKILL] * KILLED + [0] * (PROCESSES - KILLED), logs(deployment, shares, ended)
    there = set(deployment.digests()[TABLE])
    survivors = {FIRST_MONTH + number for number in range(KILLED * MONTHS_EACH, PROCESSES * MONTHS_EACH)}
    assert survivors <= there
    for process in [deployment.start_months(TABLE, share) for share in shares[:KILLED]]:
        assert process.wait() == 0

    alone = open_home(tmp_path / "laptop", deployment.project)
    alone.run(f"key:{TABLE}", shares[0][0], shares[-1][-1])
    expected = alone.digests()[TABLE]
    # A month that is there twice would have another digest.
    assert deployment.digests()[TABLE] == expected
    assert len(expected) == PROCESSES * MONTHS_EACH
    assert recorded(deployment, TABLE) == {to_key(month): digest for month, digest in expected.items()}
