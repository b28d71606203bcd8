"""The assets that look at a trained model of band fractions: how it did on unseen events, and what it looks at."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import dagster as dg
import polars as pl

from resources.storage import BEGINS, ROW_KEYS
from views_dagster import calendar
from views_dagster.components.artifact_rows import model_files
from views_dagster.components.catalogue import HISTORY, MONTHS
from views_dagster.components.checks import suite_checks
from views_dagster.components.column_set import ColumnSet
from views_dagster.components.metadata import number, picture
from views_dagster.drift.results import CheckResult, not_evaluated
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.column_arrays import to_columns
from views_dagster.precipitation.column_sets import KEYS
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.drift.diagnoses import PERFORMANCE_CHECKS, check_performance
from views_dagster.precipitation.drift.settings import PerformanceDriftSettings
from views_dagster.precipitation.explanations import explain
from views_dagster.precipitation.learners.base import DiagnosisLearner, FittedDiagnosis
from views_dagster.precipitation.learners.registry import load_artifact
from views_dagster.precipitation.report import CLIMATOLOGY, report_pictures, score_table, scored_on_test
from views_dagster.precipitation.split_settings import SplitSettings
from views_dagster.precipitation.splits import split
from views_dagster.seeds import seed_for
from views_dagster.storage.digests import digest_frame
from views_dagster.storage.tables import TableStore

SCORE_KEYS: Final = ("month_id", "model", "reference", "score", "threshold", "neighbourhood")
EXPLANATION_KEYS: Final = ("month_id", "part", "group", "variable", "lowest", "highest")


@dataclass(frozen=True)
class TrainedModel:
    """What the assets around a trained model share.

    Attributes:
        features, column_set: name and entry of what it learns from.
        begins: month id of its first month.
        tags, code_version: of its assets.
    """

    name: str
    learner: DiagnosisLearner
    split: SplitSettings
    features: str
    column_set: ColumnSet
    grid: BoxGrid
    begins: int
    tags: Mapping[str, str]
    code_version: str

    def key(self, group: str) -> dg.AssetKey:
        """Key of its asset in a group."""
        return dg.AssetKey([group, self.name])

    @property
    def features_key(self) -> dg.AssetKey:
        """Key of what it learns from."""
        return dg.AssetKey(["features", self.features])

    @property
    def inputs(self) -> dict[str, dg.AssetIn]:
        """The artifact of the month, and the features up to it."""
        return {
            "artifact": dg.AssetIn(key=self.key("artifacts")),
            "features": dg.AssetIn(key=self.features_key, partition_mapping=HISTORY),
        }

    def metadata(self, keys: Iterable[str]) -> dict[str, object]:
        """What storage must know of a table of its."""
        return {ROW_KEYS: list(keys), BEGINS: calendar.to_key(self.begins)}

    def columns(self, features: pl.LazyFrame) -> tuple[Columns, str]:
        """The columns of stored features, and the digest of their rows."""
        rows = features.collect()
        return to_columns(rows, self.column_set.attributes), digest_frame(rows, KEYS)

    def load(
        self, artifact: pl.LazyFrame, columns: Columns, month: int, inputs: Mapping[str, str] | None = None
    ) -> FittedDiagnosis:
        """The trained model of a month; ArtifactError where it was trained on other variables or inputs."""
        files = model_files(artifact.collect())
        return load_artifact(files, learner=self.learner, columns=columns, last_month=month, inputs=inputs)


def evaluation_asset(model: TrainedModel) -> dg.AssetsDefinition:
    """`evaluations/<name>`: scores of the test months against the references, with pictures."""

    @dg.asset(
        key=model.key("evaluations"),
        group_name="evaluation",
        description=f"How well {model.name} did on the events of the test months, none of which it saw.",
        partitions_def=MONTHS,
        ins=model.inputs,
        metadata=model.metadata(SCORE_KEYS),
        tags=model.tags,
        kinds={"python"},
        code_version=model.code_version,
    )
    def evaluation(context: dg.AssetExecutionContext, artifact: pl.LazyFrame, features: pl.LazyFrame) -> pl.DataFrame:
        month = calendar.from_key(context.partition_key)
        if month < model.begins:
            return pl.DataFrame()
        columns, digest = model.columns(features)
        fitted = model.load(artifact, columns, month, {model.features: digest})
        found = scored_on_test(model.name, fitted, columns, split(columns, model.split), model.grid)
        if found is None:
            context.log.warning(f"{model.name}: the rain of the test months is not known yet; nothing to score")
            context.add_output_metadata({"rows": 0})
        else:
            pictures = report_pictures(found, model.name, title=f"{model.name} {context.partition_key}")
            scores = {name: value for name, value in found.metrics(model.name).items() if "window" not in name}
            context.log.info(f"{model.name}: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()))
            context.add_output_metadata(
                {
                    **{label: picture(png, f"{label} of {model.name}") for label, png in pictures.items()},
                    **{name: number(value) for name, value in scores.items()},
                }
            )
        return score_table(found, month=month, model=model.name)

    return evaluation


def explanation_asset(model: TrainedModel) -> dg.AssetsDefinition:
    """`explanations/<name>`: importance, filters and attributions on unseen columns, with pictures."""

    @dg.asset(
        key=model.key("explanations"),
        group_name="explanations",
        description=f"What {model.name} looks at: importance of variables and levels, filters and attributions.",
        partitions_def=MONTHS,
        ins=model.inputs,
        metadata=model.metadata(EXPLANATION_KEYS),
        tags=model.tags,
        kinds={"python"},
        code_version=model.code_version,
    )
    def explanation(context: dg.AssetExecutionContext, artifact: pl.LazyFrame, features: pl.LazyFrame) -> pl.DataFrame:
        month = calendar.from_key(context.partition_key)
        if month < model.begins:
            return pl.DataFrame()
        columns, digest = model.columns(features)
        fitted = model.load(artifact, columns, month, {model.features: digest})
        sides = split(columns, model.split)
        unseen = columns.take(sides.test if len(sides.test) else sides.validation)
        explained = explain(
            fitted, unseen, name=f"{model.name} {context.partition_key}", seed=seed_for(model.name, "explain")
        )
        context.add_output_metadata(
            {
                **{label: picture(png, f"{label} of {model.name}") for label, png in explained.pictures.items()},
                **{label: number(value) for label, value in explained.numbers.items()},
            }
        )
        return explained.table.select(pl.lit(month, pl.Int32).alias("month_id"), pl.all())

    return explanation


def performance_checks(model: TrainedModel, settings: PerformanceDriftSettings) -> dg.AssetChecksDefinition:
    """Checks of each month's score against those of the months before."""
    key = model.key("evaluations")
    return suite_checks(key, "performance", PERFORMANCE_CHECKS, partial(_checked, key, settings), partitioned=True)


def _checked(
    key: dg.AssetKey, settings: PerformanceDriftSettings, store: TableStore, month: int
) -> Iterable[CheckResult]:
    table = key.to_user_string()
    if month not in store.months(table):
        return not_evaluated(PERFORMANCE_CHECKS, f"not evaluated: {table} has no rows of the month")
    rows = store.scan(table, month - settings.history_months, month).filter(pl.col("score") == "rps").collect()
    scores = rows.filter(pl.col("reference").is_null()).select("month_id", score="value")
    reference = rows.filter(pl.col("reference") == CLIMATOLOGY).select("month_id", reference="reference_value")
    return check_performance(scores.join(reference, on="month_id", how="left"), month, settings)
