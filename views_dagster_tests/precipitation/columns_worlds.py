"""Small invented columns whose rain depends on the vertical structure, for tests of whatever takes `Columns`.

A box rains where the air is moist low down *and* unstable (cold aloft above a warm low level); humidity high up makes
only high cloud. Storms last a day, wander over the lattice, and are followed by a dry day.
"""

import numpy as np
from numpy.typing import NDArray

from views_dagster.precipitation.bands import EDGES, band_of
from views_dagster.precipitation.columns import Columns

PROFILES = ("cloud_fraction", "relative_humidity", "temperature", "eastward_wind", "northward_wind")
SURFACE = ("orography", "mean_sea_level_pressure")
SIDE = 8
PIXELS = 64


def columns_world(
    n: int = 4096,
    seed: int = 0,
    *,
    levels: int = 12,
    members: int = 0,
    unobserved: float = 0.0,
    start: str = "2020-01-01T01:00",
    edges: tuple[float, ...] = EDGES,
) -> Columns:
    """`n` rows: hours from `start` on, each with the 8 x 8 boxes of a lattice in order of `box_id`.

    About half of the rows are wholly dry. `members` NWP members are biased (drizzle everywhere, half the rain of a
    storm); `unobserved` is the share of rows whose rain is NaN. Every value is float32 and follows from the arguments.
    """
    draw = np.random.default_rng(seed)
    hour, box = np.divmod(np.arange(n), SIDE * SIDE)
    row, column = np.divmod(box, SIDE)
    storm = _storm(hour, row, column, draw)
    height = np.linspace(250.0, 12_000.0, levels)
    aloft = height / height[-1]

    moist = 1.5 * storm + draw.normal(0, 0.5, n)
    unstable = 0.8 * storm + draw.normal(0, 0.7, n)
    high_cloud = draw.normal(0, 1, n)
    humidity = 55 + 12 * moist[:, None] * np.exp(-6 * aloft) + 15 * high_cloud[:, None] * np.exp(-8 * (1 - aloft))
    humidity = np.clip(humidity + draw.normal(0, 3, (n, levels)), 1, 100)
    cloud = np.clip((humidity - 60) / 40 + draw.normal(0, 0.05, (n, levels)), 0, 1)
    temperature = 288 - 75 * aloft - 3 * unstable[:, None] * (aloft - 0.5) + draw.normal(0, 0.4, (n, levels))
    wind = draw.normal(0, 4, (n, 2, 1)) + np.array([12.0, 2.0])[:, None] * aloft + draw.normal(0, 1, (n, 2, levels))
    profiles = np.stack([cloud, humidity, temperature, wind[:, 0], wind[:, 1]], axis=1).astype(np.float32)
    orography = 400 * (np.sin(row) * np.cos(column) + 1)
    surface = np.stack([orography, 101_300 - 600 * storm + draw.normal(0, 200, n)], axis=1).astype(np.float32)

    vigour = moist + unstable - 1.5
    coverage = 1 / (1 + np.exp(-2.5 * vigour)) * (vigour > -1)
    wet = draw.random((n, PIXELS)) < coverage[:, None]
    rates = (wet * np.exp(0.9 * vigour[:, None] - 0.3 + draw.normal(0, 1, (n, PIXELS)))).astype(np.float32)
    bands = band_of(rates, edges)
    fractions = np.stack([(bands == band).mean(axis=1) for band in range(len(edges) + 1)], axis=1)
    mean, top = rates.mean(axis=1), rates.max(axis=1)
    ensemble = 0.05 + 0.5 * mean[:, None] * draw.lognormal(0, 0.7, (n, members))
    hidden = draw.random(n) < unobserved

    times = np.datetime64(start, "s") + hour * np.timedelta64(3600, "s")
    month = (times - np.timedelta64(1, "s")).astype("datetime64[M]").astype(int) - (1980 - 1970) * 12 + 1

    def rain(values: NDArray[np.floating]) -> NDArray[np.float32]:
        values = values.astype(np.float32)
        values[hidden] = np.nan
        return values

    return Columns(
        month_id=month.astype(np.int32),
        valid_time=times,
        box_id=box.astype(np.int64),
        latitude=(45 + 0.25 * row).astype(np.float32),
        longitude=(1 + 0.25 * column).astype(np.float32),
        profiles=profiles,
        profile_names=PROFILES,
        levels=height.astype(np.float32),
        level_unit="m",
        surface=surface,
        surface_names=SURFACE,
        fractions=rain(fractions),
        rain_mean=rain(mean),
        rain_max=rain(top),
        missing=np.where(hidden, 1, 0).astype(np.float32),
        members=ensemble.astype(np.float32),
        edges=edges,
    )


def _storm(
    hour: NDArray[np.intp], row: NDArray[np.intp], column: NDArray[np.intp], draw: np.random.Generator
) -> NDArray[np.float64]:
    """Strength 0..1.5 of the storm over each box: a bump that wanders for a day, on every other day."""
    day = hour // 24
    days = int(day.max(initial=0)) + 1
    strength = np.where(np.arange(days) % 2 == 0, draw.uniform(0.8, 1.5, days), 0.0)
    start, drift = draw.uniform(0, SIDE, (days, 2)), draw.uniform(-0.2, 0.2, (days, 2))
    centre = start[day] + drift[day] * (hour % 24)[:, None]
    distance = (row - centre[:, 0]) ** 2 + (column - centre[:, 1]) ** 2
    bump: NDArray[np.float64] = strength[day] * np.exp(-distance / (2 * 3.0**2))
    return bump
