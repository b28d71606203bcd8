"""How violence comes, spreads and ends in the demo world, month by month, and where and how deadly each event is.

The state of month t is made from that of month t-1 and the random numbers of month t, which have a seed of their own:
a longer run repeats a shorter one to the event. What a published event looks like besides (dates, names, ranges of
estimates) belongs in `demo_world`; docs/demo_world.md gives the equations.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.calendar import year_month
from views_dagster.conflict.demo_covariates import FIRST_YEAR, region_years
from views_dagster.conflict.demo_geography import COLUMNS, REGIONS, WORLD_FIRST, DemoMap, demo_map
from views_dagster.seeds import seed_for

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TYPES: Final = 3
FOCI: Final = 5
SPIN_UP_MONTHS: Final = 180
EVENT_UNIFORMS: Final = 8
MOST_EVENTS: Final = 160
GRAINS: Final = 2**20

# The numbers below are chosen such that the moments in docs/demo_world.md come out near those of UCDP GED.
# Where there are three, they are for state-based, non-state and one-sided violence.
ONSET: Final = np.array([-7.6, -8.5, -7.55])
ONSET_RISK: Final = 1.5
ONSET_AROUND: Final = 0.12
ONSET_PAST: Final = 0.2
ONSET_RECENT: Final = 0.1
ONSET_OTHERS: Final = 0.5
ESCALATION: Final = np.array([0.012, 0.005, 0.003])
ESCALATION_RECENT: Final = 0.3
DEESCALATION: Final = 0.05
DURATION_MEDIAN: Final = 26.0
DURATION_SPREAD: Final = 1.3
DURATION_RISK: Final = 0.3

QUIET: Final = np.array([-7.5, -7.7, -7.4])
QUIET_RISK: Final = 1.1
QUIET_AROUND: Final = 0.12
QUIET_PAST: Final = 0.25
LEVEL: Final = np.array([0.2, -0.2, -0.4])
LEVEL_SPREAD: Final = 0.9
LEVEL_RISK: Final = 0.3
LEVEL_WAR: Final = 1.6
LEVEL_RECENT: Final = 0.12
SWING_MEMORY: Final = 0.92
SWING_STEP: Final = 0.25
CLUSTERING: Final = 3.0
RECENT_MEMORY: Final = 0.6
PAST_MEMORY: Final = 0.985

TAIL: Final = np.array([1.35, 1.4, 1.25])
DEADLIEST: Final = np.array([15_000, 2_000, 20_000])
SEVERITY_SPREAD: Final = 0.45
NO_DEATHS: Final = 0.075
SPILLOVER: Final = 0.04
FROM_TOWN: Final = 0.12
FOCUS_MOVES: Final = 0.08


@dataclass(frozen=True)
class RawEvents:
    """Events as the simulation makes them, N of them in order of month.

    Attributes:
        month: (N,) int64 month id.
        kind: (N,) int64, 0 state-based, 1 non-state, 2 one-sided.
        cell: (N,) int64 position of the cell in `DemoMap.gid`.
        faction: (N,) int64 in 0..FOCI-1, which of the region's armed groups takes part.
        best: (N,) int64 deaths.
        uniform: (N, EVENT_UNIFORMS) float64, random numbers for what remains to be said of the event.
    """

    month: Ints
    kind: Ints
    cell: Ints
    faction: Ints
    best: Ints
    uniform: Floats


def simulate(seed: int, last: int) -> RawEvents:
    """Events of `WORLD_FIRST..last`; those of a month do not depend on `last`."""
    world = demo_map(seed)
    violence = _Violence(world, seed)
    months = []
    for month in range(WORLD_FIRST - SPIN_UP_MONTHS, last + 1):
        events = violence.advance(month)
        if month >= WORLD_FIRST:
            months.append(events)
    return RawEvents(
        *(np.concatenate([getattr(events, name) for events in months]) for name in RawEvents.__dataclass_fields__)
    )


class _Violence:
    """What the next month of all regions (R) and types (K = 3) depends on.

    Each is (R, K): `stage` 0 peace, 1 conflict, 2 war; of the running conflict its `level` (log events a month),
    `severity` (factor on deaths per event) and `ending` (probability a month); `swing` around that level; `recent` and
    `past`, averages of log1p(deaths) over some months and some years. `foci` (R, K, FOCI): where fighting gathers.
    """

    def __init__(self, world: DemoMap, seed: int) -> None:
        self.world = world
        self.seed = seed
        rng = np.random.Generator(np.random.PCG64(seed_for("demo_conflict", seed)))
        shared = rng.standard_normal((REGIONS, 1))
        self.frailty = _grain(0.6 * (0.8 * shared + 0.6 * rng.standard_normal((REGIONS, TYPES))))
        self.risk = region_years(seed).risk
        self.adjacent = np.zeros((REGIONS, REGIONS))
        self.adjacent[world.borders[:, 0], world.borders[:, 1]] = 1
        self.adjacent += self.adjacent.T
        self.degree = np.maximum(self.adjacent.sum(axis=1, keepdims=True), 1)
        self.by_region = np.argsort(world.region, kind="stable")
        self.cumulative_people = np.cumsum(world.people[self.by_region])
        self.people_before = np.concatenate([[0], self.cumulative_people])[
            np.searchsorted(world.region[self.by_region], np.arange(REGIONS + 1))
        ]
        self.stage = np.zeros((REGIONS, TYPES), dtype=np.int64)
        self.level = np.zeros((REGIONS, TYPES))
        self.swing = np.zeros((REGIONS, TYPES))
        self.ending = np.ones((REGIONS, TYPES))
        self.severity = np.ones((REGIONS, TYPES))
        self.recent = np.zeros((REGIONS, TYPES))
        self.past = np.zeros((REGIONS, TYPES))
        regions = np.repeat(np.arange(REGIONS), TYPES * FOCI)
        self.foci = self.towns(regions, rng.random(len(regions))).reshape(REGIONS, TYPES, FOCI)

    def towns(self, regions: Ints, uniform: Floats) -> Ints:
        """A cell of each of `regions`, in proportion to its people."""
        low, high = self.people_before[regions], self.people_before[regions + 1]
        target = low + np.floor(uniform * (high - low)).astype(np.int64)
        cells: Ints = self.by_region[np.searchsorted(self.cumulative_people, target, side="right")]
        return cells

    def advance(self, month: int) -> RawEvents:
        """Take all regions through `month` and return its events."""
        rng = np.random.Generator(np.random.PCG64(seed_for("demo_conflict", self.seed, month)))
        year = max(year_month(month)[0] - 1, FIRST_YEAR)
        risk = np.clip(self.risk[year - FIRST_YEAR][:, None] + self.frailty, -4, 4)
        # Sums of whole numbers come out the same in whatever order a machine adds them.
        around = (self.adjacent @ np.rint(self.recent.sum(axis=1, keepdims=True) * GRAINS)) / GRAINS / self.degree
        self.change_stage(rng, risk, around)
        swing = SWING_STEP * np.clip(rng.standard_t(4, self.swing.shape), -6, 6)
        self.swing = _grain(SWING_MEMORY * self.swing + swing)
        quiet = QUIET + QUIET_RISK * risk + QUIET_AROUND * around + QUIET_PAST * self.past
        active = self.level + LEVEL_WAR * (self.stage == 2) + self.swing + LEVEL_RECENT * self.recent
        intensity = np.exp(np.minimum(np.where(self.stage == 0, quiet, active), 8.0))
        expected = np.minimum(intensity, MOST_EVENTS)
        counts = rng.poisson(expected * rng.standard_gamma(CLUSTERING, expected.shape) / CLUSTERING)
        # Beyond the most events that are told apart, a month grows deadlier rather than longer.
        events = self.place(rng, month, counts, self.severity * np.sqrt(intensity / expected))
        deaths = np.bincount(self.world.region[events.cell] * TYPES + events.kind, events.best, REGIONS * TYPES)
        felt = np.log1p(deaths.reshape(REGIONS, TYPES))
        self.recent = _grain(RECENT_MEMORY * self.recent + (1 - RECENT_MEMORY) * felt)
        self.past = _grain(PAST_MEMORY * self.past + (1 - PAST_MEMORY) * felt)
        return events

    def change_stage(self, rng: np.random.Generator, risk: Floats, around: Floats) -> None:
        """Peace (0), conflict (1) and war (2): onset, escalation, de-escalation and end."""
        shape = self.stage.shape
        chance = rng.random(shape)
        others = (self.stage > 0).sum(axis=1, keepdims=True) - (self.stage > 0)
        onset = ONSET + ONSET_RISK * risk + ONSET_AROUND * around + ONSET_OTHERS * others
        onset += ONSET_PAST * self.past + ONSET_RECENT * self.recent
        begins = (self.stage == 0) & (chance < 1 / (1 + np.exp(-onset)))
        ends = (self.stage == 1) & (chance < self.ending)
        escalates = (self.stage == 1) & (chance > 1 - ESCALATION * np.exp(ESCALATION_RECENT * self.recent)) & ~ends
        calms = (self.stage == 2) & (chance < DEESCALATION)

        level, duration, severity = rng.standard_normal((3, *shape))
        level = LEVEL + LEVEL_SPREAD * level + LEVEL_RISK * risk
        duration = DURATION_MEDIAN * np.exp(DURATION_SPREAD * duration + DURATION_RISK * risk)
        self.level = np.where(begins, _grain(level), self.level)
        self.ending = np.where(begins, _grain(1 / np.maximum(duration, 1)), self.ending)
        self.severity = np.where(begins, _grain(np.exp(SEVERITY_SPREAD * severity)), self.severity)
        region, kind = np.nonzero(begins)
        # The first foci stay where fighting last spilled over or flared up.
        fresh = np.arange(2, FOCI)
        towns = self.towns(np.repeat(region, len(fresh)), rng.random(len(region) * len(fresh)))
        self.foci[region[:, None], kind[:, None], fresh] = towns.reshape(-1, len(fresh))
        self.stage = self.stage + begins - ends + escalates - calms

    def place(self, rng: np.random.Generator, month: int, counts: Ints, severity: Floats) -> RawEvents:
        """Put `counts` (R, K) events on the map, near the foci of their conflict, and draw their deaths."""
        origin, kind = np.divmod(np.repeat(np.arange(REGIONS * TYPES), counts.ravel()), TYPES)
        uniform = rng.random((len(origin), 9 + EVENT_UNIFORMS))
        faction = np.floor(FOCI * uniform[:, 0] ** 2).astype(np.int64)
        focus = self.foci[origin, kind, faction]
        centre = np.where(uniform[:, 1] < FROM_TOWN, self.towns(origin, uniform[:, 2]), focus)
        column = (self.world.gid[centre] - 1) % COLUMNS
        distance = np.minimum(1.2 * ((1 - uniform[:, 3]) ** -0.6 - 1), 9)
        angle = 2 * np.pi * uniform[:, 4]
        east, north = (np.rint(distance * part(angle)).astype(np.int64) for part in (np.cos, np.sin))
        there = self.world.position[self.world.gid[centre] + (column + east) % COLUMNS - column + COLUMNS * north]
        stays = self.world.region[there] == origin
        crosses = uniform[:, 5] < SPILLOVER
        cell = np.where((there >= 0) & (stays | crosses), there, centre)

        exceeds = uniform[:, 6] ** (-1 / TAIL[kind]) - 1
        deaths = 1 + np.floor(2.0 * severity[origin, kind] * np.minimum(exceeds, DEADLIEST[kind])).astype(np.int64)
        best = np.where(uniform[:, 7] < NO_DEATHS, 0, np.minimum(deaths, DEADLIEST[kind]))

        moves = uniform[:, 8] < FOCUS_MOVES
        slot = np.floor(FOCI * uniform[:, 8] / FOCUS_MOVES).astype(np.int64)[moves]
        self.foci[self.world.region[cell[moves]], kind[moves], slot] = cell[moves]
        return RawEvents(np.full(len(cell), month), kind, cell, faction, best, uniform[:, 9:])


def _grain(state: Floats) -> Floats:
    """State in whole 1 / `GRAINS`, so that a last bit that machines disagree on dies out instead of growing."""
    return np.rint(state * GRAINS) / GRAINS
