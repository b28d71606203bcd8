"""`ColumnSet`: one feature table of columns of air, on common levels, beside the rain that fell."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl
from pydantic import Field

from resources.storage import BEGINS, INVENTED, ROW_KEYS
from views_dagster import calendar
from views_dagster.components.blocks import CatalogueError, YamlBlock
from views_dagster.components.catalogue import (
    MONTHS,
    WHOLE_RANGE,
    CatalogueEntry,
    line_of,
    month_range,
    system_folder,
)
from views_dagster.components.checks import suite_checks
from views_dagster.components.deployment import sources_in_force
from views_dagster.components.diagnosis_scaffolding import ColumnSetScaffolder
from views_dagster.components.metadata import frame_head, named_numbers
from views_dagster.components.source import begins_of, catalogue_readers, invented, readers_in_force
from views_dagster.drift.results import CheckResult, not_evaluated
from views_dagster.errors import QuerysetError
from views_dagster.precipitation import column_sets
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.column_arrays import to_columns
from views_dagster.precipitation.column_rows import ColumnReport, compute
from views_dagster.precipitation.drift.columns import COLUMN_CHECKS, check_columns
from views_dagster.precipitation.drift.settings import ColumnDriftSettings
from views_dagster.precipitation.drift.summaries import ColumnSummary
from views_dagster.precipitation.offers import OffersColumns, OffersRain, OnBoxes
from views_dagster.sources.base import Reader
from views_dagster.storage.tables import TableStore

_log = logging.getLogger(__name__)


class ColumnSetAttributes(YamlBlock, column_sets.ColumnSet):
    """Settings of a column set."""

    drift: ColumnDriftSettings = Field(
        default_factory=ColumnDriftSettings, description="Thresholds of the checks of each month."
    )


@dg.scaffold_with(ColumnSetScaffolder)
class ColumnSet(CatalogueEntry[ColumnSetAttributes]):
    """A feature table, `features/<name>`: columns on common levels with the rain that was observed in their boxes."""

    attributes_type = ColumnSetAttributes
    room = "features"

    def is_present(self, context: dg.ComponentLoadContext, system: Path) -> bool:
        """Whether this deployment has its sources, and they offer what it names.

        A column set that the catalogue's own readers fit, and the deployment's do not, is left out: it is of the
        invented world. One that fits neither is a mistake, which `build_defs` refuses.
        """
        return not self._lacks_sources(context, system) and self._misfit(context, system) is None

    def require_sound(self, context: dg.ComponentLoadContext, folder: Path) -> None:
        """Refuse settings that the sources do not fit; `folder` is its own.

        Raises:
            CatalogueError: it names what its sources do not offer.
        """
        if problems := _problems(self.attributes, readers_in_force(context, folder.parents[1])):
            lines = [f"{line_of(folder, place.split('.'))}: {place}: {problem}" for place, problem in problems]
            raise CatalogueError("\n".join(lines) + sources_in_force())

    def grid(self, context: dg.ComponentLoadContext, system: Path) -> BoxGrid:
        """The lattice of its boxes."""
        reader = readers_in_force(context, system)[self.attributes.columns]
        assert isinstance(reader, OnBoxes)
        return reader.grid

    def begins(self, context: dg.ComponentLoadContext, system: Path) -> int:
        """Month id of the first month that all its sources have."""
        readers = readers_in_force(context, system)
        return max(begins_of(readers[name]) for name in self.attributes.sources)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The feature asset and the checks of the newest month; nothing where it is not present.

        Raises:
            CatalogueError: it names what its sources do not offer.
        """
        system = system_folder(context)
        settings = self.attributes
        if self._lacks_sources(context, system):
            return dg.Definitions()
        if misfit := self._misfit(context, system):
            _log.warning(
                "features/%s was made for the catalogue's own sources; of these, %s", context.path.name, misfit
            )
            return dg.Definitions()
        self.require_sound(context, context.path)
        begins, grid = self.begins(context, system), self.grid(context, system)
        key = dg.AssetKey(["features", context.path.name])

        @dg.asset(
            key=key,
            group_name="processed_features",
            description=settings.description,
            partitions_def=MONTHS,
            backfill_policy=WHOLE_RANGE,
            ins={name: dg.AssetIn(key=["raw", name]) for name in sorted(settings.sources)},
            metadata={
                ROW_KEYS: list(column_sets.KEYS),
                BEGINS: calendar.to_key(begins),
                INVENTED: invented({name: readers_in_force(context, system)[name] for name in settings.sources}),
                "variables": len(settings.profile_names) + len(settings.surface_names),
            },
            tags={"system": system.name},
            kinds={"polars", "deltalake"},
            code_version=self.code_version,
        )
        def features(context: dg.AssetExecutionContext, **raw: pl.LazyFrame) -> pl.DataFrame:
            first, last = month_range(context)
            if last < begins:
                return pl.DataFrame()
            members = raw[settings.members] if settings.members else None
            frame, report = compute(
                settings, raw[settings.columns], raw[settings.rain], members, max(first, begins), last, grid
            )
            newest = frame.filter(pl.col("month_id") == last)
            context.add_asset_metadata({"head": frame_head(newest)}, key, calendar.to_key(last))
            context.add_asset_metadata(_report_metadata(report), key)
            return frame

        checks = suite_checks(key, "input", COLUMN_CHECKS, partial(self._checked, key), partitioned=False)
        return dg.Definitions(assets=[features], asset_checks=[checks])

    def _checked(self, key: dg.AssetKey, store: TableStore, month: int) -> Iterable[CheckResult]:
        settings = self.attributes.drift
        table = key.to_user_string()
        held = store.months(table)
        recent = [past for past in range(month - settings.history_months, month + 1) if past in held]
        summaries = [
            ColumnSummary.of(to_columns(store.scan(table, past, past).collect(), self.attributes), past, settings)
            for past in recent
        ]
        if not summaries or summaries[-1].month != month:
            return not_evaluated(COLUMN_CHECKS, f"not evaluated: {table} has no rows of the month")
        return check_columns(summaries[-1], summaries[:-1], settings)

    def _lacks_sources(self, context: dg.ComponentLoadContext, system: Path) -> bool:
        """Whether a source that it names is of the catalogue and not of this deployment."""
        absent = catalogue_readers(context, system).keys() - readers_in_force(context, system).keys()
        return bool(absent & self.attributes.sources)

    def _misfit(self, context: dg.ComponentLoadContext, system: Path) -> str | None:
        """What this deployment's sources lack of what the catalogue's own offer; None where that is nothing."""
        problems = _problems(self.attributes, readers_in_force(context, system))
        # What fits the catalogue's own sources was made for them; anything else is a mistake.
        if problems and not _problems(self.attributes, catalogue_readers(context, system)):
            return ": ".join(problems[0])
        return None


def _problems(settings: ColumnSetAttributes, readers: Mapping[str, Reader]) -> list[tuple[str, str]]:
    """What these sources do not offer: place in the YAML, and what is wrong there."""
    fields = {name: frozenset[str]() for name in readers}
    fields |= {name: reader.fields for name, reader in readers.items() if isinstance(reader, OffersColumns)}
    units = {name: reader.level_unit for name, reader in readers.items() if isinstance(reader, OffersColumns)}
    if settings.columns in readers and settings.columns not in units:
        return [("columns", f"{settings.columns} is no source of columns")]
    try:
        column_sets.check(settings, fields, units)
    except QuerysetError as error:
        parts = (problem.partition(": ") for problem in str(error).splitlines())
        return [(place, problem) for place, _, problem in parts]
    problems = []
    rain = readers[settings.rain]
    if not isinstance(rain, OffersRain):
        problems.append(("rain", f"{settings.rain} is no source of rain in bands"))
    elif rain.edges != settings.edges:
        problems.append(("edges", f"{settings.rain} has the bands {list(rain.edges)}, not {list(settings.edges)}"))
    if settings.members is not None and isinstance(readers[settings.members], OffersColumns | OffersRain):
        problems.append(("members", f"{settings.members} is no source of NWP members"))
    grids = {name: getattr(readers[name], "grid", None) for name in sorted(settings.sources)}
    if len({str(grid) for grid in grids.values()}) > 1:
        listed = "; ".join(f"{name}: {grid}" for name, grid in grids.items())
        problems.append(("columns", f"its sources are on different boxes: {listed}"))
    return problems


def _report_metadata(report: ColumnReport) -> dict[str, dg.MetadataValue]:
    counts = asdict(report)
    incomplete = counts.pop("incomplete")
    some = {name: float(count) for name, count in counts.items() if count}
    return {"rows_and_repairs": named_numbers(some)} | (
        {"dropped_for_lack_of": named_numbers(incomplete)} if incomplete else {}
    )
