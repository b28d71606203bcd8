"""The IO manager: every table of the platform is written and read here.

An output is a polars frame with the rows of the months; it becomes one commit of the asset's Delta table. An input is
a lazy frame of exactly the months that the partition mapping names, pinned to one version of the upstream table.
What was read, what was written and how it differs from before goes into the metadata.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl
from dagster._core.execution.context.metadata_logging import AssetMetadataHandle, OutputMetadataAccumulator
from pydantic import Field, PrivateAttr

from views_dagster import calendar
from views_dagster.errors import (
    DamagedTableError,
    MissingMonthsError,
    MixedSourcesError,
    PlatformError,
    RejectedMonthError,
)
from views_dagster.storage.digests import combine, digest_months
from views_dagster.storage.tables import TableStore
from views_dagster.storage.vintages import Revision, compare

ROW_KEYS = "row_keys"
REVISIONS = "compares_vintages"
BEGINS = "begins"
"""Metadata of an asset whose first month is later than the calendar's: that month's key. It has no rows before."""
INVENTED = "invented_sources"
"""Metadata of raw data and features: names of those of their sources that are of an invented world."""


class Storage(dg.ConfigurableIOManager):
    """Delta tables in a folder or an object store."""

    location: str = Field(description="Folder or object-store URL that holds the tables.")
    options: dict[str, str] = Field(default={}, description="Object-store options, as delta-rs names them.")
    _afterwards: dict[tuple[str, str], Callable[[], None]] = PrivateAttr(default_factory=dict)
    _reads: dict[tuple[str, str], dict[str, dict[str, Any]]] = PrivateAttr(default_factory=dict)

    @property
    def store(self) -> TableStore:
        """The plain store, for code that looks beyond its declared inputs (checks that look at last month)."""
        return TableStore(self.location, self.options)

    def load_input(self, context: dg.InputContext) -> pl.LazyFrame:
        """Rows of the upstream months, as `_rows_of`; of what is missing, a step that may be retried fails at once."""
        try:
            return self._rows_of(context)
        except PlatformError as error:
            if context.step_context.op_retry_policy is None:
                raise
            raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error

    def _rows_of(self, context: dg.InputContext) -> pl.LazyFrame:
        """Rows of the upstream months, lazily; none and no columns where the upstream table begins after them.

        Raises:
            MissingMonthsError: the table lacks a month; names the command that makes it.
            RejectedMonthError: one of the months did not pass its checks.
            DamagedTableError: a file of one of the months is gone or damaged.
            MixedSourcesError: the table was made from an invented world and is now of real data, or the reverse.
        """
        table = context.asset_key.to_user_string()
        begins = first_month_of(context.step_context, context.asset_key)
        wanted = [month for month in map(calendar.from_key, context.asset_partition_keys) if month >= begins]
        if not wanted:
            return pl.LazyFrame(schema={"month_id": pl.Int32})
        version = self.store.open(table).version() if self.store.exists(table) else None
        missing = set(wanted) - (self.store.months(table, version) if version is not None else frozenset())
        if missing or version is None:
            first, last = calendar.to_key(min(missing)), calendar.to_key(max(missing))
            # A range is one run, which the command line grants to raw data and features alone. One month may be
            # missing from several inputs, which are all made on the way to the asset that reads them.
            reader = context.step_context.step.key.partition(".")[0].replace("__", "/")
            one, several = f"'*{reader}' --partition {first}", f"'*{table}' --partition-range {first}...{last}"
            raise MissingMonthsError(
                f"{table} lacks {calendar.describe_months(missing)}, which this step needs. Make them with:\n"
                f"  dagster asset materialize --select {one if first == last else several}"
            )
        self._refuse_another_world(context.step_context, context.asset_key)
        if rejections := self.store.rejections(table, min(wanted), max(wanted)):
            month, reason = next(iter(rejections.items()))
            key = calendar.to_key(month)
            raise RejectedMonthError(
                f"{table} of {key} did not pass its checks ({reason}). Mend what it comes from and make it again:\n"
                f"  dagster asset materialize --select '*{table}' --partition {key}\n"
                "or, if the world really changed that much, set the thresholds in its defs.yaml first."
            )
        if damage := self.store.damage(table, min(wanted), max(wanted), version):
            month, what = next(iter(damage.items()))
            raise DamagedTableError(
                f"{table} of {calendar.describe_months(damage)}: {what}. Make it again:\n"
                f"  dagster asset materialize --select {table} --partition {calendar.to_key(month)}"
            )
        self._reads.setdefault(_step(context.step_context), {})[table] = {
            "version": version,
            "months": calendar.describe_months(wanted),
        }
        return self.store.scan(table, min(wanted), max(wanted), version)

    def handle_output(self, context: dg.OutputContext, obj: pl.DataFrame) -> None:
        """Commit the frame as the rows of the run's months, then report rows, digest, version, inputs, revisions.

        Months before the asset begins have no rows, and a run of these months alone stores nothing.
        """
        self.save(
            context.step_context,
            context.asset_key,
            obj,
            keys=(context.definition_metadata or {})[ROW_KEYS],
            compares_vintages=bool((context.definition_metadata or {}).get(REVISIONS)),
        )
        self._afterwards.pop(_step(context.step_context), _nothing)()

    def once_stored(self, context: dg.AssetExecutionContext, then: Callable[[], None]) -> None:
        """Do something when the output of the step that runs is stored."""
        self._afterwards[context.run_id, context.get_step_execution_context().step.key] = then

    def save(
        self,
        step: Any,
        asset_key: dg.AssetKey,
        frame: pl.DataFrame,
        *,
        keys: Sequence[str],
        compares_vintages: bool = False,
    ) -> int:
        """Write the months of the step's partition range; returns the table's version, 0 where none is stored."""
        table = asset_key.to_user_string()
        chosen = step.partition_key_range
        begins = first_month_of(step, asset_key)
        first, last = max(begins, calendar.from_key(chosen.start)), calendar.from_key(chosen.end)
        if last < first:
            step.log.info(f"{table} begins in {calendar.to_key(begins)}: nothing to store")
            step.add_asset_metadata({BEGINS: calendar.to_key(begins)}, asset_key=asset_key)
            return 0
        months = list(range(first, last + 1))
        if self.store.months(table) - set(months):
            self._refuse_another_world(step, asset_key)
        digests = digest_months(frame, keys)
        revisions = self._revisions(table, frame, months, keys) if compares_vintages else {}
        note = {"dagster_run_id": step.run_id, "digest": combine(digests), "step": step.step.key}
        if (invented := _invented_sources(step, asset_key)) is not None:
            note[INVENTED] = invented
        version = self.store.write(table, frame, months, note)
        # What was rejected before is gone. The newest month is left to the checks, which look at it alone.
        self.store.accept(table, min(months), max(months) - 1)
        step.log.info(f"{table}: {frame.height:,} rows of {calendar.describe_months(months)}, version {version}")
        step.set_data_version(asset_key, dg.DataVersion(combine(digests)))
        reads = self._reads.pop(_step(step), {})
        rows: dict[int, int] = dict(frame.group_by("month_id").len().iter_rows())
        step.add_asset_metadata(
            {
                "table": dg.MetadataValue.path(self.store.uri(table)),
                "table_version": version,
                **({"read": dg.MetadataValue.json(reads)} if reads else {}),
            },
            asset_key=asset_key,
        )
        of_months = {
            calendar.to_key(month): {
                "dagster/partition_row_count": rows[month],
                "digest": digests[month],
                **_revision_metadata(revisions.get(month)),
            }
            for month in months
        }
        _add_metadata_of_months(step, asset_key, of_months)
        return version

    def _refuse_another_world(self, step: Any, asset_key: dg.AssetKey) -> None:
        """Which of a table's sources are invented must be what it was when the table was last written."""
        table = asset_key.to_user_string()
        now = _invented_sources(step, asset_key)
        then = None if now is None else self.store.note(table).get(INVENTED)
        if then in (None, now):
            return
        is_now, was = (f"the invented {names}" if names else "real sources" for names in (now, then))
        held = sorted(self.store.months(table))
        first, last = calendar.to_key(held[0]), calendar.to_key(held[-1])
        raise MixedSourcesError(
            f"{table} was made from {was}, and here it is made from {is_now}. Give these sources a home of their own "
            "(VIEWS_HOME), or make all of its months again:\n"
            f"  dagster asset materialize --select '*{table}' --partition-range {first}...{last}"
        )

    def _revisions(
        self, table: str, frame: pl.DataFrame, months: Sequence[int], keys: Sequence[str]
    ) -> Mapping[int, Revision]:
        known = set(months) & self.store.months(table) - self.store.damage(table, min(months), max(months)).keys()
        if not known:
            return {}
        old = self.store.scan(table, min(months), max(months)).filter(pl.col("month_id").is_in(list(known))).collect()
        return compare(old, frame.filter(pl.col("month_id").is_in(list(known))), keys)


def _step(context: Any) -> tuple[str, str]:
    return context.run_id, context.step.key


def _nothing() -> None:
    pass


def first_month_of(step: Any, asset_key: dg.AssetKey) -> int:
    """Month id of the first month that an asset of the step's job has."""
    begins = step.job_def.asset_layer.get(asset_key).metadata.get(BEGINS)
    return calendar.FIRST_MONTH if begins is None else calendar.from_key(begins)


def _invented_sources(step: Any, asset_key: dg.AssetKey) -> str | None:
    """What the definition of an asset of the step's job says; None where it is neither raw data nor features."""
    names = step.job_def.asset_layer.get(asset_key).metadata.get(INVENTED)
    return None if names is None else ", ".join(names)


def _add_metadata_of_months(step: Any, asset_key: dg.AssetKey, metadata: Mapping[str, Mapping[str, Any]]) -> None:
    """`step.add_asset_metadata` of each month, which copies all that it holds each time: the square of the range."""
    held = dict(step._metadata_accumulator.per_output_metadata)
    for month, figures in metadata.items():
        handle = AssetMetadataHandle(asset_key=asset_key, partition_key=month)
        held[handle] = {**held.get(handle, {}), **figures}
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=held)


def _revision_metadata(revision: Revision | None) -> dict[str, Any]:
    if revision is None:
        return {}
    return {
        "rows_added": revision.added,
        "rows_dropped": revision.dropped,
        "rows_revised": revision.revised,
        "sums_changed": dg.MetadataValue.json(revision.changes),
    }
