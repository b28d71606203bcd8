"""Manifests of releases: which months have a complete one, and what it was made from.

A release writes its tables, then its manifest, which names their versions. So rows whose manifest is missing, or names
an earlier version of them, are those of a run that was stopped.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from views_dagster.calendar import to_key
from views_dagster.errors import MissingMonthsError
from views_dagster.storage.tables import TableStore

MANIFESTS: Final = "release_manifests"
Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class ReleasedTable:
    """A table that releases write.

    Attributes:
        table: its key.
        part: where the manifest's `release` describes it: under this name, or at its top.
    """

    table: str
    part: str | None = None

    def described(self, manifest: Manifest) -> Manifest | None:
        """What a manifest says of the table; None where the release has no rows of it."""
        release: Manifest = manifest["release"]
        found = release if self.part is None else release.get(self.part)
        return found if found is not None and "table_version" in found else None

    def complete_months(self, store: TableStore) -> list[int]:
        """Month ids that have a complete release with rows of the table, ascending."""
        return sorted(month for month, manifest in _manifests(store).items() if self._fits(store, month, manifest))

    def manifest(self, store: TableStore, month_id: int) -> Manifest:
        """The manifest of the month's release, which is complete and has rows of the table.

        Raises:
            MissingMonthsError: there is none, it has no rows of the table, or it is not complete: its run was stopped
                before the manifest was written.
        """
        key, there = to_key(month_id), store.months(self.table)
        manifest = _manifests(store, month_id).get(month_id)
        if manifest is not None and self.described(manifest) is None:
            first = f"the first that has is {to_key(min(there))}" if there else "none has yet"
            raise MissingMonthsError(
                f"the release of {key} has nothing in {self.table}: what it comes from begins later, or nothing of it "
                f"is deployed ({first})"
            )
        if month_id not in there:
            complete = [to_key(month) for month in self.complete_months(store)]
            newest = (
                f"the newest of {len(complete)} that are there is {complete[-1]}" if complete else "there is none yet"
            )
            raise MissingMonthsError(
                f"{key} has no release ({newest}). Make it with its history by\n"
                f"  make forecasts MONTH={key}\nor, where the history is there, by\n"
                f"  dagster asset materialize --select '*forecasts' --partition {key}"
            )
        if manifest is None or not self._fits(store, month_id, manifest):
            raise MissingMonthsError(
                f"the release of {key} is not complete: its manifest, which is written last, "
                f"{'is missing' if manifest is None else 'belongs to earlier rows'}. Make it again with\n"
                f"  dagster asset materialize --select forecasts --partition {key}"
            )
        return manifest

    def rows(self, store: TableStore, month_id: int, manifest: Manifest) -> pl.LazyFrame:
        """The month's rows in the version that its manifest names, lazily."""
        described = self.described(manifest)
        assert described is not None
        return store.scan(self.table, month_id, month_id, int(described["table_version"]))

    def _fits(self, store: TableStore, month_id: int, manifest: Manifest) -> bool:
        """Whether the manifest is that of the month's newest rows: no later commit has replaced their files."""
        described = self.described(manifest)
        if described is None:
            return False
        version, newest = int(described["table_version"]), store.open(self.table)
        if version > newest.version():
            return False
        month = [("month_id", "=", str(month_id))]
        files = set(newest.file_uris(month))
        return bool(files) and files == set(store.open(self.table, version).file_uris(month))


def _manifests(store: TableStore, month_id: int | None = None) -> dict[int, dict[str, Any]]:
    """Manifests of all months, or of one, by month id."""
    months = store.months(MANIFESTS)
    wanted = months if month_id is None else months & {month_id}
    if not wanted:
        return {}
    found = store.scan(MANIFESTS, min(wanted), max(wanted)).select("month_id", "manifest").collect()
    return {month: json.loads(document) for month, document in found.iter_rows()}
