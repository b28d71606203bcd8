"""The table store: one Delta Lake table a key, partitioned by `month_id`, written whole months at a time.

A write replaces its months in one commit: readers see all of it or none, also when the writer is killed. Older versions
stay readable by number. The location is a folder or an object-store URL.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import polars as pl

from views_dagster.calendar import describe_months
from views_dagster.errors import DamagedTableError, MissingMonthsError
from views_dagster.storage.object_store import DELTA_OPTIONS, SCAN_OPTIONS, checked, explained, is_url

if TYPE_CHECKING:
    from deltalake import DeltaTable

COMMIT_ATTEMPTS = 10
FEW = 8
"""So many files of an object store are looked at one by one; more are listed with their table."""


@dataclass(frozen=True)
class TableStore:
    """Tables under one location.

    Attributes:
        location: folder or URL (`s3://bucket/prefix`); the folder, not the bucket, is created where absent.
        options: object-store options as delta-rs takes them, beside those of the environment; empty for a folder.

    Whatever it does raises a StorageError where the folder or the object store is out of reach, does not allow it or is
    full.
    """

    location: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked(self.location)

    @property
    def all_options(self) -> dict[str, str]:
        """The options with those that every object store gets."""
        return {**(DELTA_OPTIONS if is_url(self.location) else {}), **self.options}

    def uri(self, table: str) -> str:
        """Address of a table. Tables never nest: a slash in the key becomes a dot."""
        return f"{self.location.rstrip('/')}/{table.replace('/', '.')}"

    def exists(self, table: str) -> bool:
        """Whether anything was ever written to the table."""
        from deltalake import DeltaTable

        with explained(self.uri(table), "read"):
            return DeltaTable.is_deltatable(self.uri(table), self.all_options)

    def open(self, table: str, version: int | None = None) -> "DeltaTable":
        """The Delta table at `version`, by default the newest.

        Raises:
            MissingMonthsError: nothing was ever written to it.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        if not self.exists(table):
            raise MissingMonthsError(f"{table} has never been materialised")
        kind = DeltaTable if is_url(self.location) else _folder_table()
        try:
            with explained(self.uri(table), "read"):
                return kind(self.uri(table), version=version, storage_options=self.all_options)
        except (DeltaError, FileNotFoundError) as error:
            raise DamagedTableError(
                f"the log of {self.uri(table)} cannot be read: {error}; restore it from a backup, or remove the folder "
                "and make its months again"
            ) from error

    def months(self, table: str, version: int | None = None) -> frozenset[int]:
        """Month ids that the table holds; empty where it was never written."""
        if not self.exists(table):
            return frozenset()
        return frozenset(int(part["month_id"]) for part in self.open(table, version).partitions())

    def note(self, table: str) -> dict[str, str]:
        """What `write` stored with the newest commit, among Delta's own entries."""
        return dict(self.open(table).history(1)[0])

    def scan(self, table: str, first: int, last: int, version: int | None = None) -> pl.LazyFrame:
        """Rows of months `first..last`, lazily; later months are never looked at."""
        delta = self.open(table, version)
        options = SCAN_OPTIONS if is_url(self.location) else {}
        return pl.scan_delta(delta, storage_options=dict(options)).filter(pl.col("month_id").is_between(first, last))

    def write(self, table: str, frame: pl.DataFrame, months: Sequence[int], note: Mapping[str, str]) -> int:
        """Replace `months` by `frame` in one commit and return a version of the table that holds them.

        Args:
            frame: rows of exactly those months, at least one each.
            note: stored with the commit.

        Raises:
            MissingMonthsError: a month has no rows, or rows of another month are there; nothing is written.
        """
        present = set(frame["month_id"].unique().to_list())
        if present != set(months):
            lacking = describe_months(set(months) - present) or "none"
            surplus = describe_months(present - set(months)) or "none"
            raise MissingMonthsError(
                f"{table}: months without rows: {lacking}; rows of months not asked for: {surplus}"
            )
        wanted = ", ".join(str(month) for month in sorted(present))
        predicate = f"month_id in ({wanted})"
        if len(months) == max(months) - min(months) + 1:
            predicate = f"month_id >= {min(months)} and month_id <= {max(months)}"
        return self._commit(table, frame, predicate, dict(note))

    def reject(self, table: str, month: int, reason: str) -> None:
        """Note that a month's rows, which stay readable, must not be built on."""
        self.write(f"rejected/{table}", pl.DataFrame({"month_id": [month], "reason": [reason]}), [month], {})

    def accept(self, table: str, first: int, last: int) -> None:
        """Take `reject` back for the months `first..last`, where there was one."""
        if self.rejections(table, first, last):
            among = f"month_id >= {first} and month_id <= {last}"
            with explained(self.uri(f"rejected/{table}"), "written to"):
                _retried(lambda: self.open(f"rejected/{table}").delete(among))

    def rejections(self, table: str, first: int, last: int) -> dict[int, str]:
        """The months of `first..last` whose rows must not be built on, and why."""
        if not self.exists(f"rejected/{table}"):
            return {}
        rows = self.scan(f"rejected/{table}", first, last).select("month_id", "reason").sort("month_id").collect()
        return dict(rows.iter_rows())

    def damage(self, table: str, first: int, last: int, version: int | None = None) -> dict[int, str]:
        """The months of `first..last` with a data file that is gone or has not the size it was written with, and what.

        Looks at the files' sizes, not into them.
        """
        if not self.exists(table):
            return {}
        delta = self.open(table, version)
        files = pl.DataFrame(delta.get_add_actions(flatten=True)).select(
            pl.col("partition.month_id").cast(pl.Int32).alias("month_id"), "path", "size_bytes"
        )
        wanted = files.filter(pl.col("month_id").is_between(first, last))
        sizes = self._sizes(table, delta, wanted["path"].to_list())
        return {
            month: f"{self.uri(table)}/{path} is {'gone' if found is None else 'damaged'}"
            for (month, path, size), found in zip(wanted.iter_rows(), sizes, strict=True)
            if found != size
        }

    def _sizes(self, table: str, delta: "DeltaTable", paths: Sequence[str]) -> list[int | None]:
        """Bytes of each file of a table; None where it is gone."""
        if not is_url(self.location):
            files = [Path(self.uri(table), path) for path in paths]
            return [file.stat().st_size if file.is_file() else None for file in files]
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import FileSelector

        with explained(self.uri(table), "read"):
            handler = DeltaStorageHandler.from_table(delta._table, self.all_options)
            if len(paths) <= FEW:
                return [found.size for found in handler.get_file_info(list(paths))]
            # One answer names a thousand files.
            infos = handler.get_file_info_selector(FileSelector("", recursive=True))
            listed = {file.path: file.size for file in infos}
            return [listed.get(path) for path in paths]

    def _commit(self, table: str, frame: pl.DataFrame, predicate: str, note: dict[str, str]) -> int:
        from deltalake import CommitProperties, DeltaTable, write_deltalake

        arguments: dict[str, Any] = {
            "mode": "overwrite",
            "partition_by": ["month_id"],
            "schema_mode": "merge",
            "storage_options": self.all_options,
            "commit_properties": CommitProperties(custom_metadata=note, max_commit_retries=100),
        }

        def write() -> None:
            if not self.exists(table):
                # Of two writers that find no table, the second must not create it over the first, which a retried
                # commit would do: it fails here, and finds the table on its next attempt.
                DeltaTable.create(
                    self.uri(table),
                    schema=frame.head(0).to_arrow().schema,
                    partition_by=["month_id"],
                    storage_options=self.all_options,
                    mode="ignore",
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
            write_deltalake(self.uri(table), frame, predicate=predicate, **arguments)

        with explained(self.uri(table), "written to"):
            if not is_url(self.location):
                Path(self.location).mkdir(parents=True, exist_ok=True)
            _retried(write)
        return self.open(table).version()


@cache
def _folder_table() -> "type[DeltaTable]":
    """Tables in folders, whose files are called what they are: polars 2.1 takes the `%20` of a URI for four letters."""
    from deltalake import DeltaTable

    class FolderTable(DeltaTable):
        def file_uris(self, *arguments: Any, **options: Any) -> list[str]:
            return [unquote(uri) for uri in super().file_uris(*arguments, **options)]

    return FolderTable


def _retried(commit: Callable[[], object]) -> None:
    """Commit again where another writer was faster in a way that delta-rs does not settle by itself.

    It settles conflicts of rows, but not another writer's new column. Nothing is visible of a commit that failed, so it
    can be made again on the table as it is now.
    """
    from deltalake.exceptions import CommitFailedError

    for _ in range(COMMIT_ATTEMPTS - 1):
        try:
            commit()
            return
        except CommitFailedError:
            continue
    commit()
