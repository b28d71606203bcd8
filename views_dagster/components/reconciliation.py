"""`Reconciliation`: a forecast of cells, scaled so that the cells of each country sum to the country's forecast."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field

from resources.storage import ROW_KEYS, Storage
from views_dagster import calendar
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import HISTORY, MONTHS, line_of, system_folder
from views_dagster.components.forecast_assets import (
    FORECAST_KEYS,
    forecast_checks,
    forecast_metadata,
    forecast_tags,
    guard,
)
from views_dagster.components.forecast_scaffolding import ReconciliationScaffolder
from views_dagster.components.forecasting import (
    ENSEMBLES,
    MODELS,
    CombinedAttributes,
    ForecastEntry,
    Subject,
    are_present,
    forecast_entries,
)
from views_dagster.components.metadata import frame_head, number
from views_dagster.components.source import panel_readers_in_force
from views_dagster.conflict.reconciliation import ReconciliationReport, choose_draws, reconcile
from views_dagster.conflict.released import country_names
from views_dagster.forecasts import Forecast
from views_dagster.names import nearest
from views_dagster.panel import KEYS
from views_dagster.seeds import seed_for


class ReconciliationAttributes(CombinedAttributes):
    """Settings of a reconciliation."""

    cells: str = Field(description="Name of the model or ensemble whose forecast is scaled.")
    parents: str = Field(
        description="Name of the model or ensemble of the same target, at the level whose units hold the cells, that "
        "their sums are scaled to."
    )
    draws: int = Field(default=64, ge=1, le=10_000, description="Number of draws, which is that of the cells.")
    spread_zero_draws: bool = Field(
        default=False,
        description="Where all cells of a country are zero in a draw and the country is not: share its total in "
        "proportion to the cells' means over draws, evenly if these are zero too. Otherwise it is reported and lost.",
    )


@dg.scaffold_with(ReconciliationScaffolder)
class Reconciliation(ForecastEntry[ReconciliationAttributes]):
    """A reconciled forecast, `ensembles/<name>`: the cells' shares of their countries, and the countries' totals.

    Draw s of the cells is scaled to draw s of the countries. Where the countries have another number of draws, and more
    than one, as many whole draws as the cells have are chosen from theirs: a seeded stratified sample over how severe
    they are, see `choose_draws`. The means of the reconciled countries then differ a little from those of their own
    forecast; the metadata says by how much.
    """

    attributes_type = ReconciliationAttributes
    room = table_group = ENSEMBLES

    def is_present(self, context: dg.ComponentLoadContext, system: Path) -> bool:
        """Whether it is not retired and this deployment has what it is made from."""
        known = _forecasts(context, system)
        parts = (known[name] for name in (self.attributes.cells, self.attributes.parents) if name in known)
        return self.attributes.maturity != "retired" and are_present(context, system, parts)

    def subject(self, context: dg.ComponentLoadContext, folder: Path) -> Subject:
        """What the cells forecast."""
        return self._parts(context, folder)["cells"][1]

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The reconciled asset and the checks of its forecast; nothing where it is not present."""
        if not self.is_present(context, system_folder(context)):
            return dg.Definitions()
        name, settings, key = context.path.name, self.attributes, self.key(context.path.name)
        parts = self._parts(context, context.path)
        (cells_key, of_cells), (parents_key, of_parents) = parts["cells"], parts["parents"]
        target, units, parent_units = of_cells.target, of_cells.queryset.units, of_parents.queryset.units

        @dg.asset(
            key=key,
            group_name="ensembles",
            description=settings.description,
            partitions_def=MONTHS,
            ins={
                "features": dg.AssetIn(key=of_cells.features_key, partition_mapping=HISTORY),
                "parent_features": dg.AssetIn(key=of_parents.features_key, partition_mapping=HISTORY),
                "cells": dg.AssetIn(key=cells_key),
                "parents": dg.AssetIn(key=parents_key),
                "units": dg.AssetIn(key=["raw", units]),
            },
            metadata={ROW_KEYS: list(FORECAST_KEYS), "cells": settings.cells, "parents": settings.parents},
            tags=forecast_tags(system_folder(context).name, of_cells.queryset.level, target, settings.maturity),
            kinds={"python"},
            code_version=self.code_version,
            required_resource_keys={"io_manager"},
        )
        def reconciled(
            context: dg.AssetExecutionContext,
            features: pl.LazyFrame,
            parent_features: pl.LazyFrame,
            cells: pl.LazyFrame,
            parents: pl.LazyFrame,
            units: pl.LazyFrame,
        ) -> pl.DataFrame:
            origin = calendar.from_key(context.partition_key)
            shares, totals = (Forecast.from_frame(rows.collect()) for rows in (cells, parents))
            aligned = totals
            if totals.draws.shape[2] > 1:
                seed = seed_for(name, "choose draws", origin)
                aligned = choose_draws(totals, shares.draws.shape[2], seed=seed)
            forecast, report = reconcile(
                shares,
                aligned,
                units.select("unit_id", "parent_id").collect(),
                spread_zero_draws=settings.spread_zero_draws,
            )
            frame = forecast.to_frame(model=name, level=of_cells.queryset.level, target=target)
            history = features.select(*KEYS, target).collect()
            # One cell may take all that its country expects.
            guard(frame, parent_features.select("month_id", target).collect(), target, settings.validity)
            store = cast(Storage, context.resources.io_manager).store
            names = country_names(store, origin, f"raw/{parent_units}")
            context.add_output_metadata(
                {
                    **report_metadata(report, forecast, totals, aligned, names),
                    **forecast_metadata(forecast, history, key, target, of_cells.queryset.units, store),
                }
            )
            return frame

        checks = forecast_checks(
            key, settings, features=of_cells.features_key, target=target, bounded_by=of_parents.features_key
        )
        return dg.Definitions(assets=[reconciled], asset_checks=checks)

    def _parts(self, context: dg.ComponentLoadContext, folder: Path) -> dict[str, tuple[dg.AssetKey, Subject]]:
        """Table and subject of `cells` and `parents`; `folder` is the reconciliation's own.

        Raises:
            CatalogueError: they do not exist, are retired, or do not fit each other.
        """
        settings, system = self.attributes, folder.parents[1]
        known = _forecasts(context, system)
        usable = {name: entry for name, entry in known.items() if entry.attributes.maturity != "retired"}
        named = {"cells": settings.cells, "parents": settings.parents}
        reconciled = forecast_entries(context, system, ENSEMBLES).keys() - known.keys()
        problems = []
        for setting, name in named.items():
            place = f"{line_of(folder, [setting])}: {setting}"
            if name in known and name not in usable:
                problems.append(f"{place}: {name} is retired; name another")
            elif name in reconciled:
                problems.append(f"{place}: {name} is a reconciliation itself; name what it is made from")
            elif name not in known:
                problems.append(f"{place}: there is no model or ensemble {name}{nearest(name, usable)}")
        if problems:
            raise CatalogueError("\n".join(problems))
        parts = {
            setting: (known[name].key(name), known[name].subject(context, system / known[name].room / name))
            for setting, name in named.items()
        }
        of_cells, of_parents = parts["cells"][1], parts["parents"][1]
        queryset = of_cells.queryset
        units = panel_readers_in_force(context, system).get(queryset.units)
        # That there is no such source is for the queryset to say.
        parent_level = of_parents.queryset.level if units is None else units.parent_level
        if parent_level is None:
            problems.append(
                f"{line_of(folder, ['cells'])}: cells: {settings.cells} is at level {queryset.level}, whose units "
                f"({queryset.units}) lie in no larger ones; name a forecast of cells"
            )
        elif parent_level != of_parents.queryset.level:
            problems.append(
                f"{line_of(folder, ['parents'])}: parents: {settings.parents} is at level {of_parents.queryset.level}; "
                f"the units of {settings.cells} ({queryset.units}) lie in those of level {parent_level}"
            )
        if of_cells.target != of_parents.target:
            problems.append(
                f"{line_of(folder, ['parents'])}: parents: {settings.parents} forecasts {of_parents.target}, "
                f"{settings.cells} {of_cells.target}; name two forecasts of one target"
            )
        draws = known[settings.cells].attributes.draws
        if draws != settings.draws:
            problems.append(
                f"{line_of(folder, ['draws'])}: draws: {settings.cells} has {draws} draws, which a reconciliation "
                f"keeps; write draws: {draws}"
            )
        if problems:
            raise CatalogueError("\n".join(problems))
        return parts


def _forecasts(context: dg.ComponentLoadContext, system: Path) -> dict[str, ForecastEntry[Any]]:
    """Models and ensembles by name; what is reconciled already is not reconciled again."""
    found = forecast_entries(context, system, MODELS, ENSEMBLES)
    return {name: entry for name, entry in found.items() if not isinstance(entry, Reconciliation)}


def report_metadata(
    report: ReconciliationReport, forecast: Forecast, totals: Forecast, aligned: Forecast, names: Mapping[int, str]
) -> dict[str, Any]:
    """What reconciling did, as numbers and tables.

    Args:
        totals: the countries' forecast.
        aligned: the draws of it that the cells were scaled to.
        names: of the countries.
    """
    countries = report.to_frame().with_columns(
        country=pl.col("unit_id").replace_strict(names, default=pl.col("unit_id").cast(pl.String))
    )
    table = countries.select("country", "unit_id", "largest_factor", "all_zero_draws", "unplaced")
    held = np.isin(totals.units, report.countries)
    expected, scaled_to = (
        float(part.draws[held].sum(dtype=np.float64)) / part.draws.shape[2] for part in (totals, aligned)
    )
    unplaced = float(report.unplaced.sum())
    return {
        "largest_factors": frame_head(table.sort("largest_factor", descending=True)),
        "largest_unplaced": frame_head(table.filter(pl.col("unplaced") > 0).sort("unplaced", descending=True)),
        "largest_factor": number(float(report.largest_factor.max())),
        "countries": len(report.countries),
        "countries_without_cells": len(report.without_cells),
        "without_cells": dg.MetadataValue.text(
            ", ".join(names.get(unit, str(unit)) for unit in report.without_cells.tolist()) or "none"
        ),
        "all_zero_draws": int(report.all_zero.sum()),
        "unplaced": number(unplaced),
        "unplaced_share": number(unplaced / scaled_to if scaled_to else 0.0),
        "parents_sum_of_means": number(expected),
        "chosen_draws_to_all": number(scaled_to / expected if expected else 1.0),
        "reconciled_sum_of_means": number(float(forecast.draws.sum(dtype=np.float64)) / forecast.draws.shape[2]),
    }
