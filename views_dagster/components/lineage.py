"""What a stored month was made from, read from the materialisations that Dagster recorded."""

from typing import Any

import dagster as dg

from views_dagster.errors import MissingMonthsError

CODE_VERSION_TAG = "dagster/code_version"
REMEMBERED = 100
"""How many materialisations of a month are looked at, newest first, for the one that was read."""


def recorded(instance: dg.DagsterInstance, table: str, partition: str) -> dg.AssetMaterialization | None:
    """The newest materialisation of a table's month."""
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey.from_user_string(table), asset_partitions=[partition]), limit=1
    ).records
    return found[0].asset_materialization if found else None


def _metadata(materialization: dg.AssetMaterialization | None) -> dict[str, Any]:
    return {name: value.value for name, value in (materialization.metadata if materialization else {}).items()}


def vintage(instance: dg.DagsterInstance, table: str, partition: str, digest: str | None = None) -> dict[str, Any]:
    """Digest, table version and inputs of the newest materialisation of a table's month.

    Args:
        digest: of the rows at hand; they must be the ones that were recorded.

    Raises:
        MissingMonthsError: nothing is recorded for the month, or other rows are: its run was killed between storing the
            rows and recording them, or the tables come from elsewhere.
    """
    materialization = recorded(instance, table, partition)
    metadata = _metadata(materialization)
    if materialization is None or digest not in (None, metadata.get("digest")):
        raise MissingMonthsError(
            f"the rows of {table} for {partition} are not the ones that were recorded; make them again with:\n"
            f"  dagster asset materialize --select '{table}' --partition {partition}"
        )
    known = {name: metadata[name] for name in ("digest", "table_version", "read", "mlflow_run") if name in metadata}
    return known | {"code_version": (materialization.tags or {}).get(CODE_VERSION_TAG)}


def ancestry(instance: dg.DagsterInstance, tables: set[str], partition: str) -> dict[str, dict[str, Any]]:
    """`vintage` of `tables` and, through what each of them read, of everything they come from.

    Raises:
        MissingMonthsError: a table's month was made again after it was read, with other rows, so that what was made
            from it is older.
    """
    known: dict[str, dict[str, Any]] = {}
    waiting = set(tables)
    while waiting:
        table = waiting.pop()
        known[table] = vintage(instance, table, partition)
        waiting |= set(known[table].get("read", {})) - known.keys()
    for table, made in known.items():
        for source, read in made.get("read", {}).items():
            now, then = known[source]["table_version"], read["version"]
            if now > then and known[source]["digest"] != _digest_in(instance, source, partition, then):
                raise MissingMonthsError(
                    f"{table} of {partition} was made from an older {source} (version {then}) than there is now "
                    f"(version {now}), with other rows; make it and what follows again with:\n"
                    f"  dagster asset materialize --select '{table}*' --partition {partition}"
                )
    return known


def _digest_in(instance: dg.DagsterInstance, table: str, partition: str, version: int) -> str | None:
    """Digest of a month's rows in a version of its table; None where that is no longer known."""
    of_month = dg.AssetRecordsFilter(dg.AssetKey.from_user_string(table), asset_partitions=[partition])
    for record in instance.fetch_materializations(of_month, limit=REMEMBERED).records:
        metadata = _metadata(record.asset_materialization)
        if metadata.get("table_version", version + 1) <= version:
            return str(metadata["digest"])
    return None
