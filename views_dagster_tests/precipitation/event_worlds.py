"""Columns that matter only by where, when and how much it rained."""

import numpy as np

from views_dagster.precipitation.bands import EDGES
from views_dagster.precipitation.columns import Columns

HOUR = np.timedelta64(3600, "s")


def rainy_columns(
    rain, start="2020-01-01T01", *, step: int = 1, longitudes=(5.0, 6.0), heavy=None, unobserved=None
) -> Columns:
    """One row for each time and longitude at 45 N, with the box mean rain given as (times,) or (times, boxes), mm/h.

    A wet box has half of its area in [0.5, 4) mm/h, where `heavy` (of the shape of `rain`) in 10 and more; a dry one
    none. Rain is unknown where `unobserved`.
    """
    rain = np.asarray(rain, dtype=np.float32)
    boxes = len(longitudes)
    rain = np.broadcast_to(rain[:, None], (len(rain), boxes)) if rain.ndim == 1 else rain
    count = rain.size
    times = np.repeat(np.datetime64(start, "s") + np.arange(len(rain)) * step * HOUR, boxes)
    wet = rain.reshape(-1) > 0
    hard = np.zeros(count, bool) if heavy is None else np.broadcast_to(np.asarray(heavy).T, rain.T.shape).T.reshape(-1)
    fractions = np.zeros((count, 5), dtype=np.float32)
    fractions[:, 0] = np.where(wet, 0.5, 1.0)
    fractions[:, 2] = 0.5 * (wet & ~hard)
    fractions[:, 4] = 0.5 * (wet & hard)
    mean = rain.reshape(-1).copy()
    if unobserved is not None:
        hidden = np.broadcast_to(np.asarray(unobserved).T, rain.T.shape).T.reshape(-1)
        mean[hidden], fractions[hidden] = np.nan, np.nan
    months = (times - np.timedelta64(1, "s")).astype("datetime64[M]").astype(int) + 12 * -10 + 1
    return Columns(
        month_id=months.astype(np.int32),
        valid_time=times,
        box_id=np.tile(np.arange(boxes), len(rain)),
        latitude=np.full(count, 45, dtype=np.float32),
        longitude=np.tile(np.asarray(longitudes, dtype=np.float32), len(rain)),
        profiles=np.zeros((count, 1, 1), dtype=np.float32),
        profile_names=("t",),
        levels=np.array([100], dtype=np.float32),
        level_unit="m",
        surface=np.zeros((count, 0), dtype=np.float32),
        surface_names=(),
        fractions=fractions,
        rain_mean=mean,
        rain_max=mean * 2,
        missing=np.zeros(count, dtype=np.float32),
        members=np.zeros((count, 0), dtype=np.float32),
        edges=EDGES,
    )


def showers(hours: int, seed: int = 0, *, every: float = 48, lasting: float = 12) -> np.ndarray:
    """(hours,) rain that comes and goes at random, mm/h."""
    random = np.random.default_rng(seed)
    rain, wet = np.zeros(hours), False
    for hour, chance in enumerate(random.random(hours)):
        wet = chance < 1 / every if not wet else chance > 1 / lasting
        rain[hour] = random.gamma(1, 2) + 0.1 if wet else 0
    return rain
