"""The invented atmosphere: the columns of air over each box of a small lattice while storms cross it.

A month is made from the random numbers of that month alone, so that asking for one costs one. What falls from the
columns belongs in `demo_rain`, rows for tables in `demo_weather_readers`; docs/demo_atmosphere.md gives the equations.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.calendar import from_key
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.demo_storms import (
    ACROSS,
    HOURS,
    MARGIN,
    SIDE,
    TRAITS,
    Floats,
    Sequence3h,
    draw_sequence,
    draw_tracks,
    moving_noise,
    warmth,
)
from views_dagster.seeds import seed_for

ATMOSPHERE_FIRST: Final = from_key("2022-01")
ATMOSPHERE_LAST: Final = from_key("2035-12")

GRID: Final = BoxGrid(latitude=46.1, longitude=6.1, step=(0.2, 0.2), rows=ACROSS, columns=ACROSS)
BOXES: Final = GRID.rows * GRID.columns
BOX_KM: Final = 20.0

LEVELS: Final = np.array(
    [1000, 950, 925, 900, 850, 800, 750, 700, 600, 550, 500, 400, 350, 300, 250, 200], dtype=np.float32
)
"""Pressure levels, hPa, ascending in height."""
HEIGHTS: Final = (44.33 * (1 - (LEVELS / 1013.25) ** 0.19)).astype(np.float32)
"""Their heights in the standard atmosphere, km."""
PROFILES: Final = ("cloud_fraction", "relative_humidity", "temperature", "eastward_wind", "northward_wind")
SURFACE: Final = ("surface_pressure", "temperature_2m", "orography")


@dataclass(frozen=True)
class Atmosphere:
    """The air of a month at T times, on the lattice with its margin (SIDE x SIDE boxes) and L levels.

    Attributes:
        times: when.
        humidity: (T, SIDE, SIDE, L) relative humidity, 0..1 and a little above.
        temperature, eastward, northward: same shape, K and m/s.
        ascent: (T, SIDE, SIDE) large-scale lifting; no variable shows it but through what it does.
        height: (SIDE, SIDE) orography, m.
        drift: (T, 2) northward and eastward movement of the storm, boxes in three hours.
        profiles: (T, 100, V, L) float32, `PROFILES` of the lattice's boxes as an analysis has them, with its errors.
        surface: (T, 100, S) float32, `SURFACE` of the same.
    """

    times: Sequence3h
    humidity: Floats
    temperature: Floats
    eastward: Floats
    northward: Floats
    ascent: Floats
    height: Floats
    drift: Floats
    profiles: NDArray[np.float32]
    surface: NDArray[np.float32]


def orography(seed: int) -> Floats:
    """(SIDE, SIDE) height of the ground, m: a ridge across the lattice and hills; the same in every month."""
    rng = np.random.default_rng(seed_for(seed, "orography"))
    hills = moving_noise(rng, np.ones(1, dtype=bool), np.zeros((1, 2)), fields=1, size=32, scale=1.3, memory=0.0)
    row, column = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    angle = rng.uniform(0, np.pi)
    distance = np.sin(angle) * column + np.cos(angle) * row - rng.uniform(-2, 2)
    height: Floats = np.maximum(
        0.0, 200 + 1000 * np.exp(-0.5 * (distance / 1.8) ** 2) + 180 * hills[0, 0, :SIDE, :SIDE]
    )
    return height


def atmosphere(seed: int, month_id: int) -> Atmosphere:
    """The air of one month of the world `seed`; other months play no part in it."""
    rng = np.random.default_rng(seed_for(seed, "atmosphere", month_id))
    times = draw_sequence(rng, month_id)
    presence, drift, heading = draw_tracks(rng, times)
    noise = moving_noise(rng, times.fresh, drift, fields=11, size=2 * SIDE, scale=1.6, memory=0.7)
    low, aloft, top, base, depth, unstable, lifting, turning, east, north, warm = np.moveaxis(
        noise[:, :, :SIDE, :SIDE], 1, 0
    ).astype(np.float64)
    trait = [column[times.kind][times.run][:, None, None] for column in TRAITS[:, 5:].T]
    kind_low, kind_top, kind_aloft, kind_base, kind_depth, kind_unstable, kind_ascent, kind_wind = trait
    dryness, pressure, heat, speed = rng.normal(size=(4, len(times.kind)))[:, times.run][:, :, None, None]
    summer = warmth(month_id)
    afternoon = np.cos(2 * np.pi * (times.step * HOURS - 16) / 24)[:, None, None]
    height = orography(seed)

    ascent = presence * kind_ascent + 0.3 * lifting
    humidity = _humidity(
        ground=_logistic(-1.6 + 0.6 * (1 - summer) + presence * kind_low + 2.0 * low),
        ground_top=np.clip(0.4 + 0.6 * kind_top + 0.5 * top, 0.2, 4),
        aloft=_logistic(-2.2 + presence * kind_aloft + 2.0 * aloft),
        base=np.clip(kind_base + 1.5 * base, 0.8, 9),
        depth=np.clip(kind_depth * (0.4 + 0.6 * presence) + 1.6 * depth, 0.6, 10),
        dryness=dryness,
        ascent=ascent,
    )
    humidity = np.clip(humidity + 0.022 * _noise_along_levels(rng, humidity.shape), 0.03, 1.06)

    sea_level = 275.0 + 16 * summer + 2.5 * heat + 0.8 * warm
    daily = (1.5 + 3.5 * summer) * afternoon * (1 - 0.6 * presence)
    instability = 1.0 + 2.0 * summer + 1.5 * summer * afternoon + presence * kind_unstable + 1.2 * unstable
    temperature = np.maximum(
        sea_level[..., None]
        - 6.4 * HEIGHTS
        + daily[..., None] * np.exp(-HEIGHTS / 0.8)
        + instability[..., None] * (0.6 * np.exp(-HEIGHTS / 1.2) - 0.7 * np.exp(-(((HEIGHTS - 5.5) / 2.5) ** 2))),
        216.0 + 4 * summer,
    )
    # Where warm air is carried up, the wind turns clockwise with height: with over-full cloud, the trace of ascent.
    aloft_share = 1 - np.exp(-HEIGHTS / 2.0)
    angle = heading[:, None, None, None] - (0.5 * ascent + 0.12 * turning)[..., None] * aloft_share
    wind = np.maximum(1.5, 4 + presence * (kind_wind - 4) + 2 * speed)[..., None] * (0.65 + HEIGHTS / 6)
    eastward = wind * np.cos(angle) + 1.2 * east[..., None]
    northward = wind * np.sin(angle) + 1.2 * north[..., None]

    at_ground = (1018 - 6 * summer + 7 * pressure - 9 * presence * kind_ascent) * np.exp(-height / 8400)
    at_2m = sea_level + daily + 0.6 * instability - 0.0065 * height
    inner = np.s_[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    rows = (len(times.step), BOXES)
    profiles = np.stack(
        [
            field[inner].reshape(*rows, len(LEVELS))
            for field in (_cloud(humidity), humidity, temperature, eastward, northward)
        ],
        axis=2,
    )
    errors = _noise_along_levels(rng, profiles.shape)
    profiles = profiles + errors * np.array([0.04, 0.02, 0.3, 0.6, 0.6])[:, None]
    # An analysis that has no cloud at a level has no noise there either.
    clear = profiles[:, :, 0] < 0.04
    profiles[:, :, 0] = np.where(clear, 0, np.minimum(profiles[:, :, 0], 1))
    profiles[:, :, 1] = 100 * np.clip(profiles[:, :, 1], 0.01, 1.05)
    surface = np.stack(
        [
            field.reshape(rows)
            for field in (at_ground[inner], at_2m[inner], np.broadcast_to(height, at_2m.shape)[inner])
        ],
        axis=2,
    )
    surface[:, :, 0] += 0.5 * rng.standard_normal(rows)
    surface[:, :, 1] += 0.6 * rng.standard_normal(rows)
    return Atmosphere(
        times=times,
        humidity=humidity,
        temperature=temperature,
        eastward=eastward,
        northward=northward,
        ascent=ascent,
        height=height,
        drift=drift,
        profiles=profiles.astype(np.float32),
        surface=surface.astype(np.float32),
    )


def _logistic(value: Floats) -> Floats:
    result: Floats = 1 / (1 + np.exp(-value))
    return result


def _humidity(
    *, ground: Floats, ground_top: Floats, aloft: Floats, base: Floats, depth: Floats, dryness: Floats, ascent: Floats
) -> Floats:
    """(T, SIDE, SIDE, L) relative humidity of dry air with two moist layers, over-full where air rises fast."""
    below_top = ground[..., None] * _logistic((ground_top[..., None] - HEIGHTS) / 0.3)
    between = aloft[..., None] * (
        _logistic((HEIGHTS - base[..., None]) / 0.35) * _logistic(((base + depth)[..., None] - HEIGHTS) / 0.5)
    )
    dry = np.clip(0.58 - 0.028 * HEIGHTS + 0.07 * dryness[..., None], 0.1, 0.8)
    full = 0.96 + 0.05 * np.minimum(ascent, 1.6)[..., None]
    result: Floats = full - (full - dry) * (1 - below_top) * (1 - between)
    return result


def _cloud(humidity: Floats) -> Floats:
    """Cloud fraction after Sundqvist et al. (1989, Monthly Weather Review 117): from 0.78 humidity on, all at 1."""
    fraction: Floats = 1 - np.sqrt(np.clip((1 - humidity) / (1 - 0.78), 0, 1))
    return fraction


def _noise_along_levels(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal numbers (..., L) of which neighbouring levels resemble each other, over 0.2 in log pressure."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    memory = np.exp(np.diff(np.log(LEVELS)) / 0.2)
    for level, kept in enumerate(memory.tolist(), start=1):
        noise[..., level] = kept * noise[..., level - 1] + np.sqrt(1 - kept**2) * noise[..., level]
    return noise
