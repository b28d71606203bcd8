"""Scores of a learner's settings on folds within its own panel: what a sweep of step-wise forecasts minimises."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import TypeAdapter

from views_dagster.errors import PanelError
from views_dagster.evaluation.backtest import ORIGINS_BACK, STEPS, folds
from views_dagster.evaluation.metrics import crps
from views_dagster.learners.base import Learner
from views_dagster.panel import Panel

Report = Callable[[int, float], None]
"""Told the score so far after each fold, counted from 0; it may raise to stop there."""


def fold_score(
    learner: Learner,
    panel: Panel,
    *,
    draws: int,
    seed: int,
    origins_back: Sequence[int] = ORIGINS_BACK,
    steps: Sequence[int] = STEPS,
    report: Report | None = None,
) -> float:
    """Mean CRPS of the learner's backtest, all of which lies within the panel: `summarise(backtest(...))["crps"]`.

    Args:
        draws, seed, origins_back, steps: as for `backtest`.
        report: told the mean over all cases so far, after each origin.

    Raises:
        PanelError: the learner cannot be fitted on the panel as it was, or the panel has no fold.
    """
    cases: list[NDArray[np.float64]] = []
    for rows in folds(
        learner, panel, model="", level="", origins_back=origins_back, steps=steps, draws=draws, seed=seed
    ):
        if rows.is_empty():
            continue
        cases.append(_crps(rows))
        if report is not None:
            report(len(cases) - 1, _mean(cases))
    if not cases:
        raise PanelError(
            f"the panel's {len(panel.months)} months hold no fold: none that has enough history before it and an "
            "observed month after it; give it more months"
        )
    return _mean(cases)


def panel_objective(
    *,
    panel: str,
    target: str,
    features: Sequence[str],
    draws: int,
    seed: int,
) -> Callable[[Mapping[str, Any], Report], float]:
    """The objective of a sweep over one panel: `fold_score` of a learner's settings.

    Args:
        panel: path of a Parquet file with the panel's rows.
        target, features: as for `Panel.from_frame`.
        draws, seed: those of the model's backtest, so that both give the same score.

    Raises:
        PanelError: the rows are no panel.
    """
    from views_dagster.learners.registry import AnyLearner

    known = Panel.from_frame(pl.read_parquet(panel), target=target, features=features)
    learners: TypeAdapter[Any] = TypeAdapter(AnyLearner)

    def objective(settings: Mapping[str, Any], report: Report) -> float:
        learner: Learner = learners.validate_python(settings)
        return fold_score(learner, known, draws=draws, seed=seed, report=report)

    return objective


def _crps(rows: pl.DataFrame) -> NDArray[np.float64]:
    """(N,) scores of the rows of a backtest."""
    draws = rows["draws"].explode(empty_as_null=True, keep_nulls=True).to_numpy().reshape(rows.height, -1)
    return crps(draws, rows["observed"].to_numpy())


def _mean(cases: Sequence[NDArray[np.float64]]) -> float:
    return float(np.concatenate(cases).mean())
