"""A small catalogue of the invented atmosphere, for tests that run the parts of the second system in Dagster.

A model begins four months after the sources do, so that half a year is enough to have one.
"""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from views_dagster.calendar import from_key
from views_dagster_tests.homes import Home

BEGINS, FIRST_MODEL, BEFORE, MONTH, AFTER = "2022-01", "2022-05", "2022-06", "2022-07", "2022-08"
MONTH_ID: Final = from_key(MONTH)
TABLE: Final = "features/storm_columns"
RAW: Final = ("raw/atmosphere", "raw/nwp", "raw/rain")
_LEAST: Final = {"features": "storm_columns", "least_months": 4}

SKY: Mapping[str, Mapping[str, Any]] = {
    "precipitation/sources/atmosphere": {"reader": {"kind": "demo_columns"}},
    "precipitation/sources/rain": {"reader": {"kind": "demo_rain"}},
    "precipitation/sources/nwp": {"reader": {"kind": "demo_members"}},
    "precipitation/features/storm_columns": {
        "columns": "atmosphere",
        "rain": "rain",
        "members": "nwp",
        "levels": {"unit": "hPa", "values": [925, 700, 500]},
        "profiles": ["relative_humidity", "temperature"],
        "static": ["orography"],
    },
    "precipitation/models/deep_column": {
        **_LEAST,
        "learner": {"kind": "column_network", "depth": 1, "width": 4, "hidden": 4, "epochs": 2},
        "maturity": "deployed",
    },
    "precipitation/models/level_line": {**_LEAST, "learner": {"kind": "logistic", "penalties": [0.01]}},
    "precipitation/models/mean_season": {**_LEAST, "learner": {"kind": "climatology"}, "maturity": "deployed"},
    "precipitation/models/raw_ensemble": {**_LEAST, "learner": {"kind": "nwp"}},
    "precipitation/ensembles/pooled_storm": {
        "members": ["level_line", "mean_season"],
        "method": {"kind": "trained_pool"},
        "maturity": "deployed",
    },
    "precipitation/ensembles/median_storm": {
        "members": ["deep_column", "level_line", "mean_season"],
        "method": {"kind": "median_pool"},
    },
}
"""Three sources, a column set, one model of each way to look at it, and two ensembles."""

WET: Final = ("fractions", "rain_mean", "rain_max")


def without_rain(rows: pl.DataFrame, month: int) -> pl.DataFrame:
    """The rows with the rain of a month unknown."""
    known = pl.when(pl.col("month_id") != month)
    return rows.with_columns(*(known.then(name).alias(name) for name in WET), known.then("missing").otherwise(1.0))


def rewrite(home: Home, table: str, month: str, rows: pl.DataFrame) -> None:
    """Replace what a table holds of a month, as no run of Dagster would."""
    home.store.write(table, rows.with_columns(month_id=pl.lit(from_key(month), pl.Int32)), [from_key(month)], {})


def artifact(home: Home, model: str, month: str = MONTH) -> dict[str, bytes]:
    """Files of a trained model by path."""
    return dict(home.rows(f"artifacts/{model}", month).select("path", "content").iter_rows())
