"""The rain of the invented atmosphere: what columns let fall, where inside their boxes, and what a forecast has of it.

Rain is in mm/h, over the quarter of an hour that ends at the valid time. docs/demo_atmosphere.md gives the equations.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.precipitation.box_sums import BoxRain, Coarsener, rain_of
from views_dagster.precipitation.coarsening import coarsener
from views_dagster.precipitation.demo_atmosphere import BOX_KM, BOXES, GRID, HEIGHTS, LEVELS, Atmosphere
from views_dagster.precipitation.demo_storms import HOURS, MARGIN, SIDE, Floats, moving_noise
from views_dagster.seeds import seed_for

FINE: Final = 16
"""Fine pixels along a side of a box; 0.0125 degrees each."""
MEMBERS: Final = 18
FURTHEST: Final = MARGIN - 1.01
"""How far, in boxes, a member may have a storm out of place: what lies there and beside it was simulated."""
MOST_MISSING: Final = 0.5
"""A box of which more pixels are missing has no fractions."""

_LAYER: Final = np.gradient(HEIGHTS).astype(np.float64)
_LOW, _MIDDLE = int(np.flatnonzero(LEVELS == 925)[0]), int(np.flatnonzero(LEVELS == 500)[0])


@dataclass(frozen=True)
class Potential:
    """What columns can let fall, each (..., SIDE, SIDE).

    Attributes:
        wide: rain of layered cloud at the ground, mm/h.
        rarity: how many standard deviations a spot must be out of the common to lie in a rain cell.
        strength: scale of the rain in cells, mm/h.
        thin: drizzle that a coarse model makes of moist low air, mm/h, where nature may make none.
    """

    wide: Floats
    rarity: Floats
    strength: Floats
    thin: Floats


def vapour(temperature: Floats, pressure: Floats) -> Floats:
    """Saturation specific humidity, kg/kg, after Bolton (1980, Monthly Weather Review 108), over water."""
    celsius = temperature - 273.15
    saturation = 6.112 * np.exp(17.67 * celsius / (celsius + 243.5))
    result: Floats = 0.622 * saturation / np.maximum(pressure - saturation, 1)
    return result


def instability(humidity: Floats, temperature: Floats) -> Floats:
    """Excess of equivalent potential temperature at 925 hPa over its saturation value at 500 hPa, K."""

    def equivalent(level: int, moisture: Floats | float) -> Floats:
        air, pressure = temperature[..., level], LEVELS[level]
        mixing = moisture * vapour(air, pressure)
        result: Floats = air * (1000 / pressure) ** 0.286 * np.exp(2.5e6 * mixing / (1005 * air))
        return result

    return equivalent(_LOW, humidity[..., _LOW]) - equivalent(_MIDDLE, 1.0)


def falling_rain(humidity: Floats, temperature: Floats, ascent: Floats, upslope: Floats) -> Floats:
    """Layered rain at the ground, mm/h, followed downwards through (..., L) levels.

    Saturated air that is lifted adds to it, more where it is warm; but cloud that is too warm for ice makes little of
    its own and grows what falls into it. Dry air evaporates it. Low cloud on a slope that the wind blows up is washed
    out by what falls through (seeder and feeder). So the order of the levels decides. The rate levels off to 12 mm/h.
    """
    excess = np.clip((humidity - 0.86) / 0.12, 0, 1.3)
    deficit = np.maximum(0, 0.82 - humidity)
    lift = np.log1p(np.exp(2.5 * (ascent - 0.2))) / 2.5
    source = 1.6 * excess * (vapour(temperature, LEVELS) / 0.008) ** 0.6 * _LAYER
    feeder = 0.9 * excess * np.maximum(upslope, 0)[..., None] * np.exp(-HEIGHTS / 1.5) * _LAYER
    icy = 1 / (1 + np.exp((temperature - 264) / 2))
    rain = np.zeros(humidity.shape[:-1])
    for level in range(len(LEVELS) - 1, -1, -1):
        grown = icy[..., level] + (1 - icy[..., level]) * (0.2 + rain / (rain + 0.25))
        rain = rain + lift * source[..., level] * grown + feeder[..., level] * np.sqrt(rain)
        rain = rain * np.exp(-3.2 * deficit[..., level] * _LAYER[level])
        rain = np.maximum(0, rain - 0.35 * deficit[..., level] * _LAYER[level])
    limited: Floats = rain / (1 + rain / 12)
    return limited


def potential(air: Atmosphere) -> Potential:
    """What the columns of `air` let fall; a function of them and of nothing drawn."""
    north, east = np.gradient(air.height, 1000 * BOX_KM)
    upslope = (air.eastward[..., _LOW] * east + air.northward[..., _LOW] * north) / 0.1
    middle = air.humidity[..., 6:11].mean(axis=-1)
    trigger = 1 / (1 + np.exp(-(instability(air.humidity, air.temperature) - 1.0) / 1.6))
    trigger *= np.clip((air.humidity[..., _LOW] - 0.6) / 0.3, 0, 1) * np.clip(0.55 + 0.6 * air.ascent, 0.3, 1.4)
    trigger *= 1 + 0.25 * np.tanh(upslope)
    warm = vapour(air.temperature[..., _LOW], LEVELS[_LOW]) / 0.01
    moist_low = air.humidity[..., :5].mean(axis=-1)
    return Potential(
        wide=falling_rain(air.humidity, air.temperature, air.ascent, upslope),
        # Dry air that mixes in from the sides starves all cells but the strongest, and cools those by evaporation.
        rarity=np.maximum(1.1, 5.0 - (2.8 + 1.3 * middle) * trigger),
        strength=(4 + 4 * trigger * (1.5 - middle)) * np.sqrt(warm),
        thin=0.12 * np.clip((moist_low - 0.84) / 0.13, 0, 1.2),
    )


def _finer(field: NDArray[np.floating], offset: float, repeat: int, size: int) -> NDArray[np.float32]:
    """(T, size, size) values between those of (T, S, S) cells, `repeat` points a cell, the first `offset` cells in.

    Linear along each axis; without BLAS, whose threads and order of sums differ from machine to machine.
    """
    at = offset + (np.arange(size, dtype=np.float32) + np.float32(0.5)) / repeat - np.float32(0.5)
    below = np.floor(at).astype(np.int64)
    part = (at - below).astype(np.float32)
    first, second = below % field.shape[1], (below + 1) % field.shape[1]
    values = field.astype(np.float32)
    by_column = values[:, :, first] * (1 - part) + values[:, :, second] * part
    finer = by_column[:, first] * (1 - part)[:, None] + by_column[:, second] * part[:, None]
    return finer.astype(np.float32, copy=False)


def fine_rain(air: Atmosphere, possible: Potential, rng: np.random.Generator) -> NDArray[np.float32]:
    """(T, 160, 160) rain on the fine pixels, mm/h: wide rain with a texture that moves along, and short-lived cells."""
    fresh, count = air.times.fresh, GRID.rows * FINE
    still = np.zeros((len(fresh), 2))
    whim = moving_noise(rng, fresh, air.drift, fields=2, size=2 * SIDE, scale=1.2, memory=0.7)[:, :, :SIDE, :SIDE]
    grain = 4
    texture = moving_noise(rng, fresh, air.drift * (FINE / grain), fields=1, size=64, scale=1.6, memory=0.5)[:, 0]
    spots = moving_noise(rng, fresh, still, fields=1, size=192, scale=1.7, memory=0.0)[:, 0, :count, :count]

    def spread(field: Floats) -> NDArray[np.float32]:
        return _finer(field, MARGIN, FINE, count)

    wide = spread(np.log(possible.wide + 1e-3) + 0.2 * whim[:, 0] - 0.2) + 0.6 * _finer(texture, 0, grain, count)
    rarity = spread(possible.rarity + 0.15 * whim[:, 1])
    strength = spread(possible.strength)
    inside = np.maximum(spots - rarity, 0)
    rain: NDArray[np.float32] = np.maximum(np.exp(wide, out=wide) - np.float32(0.08), 0)
    # A cell covers few pixels: the rest need no arithmetic.
    within = inside > 0
    rain[within] += strength[within] * (inside[within] + inside[within] ** 2)
    return rain


def observed(times: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(T, 160, 160) pixels that the radar sees: within its range, not behind a hill, not while all or some is down."""
    count = GRID.rows * FINE
    north, east = np.mgrid[:count, :count].astype(np.float32) / FINE - np.array([2.0, 2.5], np.float32)[:, None, None]
    distance, bearing = np.hypot(north, east), np.arctan2(north, east)
    shadow = (np.abs(bearing - 0.9) < 0.025) & (distance > 4)
    reach = (9.6 + 0.25 * rng.standard_normal(times, dtype=np.float32))[:, None, None]
    seen: NDArray[np.bool_] = (distance < reach) & ~shadow
    fate = rng.random(times)
    partly = np.flatnonzero(fate > 0.96)
    sector = rng.uniform(-np.pi, np.pi, len(partly)).astype(np.float32)[:, None, None]
    seen[partly] &= np.cos(bearing - sector) < 0.95
    seen[fate < 0.015] = False
    return seen


@cache
def _coarsener() -> Coarsener:
    centres = (np.arange(GRID.rows * FINE) + 0.5) / FINE
    north, east = GRID.steps
    return coarsener(GRID, GRID.latitude_edges[0] + north * centres, GRID.longitude_edges[0] + east * centres)


def ensemble(air: Atmosphere, possible: Potential, seed: int, month_id: int) -> NDArray[np.float32]:
    """(T, 100, MEMBERS) box means of a forecast that knows the weather as a coarse model does, days ahead.

    All members share the storm's error in place, time and vigour, so that they spread less than they err; all rain too
    often and too lightly, and heavy rain comes too smooth.
    """
    rng = np.random.default_rng(seed_for(seed, "members", month_id))
    runs, run = len(air.times.kind), air.times.run
    # Mean of (x - rarity) + (x - rarity)^2 above rarity, for a standard normal x; within 10 % for 0.5..3.
    share = np.exp(-0.1 - 1.35 * possible.rarity - 0.36 * possible.rarity**2)
    cells = possible.strength * share
    truth = possible.wide + cells
    broad = (truth + sum(np.roll(truth, by, axis) for by in (-1, 1) for axis in (1, 2))) / 5

    late = rng.normal(0, 1.3, runs)[run] / HOURS
    shift = (rng.normal(0, 0.85, (runs, 2))[run] - late[:, None] * air.drift)[:, None, :]
    shift = np.clip(shift + rng.normal(0, 0.35, (len(run), MEMBERS, 2)), -FURTHEST, FURTHEST)
    placed = _moved(broad, shift)
    thin = _moved(possible.thin, shift)
    vigour = rng.normal(-0.1, 0.3, runs)[run][:, None, None] + 0.15 * rng.standard_normal((len(run), 1, MEMBERS))
    whim = moving_noise(rng, air.times.fresh, air.drift, fields=MEMBERS, size=2 * SIDE, scale=2.0, memory=0.7)
    own = np.moveaxis(whim[:, :, : GRID.rows, : GRID.columns], 1, -1).reshape(len(run), BOXES, MEMBERS)
    heavy = 0.9 * placed**0.85 * np.exp(vigour + 0.35 * own)
    drizzle = thin * np.exp(0.8 * own)
    members: NDArray[np.float32] = np.maximum(0, heavy + drizzle - 0.07).astype(np.float32)
    return members


def _moved(field: Floats, shift: Floats) -> Floats:
    """(T, 100, M) values of (T, SIDE, SIDE) fields, moved northward and eastward by (T, M, 2) boxes."""
    row, column = (axis.reshape(-1, 1) for axis in np.mgrid[: GRID.rows, : GRID.columns] + MARGIN)
    north, east = row - shift[:, None, :, 0], column - shift[:, None, :, 1]
    south, west = np.floor(north).astype(np.int64), np.floor(east).astype(np.int64)
    up, right = north - south, east - west
    now = np.arange(len(field))[:, None, None]
    moved: Floats = (
        field[now, south, west] * (1 - up) * (1 - right)
        + field[now, south, west + 1] * (1 - up) * right
        + field[now, south + 1, west] * up * (1 - right)
        + field[now, south + 1, west + 1] * up * right
    )
    return moved


def boxed_rain(air: Atmosphere, possible: Potential, seed: int, month_id: int) -> BoxRain:
    """Rain as the radar sees it on the lattice's 100 boxes at the T times of `air`."""
    rng = np.random.default_rng(seed_for(seed, "rain", month_id))
    rain = fine_rain(air, possible, rng)
    rain[~observed(len(rain), rng)] = np.nan
    return rain_of(_coarsener().sums(rain), MOST_MISSING)
