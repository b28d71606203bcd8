"""The month's release: one tidy table of every model and ensemble, and the manifest of what it was made from."""

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

import polars as pl
from pydantic import JsonValue

from views_dagster.calendar import to_key
from views_dagster.errors import ForecastError
from views_dagster.evaluation.summary import summarise_draws
from views_dagster.forecasts import Forecast

QUANTILES: Final[Mapping[str, float]] = {
    "q05": 0.05,
    "q10": 0.1,
    "q25": 0.25,
    "q50": 0.5,
    "q75": 0.75,
    "q90": 0.9,
    "q95": 0.95,
}
HDI_MASS: Final = 0.9
FATALITY_THRESHOLDS: Final = (1, 25, 100, 1000)
ROW_KEYS: Final = ("target", "level", "model", "unit_id", "step")
LIBRARIES: Final = ("dagster", "deltalake", "lightgbm", "numpy", "polars", "scikit-learn", "scipy", "views-dagster")

RELEASE_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    "month_id": pl.Int32(),
    "model": pl.String(),
    "level": pl.String(),
    "unit_id": pl.Int64(),
    "step": pl.Int16(),
    "target": pl.String(),
    "artifact": pl.String(),
    "target_month": pl.Int32(),
    "mean": pl.Float32(),
    "median": pl.Float32(),
    **dict.fromkeys(QUANTILES, pl.Float32()),
    "hdi90_low": pl.Float32(),
    "hdi90_high": pl.Float32(),
    **{f"p_at_least_{threshold}": pl.Float32() for threshold in FATALITY_THRESHOLDS},
}


def release_rows(
    forecast: Forecast, *, model: str, level: str, target: str, artifact: str | None = None
) -> pl.DataFrame:
    """Rows of `RELEASE_SCHEMA` for one model: fatalities a month, probabilities 0..1, the draws summarised.

    `artifact` is the digest of the trained model, by which the tracker finds it; an ensemble has none.

    `q50` is the median; `hdi90_low` and `hdi90_high` bound the 90 % highest-density interval; `p_at_least_25` is the
    probability of 25 or more fatalities in the month.
    """
    units, steps, draws = forecast.draws.shape
    summary = summarise_draws(
        forecast.draws.reshape(units * steps, draws),
        quantiles=list(QUANTILES.values()),
        hdi_mass=HDI_MASS,
        thresholds=FATALITY_THRESHOLDS,
    )
    columns = {
        "mean": summary.mean,
        "median": summary.quantiles[:, list(QUANTILES).index("q50")],
        **dict(zip(QUANTILES, summary.quantiles.T, strict=True)),
        "hdi90_low": summary.hdi[:, 0],
        "hdi90_high": summary.hdi[:, 1],
        **{f"p_at_least_{t}": share for t, share in zip(FATALITY_THRESHOLDS, summary.at_least.T, strict=True)},
    }
    return (
        forecast.to_frame(model=model, level=level, target=target)
        .drop("draws", "mean")
        .with_columns(artifact=pl.lit(artifact, dtype=pl.String))
        .with_columns(**{name: pl.Series(values, dtype=pl.Float32) for name, values in columns.items()})
        .select(*RELEASE_SCHEMA)
    )


def release_table(rows: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The release: the `release_rows` of one month's models and ensembles together, sorted by `ROW_KEYS`.

    Raises:
        ForecastError: nothing to release, rows of several months, or a model that is there twice.
    """
    table = pl.concat([pl.DataFrame(schema=RELEASE_SCHEMA), *rows]).sort(ROW_KEYS)
    if table.is_empty():
        raise ForecastError("the release has no forecasts; deploy a model (maturity: deployed)")
    months = table["month_id"].unique().sort().to_list()
    if len(months) != 1:
        raise ForecastError(
            f"the release mixes forecasts from {', '.join(map(to_key, months))}; it is made of one month"
        )
    repeated = table.filter(pl.struct(ROW_KEYS).is_duplicated())
    if not repeated.is_empty():
        raise ForecastError(f"the release has several forecasts of {', '.join(repeated['model'].unique().sort())}")
    return table


def manifest(
    *,
    month_id: int,
    release: Mapping[str, JsonValue],
    made_from: Mapping[str, Mapping[str, JsonValue]],
) -> dict[str, JsonValue]:
    """What a release was made from, ready for JSON; equal inputs give an equal manifest, key order included.

    `release` describes the release table; `made_from` goes from the key of each table that it comes from, directly or
    not, to what identifies the vintage used: digest, table version, code version, what it read.

    Raises:
        ForecastError: made from nothing, or a value that JSON cannot hold (NaN, infinity).
    """
    if not made_from:
        raise ForecastError(f"the release of {to_key(month_id)} names nothing that it was made from")
    content: dict[str, Any] = {
        "month": to_key(month_id),
        "month_id": month_id,
        "release": release,
        "made_from": made_from,
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    try:
        # Through text: what is returned is what a reader of the file will see, and it shares nothing with the inputs.
        ordered: dict[str, JsonValue] = json.loads(json.dumps(content, sort_keys=True, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ForecastError(f"the manifest of {to_key(month_id)} cannot be written as JSON: {error}") from error
    return ordered
