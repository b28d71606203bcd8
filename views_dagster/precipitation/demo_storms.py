"""When and where storms are in a month of the invented weather: their types, times, tracks, growth and decay.

What the air is like inside them belongs in `demo_atmosphere`; docs/demo_atmosphere.md gives the equations.
"""

from dataclasses import astuple, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.calendar import first_day, year_month

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Truths = NDArray[np.bool_]

HOURS: Final = 3
DAY: Final = 24 // HOURS
ACROSS: Final = 10
"""Boxes along a side of the lattice."""
MARGIN: Final = 4
"""Boxes simulated beyond each edge of the lattice, from which displaced forecasts take their rain."""
SIDE: Final = ACROSS + 2 * MARGIN


@dataclass(frozen=True)
class Storm:
    """A type of storm.

    Attributes:
        cold, warm: relative frequency in January and in July.
        length, width: extent of one of its systems along and across, boxes.
        drift: speed, boxes in three hours.
        low, top: how much it moistens the layer at the ground (logits), and that layer's top, km.
        aloft, base, depth: the same for the layer above, with its base and depth, km.
        unstable: by how much it warms low levels against middle ones, K.
        ascent: large-scale lifting; 1 is vigorous.
        wind: speed at 2 km, m/s.
    """

    cold: float
    warm: float
    length: float
    width: float
    drift: float
    low: float
    top: float
    aloft: float
    base: float
    depth: float
    unstable: float
    ascent: float
    wind: float


STORMS: Final = {
    "front": Storm(0.36, 0.18, 9.0, 3.0, 2.0, 2.4, 1.8, 5.0, 1.8, 6.0, 1.0, 1.3, 15.0),
    "stratiform": Storm(0.34, 0.08, 6.0, 4.5, 1.0, 3.0, 2.0, 4.0, 2.4, 3.5, -2.0, 0.7, 11.0),
    "cluster": Storm(0.02, 0.48, 4.0, 3.0, 0.9, 4.0, 1.8, 0.0, 5.0, 3.0, 6.0, 0.7, 6.0),
    "squall": Storm(0.06, 0.18, 6.0, 2.2, 1.8, 4.0, 2.0, 4.5, 1.6, 8.0, 4.5, 1.4, 13.0),
    "veil": Storm(0.22, 0.08, 8.0, 4.0, 1.5, -1.5, 1.0, 5.0, 3.4, 4.5, -1.0, 1.0, 13.0),
    "quiet": Storm(0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 4.0, 2.0, 0.0, 0.0, 5.0),
}
"""`veil` is cloud over dry air, from which rain does not arrive; `quiet` is the weather between storms."""
TRAITS: Final = np.array([astuple(storm) for storm in STORMS.values()])
"""(K, 13) the fields of each type."""
QUIET: Final = list(STORMS).index("quiet")
SYSTEMS: Final = 3
"""Systems (waves of a front, groups of cells) that a storm consists of, each with its own birth, track and decay."""
QUIET_STEPS: Final = 4
APART: Final = DAY
"""Steps of three hours without rows between two storms, and at either end of the month."""


@dataclass(frozen=True)
class Sequence3h:
    """The times of a month at which there are rows, T of them in order; storms and quiet spells are runs of times.

    Attributes:
        step: (T,) three-hour steps since the month began.
        fresh: (T,) whether a run begins.
        run: (T,) number of the run.
        kind: (R,) type of each run, a position in `STORMS`.
        steps: (R,) length of each run.
    """

    step: Ints
    fresh: Truths
    run: Ints
    kind: Ints
    steps: Ints


def moving_noise(
    rng: np.random.Generator, fresh: Truths, drift: Floats, *, fields: int, size: int, scale: float, memory: float
) -> NDArray[np.float32]:
    """(T, fields, size, size) Gaussian fields of unit variance on a torus, smooth over `scale` cells.

    A field moves by `drift` (T, 2) cells from one time to the next, keeps `memory` of itself and begins anew where
    `fresh`. Made in the spectrum, where movement is a phase and only waves that a Gaussian of that scale leaves exist.
    """
    northward = 2 * np.pi * np.fft.fftfreq(size)
    eastward = 2 * np.pi * np.fft.rfftfreq(size)
    reach = 3.7 / scale
    rows, columns = np.flatnonzero(np.abs(northward) <= reach), np.flatnonzero(eastward <= reach)
    along, across = northward[rows, None], eastward[None, columns]
    gain = np.exp(-0.5 * scale**2 * (along**2 + across**2)) * np.where(across == 0, np.sqrt(2), 1)
    gain *= size**2 / np.sqrt((gain**2 * np.where(across == 0, 1, 4)).sum())
    drawn = rng.standard_normal((len(fresh), fields, len(rows), len(columns), 2), dtype=np.float32)
    waves = drawn.view(np.complex64)[..., 0] * gain.astype(np.float32)
    if memory:
        phase = np.exp(-1j * (drift[:, 0, None, None] * along + drift[:, 1, None, None] * across))
        for now in np.flatnonzero(~fresh):
            waves[now] = memory * phase[now] * waves[now - 1] + np.sqrt(1 - memory**2) * waves[now]
    spectrum = np.zeros((len(fresh), fields, size, len(eastward)), dtype=np.complex64)
    spectrum[:, :, rows[:, None], columns] = waves
    noise: NDArray[np.float32] = np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32, copy=False)
    return noise


def warmth(month_id: int) -> float:
    """How much it is summer: 0 in January, 1 in July."""
    return float(1 - np.cos(2 * np.pi * (year_month(month_id)[1] - 1) / 12)) / 2


def draw_sequence(rng: np.random.Generator, month_id: int) -> Sequence3h:
    """Two to five storms and one or two quiet spells, at least a day apart from each other and from other months."""
    warm = warmth(month_id)
    weights = np.array([storm.cold + (storm.warm - storm.cold) * warm for storm in STORMS.values()])
    storms = int(rng.integers(2, 6))
    quiet = int(rng.integers(1, 3))
    kind = np.append(rng.choice(len(STORMS), storms, p=weights / weights.sum()), np.full(quiet, QUIET))
    share = rng.uniform(0.6, 1.4, storms)
    total = rng.integers(26, 43) - quiet * QUIET_STEPS
    steps = np.append(np.maximum(5, np.rint(total * share / share.sum())), np.full(quiet, QUIET_STEPS)).astype(np.int64)
    order = rng.permutation(len(kind))
    kind, steps = kind[order], steps[order]
    length = (first_day(month_id + 1) - first_day(month_id)).days * DAY
    spare = length - int(steps.sum()) - APART * (len(kind) + 1)
    gaps = APART + rng.multinomial(spare, np.full(len(kind) + 1, 1 / (len(kind) + 1)))
    begins = np.cumsum(gaps[:-1]) + np.append(0, np.cumsum(steps[:-1]))
    run = np.repeat(np.arange(len(kind)), steps)
    within = np.arange(len(run)) - np.repeat(np.cumsum(steps) - steps, steps)
    return Sequence3h(step=begins[run] + within + 1, fresh=within == 0, run=run, kind=kind, steps=steps)


def draw_tracks(rng: np.random.Generator, times: Sequence3h) -> tuple[Floats, Floats, Floats]:
    """Presence of the storm (T, SIDE, SIDE) in 0..1, its drift (T, 2) in boxes a step, its heading (T,) in radians."""
    runs = len(times.kind)
    length, width, speed = TRAITS[times.kind, 2:5].T
    heading = rng.normal(0.3, 0.7, runs)
    motion = speed[:, None] * np.stack([np.sin(heading), np.cos(heading)], axis=1)
    centre = (np.arange(SYSTEMS) + rng.uniform(0.1, 0.9, (runs, SYSTEMS))) / SYSTEMS * times.steps[:, None]
    growth = np.maximum(1.0, times.steps[:, None] / SYSTEMS * rng.uniform(0.3, 0.7, (runs, SYSTEMS)))
    decay = growth * rng.uniform(1.0, 1.8, (runs, SYSTEMS))
    vigour = rng.uniform(0.7, 1.3, (runs, SYSTEMS)) * (times.kind != QUIET)[:, None]
    at = rng.normal(0.0, 2.0, (runs, SYSTEMS, 2))
    tilt = (heading + np.pi / 2)[:, None] + rng.normal(0, 0.35, (runs, SYSTEMS))
    stretch = rng.uniform(0.75, 1.3, (runs, SYSTEMS, 2)) * np.stack([length, width], axis=1)[:, None, :]

    run = times.run
    within = times.step - times.step[np.flatnonzero(times.fresh)][run] + 0.5
    age = within[:, None] - centre[run]
    life = np.exp(-0.5 * (age / np.where(age < 0, growth[run], decay[run])) ** 2)
    place = at[run] + age[:, :, None] * motion[run][:, None, :]
    row, column = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    north = row - place[:, :, 0, None, None]
    east = column - place[:, :, 1, None, None]
    cosine, sine = np.cos(tilt)[run][:, :, None, None], np.sin(tilt)[run][:, :, None, None]
    along = (cosine * east + sine * north) / stretch[run][:, :, 0, None, None]
    across = (cosine * north - sine * east) / stretch[run][:, :, 1, None, None]
    systems = (vigour[run] * life)[:, :, None, None] * np.exp(-0.5 * (along**2 + across**2))
    return 1 - np.prod(1 - np.minimum(systems, 1), axis=1), motion[run], heading[run]
