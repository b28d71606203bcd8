"""Dagster's runs, events and schedules on PostgreSQL: its own storage, with a knock at the door first.

Dagster itself tries for minutes where a host is silent, ends without a word about settings, and leaves the choice of a
driver to SQLAlchemy, which by default wants one that Dagster does not bring. In an empty database it makes its tables
one by one, and processes that start together trip over each other's.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config

from views_dagster.errors import StorageError

if TYPE_CHECKING:
    from dagster._serdes import ConfigurableClassData

LIMITS: Final = {
    "connect_timeout": "10",
    # A server that is gone without a word, as with its node, is given up after a minute, not after hours.
    "tcp_user_timeout": "60000",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
"""Of every connection, unless the URL sets them; as PostgreSQL's client library names them."""
MAKING_TABLES: Final = 0x76696577
"""Key of the advisory lock of the one process that makes the tables; any number that nobody else takes."""
PATIENCE: Final = 120
"""Seconds that the others wait for it: where its machine went while it did, the server notices after hours."""


class PostgresStorage(DagsterPostgresStorage):
    """Configured in `dagster.yaml` by `postgres_url`, as Dagster's own."""

    @classmethod
    def from_config_value(
        cls, inst_data: "ConfigurableClassData | None", config_value: Mapping[str, Any]
    ) -> "PostgresStorage":
        """Build from the `config` block of `dagster.yaml`.

        Raises:
            StorageError: the database does not answer or does not let us in; names what to check.
        """
        with _one_at_a_time_where_empty(pg_url_from_config(config_value)) as url:
            return cls(
                inst_data=inst_data,
                postgres_url=url,
                should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            )


@contextmanager
def _one_at_a_time_where_empty(url: str) -> Iterator[str]:
    """The URL with its driver and limits of time, after one connection; while tables are missing, for one at a time."""
    from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
    from dagster._core.storage.runs.schema import RunStorageSqlMetadata
    from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata
    from sqlalchemy import create_engine, func, inspect, make_url, select, text
    from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
    from sqlalchemy.pool import NullPool

    needed = {
        name
        for kind in (RunStorageSqlMetadata, SqlEventLogStorageMetadata, ScheduleStorageSqlMetadata)
        for name in kind.tables
    }

    try:
        parts = make_url(url)
        if parts.drivername in ("postgres", "postgresql"):
            parts = parts.set(drivername="postgresql+psycopg2")
        parts = parts.set(query={**LIMITS, **parts.query})
    except ArgumentError:
        raise StorageError(
            "VIEWS_POSTGRES_URL is no database URL; write it as postgresql://user:password@host:5432/database, with "
            "special characters of the password percent-encoded"
        ) from None
    where = f"{parts.host}:{parts.port or 5432}/{parts.database}"
    try:
        connection = create_engine(parts, poolclass=NullPool).connect()
    except DBAPIError as error:
        said = " ".join(str(error.orig).split())
        raise StorageError(
            f"Dagster's database {where} cannot be reached: {said}; check host, port, user, "
            "password and database in VIEWS_POSTGRES_URL, and that the server runs and lets this machine in"
        ) from None
    with connection:
        if not needed <= set(inspect(connection).get_table_names()):
            connection.execute(text(f"SET LOCAL lock_timeout = '{PATIENCE}s'"))
            try:
                connection.execute(select(func.pg_advisory_xact_lock(MAKING_TABLES)))
            except OperationalError:
                raise StorageError(
                    f"Dagster's database {where} lacks tables, and another process that should be making them has not "
                    f"done so for {PATIENCE} seconds; end its session (pg_stat_activity shows it), then start again"
                ) from None
            if needed <= set(inspect(connection).get_table_names()):
                # Others wait: nothing is left to make.
                connection.rollback()
        yield parts.render_as_string(hide_password=False)
