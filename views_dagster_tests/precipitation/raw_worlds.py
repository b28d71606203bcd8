"""Small raw tables of columns, rain and members, as sources store them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from views_dagster.calendar import from_date

JANUARY = 481
"""2020-01."""
LISTS = pl.List(pl.Float32)


def times(count: int, start: datetime = datetime(2020, 1, 1, 1), hours: int = 1) -> list[datetime]:
    """`count` valid times from `start` on."""
    return [start + timedelta(hours=hours * step) for step in range(count)]


def month_of(time: datetime) -> int:
    """Month id of the interval that ends then."""
    last = time - timedelta(microseconds=1)
    return from_date(last.date())


def raw_columns(
    when: Sequence[datetime], boxes: int = 4, levels: Sequence[float] = (1000, 850, 500), seed: int = 0
) -> pl.DataFrame:
    """Each box at each time: profiles `t`, `ff`, `dd`, `z`, fields `msl` and (static) `oro`."""
    random = np.random.default_rng(seed)
    count = len(when) * boxes
    box = np.tile(np.arange(boxes), len(when))
    deep = {name: random.normal(size=(count, len(levels))).astype(np.float32) for name in ("t", "z")}
    deep["ff"] = random.uniform(0, 30, (count, len(levels))).astype(np.float32)
    deep["dd"] = random.uniform(0, 360, (count, len(levels))).astype(np.float32)
    return pl.DataFrame(
        {
            "month_id": pl.Series(np.repeat([month_of(time) for time in when], boxes), dtype=pl.Int32),
            "valid_time": pl.Series([time for time in when for _ in range(boxes)], dtype=pl.Datetime("us")),
            "box_id": box.astype(np.int64),
            "latitude": (45 + box // 2).astype(np.float32),
            "longitude": (5 + box % 2).astype(np.float32),
            "levels": pl.Series([list(levels)] * count, dtype=LISTS),
            **{name: pl.Series(values).arr.to_list() for name, values in deep.items()},
            "msl": random.normal(1013, 5, count).astype(np.float32),
            "oro": (box * 100).astype(np.float32),
        }
    )


def raw_rain(columns: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """Rain at the same places and times, in the five bands."""
    random = np.random.default_rng(seed)
    fractions = random.dirichlet(np.ones(5), columns.height).astype(np.float32)
    mean = random.uniform(0, 3, columns.height).astype(np.float32)
    return columns.select("month_id", "valid_time", "box_id").with_columns(
        pl.Series("fractions", fractions).arr.to_list(),
        pl.Series("rain_mean", mean),
        pl.Series("rain_max", mean * 3),
        pl.Series("missing", np.zeros(columns.height, dtype=np.float32)),
    )


def raw_members(columns: pl.DataFrame, size: int = 3, seed: int = 0) -> pl.DataFrame:
    """An ensemble at the same places and times."""
    random = np.random.default_rng(seed)
    rates = random.uniform(0, 3, (columns.height, size)).astype(np.float32)
    return columns.select("month_id", "valid_time", "box_id").with_columns(pl.Series("members", rates).arr.to_list())
