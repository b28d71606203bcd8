"""Backtests: a learner refitted at earlier origins of its own panel and forecast against what came after.

A backtest travels with its model's artifact. Trained ensemble weights and the metrics in the tracker come from it.
"""

import io
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import polars as pl

from views_dagster.errors import ArtifactError
from views_dagster.evaluation.metrics import coverage, crps
from views_dagster.forecasts import FORECAST_SCHEMA
from views_dagster.learners.base import Learner
from views_dagster.panel import Panel
from views_dagster.seeds import seed_for

BACKTEST_SCHEMA: Final = {**FORECAST_SCHEMA, "observed": pl.Float32()}
ORIGINS_BACK: Final = (12, 24, 36)
STEPS: Final = (1, 3, 6, 12)


def backtest(
    learner: Learner,
    panel: Panel,
    *,
    model: str,
    level: str,
    origins_back: Sequence[int] = ORIGINS_BACK,
    steps: Sequence[int] = STEPS,
    draws: int,
    seed: int,
    least_history: int = 60,
) -> pl.DataFrame:
    """Forecasts from `origins_back` months before the panel's origin, beside what was observed.

    At each of these origins the learner is fitted and asked on `panel.until(origin)`, so nothing later is seen. Steps
    whose month lies after the panel's origin, units that do not exist in that month, and origins with fewer than
    `least_history` months up to them are left out: a young panel has fewer rows or none.

    Returns:
        Rows of `BACKTEST_SCHEMA`, sorted by month, unit and step.

    Raises:
        PanelError: the learner cannot be fitted on the panel as it was.
    """
    found = folds(
        learner,
        panel,
        model=model,
        level=level,
        origins_back=origins_back,
        steps=steps,
        draws=draws,
        seed=seed,
        least_history=least_history,
    )
    return pl.concat([pl.DataFrame(schema=BACKTEST_SCHEMA), *found])


def folds(
    learner: Learner,
    panel: Panel,
    *,
    model: str,
    level: str,
    origins_back: Sequence[int] = ORIGINS_BACK,
    steps: Sequence[int] = STEPS,
    draws: int,
    seed: int,
    least_history: int = 60,
) -> Iterator[pl.DataFrame]:
    """The rows of `backtest`, origin by origin, the earliest first; each is fitted when it is asked for."""
    for back in sorted(set(origins_back), reverse=True):
        origin = panel.origin - back
        observable = sorted(step for step in set(steps) if step <= back)
        if origin - int(panel.months[0]) + 1 < least_history or not observable:
            continue
        known = panel.until(origin)
        fitted = learner.fit(known, steps=observable, seed=seed_for(seed, "backtest fit", origin))
        forecast = fitted.predict(known, draws=draws, seed=seed_for(seed, "backtest predict", origin))
        month = origin + forecast.steps - int(panel.months[0])
        unit = np.searchsorted(panel.units, forecast.units)
        observed = panel.target[np.ix_(month, unit)].T
        existed = panel.exists[np.ix_(month, unit)].T
        yield (
            forecast.to_frame(model=model, level=level, target=panel.target_name)
            .with_columns(observed=pl.Series(observed.reshape(-1), dtype=pl.Float32))
            .filter(pl.Series(existed.reshape(-1)))
        )


def to_bytes(rows: pl.DataFrame) -> bytes:
    """A backtest as a Parquet file; equal rows give equal bytes."""
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd", statistics=False)
    return buffer.getvalue()


def from_bytes(data: bytes) -> pl.DataFrame:
    """Undo `to_bytes`.

    Raises:
        ArtifactError: `data` is not a backtest.
    """
    try:
        rows = pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError as error:
        raise ArtifactError(
            f"the stored backtest is not readable Parquet ({error}); materialise the artifact again"
        ) from error
    if rows.schema != pl.Schema(BACKTEST_SCHEMA):
        raise ArtifactError(
            f"the stored backtest has columns {dict(rows.schema)}, not {dict(BACKTEST_SCHEMA)}; "
            "materialise the artifact again"
        )
    return rows


def summarise(rows: pl.DataFrame) -> dict[str, float]:
    """What a backtest says about its model, as numbers a tracker stores.

    `crps` in the target's unit and `crps_log1p` of log(1 + x), averaged over cases; `coverage_90`, the part of
    observations within the 0.05 and 0.95 quantiles of the draws; `mean_forecast` and `mean_observed`; `skill` and
    `skill_log1p`, 1 - CRPS / CRPS of a forecast of zero, left out where nothing was observed and that forecast is
    perfect. Empty for no rows.
    """
    if rows.is_empty():
        return {}
    draws = rows["draws"].explode(empty_as_null=True, keep_nulls=True).to_numpy().reshape(rows.height, -1)
    observed = rows["observed"].to_numpy()
    metrics = {
        "cases": float(rows.height),
        "coverage_90": float(coverage(draws, observed, mass=0.9).mean()),
        "mean_forecast": float(rows["mean"].to_numpy().mean(dtype=np.float64)),
        "mean_observed": float(observed.mean(dtype=np.float64)),
    }
    for suffix, forecast, truth in (("", draws, observed), ("_log1p", np.log1p(draws), np.log1p(observed))):
        score = float(crps(forecast, truth).mean())
        metrics[f"crps{suffix}"] = score
        # The CRPS of a point forecast is its absolute error, so that of zero is the mean observation.
        if observed.any():
            metrics[f"skill{suffix}"] = 1 - score / float(truth.mean(dtype=np.float64))
    return metrics
