"""`Source`: one raw table, read by one of several kinds of reader."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import dagster as dg
import polars as pl
from pydantic import Field

from resources.storage import BEGINS, INVENTED, REVISIONS, ROW_KEYS
from views_dagster import calendar
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import (
    MONTHLY_FRESHNESS,
    MONTHS,
    WHOLE_RANGE,
    AnyReader,
    Attributes,
    CatalogueEntry,
    configured_readers,
    digest_of,
    entries,
    month_range,
    sources_file,
    system_folder,
)
from views_dagster.components.checks import Evaluate, suite_checks
from views_dagster.components.metadata import frame_head
from views_dagster.components.scaffolding import SourceScaffolder
from views_dagster.drift.inputs import INPUT_CHECKS, check_input
from views_dagster.drift.results import CheckResult
from views_dagster.drift.settings import InputDriftSettings
from views_dagster.sources.base import PanelReader, Reader
from views_dagster.storage.tables import TableStore


class SourceAttributes(Attributes):
    """Settings of a source."""

    reader: AnyReader = Field(description="Where the rows come from; `kind` picks the reader.")
    level: str = Field(default="cm", description="Level at which the checks look at the rows, if the reader has one.")
    drift: InputDriftSettings = Field(
        default_factory=InputDriftSettings, description="Thresholds of the checks of each month."
    )


@dg.scaffold_with(SourceScaffolder)
class Source(CatalogueEntry[SourceAttributes]):
    """A raw table, `raw/<name>`: one partition a month, earlier vintages kept.

    A deployment may put another reader in place of the catalogue's, see `readers_in_force`.
    """

    attributes_type = SourceAttributes
    room = "sources"

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The raw asset and, where its reader offers columns, the checks; nothing where it has no reader here."""
        name = context.path.name
        readers = readers_in_force(context, system_folder(context))
        if name not in readers:
            return dg.Definitions()
        reader, key = readers[name], dg.AssetKey(["raw", name])
        begins = begins_of(reader)

        @dg.asset(
            key=key,
            group_name="raw_data",
            description=self.attributes.description,
            partitions_def=MONTHS,
            backfill_policy=WHOLE_RANGE,
            metadata={
                ROW_KEYS: list(reader.row_keys),
                REVISIONS: True,
                BEGINS: calendar.to_key(begins),
                INVENTED: invented({name: reader}),
                "reader": reader.model_dump(mode="json"),
            },
            tags={"system": system_folder(context).name},
            kinds={"polars", "deltalake"},
            code_version=digest_of(reader.model_dump())[:12],
            freshness_policy=MONTHLY_FRESHNESS,
        )
        def raw(context: dg.AssetExecutionContext) -> pl.DataFrame:
            first, last = month_range(context)
            if last < begins:
                return pl.DataFrame()
            months = reader.read(max(first, begins), last)
            context.add_asset_metadata(
                {"head": frame_head(months.frame.filter(pl.col("month_id") == last))}, key, calendar.to_key(last)
            )
            context.add_asset_metadata(
                {
                    **{f"repaired: {repair}": count for repair, count in months.repairs.items()},
                    **{f"from: {what}": text for what, text in months.provenance.items()},
                },
                key,
            )
            return months.frame

        if not isinstance(reader, PanelReader) or not reader.columns(self.attributes.level):
            return dg.Definitions(assets=[raw])
        return dg.Definitions(
            assets=[raw],
            asset_checks=[suite_checks(key, "input", INPUT_CHECKS, self._check(reader, key), partitioned=False)],
        )

    def _check(self, reader: PanelReader, key: dg.AssetKey) -> Evaluate:
        settings, level = self.attributes.drift, self.attributes.level

        def check(store: TableStore, month: int) -> Iterable[CheckResult]:
            rows = store.scan(key.to_user_string(), month - settings.history_months, month)
            panel = reader.panel(rows, level)
            if reader.absent_is_zero:
                panel = _with_zeros(panel)
            return check_input(panel.collect(), month, settings, columns=sorted(reader.columns(level)))

        return check


def readers_in_force(context: dg.ComponentLoadContext, system: Path) -> dict[str, Reader]:
    """The readers of a system's sources in this deployment, by name.

    A deployment's own readers (`configured_readers`) replace the catalogue's. Where one of them says which units there
    are, an invented world's readers that are left would speak of other units: those sources are absent, and with them
    everything that is made from them. So is every invented source of a system of which the deployment names none,
    where it names real ones of another.

    Raises:
        CatalogueError: an invented world's reader is configured beside real units.
    """
    catalogue = catalogue_readers(context, system)
    everywhere = configured_readers()
    configured = {name: reader for name, reader in everywhere.items() if name in catalogue}
    real = any(reader.lists_units and not reader.invented for reader in configured.values())
    mixed = [name for name, reader in configured.items() if reader.invented]
    file = sources_file()
    if real and mixed and file is not None:
        raise CatalogueError(
            f"{file.place([mixed[0]])}: {mixed[0]}: the demo world's {', '.join(mixed)} cannot stand beside real "
            "units; name real sources, or leave these out with what is made from them"
        )
    elsewhere = not configured and any(not reader.invented for reader in everywhere.values())
    return {
        name: configured.get(name, reader)
        for name, reader in catalogue.items()
        if name in configured or not ((real or elsewhere) and reader.invented)
    }


def catalogue_readers(context: dg.ComponentLoadContext, system: Path) -> dict[str, Reader]:
    """The readers of a system's sources as the catalogue has them, by name."""
    return {name: source.attributes.reader for name, source in entries(context, system, "sources", Source).items()}


def begins_of(reader: Reader) -> int:
    """Month id of the first month of the calendar that a source has."""
    return calendar.FIRST_MONTH if reader.begins is None else max(reader.begins, calendar.FIRST_MONTH)


def invented(readers: Mapping[str, Reader]) -> list[str]:
    """The names of those that read an invented world."""
    return sorted(name for name, reader in readers.items() if reader.invented)


def panel_readers_in_force(context: dg.ComponentLoadContext, system: Path) -> dict[str, PanelReader]:
    """Those of `readers_in_force` that are about units that live through the months."""
    readers = readers_in_force(context, system)
    return {name: reader for name, reader in readers.items() if isinstance(reader, PanelReader)}


def _with_zeros(panel: pl.LazyFrame) -> pl.LazyFrame:
    """Every unit of the panel in every month of it, zero where it has no row."""
    return (
        panel.select("month_id")
        .unique()
        .join(panel.select("unit_id").unique(), how="cross")
        .join(panel, on=["month_id", "unit_id"], how="left")
        .fill_null(0)
    )
