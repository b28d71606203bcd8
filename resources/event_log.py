"""Dagster's event log on SQLite, with whole batches of asset events in one transaction.

A run over 400 months stores two events for each asset and month. Dagster's SQLite storage commits each of them several
times, which makes the log, not the data, the slow part; its PostgreSQL storage already writes batches as this one does.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dagster import DagsterEventType, EventLogEntry
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy import func, select

if TYPE_CHECKING:
    from dagster._serdes import ConfigurableClassData

BATCHED = frozenset({DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_MATERIALIZATION_PLANNED})


class BatchingSqliteEventLogStorage(SqliteEventLogStorage):
    """Configured in `dagster.yaml`; batches form when `DAGSTER_EVENT_BATCH_SIZE` is set."""

    @classmethod
    def from_config_value(
        cls, inst_data: "ConfigurableClassData | None", config_value: Mapping[str, Any]
    ) -> "BatchingSqliteEventLogStorage":
        """Build from the `config` block of `dagster.yaml`."""
        return cls(inst_data=inst_data, **config_value)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store a batch; the events of one run that concern an asset's months go in together, all or none."""
        together = [event for event in events if event.dagster_event_type in BATCHED]
        for run_id in sorted({event.run_id for event in together}):
            self._store_together(run_id, [event for event in together if event.run_id == run_id])
        for event in events:
            if event.dagster_event_type not in BATCHED:
                self.store_event(event)

    def _store_together(self, run_id: str, events: Sequence[EventLogEntry]) -> None:
        """In the run's database and in the index of assets, one transaction each."""
        rows = [self._event_to_row(event) for event in events]
        newest = {event.get_dagster_event().asset_key: position for position, event in enumerate(events)}
        with self.run_connection(run_id) as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
        with self.index_transaction() as connection:
            ids = SqlEventLogStorageTable.c.id
            connection.execute(SqlEventLogStorageTable.insert(), rows)
            # From the insert on the transaction holds SQLite's only write lock, so the newest ids are these rows'.
            last = connection.execute(select(func.max(ids))).scalar_one()
            event_ids = list(range(last - len(rows) + 1, last + 1))
            self._store_asset_event_tags(connection, events, event_ids)
            for position in newest.values():
                self._store_asset_event(connection, events[position], event_ids[position])
