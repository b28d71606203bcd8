"""What people read of a release: the months that have one, its rows, and the countries it expects to be hit worst."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from views_dagster.calendar import to_key
from views_dagster.errors import MissingMonthsError
from views_dagster.storage.tables import TableStore

RELEASES: Final = "forecasts"
MANIFESTS: Final = "release_manifests"
COUNTRIES: Final = "raw/countries"
MEASURES: Final[Mapping[str, str]] = {
    "sb_best": "deaths a month, state-based (sb_best)",
    "ns_best": "deaths a month, non-state (ns_best)",
    "os_best": "deaths a month, one-sided (os_best)",
}
"""What each target counts, in words."""

YEAR: Final = 12


@dataclass(frozen=True)
class Release:
    """A complete release of one month.

    Attributes:
        month_id: the last observed month.
        rows: `views_dagster.conflict.release.RELEASE_SCHEMA`.
        manifest: what it was made from.
    """

    month_id: int
    rows: pl.DataFrame
    manifest: Mapping[str, Any]

    @property
    def leading(self) -> str:
        """The model or ensemble that people are shown first."""
        return str(self.manifest["release"]["leading"])


def complete_months(store: TableStore) -> list[int]:
    """Month ids that have a complete release, ascending."""
    return sorted(month for month, document in _manifests(store).items() if _fits(store, month, document))


def read_release(store: TableStore, month_id: int) -> Release:
    """The month's release.

    Raises:
        MissingMonthsError: there is none, or it is not complete: its run was stopped before the manifest was written.
    """
    command = f"dagster asset materialize --select '*forecasts' --partition {to_key(month_id)}"
    if month_id not in store.months(RELEASES):
        complete = [to_key(month) for month in complete_months(store)]
        there = f"the newest of {len(complete)} that are there is {complete[-1]}" if complete else "there is none yet"
        raise MissingMonthsError(
            f"{to_key(month_id)} has no release ({there}). Make it with its history by\n"
            f"  make forecasts MONTH={to_key(month_id)}\nor, where the history is there, by\n  {command}"
        )
    document = _manifests(store, month_id).get(month_id)
    if document is None or not _fits(store, month_id, document):
        raise MissingMonthsError(
            f"the release of {to_key(month_id)} is not complete: its manifest, which is written last, "
            f"{'is missing' if document is None else 'belongs to earlier rows'}. Make it again with\n"
            f"  dagster asset materialize --select forecasts --partition {to_key(month_id)}"
        )
    version = int(document["release"]["table_version"])
    return Release(month_id, store.scan(RELEASES, month_id, month_id, version).collect(), document)


def country_names(store: TableStore, month_id: int, table: str = COUNTRIES) -> dict[int, str]:
    """Names of the countries that exist in the month; empty where the table lacks the month, or names."""
    if month_id not in store.months(table):
        return {}
    listed = store.scan(table, month_id, month_id)
    if "name" not in listed.collect_schema():
        return {}
    return dict(listed.select("unit_id", "name").collect().iter_rows())


def worst_hit(rows: pl.DataFrame, names: Mapping[int, str], *, model: str, count: int) -> pl.DataFrame:
    """The `count` countries with the most expected deaths over the next 12 months, most first.

    Args:
        rows: of a release; those of `model` are of one target.

    Returns:
        `country` (its name, or its number), `next_month` and `next_12_months` (expected deaths, summed over the
        months), `p25_next_month` (probability of at least 25 deaths in it) and `p25_highest` (the highest such
        probability of any one of the 12 months).
    """
    year = rows.filter(pl.col("model") == model, pl.col("step") <= YEAR)
    first = pl.col("step") == 1
    return (
        year.group_by("unit_id")
        .agg(
            next_month=pl.col("mean").filter(first).sum().cast(pl.Float64),
            next_12_months=pl.col("mean").cast(pl.Float64).sum(),
            p25_next_month=pl.col("p_at_least_25").filter(first).max(),
            p25_highest=pl.col("p_at_least_25").max(),
        )
        .sort(["next_12_months", "unit_id"], descending=[True, False])
        .head(count)
        .with_columns(country=pl.col("unit_id").replace_strict(names, default=None, return_dtype=pl.String))
        .select(
            pl.col("country").fill_null(pl.col("unit_id").cast(pl.String)),
            "next_month",
            "next_12_months",
            "p25_next_month",
            "p25_highest",
        )
    )


def _manifests(store: TableStore, month_id: int | None = None) -> dict[int, dict[str, Any]]:
    """Manifests of all months, or of one, by month id."""
    months = store.months(MANIFESTS)
    wanted = months if month_id is None else months & {month_id}
    if not wanted:
        return {}
    found = store.scan(MANIFESTS, min(wanted), max(wanted)).select("month_id", "manifest").collect()
    return {month: json.loads(document) for month, document in found.iter_rows()}


def _fits(store: TableStore, month_id: int, document: Mapping[str, Any]) -> bool:
    """Whether the manifest is that of the month's newest rows: no later commit has replaced their files."""
    version = int(document["release"]["table_version"])
    newest = store.open(RELEASES)
    if version > newest.version():
        return False
    month = [("month_id", "=", str(month_id))]
    files = set(newest.file_uris(month))
    return bool(files) and files == set(store.open(RELEASES, version).file_uris(month))
