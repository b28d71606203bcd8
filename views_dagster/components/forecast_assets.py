"""What models and ensembles share once there are draws: the guard before storing, checks, and what the UI shows."""

from collections.abc import Iterable
from typing import Any, Literal

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field

from views_dagster import calendar
from views_dagster.components.catalogue import Attributes
from views_dagster.components.checks import suite_checks
from views_dagster.components.metadata import frame_head, number, picture
from views_dagster.conflict.released import COUNTED, MEASURES, located_cells, unit_names
from views_dagster.drift.changes import OUTPUT_DRIFT_CHECKS, check_output_drift
from views_dagster.drift.outputs import VALIDITY_CHECKS, check_output_validity, largest_observed
from views_dagster.drift.results import CheckResult
from views_dagster.drift.settings import OutputDriftSettings, OutputValiditySettings
from views_dagster.errors import ForecastError
from views_dagster.forecasts import Forecast
from views_dagster.reports.figures import fan_chart
from views_dagster.reports.outlooks import Outlook, outlook_map
from views_dagster.storage.tables import TableStore

WORST_HIT, PLOT, MAP = "worst_hit", "plot", "map"
FORECAST_KEYS = ("month_id", "model", "target", "unit_id", "step")
Maturity = Literal["candidate", "deployed", "retired"]


class ForecastAttributes(Attributes):
    """What models and ensembles have in common."""

    draws: int = Field(default=256, ge=1, le=10_000, description="Number of draws of each forecast.")
    maturity: Maturity = Field(
        default="candidate",
        description="candidate: materialised, not released; deployed: in the month's release; retired: no assets.",
    )
    validity: OutputValiditySettings = Field(
        default_factory=OutputValiditySettings, description="Thresholds of the checks that a forecast must pass."
    )
    drift: OutputDriftSettings = Field(
        default_factory=OutputDriftSettings, description="Thresholds of the comparison with last month's forecast."
    )


def guard(frame: pl.DataFrame, history: pl.DataFrame, target: str, settings: OutputValiditySettings) -> None:
    """Refuse a forecast that may not be stored or combined: a draw beyond the bound that the history sets.

    The checks find the same in what is stored; this keeps it from being stored, and from being read by a run that
    does not run the checks.

    Raises:
        ForecastError: names the model, the worst unit and the bound.
    """
    limit = settings.bound(largest_observed(history, target, int(frame["month_id"][0])))
    rows = frame.select("model", "unit_id", "step", largest=pl.col("draws").list.max())
    worst = rows.sort("largest", descending=True, nulls_last=True).row(0, named=True)
    if worst["largest"] > limit:
        raise ForecastError(
            f"{worst['model']} forecasts {worst['largest']:.4g} for unit {worst['unit_id']} at step {worst['step']}; "
            f"the bound for {target} is {limit:.4g}. The model diverged, or its validity settings are too narrow; "
            "nothing was stored"
        )


def forecast_tags(system: str, level: str, target: str, maturity: Maturity) -> dict[str, str]:
    """Tags by which people select models and ensembles, for example `tag:maturity=deployed`."""
    return {"system": system, "level": level, "target": target, "maturity": maturity}


def forecast_checks(
    key: dg.AssetKey,
    settings: ForecastAttributes,
    *,
    features: dg.AssetKey,
    target: str,
    bounded_by: dg.AssetKey | None = None,
) -> list[dg.AssetChecksDefinition]:
    """Validity checks, which block, and the comparison with last month's forecast, which warns.

    Args:
        features: table whose units of the month are forecast.
        bounded_by: table whose history of the target sets the bound; `features` where None.
    """
    table = key.to_user_string()

    def valid(store: TableStore, month: int) -> Iterable[CheckResult]:
        observed, history = features.to_user_string(), (bounded_by or features).to_user_string()
        return check_output_validity(
            store.scan(table, month, month).collect(),
            month,
            store.scan(history, calendar.FIRST_MONTH, month).select("month_id", target),
            settings.validity,
            units=store.scan(observed, month, month).select("unit_id").collect()["unit_id"].to_list(),
            steps=calendar.STEPS,
            draws=settings.draws,
        )

    def drifted(store: TableStore, month: int) -> Iterable[CheckResult]:
        def means(origin: int) -> pl.DataFrame:
            return store.scan(table, origin, origin).select("unit_id", "target_month", "mean").collect()

        previous = means(month - 1)
        return check_output_drift(means(month), None if previous.is_empty() else previous, settings.drift)

    return [
        suite_checks(key, "validity", VALIDITY_CHECKS, valid, partitioned=True),
        suite_checks(key, "drift", OUTPUT_DRIFT_CHECKS, drifted, partitioned=True),
    ]


def forecast_metadata(
    forecast: Forecast, history: pl.DataFrame, key: dg.AssetKey, target: str, units: str, store: TableStore
) -> dict[str, Any]:
    """Numbers of a forecast, its worst-hit units as a table, their history and fan as a picture, and cells as maps.

    Args:
        history: `month_id`, `unit_id` and `target` of all months up to the forecast's.
        key: of the forecast's table.
        units: the source that lists the units.
    """
    name, month = key.path[-1], calendar.to_key(forecast.origin)
    names = unit_names(store, forecast.origin, f"raw/{units}")
    recent = history.filter(pl.col("month_id").is_between(forecast.origin - 11, forecast.origin))
    observed = recent.group_by("unit_id").agg(last_12_months=pl.col(target).cast(pl.Float64).sum())
    year = forecast.mean[:, :12].sum(axis=1, dtype=np.float64)
    worst = (
        pl.DataFrame({"unit_id": forecast.units, "next_month": forecast.mean[:, 0], "next_12_months": year})
        .sort("next_12_months", descending=True)
        .head(10)
        .join(observed, on="unit_id", how="left", maintain_order="left")
        .with_columns(name=pl.col("unit_id").replace_strict(names, default=None, return_dtype=pl.String))
        .select("name", "unit_id", "last_12_months", "next_month", "next_12_months")
    )
    png = fan_chart(
        forecast,
        history,
        value=target,
        measure=MEASURES.get(target, target),
        title=f"{name}: {target} after {month}, the hardest-hit units of the last year",
        names=names,
    )
    units_count, steps, draws = forecast.draws.shape
    return {
        WORST_HIT: frame_head(worst),
        PLOT: picture(png, f"history and forecast of the hardest-hit units, {name}"),
        **_maps(forecast, key, target, f"{name}: {target} after {month}", units, store),
        "sum_of_means_next_month": number(float(forecast.mean[:, 0].sum(dtype=np.float64))),
        "sum_of_means_next_12_months": number(float(year.sum())),
        "largest_draw": number(float(forecast.draws.max())),
        "units": units_count,
        "steps": steps,
        "draws": draws,
    }


def _maps(
    forecast: Forecast, key: dg.AssetKey, target: str, title: str, units: str, store: TableStore
) -> dict[str, dg.MetadataValue]:
    """Maps of a forecast of cells, and what changed since last month's; nothing for other units."""
    cells = located_cells(store, forecast.origin, f"raw/{units}")
    if cells.is_empty():
        return {}
    table, before = key.to_user_string(), forecast.origin - 1
    previous = None
    if store.exists(table):
        previous = store.scan(table, before, before).select("unit_id", "target_month", "mean").collect()
    png = outlook_map(Outlook.of(forecast), previous, cells, measure=COUNTED.get(target, target), title=title)
    return {MAP: picture(png, f"maps of {title}")}
