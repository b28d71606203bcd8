"""Good data of a lattice, and faults in it: many cells, few of which ever hold events, under parents that share values.

For the self-test: counts are zero in 98 of 100 cells, some columns never change, one is a parent's value in each of its
cells, and a forecast is near zero in most of them.
"""

from collections.abc import Callable
from typing import Final, Literal

import numpy as np
import polars as pl

from views_dagster.seeds import seed_for

CELLS: Final = 3000
PARENTS: Final = 30
ACTIVE: Final = 90

Fault = tuple[Literal["input", "drift"], str, str, Callable[[pl.DataFrame], pl.DataFrame]]


def good_window(month: int) -> pl.DataFrame:
    """30 months of history and `month` for `CELLS` cells; every 33rd cell is active in two months of three."""
    rng = np.random.default_rng(seed_for("drift self-test", "lattice"))
    cell, months = np.arange(CELLS), np.arange(month - 41, month + 1)
    shape = (len(months), CELLS)
    events = np.ceil(rng.lognormal(1.5, 1.2, shape)) * (rng.random(shape) < 2 / 3) * (cell % 33 == 0)
    running = np.cumsum(events, axis=0)
    year = running[11:] - np.vstack([np.zeros((1, CELLS)), running[:-12]])
    spread = rng.normal(4, 1, (len(months), PARENTS))[:, cell % PARENTS]
    columns = {
        "events": events[11:],
        "events_of_a_year": year,
        "of_the_parent": spread[11:],
        **{f"fixed_{at}": np.broadcast_to(rng.gamma(3, 2, CELLS), year.shape) for at in range(3)},
    }
    keys = {
        "month_id": np.repeat(months[11:], CELLS).astype(np.int32),
        "unit_id": np.tile(cell + 1, len(months) - 11),
    }
    return pl.DataFrame(keys | {name: values.ravel() for name, values in columns.items()})


def good_forecast(origin: int) -> pl.DataFrame:
    """Means of twelve steps, all but those of `ACTIVE` cells nearly zero; those of two origins agree closely."""
    cell = np.arange(CELLS)
    level = np.random.default_rng(seed_for("drift self-test", "lattice level")).lognormal(1, 1, CELLS)
    level = np.where(cell < ACTIVE, level, 0.001 * level)
    noise = np.random.default_rng(seed_for("drift self-test", "lattice forecast", origin)).normal(0, 0.1, (12, CELLS))
    return pl.DataFrame(
        {
            "unit_id": np.tile(cell + 1, 12),
            "target_month": np.repeat(np.arange(origin + 1, origin + 13), CELLS),
            "mean": (level * np.exp(noise)).ravel(),
        }
    )


def faults(month: int) -> list[Fault]:
    """What must be seen although nearly all values are zero: (suite, check, fault, how to put it into good data)."""
    unit, now = pl.col("unit_id"), pl.col("month_id") == month
    values, mean = pl.all().exclude("month_id", "unit_id"), pl.col("mean")

    def where(condition: pl.Expr, changed: pl.Expr, values: pl.Expr) -> pl.Expr:
        return pl.when(condition).then(changed).otherwise(values)

    events = pl.col("events")
    swapped = pl.when(unit <= 2 * ACTIVE).then(2 * ACTIVE + 1 - unit).otherwise(unit).alias("unit_id")
    return [
        (
            "input",
            "missing_units",
            "the cells of one parent gone",
            lambda f: f.filter(~(now & (unit % PARENTS == 1))),
        ),
        (
            "input",
            "zeros_by_column",
            "events lost in nine of ten cells",
            lambda f: f.with_columns(where(now & (unit % 10 > 0), events * 0, events)),
        ),
        (
            "input",
            "zeros_by_unit",
            "five cells zero everywhere",
            lambda f: f.with_columns(where(now & (unit <= 5), values * 0, values)),
        ),
        (
            "input",
            "new_negatives",
            "one negative count",
            lambda f: f.with_columns(where(now & (events == events.filter(now).max()), -events, events)),
        ),
        (
            "drift",
            "overall_change",
            "every forecast doubled",
            lambda f: f.with_columns(mean=2 * mean),
        ),
        (
            "drift",
            "changed_units",
            "the forecasts of the active cells given to others",
            lambda f: f.with_columns(swapped),
        ),
    ]
