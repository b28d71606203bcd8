"""The score of a learner over held-out events of the training period, and the same as the objective of a sweep."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import polars as pl
from pydantic import TypeAdapter

from views_dagster.precipitation.column_arrays import to_columns
from views_dagster.precipitation.column_sets import ColumnSet
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import DiagnosisLearner, Report
from views_dagster.precipitation.learners.inputs import ranked_score
from views_dagster.precipitation.split_settings import SplitSettings
from views_dagster.precipitation.splits import folds

FOLDS: Final = 3


def fold_score(
    learner: DiagnosisLearner,
    columns: Columns,
    settings: SplitSettings,
    *,
    seed: int,
    count: int = FOLDS,
    report: Report | None = None,
) -> float:
    """Ranked probability score over `count` folds of events, every row of the training period counted once; lower is
    better. The test months are never looked at.

    Args:
        seed: what a plain run of the learner gets.
        report: told the score so far after each fold.

    Raises:
        PanelError: fewer events than folds, or what the learner raises.
    """
    total, rows, score = 0.0, 0, np.nan
    for number, fold in enumerate(folds(columns, settings, count)):
        train, held_out = columns.take(fold.train), columns.take(fold.validation)
        # What stops the training must not be what it is scored on: the held-out events are unseen.
        inner = _inner_validation(train, seed)
        fitted = learner.fit(train.take(~inner), train.take(inner), seed=seed)
        total += ranked_score(fitted.predict(held_out).fractions, held_out.fractions) * len(held_out)
        rows += len(held_out)
        score = total / rows
        if report is not None:
            report(number, score)
    return float(score)


def _inner_validation(train: Columns, seed: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(N,) a fifth of the training days, in which no row is that others train on."""
    days = train.valid_time.astype("datetime64[D]")
    known = np.unique(days)
    chosen = np.random.default_rng(seed).permutation(len(known))[: max(1, len(known) // 5)]
    return np.isin(days, known[chosen])


def sweep_objective(
    *, path: str, column_set: Mapping[str, Any], split: Mapping[str, Any], seed: int
) -> Callable[[Mapping[str, Any], Report], float]:
    """The objective of a sweep over the columns in a Parquet file: `fold_score` of a learner's settings."""
    from views_dagster.precipitation.learners.registry import AnyDiagnosisLearner

    columns = to_columns(pl.read_parquet(path), ColumnSet.model_validate(column_set))
    settings = SplitSettings.model_validate(split)
    learners: TypeAdapter[Any] = TypeAdapter(AnyDiagnosisLearner)

    def objective(values: Mapping[str, Any], report: Report) -> float:
        return fold_score(learners.validate_python(values), columns, settings, seed=seed, report=report)

    return objective
