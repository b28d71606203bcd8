"""`Queryset`: one feature table, declared as columns and transforms."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import dagster as dg
import polars as pl
from pydantic import Field

from resources.storage import INVENTED, ROW_KEYS
from views_dagster import calendar
from views_dagster.components.blocks import CatalogueError, YamlBlock
from views_dagster.components.catalogue import (
    HISTORY,
    MONTHS,
    WHOLE_RANGE,
    CatalogueEntry,
    entries,
    line_of,
    month_range,
    system_folder,
)
from views_dagster.components.checks import Evaluate, suite_checks
from views_dagster.components.deployment import sources_in_force
from views_dagster.components.metadata import frame_head, named_numbers
from views_dagster.components.scaffolding import QuerysetScaffolder
from views_dagster.components.source import Source, invented, panel_readers_in_force, readers_in_force
from views_dagster.drift.inputs import INPUT_CHECKS, check_input
from views_dagster.drift.results import CheckResult
from views_dagster.drift.settings import InputDriftSettings
from views_dagster.errors import QuerysetError
from views_dagster.features import querysets
from views_dagster.features.compute import FeatureReport, compute
from views_dagster.names import nearest
from views_dagster.panel import KEYS
from views_dagster.sources.base import PanelReader
from views_dagster.storage.tables import TableStore


class QuerysetAttributes(YamlBlock, querysets.Queryset):
    """Settings of a queryset."""

    drift: InputDriftSettings = Field(
        default_factory=InputDriftSettings, description="Thresholds of the checks of each month."
    )


@dg.scaffold_with(QuerysetScaffolder)
class Queryset(CatalogueEntry[QuerysetAttributes]):
    """A feature table, `features/<name>`: targets and columns of every unit that exists in the month."""

    attributes_type = QuerysetAttributes
    room = "features"

    def is_present(self, context: dg.ComponentLoadContext, system: Path) -> bool:
        """Whether this deployment has every source that it names, of those that the catalogue has."""
        absent = entries(context, system, "sources", Source).keys() - readers_in_force(context, system).keys()
        return not absent & self.attributes.sources

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The feature asset and the checks of the newest month; nothing where a source is absent here."""
        if not self.is_present(context, system_folder(context)):
            return dg.Definitions()
        queryset = self.attributes
        self._check_ignored(context)
        readers = self._readers(context)
        key = dg.AssetKey(["features", context.path.name])

        @dg.asset(
            key=key,
            group_name="processed_features",
            description=queryset.description,
            partitions_def=MONTHS,
            backfill_policy=WHOLE_RANGE,
            ins={name: dg.AssetIn(key=["raw", name], partition_mapping=HISTORY) for name in sorted(queryset.sources)},
            metadata={ROW_KEYS: list(KEYS), INVENTED: invented(readers), "columns": len(queryset.columns)},
            tags={"system": system_folder(context).name, "level": queryset.level},
            kinds={"polars", "deltalake"},
            code_version=self.code_version,
        )
        def features(context: dg.AssetExecutionContext, **raw: pl.LazyFrame) -> pl.DataFrame:
            first, last = month_range(context)
            frame, report = compute(queryset, readers, raw, first, last)
            newest = frame.filter(pl.col("month_id") == last)
            context.add_asset_metadata({"head": frame_head(newest)}, key, calendar.to_key(last))
            context.add_asset_metadata(_report_metadata(report), key)
            month = pl.col("month_id") == last
            for name, reader in readers.items():
                recent = raw[name].filter(pl.col("month_id").is_between(last - reader.panel_memory, last))
                placed = reader.placed(recent, queryset.level, raw[queryset.units].filter(month))
                if placed:
                    context.add_asset_metadata({f"placed: {name}": named_numbers(placed)}, key, calendar.to_key(last))
            for name, rows in report.outside.items():
                context.log.warning(
                    f"{rows.rows} unit-months of {name} lie outside the life of their unit: {rows.sums}"
                )
                if rows.unknown_units:
                    context.log.warning(
                        f"{name} has rows of units that {queryset.units} does not have: {_listed(rows.unknown_units)}; "
                        "correct the source's unit ids, or add the units"
                    )
            return frame

        checks = suite_checks(key, "input", INPUT_CHECKS, self._check(key), partitioned=False)
        return dg.Definitions(assets=[features], asset_checks=[checks])

    def _check(self, key: dg.AssetKey) -> Evaluate:
        settings = self.attributes.drift
        columns = list(self.attributes.specs)

        def check(store: TableStore, month: int) -> Iterable[CheckResult]:
            window = store.scan(key.to_user_string(), month - settings.history_months, month)
            # The table keeps columns that the queryset once had; they are no longer its business.
            held = [name for name in columns if name in window.collect_schema()]
            return check_input(window.select(*KEYS, *held).collect(), month, settings, columns=columns)

        return check

    def _check_ignored(self, context: dg.ComponentLoadContext) -> None:
        columns = self.attributes.specs
        unknown = [name for name in self.attributes.drift.ignore if name not in columns]
        if unknown:
            raise CatalogueError(
                f"{line_of(context.path, ['drift', 'ignore'])}: drift.ignore: there is no column {unknown[0]}"
                f"{nearest(unknown[0], columns)}"
            )

    def _readers(self, context: dg.ComponentLoadContext) -> Mapping[str, PanelReader]:
        known = panel_readers_in_force(context, system_folder(context))
        try:
            querysets.check(self.attributes, known)
        except QuerysetError as error:
            problems = [_with_line(context, problem) for problem in str(error).splitlines()]
            of_sources = any(": no source " in problem or " has no column " in problem for problem in problems)
            raise CatalogueError("\n".join(problems) + (sources_in_force() if of_sources else "")) from None
        return {name: known[name] for name in self.attributes.sources}


def _with_line(context: dg.ComponentLoadContext, problem: str) -> str:
    place, _, _ = problem.partition(":")
    return f"{line_of(context.path, place.split('.'))}: {problem}"


def _report_metadata(report: FeatureReport) -> dict[str, dg.MetadataValue | str]:
    counts = {
        "unknown_before_transforms": report.missing,
        "null_after_transforms": report.nulls,
        "rows_outside_their_unit": {name: rows.rows for name, rows in report.outside.items()},
    }
    some = {what: {name: count for name, count in found.items() if count} for what, found in counts.items()}
    return (
        {what: named_numbers(found) if found else dg.MetadataValue.text("none") for what, found in some.items()}
        | {f"sums_outside_their_unit: {name}": named_numbers(rows.sums) for name, rows in report.outside.items()}
        | {
            f"unknown_units: {name}": _listed(rows.unknown_units)
            for name, rows in report.outside.items()
            if rows.unknown_units
        }
    )


def _listed(units: Mapping[int, int]) -> str:
    """Units and their rows, `9999 in 12 rows`; of many the first ten."""
    some = ", ".join(f"{unit} in {rows} rows" for unit, rows in list(units.items())[:10])
    return some if len(units) <= 10 else f"{some} and {len(units) - 10} more"
