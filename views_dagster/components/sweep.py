"""The asset `sweeps/<model>`: a search for better hyperparameters of a model, whatever it learns from.

One step runs all trials; or several workers, each a step, share them and a last step reports. What a step does with a
study is in `sweep_study`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import dagster as dg
import polars as pl
from pydantic import BaseModel, TypeAdapter

from resources.storage import BEGINS, ROW_KEYS
from resources.tracking import Tracking
from views_dagster import calendar
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import HISTORY, MONTHS, digest_of, line_of
from views_dagster.components.compute import Compute
from views_dagster.components.sweep_study import Arguments, SweepStudy
from views_dagster.errors import PlatformError
from views_dagster.tuning.space import StartingPoint, SweepSettings, problems
from views_dagster.tuning.sweep import collect_sweep, run_sweep, share_sweep

SWEEP_GROUP: Final = "sweeps"
SWEEP_KEYS: Final = ("month_id", "trial")
RETRIES: Final = dg.RetryPolicy(max_retries=5, delay=5)
"""A worker that was killed starts again; more often than a trial may kill it."""


def sweep_asset(
    *,
    name: str,
    folder: Path,
    sweep: SweepSettings,
    learner: BaseModel,
    learners: Any,
    features: dg.AssetKey,
    objective: str,
    arguments: Arguments,
    measure: str,
    compute: Compute,
    begins: int = calendar.FIRST_MONTH,
) -> dg.AssetsDefinition:
    """The asset of a model's sweep: one step, or one for each of its workers and one that reports.

    Args:
        folder: the model's own.
        learners: type of all learners, against which every corner of the space is checked now.
        features: what the model learns from.
        objective, arguments: as a `Sweep` takes them.
        measure: what the objective is, in words.
        compute: what one training needs, and so the steps that run trials; its time limit is not theirs.

    Raises:
        CatalogueError: the space names a setting that does not exist, or values that it may not have; with the lines.
    """
    start = StartingPoint.of(learner)
    if wrong := problems(sweep.space, start, TypeAdapter(learners)):
        raise CatalogueError(
            "\n".join(
                f"{line_of(folder, ['sweep', 'space', path])}: sweep.space.{path}: {what}" for path, what in wrong
            )
        )

    study = SweepStudy(
        name=name,
        folder=folder,
        settings=sweep,
        start=start,
        objective=objective,
        arguments=arguments,
        measure=measure,
        begins=begins,
    )
    about: dict[str, Any] = {
        "key": dg.AssetKey(["sweeps", name]),
        "group_name": SWEEP_GROUP,
        "description": (
            f"A search for better hyperparameters of {name}, scored on events and origins of the training period "
            "alone. The best are proposed as a change of its YAML, for a person to accept."
        ),
        "partitions_def": MONTHS,
        "ins": {"features": dg.AssetIn(key=features, partition_mapping=HISTORY)},
        "metadata": {ROW_KEYS: list(SWEEP_KEYS), BEGINS: calendar.to_key(begins)},
        "kinds": {"optuna"},
        # Who works on it makes no other asset of it.
        "code_version": digest_of(
            {"sweep": sweep.model_dump(mode="json", exclude={"workers"}), "learner": start.complete}
        )[:12],
    }
    workers, compute = min(sweep.workers, sweep.trials), compute.model_copy(update={"time_limit": None})
    return _in_one_step(study, about, compute) if workers == 1 else _shared(study, workers, about, compute)


def _in_one_step(study: SweepStudy, about: Mapping[str, Any], compute: Compute) -> dg.AssetsDefinition:
    def found(context: dg.AssetExecutionContext, tracking: Tracking, features: pl.LazyFrame) -> pl.DataFrame:
        if study.is_before(context.partition_key):
            return pl.DataFrame()
        with study.prepared(context.partition_key, tracking, features) as (sweep, data):
            result = run_sweep(sweep, log=context.log.info, on_trial=study.teller(context, tracking, sweep))
        return study.report(context, result, data)

    made: dg.AssetsDefinition = dg.asset(**about, op_tags=compute.op_tags(), pool=compute.pool)(found)
    return made


def _shared(study: SweepStudy, workers: int, about: Mapping[str, Any], compute: Compute) -> dg.AssetsDefinition:
    # Steps may be pods, which share no disk: each reads the features for itself, and they meet in the study alone.
    @dg.op(
        name=f"try_{study.name}",
        out=dg.Out(dg.Nothing),
        tags=compute.op_tags(),
        pool=compute.pool,
        retry_policy=RETRIES,
    )
    def try_trials(context: dg.OpExecutionContext, tracking: Tracking, features: pl.LazyFrame) -> None:
        """Work on the trials until none is left."""
        if study.is_before(context.partition_key):
            return
        with _said_once(), study.prepared(context.partition_key, tracking, features) as (sweep, _):
            share_sweep(sweep, run=context.run_id, log=context.log.info)

    @dg.op(
        name=f"report_{study.name}",
        ins={"features": dg.In(), "worked": dg.In(dg.Nothing)},
        out=dg.Out(pl.DataFrame, metadata=about["metadata"]),
        retry_policy=RETRIES,
    )
    def report(context: dg.OpExecutionContext, tracking: Tracking, features: pl.LazyFrame) -> pl.DataFrame:
        """Tell of the trials and propose the best."""
        if study.is_before(context.partition_key):
            return pl.DataFrame()
        with _said_once(), study.prepared(context.partition_key, tracking, features) as (sweep, data):
            result = collect_sweep(sweep, log=context.log.info, on_trial=study.teller(context, tracking, sweep))
            return study.report(context, result, data)

    def found(features: Any) -> Any:
        return report.alias("report")(
            features, [try_trials.alias(f"worker_{number}")(features) for number in range(1, workers + 1)]
        )

    made: dg.AssetsDefinition = dg.graph_asset(**about)(found)
    return made


@contextmanager
def _said_once() -> Iterator[None]:
    """What a person must mend is no better at the next attempt."""
    try:
        yield
    except PlatformError as error:
        raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error
