"""`Ensemble`: the forecasts of several models as one."""

from pathlib import Path
from typing import Any, cast

import dagster as dg
import polars as pl
from pydantic import Field

from resources.storage import ROW_KEYS, Storage
from views_dagster import calendar
from views_dagster.components.artifact_rows import stored_beside
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import (
    HISTORY,
    MONTHS,
    line_of,
    named_members,
    system_folder,
)
from views_dagster.components.forecast_assets import (
    FORECAST_KEYS,
    forecast_checks,
    forecast_metadata,
    forecast_tags,
    guard,
)
from views_dagster.components.forecast_scaffolding import EnsembleScaffolder
from views_dagster.components.forecasting import (
    ENSEMBLES,
    MODELS,
    CombinedAttributes,
    ForecastEntry,
    Subject,
    are_present,
    forecast_entries,
)
from views_dagster.components.model import BACKTEST_FILE, ForecastModel
from views_dagster.ensembles.methods import AnyMethod
from views_dagster.errors import ForecastError
from views_dagster.evaluation.backtest import from_bytes
from views_dagster.forecasts import Forecast
from views_dagster.panel import KEYS
from views_dagster.reports.tables import markdown_table
from views_dagster.seeds import seed_for


class EnsembleAttributes(CombinedAttributes):
    """Settings of an ensemble."""

    members: tuple[str, ...] = Field(min_length=2, description="Names of models with the same target and level.")
    method: AnyMethod = Field(description="How members become one forecast; `kind` picks it.")


@dg.scaffold_with(EnsembleScaffolder)
class Ensemble(ForecastEntry[EnsembleAttributes]):
    """An ensemble, `ensembles/<name>`: its members' draws combined, whole draws kept together."""

    attributes_type = EnsembleAttributes
    room = table_group = ENSEMBLES

    def is_present(self, context: dg.ComponentLoadContext, system: Path) -> bool:
        """Whether it is not retired and this deployment has its members."""
        models = forecast_entries(context, system, MODELS)
        members = (models[member] for member in self.attributes.members if member in models)
        return self.attributes.maturity != "retired" and are_present(context, system, members)

    def subject(self, context: dg.ComponentLoadContext, folder: Path) -> Subject:
        """What its members forecast."""
        models = self._members(context, folder)
        name, first = next(iter(models.items()))
        return first.subject(context, folder.parents[1] / MODELS / name)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The ensemble's asset and the checks of its forecast; nothing where it is not present."""
        if not self.is_present(context, system_folder(context)):
            return dg.Definitions()
        name, settings = context.path.name, self.attributes
        members = self._members(context, context.path)
        subject = self.subject(context, context.path)
        queryset, target, features_key = subject.queryset, subject.target, subject.features_key
        key = self.key(name)
        ins = {
            "features": dg.AssetIn(key=features_key, partition_mapping=HISTORY),
            **{f"forecast_{member}": dg.AssetIn(key=model.key(member)) for member, model in members.items()},
        }
        if settings.method.needs_backtests:
            ins |= {f"artifact_{member}": dg.AssetIn(key=["artifacts", member]) for member in members}

        @dg.asset(
            key=key,
            group_name="ensembles",
            description=settings.description,
            partitions_def=MONTHS,
            ins=ins,
            metadata={ROW_KEYS: list(FORECAST_KEYS), "method": settings.method.model_dump(mode="json")},
            tags=forecast_tags(system_folder(context).name, queryset.level, target, settings.maturity),
            kinds={"python"},
            code_version=self.code_version,
            required_resource_keys={"io_manager"},
        )
        def ensemble(
            context: dg.AssetExecutionContext, features: pl.LazyFrame, **upstream: pl.LazyFrame
        ) -> pl.DataFrame:
            history = features.select(*KEYS, target).collect()
            forecasts: dict[str, Forecast] = {}
            for member in members:
                rows = upstream[f"forecast_{member}"].collect()
                guard(rows, history, target, settings.validity)
                forecasts[member] = Forecast.from_frame(rows)
            backtests = {
                member: from_bytes(stored_beside(upstream[f"artifact_{member}"].collect(), BACKTEST_FILE, member))
                for member in members
                if settings.method.needs_backtests
            }
            weights = settings.method.weigh(list(members), backtests)
            origin = calendar.from_key(context.partition_key)
            combined = settings.method.combine(
                forecasts, weights, draws=settings.draws, seed=seed_for(name, "combine", origin)
            )
            frame = combined.to_frame(model=name, level=queryset.level, target=target)
            guard(frame, history, target, settings.validity)
            table = pl.DataFrame({"member": list(weights), "weight": list(weights.values())})
            store = cast(Storage, context.resources.io_manager).store
            context.add_output_metadata(
                {
                    "weights": dg.MetadataValue.md(markdown_table(table.sort("weight", descending=True), rows=50)),
                    **forecast_metadata(combined, history, key, target, queryset.units, store),
                }
            )
            return frame

        checks = forecast_checks(key, settings, features=features_key, target=target)
        return dg.Definitions(assets=[ensemble], asset_checks=checks)

    def _members(self, context: dg.ComponentLoadContext, folder: Path) -> dict[str, ForecastEntry[Any]]:
        """The models by name, all of one target and level; `folder` is the ensemble's own."""
        settings, system = self.attributes, folder.parents[1]

        def objection(model: ForecastEntry[Any]) -> str | None:
            if not settings.method.needs_backtests or isinstance(model, ForecastModel):
                return None
            return (
                "is made elsewhere and has no backtests, which the method "
                f"{settings.method.kind} needs; take it out, or use another method"
            )

        models = forecast_entries(context, system, MODELS)
        members = named_members(folder, settings.members, models, objection)
        if not settings.method.needs_backtests:
            try:
                settings.method.weigh(list(members), {})
            except ForecastError as error:
                raise CatalogueError(f"{line_of(folder, ['method', 'weights'])}: method.weights: {error}") from None
        subjects = {name: str(model.subject(context, system / MODELS / name)) for name, model in members.items()}
        if len(set(subjects.values())) != 1:
            raise CatalogueError(
                f"{line_of(folder, ['members'])}: members: they forecast different things: "
                + ", ".join(f"{name} {subject}" for name, subject in subjects.items())
            )
        return members
