"""`Ensemble`: the forecasts of several models as one."""

from typing import cast

import dagster as dg
import polars as pl
from pydantic import Field

from resources.storage import ROW_KEYS, Storage
from views_dagster import calendar
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import (
    HISTORY,
    MONTHS,
    CatalogueEntry,
    entries,
    line_of,
    system_folder,
)
from views_dagster.components.forecast_assets import (
    FORECAST_KEYS,
    ForecastAttributes,
    forecast_checks,
    forecast_metadata,
    forecast_tags,
    guard,
)
from views_dagster.components.model import ForecastModel, backtest_file
from views_dagster.components.queryset import QuerysetAttributes
from views_dagster.components.scaffolding import EnsembleScaffolder
from views_dagster.ensembles.methods import AnyMethod
from views_dagster.errors import ForecastError
from views_dagster.evaluation.backtest import from_bytes
from views_dagster.forecasts import Forecast
from views_dagster.names import nearest
from views_dagster.panel import KEYS
from views_dagster.reports.tables import markdown_table
from views_dagster.seeds import seed_for


class EnsembleAttributes(ForecastAttributes):
    """Settings of an ensemble."""

    members: tuple[str, ...] = Field(min_length=2, description="Names of models with the same target and level.")
    method: AnyMethod = Field(description="How members become one forecast; `kind` picks it.")
    leading: bool = Field(default=False, description="Shown first to people who read the release; one may be.")


@dg.scaffold_with(EnsembleScaffolder)
class Ensemble(CatalogueEntry[EnsembleAttributes]):
    """An ensemble, `ensembles/<name>`: its members' draws combined, whole draws kept together."""

    attributes_type = EnsembleAttributes
    room = "ensembles"
    adjective_noun = True

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The ensemble's asset and the checks of its forecast; nothing for a retired one."""
        if self.attributes.maturity == "retired":
            return dg.Definitions()
        name, settings = context.path.name, self.attributes
        members, queryset = self._members(context)
        first = next(iter(members.values()))
        target, features_key = first.attributes.target, dg.AssetKey(["features", first.attributes.features])
        key = dg.AssetKey(["ensembles", name])
        ins = {
            "features": dg.AssetIn(key=features_key, partition_mapping=HISTORY),
            **{f"forecast_{member}": dg.AssetIn(key=["forecasts", member]) for member in members},
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
                member: from_bytes(backtest_file(upstream[f"artifact_{member}"].collect()))
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
                    **forecast_metadata(combined, history, name, target, queryset.units, store),
                }
            )
            return frame

        checks = forecast_checks(key, settings, features=features_key, target=target)
        return dg.Definitions(assets=[ensemble], asset_checks=checks)

    def _members(self, context: dg.ComponentLoadContext) -> tuple[dict[str, ForecastModel], QuerysetAttributes]:
        """The models by name, all of one target and level, and the queryset of the first."""
        models = entries(context, system_folder(context), "models", ForecastModel)
        usable = {name: model for name, model in models.items() if model.attributes.maturity != "retired"}
        problems = []
        for number, member in enumerate(self.attributes.members):
            place = f"{line_of(context.path, ['members', number])}: members"
            if member in self.attributes.members[:number]:
                problems.append(f"{place}: {member} is named twice")
            elif member in models and member not in usable:
                problems.append(f"{place}: {member} is retired; take it out")
            elif member not in models:
                problems.append(f"{place}: there is no model {member}{nearest(member, usable)}")
        if problems:
            raise CatalogueError("\n".join(problems))
        members = {member: models[member] for member in self.attributes.members}
        if not self.attributes.method.needs_backtests:
            try:
                self.attributes.method.weigh(list(members), {})
            except ForecastError as error:
                raise CatalogueError(
                    f"{line_of(context.path, ['method', 'weights'])}: method.weights: {error}"
                ) from None
        folder = system_folder(context) / ForecastModel.room
        querysets = {name: model.inputs(context, folder / name)[0] for name, model in members.items()}
        forecast = {
            name: f"{model.attributes.target} at level {querysets[name].level}" for name, model in members.items()
        }
        if len(set(forecast.values())) != 1:
            raise CatalogueError(
                f"{line_of(context.path, ['members'])}: members: they forecast different things: "
                + ", ".join(f"{name} {what}" for name, what in forecast.items())
            )
        return members, next(iter(querysets.values()))
