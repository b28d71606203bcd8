"""Dagster's event log on SQLite, with whole batches of asset events in one transaction and connections that stay open.

A run over 400 months stores two events for each asset and month, and every run one for each check it plans. Dagster's
SQLite storage opens a database for each statement and commits each event several times, which makes the log, not the
data, the slow part; its PostgreSQL storage already writes batches from a pool of connections as this one does.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from dagster import DagsterEventType, EventLogEntry
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import serialize_value
from sqlalchemy import Connection, Engine, Insert, create_engine, func, literal, select
from sqlalchemy.event import listen
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import QueuePool

from views_dagster.errors import StorageError

if TYPE_CHECKING:
    from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
    from dagster._serdes import ConfigurableClassData
    from sqlalchemy.engine.interfaces import DBAPIConnection

OF_ASSETS = frozenset({DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_MATERIALIZATION_PLANNED})
OF_CHECKS = DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
TOGETHER = OF_ASSETS | {OF_CHECKS}
OPEN_DATABASES = 8
"""Each run has a database of its own; a process that shows many runs closes those it looked at first."""


class BatchingSqliteEventLogStorage(SqliteEventLogStorage):
    """Configured in `dagster.yaml`; batches form when `DAGSTER_EVENT_BATCH_SIZE` is set."""

    def __init__(self, base_dir: str, inst_data: "ConfigurableClassData | None" = None) -> None:
        self._engines: dict[tuple[int, str], Engine] = {}
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(
        cls, inst_data: "ConfigurableClassData | None", config_value: Mapping[str, Any]
    ) -> "BatchingSqliteEventLogStorage":
        """Build from the `config` block of `dagster.yaml`."""
        return cls(inst_data=inst_data, **config_value)

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """A run over a range plans each asset once with all its months, not once a month.

        The plan of 400 months for each asset took longer to store than to carry out. What is lost is that the UI marks
        months of a range as failed when the run is: they stay what they were, and the run itself says that it failed.
        """
        return True

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        """A transaction in the database of a run, or in the index; one at a time in a process.

        Raises:
            StorageError: the disk is full or fails; nothing of the transaction is stored.
        """
        try:
            with self._db_lock, self._engine(shard).begin() as connection:
                yield connection
        except OperationalError as error:
            if "disk" not in str(error.orig):
                raise
            raise StorageError(
                f"Dagster's history in {self._base_dir} cannot be written to: {error.orig}; make room on that disk, "
                "then materialise what is missing"
            ) from error

    def _engine(self, shard: str) -> Engine:
        engines = self._engines
        # SQLite's connections must not cross a fork.
        key = (os.getpid(), shard)
        engine = engines.pop(key, None)
        if engine is None:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=QueuePool,
                pool_size=1,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            listen(engine, "connect", _settle)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
        engines[key] = engine
        if len(engines) > OPEN_DATABASES:
            engines.pop(next(iter(engines))).dispose()
        return engine

    def store_event(self, event: EventLogEntry) -> None:
        """Store one event."""
        super().store_event(_of_its_month(event))

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store a batch; the events of one run that concern an asset's months go in together, all or none."""
        events = [_of_its_month(event) for event in events]
        together = [event for event in events if event.dagster_event_type in TOGETHER]
        for run_id in sorted({event.run_id for event in together}):
            self._store_together(run_id, [event for event in together if event.run_id == run_id])
        for event in events:
            if event.dagster_event_type not in TOGETHER:
                self.store_event(event)

    def _store_together(self, run_id: str, events: Sequence[EventLogEntry]) -> None:
        """In the run's database and in the index of assets, one transaction each."""
        rows = [self._event_to_row(event) for event in events]
        newest = {
            event.get_dagster_event().asset_key: position
            for position, event in enumerate(events)
            if event.dagster_event_type in OF_ASSETS
        }
        with self.run_connection(run_id) as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
        with self.index_transaction() as connection:
            ids = SqlEventLogStorageTable.c.id
            connection.execute(SqlEventLogStorageTable.insert(), rows)
            # From the insert on the transaction holds SQLite's only write lock, so the newest ids are these rows'.
            last = connection.execute(select(func.max(ids))).scalar_one()
            event_ids = list(range(last - len(rows) + 1, last + 1))
            of_assets = [position for position, event in enumerate(events) if event.dagster_event_type in OF_ASSETS]
            if of_assets:
                self._store_asset_event_tags(
                    connection, [events[i] for i in of_assets], [event_ids[i] for i in of_assets]
                )
            for position in newest.values():
                self._store_asset_event(connection, events[position], event_ids[position])
            for event, event_id in zip(events, event_ids, strict=True):
                if event.dagster_event_type == OF_CHECKS:
                    connection.execute(_planned_check(event, event_id))


def _planned_check(event: EventLogEntry, event_id: int) -> Insert:
    """Adds a planned check, one row for each of its months, which SQLite counts out itself."""
    planned = cast("AssetCheckEvaluationPlanned", event.get_dagster_event().event_specific_data)
    subset = planned.partitions_subset
    months = list(subset.get_partition_keys()) if subset else [None]
    # The text names all months of the event: with each month of a range it would be the square of the range, a
    # quarter of a gigabyte for 400 months. Dagster reads a planned check without its event.
    text = serialize_value(event) if len(months) == 1 else None
    month = func.json_each(json.dumps(months)).table_valued("value").c.value
    row = {
        "asset_key": literal(planned.asset_key.to_string()),
        "check_name": literal(planned.check_name),
        "partition": month,
        "run_id": literal(event.run_id),
        "execution_status": literal(AssetCheckExecutionRecordStatus.PLANNED.value),
        "evaluation_event": literal(text),
        "evaluation_event_timestamp": literal(datetime.fromtimestamp(event.timestamp, UTC).replace(tzinfo=None)),
        "evaluation_event_storage_id": literal(event_id),
    }
    return AssetCheckExecutionsTable.insert().from_select(list(row), select(*row.values()))


def _settle(connection: "DBAPIConnection", record: object) -> None:
    """Of a database in WAL mode a killed process loses nothing without a flush at each commit, only a lost machine."""
    connection.cursor().execute("PRAGMA synchronous=NORMAL")


def _of_its_month(event: EventLogEntry) -> EventLogEntry:
    """A planned materialisation of one month, named as that month; any other event as it is."""
    if event.dagster_event_type is not DagsterEventType.ASSET_MATERIALIZATION_PLANNED:
        return event
    planned = cast("AssetMaterializationPlannedData", event.get_dagster_event().event_specific_data)
    keys = list(planned.partitions_subset.get_partition_keys()) if planned.partitions_subset else []
    if len(keys) != 1:
        return event
    of_month = AssetMaterializationPlannedData(planned.asset_key, partition=keys[0])
    return event._replace(dagster_event=event.get_dagster_event()._replace(event_specific_data=of_month))
