"""`ForecastModel`: one learner on one queryset; its trained artifact and its forecasts, month by month."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field

from resources.storage import ROW_KEYS, Storage
from resources.tracking import Tracking
from views_dagster import calendar
from views_dagster.components.artifact_rows import (
    ARTIFACT_KEYS,
    artifact_rows,
    flat_settings,
    model_files,
    stored_bytes,
)
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import HISTORY, MONTHS, line_of, system_folder
from views_dagster.components.compute import Compute
from views_dagster.components.forecast_assets import (
    FORECAST_KEYS,
    ForecastAttributes,
    forecast_checks,
    forecast_metadata,
    forecast_tags,
    guard,
)
from views_dagster.components.forecast_scaffolding import ModelScaffolder
from views_dagster.components.forecasting import (
    ForecastEntry,
    Subject,
    queryset_is_present,
    queryset_with,
    require_made_with,
)
from views_dagster.components.metadata import number
from views_dagster.components.queryset import QuerysetAttributes
from views_dagster.components.source import panel_readers_in_force
from views_dagster.components.sweep import sweep_asset
from views_dagster.evaluation.backtest import backtest, summarise, to_bytes
from views_dagster.evaluation.folds import panel_objective
from views_dagster.learners.balance import BALANCE
from views_dagster.learners.registry import AnyLearner, load_artifact, read_record, save_artifact
from views_dagster.names import nearest
from views_dagster.panel import KEYS, Panel
from views_dagster.seeds import seed_for
from views_dagster.storage.digests import digest_frame
from views_dagster.tuning.space import SweepSettings

BACKTEST_FILE = "backtest.parquet"


class ModelAttributes(ForecastAttributes):
    """Settings of a model."""

    features: str = Field(description="Name of the queryset it learns from.")
    target: str = Field(description="Name of one of the queryset's targets.")
    columns: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, description="The queryset's columns to learn from; all of them by default."
    )
    learner: AnyLearner = Field(description="The algorithm and its hyperparameters; `kind` picks it.")
    sweep: SweepSettings | None = Field(default=None, description="A search for better hyperparameters.")
    compute: Compute = Field(default_factory=Compute, exclude=True, description="What the training step needs.")


@dg.scaffold_with(ModelScaffolder)
class ForecastModel(ForecastEntry[ModelAttributes]):
    """A model: `artifacts/<name>`, trained on everything up to the month, and `forecasts/<name>`, made with it."""

    attributes_type = ModelAttributes
    room, table_group = "models", "forecasts"

    def is_present(self, context: dg.ComponentLoadContext, system: Path) -> bool:
        """Whether it is not retired and this deployment has its queryset."""
        return self.attributes.maturity != "retired" and queryset_is_present(context, system, self.attributes.features)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The two assets and the checks of the forecast; nothing where it is not present."""
        if not self.is_present(context, system_folder(context)):
            return dg.Definitions()
        name, system = context.path.name, system_folder(context).name
        queryset, columns = self.inputs(context, context.path)
        settings = self.attributes
        artifact_key, forecast_key = dg.AssetKey(["artifacts", name]), dg.AssetKey(["forecasts", name])
        features_key = dg.AssetKey(["features", settings.features])
        wanted = [*KEYS, settings.target, *columns]
        tags = forecast_tags(system, queryset.level, settings.target, settings.maturity)

        def panel_of(features: pl.LazyFrame) -> tuple[Panel, pl.DataFrame, str]:
            held = features.collect_schema().names()
            rows = features.select(name for name in wanted if name in held).collect()
            require_made_with(rows, [settings.target, *columns], features_key.to_user_string())
            panel = Panel.from_frame(rows, target=settings.target, features=columns)
            return panel, rows.select(*KEYS, settings.target), digest_frame(rows, KEYS)

        @dg.asset(
            key=artifact_key,
            group_name="trained_artifacts",
            description=f"{settings.description}\n\nTrained on everything up to and including the month.",
            partitions_def=MONTHS,
            ins={"features": dg.AssetIn(key=features_key, partition_mapping=HISTORY)},
            metadata={ROW_KEYS: list(ARTIFACT_KEYS), "learner": settings.learner.model_dump(mode="json")},
            tags=tags,
            kinds={"python"},
            code_version=self.code_version,
            op_tags=settings.compute.op_tags(),
            pool=settings.compute.pool,
            retry_policy=settings.compute.retry_policy,
        )
        @settings.compute.retrying
        def artifact(context: dg.AssetExecutionContext, tracking: Tracking, features: pl.LazyFrame) -> pl.DataFrame:
            panel, _, digest = panel_of(features)
            months, units = panel.exists.shape
            context.log.info(f"training {name} on {months} months of {units} units and {len(columns)} columns")
            seed = seed_for(name, "fit", panel.origin)
            fitted = settings.learner.fit(panel, steps=calendar.STEPS, seed=seed)
            files = save_artifact(
                settings.learner,
                fitted,
                panel=panel,
                steps=calendar.STEPS,
                seed=seed,
                inputs={settings.features: digest},
            )
            balance = balance_metadata(files)
            if balance.get("balance_steps_out_of_bounds"):
                context.log.warning(f"{name}: the level of some steps could not be held to what was observed")
            context.log.info(f"trained {name}; testing it on earlier origins")
            tested = backtest(
                settings.learner,
                panel,
                model=name,
                level=queryset.level,
                draws=settings.draws,
                seed=seed_for(name, "backtest", panel.origin),
            )
            table = artifact_rows(panel.origin, files, {BACKTEST_FILE: to_bytes(tested)})
            metrics = summarise(tested)
            run_id = tracking.log_model(
                context,
                model=name,
                month=context.partition_key,
                digest=digest_frame(table, ARTIFACT_KEYS),
                parameters={
                    "features": settings.features,
                    "target": settings.target,
                    "draws": settings.draws,
                    "seed": seed,
                    **flat_settings("learner", settings.learner.model_dump(mode="json")),
                },
                metrics=metrics,
                tags={
                    "features_digest": digest,
                    "system": system,
                    "maturity": settings.maturity,
                    **{f"version.{library}": found for library, found in read_record(files).libraries.items()},
                },
                files=files,
            )
            context.add_output_metadata(
                {
                    "months": months,
                    "units": units,
                    "columns": len(columns),
                    "bytes": stored_bytes(table),
                    "mlflow_run": run_id,
                    "features_digest": digest,
                    **balance,
                    **{f"backtest_{metric}": number(value) for metric, value in metrics.items()},
                }
            )
            return table

        @dg.asset(
            key=forecast_key,
            group_name="forecasts",
            description=settings.description,
            partitions_def=MONTHS,
            ins={
                "artifact": dg.AssetIn(key=artifact_key),
                "features": dg.AssetIn(key=features_key, partition_mapping=HISTORY),
            },
            metadata={ROW_KEYS: list(FORECAST_KEYS)},
            tags=tags,
            kinds={"python"},
            code_version=self.code_version,
            required_resource_keys={"io_manager"},
        )
        def forecast(context: dg.AssetExecutionContext, artifact: pl.LazyFrame, features: pl.LazyFrame) -> pl.DataFrame:
            panel, history, digest = panel_of(features)
            fitted = load_artifact(
                model_files(artifact.collect()),
                learner=settings.learner,
                feature_names=columns,
                target=settings.target,
                origin=panel.origin,
                inputs={settings.features: digest},
            )
            predicted = fitted.predict(panel, draws=settings.draws, seed=seed_for(name, "predict", panel.origin))
            frame = predicted.to_frame(model=name, level=queryset.level, target=settings.target)
            guard(frame, history, settings.target, settings.validity)
            store = cast(Storage, context.resources.io_manager).store
            context.add_output_metadata(
                forecast_metadata(predicted, history, forecast_key, settings.target, queryset.units, store)
            )
            return frame

        checks = forecast_checks(forecast_key, settings, features=features_key, target=settings.target)
        assets = [artifact, forecast]
        if settings.sweep is not None:
            assets.append(self._sweep(context, settings.sweep, features_key, columns))
        return dg.Definitions(assets=assets, asset_checks=checks)

    def _sweep(
        self, context: dg.ComponentLoadContext, sweep: SweepSettings, features: dg.AssetKey, columns: tuple[str, ...]
    ) -> dg.AssetsDefinition:
        name, settings = context.path.name, self.attributes

        def arguments(rows: pl.LazyFrame, month: int, folder: Path) -> Mapping[str, Any]:
            path = folder / "panel.parquet"
            rows.select(*KEYS, settings.target, *columns).collect().write_parquet(path)
            return {
                "panel": str(path),
                "target": settings.target,
                "features": list(columns),
                "draws": settings.draws,
                "seed": seed_for(name, "backtest", month),
            }

        return sweep_asset(
            name=name,
            folder=context.path,
            sweep=sweep,
            learner=settings.learner,
            learners=AnyLearner,
            features=features,
            objective=f"{panel_objective.__module__}:{panel_objective.__name__}",
            arguments=arguments,
            measure="CRPS over origins one, two and three years back",
            compute=settings.compute,
        )

    def subject(self, context: dg.ComponentLoadContext, folder: Path) -> Subject:
        """The target of its queryset."""
        return Subject(self.attributes.features, self.inputs(context, folder)[0], self.attributes.target)

    def inputs(self, context: dg.ComponentLoadContext, folder: Path) -> tuple[QuerysetAttributes, tuple[str, ...]]:
        """The queryset it learns from and the columns of it that it uses.

        Args:
            folder: the model's own, for messages.

        Raises:
            CatalogueError: no such queryset, target or column.
        """
        settings = self.attributes
        queryset = queryset_with(context, folder, settings.features, settings.target)
        columns = tuple(settings.columns if settings.columns is not None else queryset.columns)
        problems = [
            f"{line_of(folder, ['columns', number])}: columns: {settings.features} has no column {column}"
            f"{nearest(column, queryset.columns)}"
            for number, column in enumerate(columns)
            if column not in queryset.columns
        ]
        problems += [
            f"{line_of(folder, ['columns', number])}: columns: {column} is named twice"
            for number, column in enumerate(columns)
            if column in columns[:number]
        ]
        problems += [
            f"{line_of(folder, ['learner'])}: learner: it needs the column {column}, which "
            f"{settings.features} does not have{nearest(column, queryset.columns)}"
            for column in settings.learner.needed_columns
            if column not in columns
        ]
        readers = panel_readers_in_force(context, folder.parents[1])
        if settings.learner.needs_cells and queryset.units in readers and readers[queryset.units].parent_level is None:
            problems.append(
                f"{line_of(folder, ['learner'])}: learner: it looks at neighbouring cells, and the units of "
                f"{settings.features} ({queryset.units}) are none"
            )
        if problems:
            raise CatalogueError("\n".join(problems))
        return queryset, columns


def balance_metadata(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Factors by which a model's steps were held to the observed level; nothing for a model without them."""
    stored = files.get(f"{BALANCE}.npy")
    if stored is None:
        return {}
    used, wanted = np.load(io.BytesIO(stored), allow_pickle=False).T
    return {
        "balance_smallest_factor": number(float(used.min())),
        "balance_largest_factor": number(float(used.max())),
        "balance_steps_out_of_bounds": int((used != wanted).sum()),
    }
