"""The batching event log stores what Dagster's own does, and a batch that fails leaves nothing."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from resources.event_log import BatchingSqliteEventLogStorage
from views_dagster.components.catalogue import MONTHS, WHOLE_RANGE
from views_dagster.errors import StorageError
from views_dagster_tests.homes import RANGE_END, RANGE_START

FIRST, LAST = "1990-01", "1991-12"
KEYS = [dg.AssetKey("numbers"), dg.AssetKey("sums")]
RANGE = {RANGE_START: FIRST, RANGE_END: LAST}


@dg.asset(partitions_def=MONTHS, backfill_policy=WHOLE_RANGE, code_version="1")
def numbers(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    context.set_data_version(dg.AssetKey("numbers"), dg.DataVersion("abc"))
    for key in context.partition_keys:
        context.add_asset_metadata({"month": key}, partition_key=key)
    return dg.MaterializeResult(tags={"kind": "test"})


@dg.asset(partitions_def=MONTHS, backfill_policy=WHOLE_RANGE, code_version="1", deps=[numbers])
def sums() -> None:
    pass


@pytest.fixture
def storages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """An instance with each event log; batches as large as a month's run of the platform has."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    logs = {"dagster": SqliteEventLogStorage, "ours": BatchingSqliteEventLogStorage}
    instances = {}
    for name, kind in logs.items():
        overrides = {
            "event_log_storage": {
                "module": kind.__module__,
                "class": kind.__name__,
                "config": {"base_dir": str(tmp_path / name / "events")},
            },
            "telemetry": {"enabled": False},
        }
        (tmp_path / name).mkdir()
        instances[name] = dg.DagsterInstance.local_temp(str(tmp_path / name), overrides=overrides)
        assert type(instances[name].event_log_storage) is kind
    yield instances
    for instance in instances.values():
        instance.dispose()


@dg.asset_check(asset=numbers, partitions_def=MONTHS)
def of_months() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec("zeros", asset=sums), dg.AssetCheckSpec("extremes", asset=sums)], can_subset=False
)
def of_the_newest() -> Iterator[dg.AssetCheckResult]:
    yield dg.AssetCheckResult(asset_key=sums.key, check_name="zeros", passed=True)
    yield dg.AssetCheckResult(asset_key=sums.key, check_name="extremes", passed=False)


def run(instance: dg.DagsterInstance, **where: Any) -> dg.ExecuteInProcessResult:
    chosen = [numbers, sums, of_months, of_the_newest]
    return dg.materialize(chosen, instance=instance, raise_on_error=False, **(where or {"tags": RANGE}))


def materialised(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[tuple[Any, ...]]:
    records = instance.fetch_materializations(dg.AssetRecordsFilter(key), limit=1000, ascending=True).records
    found = []
    for record in records:
        made = record.asset_materialization
        assert made is not None
        tags = {name: value for name, value in (made.tags or {}).items() if "input_event_pointer" not in name}
        found.append((made.partition, {n: v.value for n, v in made.metadata.items()}, tags))
    return found


def test_the_same_is_stored(storages: dict[str, Any]) -> None:
    for instance in storages.values():
        run(instance)
        run(instance, partition_key="1990-05")
    theirs, ours = storages["dagster"], storages["ours"]
    for key in KEYS:
        assert len(materialised(ours, key)) == 25
        assert materialised(ours, key) == materialised(theirs, key)
        assert ours.get_materialized_partitions(key) == theirs.get_materialized_partitions(key)
        assert len(ours.get_materialized_partitions(key)) == 24
        latest = [
            {name: record.event_log_entry.dagster_event.partition for name, record in found.items()}
            for instance in (ours, theirs)
            if (found := _latest_by_partition(instance, key))
        ]
        assert latest[0] == latest[1]
        newest = [instance.get_latest_materialization_event(key) for instance in (ours, theirs)]
        assert [
            event and event.asset_materialization and event.asset_materialization.partition for event in newest
        ] == ["1990-05"] * 2
        assert ours.get_asset_keys() == theirs.get_asset_keys()


def _latest_by_partition(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, Any]:
    ids = instance.event_log_storage.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION)
    records = {record.storage_id: record for record in instance.fetch_materializations(key, limit=1000).records}
    return {partition: records[storage_id] for partition, storage_id in ids.items()}


def test_the_same_is_stored_of_checks(storages: dict[str, Any]) -> None:
    found: dict[str, list[Any]] = {}
    for name, instance in storages.items():
        run(instance)
        run(instance, partition_key="1990-05")
        found[name] = []
        for check in (dg.AssetCheckKey(numbers.key, "of_months"), dg.AssetCheckKey(sums.key, "extremes")):
            history = instance.event_log_storage.get_asset_check_execution_history(check, limit=100)
            found[name] += [(check, record.partition, record.status) for record in history]
    assert len(found["ours"]) > 3
    assert found["ours"] == found["dagster"]


def test_the_newest_event_of_each_month_is_found_by_its_id(storages: dict[str, Any]) -> None:
    """Ids that are off by one would give a month the event of its neighbour."""
    instance = storages["ours"]
    run(instance)
    for key in KEYS:
        found = _latest_by_partition(instance, key)
        assert set(found) == set(MONTHS.get_partition_keys_in_range(dg.PartitionKeyRange(FIRST, LAST)))
        for partition, record in found.items():
            assert record.partition_key == partition


def test_tags_can_be_searched(storages: dict[str, Any]) -> None:
    found = {}
    for name, instance in storages.items():
        run(instance)
        tags = instance.get_event_tags_for_asset(dg.AssetKey("numbers"))
        found[name] = [dict(tag) for tag in tags]
    assert [tag["dagster/data_version"] for tag in found["ours"]] == ["abc"] * 24
    assert found["ours"] == found["dagster"]


def kinds_of(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    events = [event.dagster_event for event in instance.all_logs(run_id) if event.dagster_event]
    return sorted(f"{event.event_type_value} {event.partition or ''}" for event in events)


def test_a_run_of_one_month_has_the_same_events(storages: dict[str, Any]) -> None:
    kinds = {
        name: kinds_of(instance, run(instance, partition_key="1990-05").run_id) for name, instance in storages.items()
    }
    assert kinds["ours"] == kinds["dagster"]
    assert kinds["ours"].count("ASSET_MATERIALIZATION_PLANNED 1990-05") == 2


def test_a_run_of_many_months_plans_each_asset_once(storages: dict[str, Any]) -> None:
    kinds = {name: kinds_of(instance, run(instance).run_id) for name, instance in storages.items()}
    planned = {
        name: [kind for kind in found if "ATION_PLANNED" in kind and "CHECK" not in kind]
        for name, found in kinds.items()
    }
    assert (len(planned["dagster"]), planned["ours"]) == (48, ["ASSET_MATERIALIZATION_PLANNED "] * 2)
    others = {name: [kind for kind in found if kind not in planned[name]] for name, found in kinds.items()}
    assert others["ours"] == others["dagster"]


def test_a_month_that_failed_is_known_as_such(storages: dict[str, Any]) -> None:
    @dg.asset(partitions_def=MONTHS)
    def broken() -> None:
        raise ValueError("no")

    for instance in storages.values():
        dg.materialize([broken], instance=instance, partition_key="1990-05", raise_on_error=False)
        storage = instance.event_log_storage
        attempts = storage.get_latest_asset_partition_materialization_attempts_without_materializations(broken.key)
        assert set(attempts) == {"1990-05"}


def test_a_batch_that_fails_leaves_nothing_in_the_index(
    storages: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = storages["ours"]
    run(instance, partition_key="1990-01")
    before = {key: materialised(instance, key) for key in KEYS}

    def broken(*_: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(BatchingSqliteEventLogStorage, "_store_asset_event_tags", broken)
    with pytest.raises(sqlite3.OperationalError):
        run(instance)
    monkeypatch.undo()
    assert {key: materialised(instance, key) for key in KEYS} == before
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    run(instance)
    assert len(instance.get_materialized_partitions(KEYS[0])) == 24


def test_a_full_disk_is_named(storages: dict[str, Any]) -> None:
    instance = storages["ours"]
    assert dg.materialize([numbers], instance=instance, partition_key=FIRST).success
    with instance.event_log_storage.index_connection() as connection:
        (pages,) = connection.exec_driver_sql("PRAGMA page_count").one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageError, match=r"history in .*events cannot be written to: .*full; make room"):
        dg.materialize([numbers], instance=instance, tags=RANGE, raise_on_error=False)
