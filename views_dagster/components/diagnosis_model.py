"""`DiagnosisModel`: one learner on one column set: its artifact, its fractions, its scores on unseen events."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import dagster as dg
import polars as pl
from pydantic import Field

from resources.checkpoints import Checkpoints
from resources.storage import Storage
from resources.tracking import Tracking
from views_dagster import calendar
from views_dagster.components.artifact_rows import ARTIFACT_KEYS, artifact_rows, flat_settings, stored_bytes
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import MONTHS, entries, line_of, system_folder
from views_dagster.components.column_set import ColumnSet
from views_dagster.components.compute import Compute
from views_dagster.components.diagnosis import (
    DIAGNOSIS_KEYS,
    DiagnosisAttributes,
    DiagnosisEntry,
    column_set_of,
    diagnosis_checks,
    diagnosis_metadata,
    to_frame,
)
from views_dagster.components.diagnosis_reports import (
    TrainedModel,
    evaluation_asset,
    explanation_asset,
    performance_checks,
)
from views_dagster.components.diagnosis_scaffolding import DiagnosisModelScaffolder
from views_dagster.components.metadata import number, picture
from views_dagster.components.sweep import sweep_asset
from views_dagster.precipitation.cross_validation import sweep_objective
from views_dagster.precipitation.drift.settings import PerformanceDriftSettings
from views_dagster.precipitation.learners.inputs import ranked_score
from views_dagster.precipitation.learners.registry import AnyDiagnosisLearner, read_record, save_artifact
from views_dagster.precipitation.mix_pictures import rebalancing_bars
from views_dagster.precipitation.split_settings import SplitSettings
from views_dagster.precipitation.splits import split
from views_dagster.seeds import seed_for
from views_dagster.storage.digests import digest_frame
from views_dagster.tuning.space import SweepSettings

PROGRESS: Final = 10
"""Every how many rounds of training a line of progress is logged, after so many that are told one by one."""
VALIDATION_FILE: Final = "validation.parquet"


class DiagnosisModelAttributes(DiagnosisAttributes):
    """Settings of a model of band fractions."""

    features: str = Field(description="Name of the column set it learns from.")
    learner: AnyDiagnosisLearner = Field(description="The algorithm and its hyperparameters; `kind` picks it.")
    split: SplitSettings = Field(
        default_factory=SplitSettings, description="Which events train, which validate, and which months are the test."
    )
    least_months: int = Field(
        default=12,
        ge=1,
        description="Months of columns, those of the test aside, that there must be before there is a model.",
    )
    performance: PerformanceDriftSettings = Field(
        default_factory=PerformanceDriftSettings, description="Thresholds of the checks of each month's score."
    )
    sweep: SweepSettings | None = Field(default=None, description="A search for better hyperparameters.")
    compute: Compute = Field(default_factory=Compute, exclude=True, description="What the training step needs.")


@dg.scaffold_with(DiagnosisModelScaffolder)
class DiagnosisModel(DiagnosisEntry[DiagnosisModelAttributes]):
    """A model of band fractions.

    `artifacts/<name>` is trained on earlier months, `forecasts/<name>` is what it says of the columns of the month,
    which it never saw, `evaluations/<name>` how well that was, and `explanations/<name>` what it looks at.
    """

    attributes_type = DiagnosisModelAttributes
    room, table_group = "models", "forecasts"

    def is_present(self, context: dg.ComponentLoadContext, system: Path) -> bool:
        """Whether it is not retired and this deployment has its column set."""
        if self.attributes.maturity == "retired":
            return False
        # One that does not exist is refused where the model is built, which knows its line.
        features = entries(context, system, ColumnSet.room, ColumnSet).get(self.attributes.features)
        return features is None or features.is_present(context, system)

    def column_set(self, context: dg.ComponentLoadContext, folder: Path) -> tuple[str, ColumnSet]:
        """The column set that it learns from."""
        return self.attributes.features, column_set_of(context, folder, self.attributes.features)

    def begins(self, context: dg.ComponentLoadContext, folder: Path) -> int:
        """The first month by which there are `least_months` of columns beside the test's."""
        first = self.column_set(context, folder)[1].begins(context, folder.parents[1])
        settings = self.attributes
        return first + settings.least_months - 1 + settings.split.months_of_test

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The assets and their checks; nothing where it is not present."""
        features_name, column_set = self.column_set(context, context.path)
        system = system_folder(context)
        if not self.is_present(context, system):
            return dg.Definitions()
        settings, name = self.attributes, context.path.name
        if settings.learner.needs_members and column_set.attributes.members is None:
            raise CatalogueError(
                f"{line_of(context.path, ['learner'])}: learner: it needs NWP members, and {features_name} has none"
            )
        model = TrainedModel(
            name=name,
            learner=settings.learner,
            split=settings.split,
            features=features_name,
            column_set=column_set,
            grid=column_set.grid(context, system),
            begins=self.begins(context, context.path),
            tags={"system": system.name, "maturity": settings.maturity},
            code_version=self.code_version,
        )

        @dg.asset(
            key=model.key("artifacts"),
            group_name="trained_artifacts",
            description=f"{settings.description}\n\nTrained on the months before; the month itself is unseen.",
            partitions_def=MONTHS,
            ins={"features": model.inputs["features"]},
            metadata={**model.metadata(ARTIFACT_KEYS), "learner": settings.learner.model_dump(mode="json")},
            tags=model.tags,
            kinds={settings.learner.trains_with},
            code_version=self.code_version,
            required_resource_keys={"io_manager", "tracking", "checkpoints"},
            op_tags=settings.compute.op_tags(),
            pool=settings.compute.pool,
            retry_policy=settings.compute.retry_policy,
        )
        @settings.compute.retrying
        def artifact(context: dg.AssetExecutionContext, features: pl.LazyFrame) -> pl.DataFrame:
            month = calendar.from_key(context.partition_key)
            if month < model.begins:
                return pl.DataFrame()
            columns, digest = model.columns(features)
            sides = split(columns, settings.split)
            train, validation = columns.take(sides.train), columns.take(sides.validation)
            context.log.info(
                f"training {name} on {len(train):,} columns of {column_set.attributes.profile_names}; "
                f"{len(validation):,} validate, {len(sides.test):,} are unseen"
            )
            seed = seed_for(name, "fit", month)

            def tell(at: int, score: float) -> None:
                if at < PROGRESS or at % PROGRESS == 0:
                    context.log.info(f"{name} round {at}: {score:.5f}")

            checkpoint = cast(Checkpoints, context.resources.checkpoints).of(context, name)
            fitted = settings.learner.resume(train, validation, seed=seed, report=tell, checkpoint=checkpoint)
            said = fitted.predict(validation)
            files = save_artifact(
                settings.learner,
                fitted,
                columns=columns,
                first_month=int(columns.month_id.min()),
                last_month=month,
                split=sides.record.model_dump(mode="json"),
                seed=seed,
                inputs={features_name: digest},
            )
            rows = to_frame(said, validation, month=month, model=name).with_columns(
                observed=pl.Series(validation.fractions).arr.to_list()
            )
            table = artifact_rows(month, files, {VALIDATION_FILE: _parquet(rows)})
            metrics = {
                "validation_rps": ranked_score(said.fractions, validation.fractions),
                "train_rows": float(len(train)),
                "validation_rows": float(len(validation)),
                "test_rows": float(len(sides.test)),
            }
            run_id = cast(Tracking, context.resources.tracking).log_model(
                context,
                model=name,
                month=context.partition_key,
                digest=digest_frame(table, ARTIFACT_KEYS),
                parameters={
                    "features": features_name,
                    "seed": seed,
                    **flat_settings("learner", settings.learner.model_dump(mode="json")),
                },
                metrics=metrics,
                tags={
                    "features_digest": digest,
                    "system": system.name,
                    "maturity": settings.maturity,
                    **{f"version.{library}": found for library, found in read_record(files).libraries.items()},
                },
                files=files,
            )
            shown: dict[str, Any] = {metric: number(value) for metric, value in metrics.items()}
            rebalanced = fitted.rebalance
            if rebalanced is not None and rebalanced.rows_before != rebalanced.rows_after:
                bars = rebalancing_bars(
                    rebalanced.rows_before,
                    rebalanced.rows_after,
                    rebalanced.fractions_before,
                    rebalanced.fractions_after,
                    columns.edges,
                    title=f"{name}: training rows before and after rebalancing",
                )
                shown["rebalancing"] = picture(bars, "training rows by band before and after rebalancing")
            context.add_output_metadata(
                {
                    **shown,
                    "events": dg.MetadataValue.json(
                        {side: sum(event.side == side for event in sides.record.events) for side in sides.record.rows}
                    ),
                    "left_out": dg.MetadataValue.json(sides.record.left_out),
                    "bytes": stored_bytes(table),
                    "mlflow_run": run_id,
                    "features_digest": digest,
                }
            )
            cast(Storage, context.resources.io_manager).once_stored(context, checkpoint.remove)
            return table

        @dg.asset(
            key=model.key("forecasts"),
            group_name="forecasts",
            description=settings.description,
            partitions_def=MONTHS,
            ins={"artifact": model.inputs["artifact"], "features": dg.AssetIn(key=model.features_key)},
            metadata=model.metadata(DIAGNOSIS_KEYS),
            tags=model.tags,
            kinds={"python"},
            code_version=self.code_version,
        )
        def forecast(context: dg.AssetExecutionContext, artifact: pl.LazyFrame, features: pl.LazyFrame) -> pl.DataFrame:
            month = calendar.from_key(context.partition_key)
            if month < model.begins:
                return pl.DataFrame()
            columns, _ = model.columns(features)
            diagnosis = model.load(artifact, columns, month).predict(columns)
            context.add_output_metadata(diagnosis_metadata(name, month, columns, diagnosis, model.grid))
            return to_frame(diagnosis, columns, month=month, model=name)

        built = [artifact, forecast, evaluation_asset(model)]
        if settings.learner.looks_at_columns:
            built.append(explanation_asset(model))
        if settings.sweep is not None:
            built.append(self._sweep(context, settings.sweep, model))
        checks = [
            diagnosis_checks(model.key("forecasts"), settings, (features_name, column_set)),
            performance_checks(model, settings.performance),
        ]
        return dg.Definitions(assets=built, asset_checks=checks)

    def _sweep(
        self, context: dg.ComponentLoadContext, sweep: SweepSettings, model: TrainedModel
    ) -> dg.AssetsDefinition:
        def arguments(features: pl.LazyFrame, month: int, folder: Path) -> Mapping[str, Any]:
            path = folder / "columns.parquet"
            features.collect().write_parquet(path)
            return {
                "path": str(path),
                "column_set": model.column_set.attributes.model_dump(mode="json", by_alias=True, exclude={"drift"}),
                "split": model.split.model_dump(mode="json"),
                "seed": seed_for(model.name, "fit", month),
            }

        return sweep_asset(
            name=model.name,
            folder=context.path,
            sweep=sweep,
            learner=model.learner,
            learners=AnyDiagnosisLearner,
            features=model.features_key,
            objective=f"{sweep_objective.__module__}:{sweep_objective.__name__}",
            arguments=arguments,
            measure="ranked probability score over held-out events",
            compute=self.attributes.compute,
            begins=model.begins,
        )


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=False)
    return buffer.getvalue()
