"""`ExternalForecast`: a model that somebody else runs, whose forecasts arrive as files."""

from pathlib import Path
from typing import cast

import dagster as dg
import polars as pl
from pydantic import Field, model_validator

from resources.storage import ROW_KEYS, Storage
from views_dagster import calendar
from views_dagster.components.catalogue import HISTORY, MONTHS, system_folder
from views_dagster.components.forecast_assets import (
    FORECAST_KEYS,
    ForecastAttributes,
    forecast_checks,
    forecast_metadata,
    forecast_tags,
    guard,
)
from views_dagster.components.forecast_scaffolding import ExternalScaffolder
from views_dagster.components.forecasting import MODELS, ForecastEntry, Subject, queryset_is_present, queryset_with
from views_dagster.conflict.interchange import MONTH_PLACEHOLDER, FileFormat, read_forecast
from views_dagster.panel import KEYS
from views_dagster.sources.files import UserPath


class ExternalAttributes(ForecastAttributes):
    """Settings of a forecast from elsewhere."""

    path: UserPath = Field(
        description="The file; {month} in it stands for the last observed month, such as 2024-01. Without {month} one "
        "file of pred_columns holds all months and says in `origin_column` which row was made after which."
    )
    format: FileFormat = Field(
        default="pred_columns",
        description="pred_columns: a Parquet file with month_id, the unit and pred_<target>, a number or a list of "
        "draws; prediction_frame: a folder that a views-frames PredictionFrame was saved to.",
    )
    origin_column: str = Field(
        default="origin",
        description="Column with the VIEWS month id of the last observed month, in a path without {month}.",
    )
    features: str = Field(
        description="Name of the queryset whose units and level it has and whose targets it is held to."
    )
    target: str = Field(description="Name of one of the queryset's targets.")
    draws: int = Field(
        default=1, ge=1, le=10_000, description="Number of draws of each forecast; a point forecast has 1."
    )

    @model_validator(mode="after")
    def _one_month_a_frame(self) -> "ExternalAttributes":
        if self.format == "prediction_frame" and MONTH_PLACEHOLDER not in str(self.path):
            raise ValueError("a PredictionFrame does not say after which month it was made; write {month} in its path")
        return self


@dg.scaffold_with(ExternalScaffolder)
class ExternalForecast(ForecastEntry[ExternalAttributes]):
    """A forecast from elsewhere, `forecasts/<name>`: read from a file and held to what is asked of a model's own."""

    attributes_type = ExternalAttributes
    room, table_group = MODELS, "forecasts"

    def is_present(self, context: dg.ComponentLoadContext, system: Path) -> bool:
        """Whether it is not retired and this deployment has its queryset."""
        return self.attributes.maturity != "retired" and queryset_is_present(context, system, self.attributes.features)

    def subject(self, context: dg.ComponentLoadContext, folder: Path) -> Subject:
        """The target of its queryset."""
        features, target = self.attributes.features, self.attributes.target
        return Subject(features, queryset_with(context, folder, features, target), target)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The asset and the checks of its forecast; nothing where it is not present."""
        if not self.is_present(context, system_folder(context)):
            return dg.Definitions()
        name, settings, key = context.path.name, self.attributes, self.key(context.path.name)
        subject = self.subject(context, context.path)
        level, target = subject.queryset.level, subject.target

        @dg.asset(
            key=key,
            group_name="forecasts",
            description=settings.description,
            partitions_def=MONTHS,
            ins={"features": dg.AssetIn(key=subject.features_key, partition_mapping=HISTORY)},
            metadata={ROW_KEYS: list(FORECAST_KEYS)},
            tags=forecast_tags(system_folder(context).name, level, target, settings.maturity),
            kinds={"file"},
            code_version=self.code_version,
            required_resource_keys={"io_manager"},
        )
        def forecast(context: dg.AssetExecutionContext, features: pl.LazyFrame) -> pl.DataFrame:
            month = context.partition_key
            origin = calendar.from_key(month)
            path = Path(str(settings.path).replace(MONTH_PLACEHOLDER, month))
            history = features.select(*KEYS, target).collect()
            read, digest = read_forecast(
                path,
                settings.format,
                origin=origin,
                level=level,
                target=target,
                units=history.filter(pl.col("month_id") == origin)["unit_id"].to_numpy(),
                steps=calendar.STEPS,
                draws=settings.draws,
                origin_column=None if MONTH_PLACEHOLDER in str(settings.path) else settings.origin_column,
            )
            frame = read.to_frame(model=name, level=level, target=target)
            guard(frame, history, target, settings.validity)
            store = cast(Storage, context.resources.io_manager).store
            context.add_output_metadata(
                {
                    "file": dg.MetadataValue.path(str(path)),
                    "file_digest": digest,
                    **forecast_metadata(read, history, key, target, subject.queryset.units, store),
                }
            )
            return frame

        checks = forecast_checks(key, settings, features=subject.features_key, target=target)
        return dg.Definitions(assets=[forecast], asset_checks=checks)
