"""The map of the demo world: invented land on the PRIO-GRID, regions grown on it, and which country holds one when.

Regions are fixed for all time and are what violence happens in; countries are regions, or unions of them, and appear
and vanish. Everything follows from the seed alone and is decided in integers, so that every machine draws the same map.
What happens on the map belongs in `demo_world`.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, combinations, product
from string import ascii_uppercase
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.calendar import from_key
from views_dagster.errors import SourceError
from views_dagster.seeds import seed_for

WORLD_FIRST: Final = from_key("1989-01")
WORLD_LAST: Final = from_key("2035-12")
ROWS: Final = 360
COLUMNS: Final = 720
REGIONS: Final = 124
LAND_CELLS: Final = 34_000
SMALLEST_REGION: Final = 3

SECESSIONS: Final = ("1993-05", "2011-07", "2027-09")
DISSOLUTION: Final = "1992-01"
ABSORPTION: Final = "1990-10"
UNIFICATION: Final = "2019-03"

# PRIO-GRID rows of 56 S to 74 N: without the polar rows, whose cells have next to no area.
_SOUTH, _NORTH = 69, 328
_ONSETS = [
    "v",
    "z",
    "k",
    "d",
    "m",
    "r",
    "t",
    "zh",
    "vr",
    "dr",
    "kr",
    "th",
    "qu",
    "sk",
    "bl",
    "ny",
    "gl",
    "y",
    "tr",
    "h",
    "pl",
    "w",
]
_VOWELS = ["a", "e", "i", "o", "u", "a", "o", "ei"]
_CLOSES = ["v", "z", "k", "dr", "m", "r", "th", "sk", "l", "nd", "rv", "sh", "gn", "lb", "rz", "mv"]
_ENDINGS = ["ia", "ia", "ova", "ar", "eth", "una", "or", "esh", "yra", "ilo", "uay", "istan", "avia", "ai"]


@dataclass(frozen=True)
class DemoMap:
    """Land cells (L), regions (R) and countries (C) of the demo world over its months (T).

    Attributes:
        gid: (L,) int64 PRIO-GRID ids of the land cells, ascending.
        region: (L,) int64 region of each land cell, 0..R-1; each region is one connected piece of land.
        people: (L,) int64 relative population of each land cell, >= 1.
        position: (259,201,) int64 index into `gid` of each PRIO-GRID id, -1 where there is sea.
        capital: (R,) int64 position of the most peopled cell of each region.
        borders: (B, 2) int64 pairs of regions that share a cell edge, each pair once, smaller index first.
        development: (R,) float64 in 0..1, level of development in 1989, similar among neighbours.
        holder: (T, R) int64 country id (>= 1) that holds each region in each month from `WORLD_FIRST` on.
        names: C names; country id i has `names[i - 1]`.
        codes: C three-letter codes beginning with X, which ISO 3166 leaves to users: never those of a real country.
    """

    gid: NDArray[np.int64]
    region: NDArray[np.int64]
    people: NDArray[np.int64]
    position: NDArray[np.int64]
    capital: NDArray[np.int64]
    borders: NDArray[np.int64]
    development: NDArray[np.float64]
    holder: NDArray[np.int64]
    names: tuple[str, ...]
    codes: tuple[str, ...]


@lru_cache(maxsize=4)
def demo_map(seed: int) -> DemoMap:
    """The map of the world with this seed.

    Raises:
        SourceError: the seed makes a map too broken up for its countries; no seed of 1..40 does.
    """
    rng = np.random.Generator(np.random.PCG64(seed_for("demo_geography", seed)))
    grid = np.arange((_SOUTH - 1) * COLUMNS + 1, _NORTH * COLUMNS + 1, dtype=np.int64)
    row = (grid - 1) // COLUMNS + 1
    ice = 60_000 * np.maximum(0, 16 - np.minimum(row - _SOUTH, _NORTH - row))
    height = _relief(rng, grid, lowest=2.5, highest=250.0, waves=80) - ice
    land = grid[np.sort(np.argsort(-height, kind="stable")[:LAND_CELLS])]
    towns = _relief(rng, land, lowest=6.0, highest=160.0, waves=48)
    percentile = np.argsort(np.argsort(towns, kind="stable")) * 100 // len(land)
    people = 1 + percentile**6 // 10**8
    gid, region = _grow_regions(rng, land, people)
    people = people[np.searchsorted(land, gid)]

    position = np.full(ROWS * COLUMNS + 1, -1, dtype=np.int64)
    position[gid] = np.arange(len(gid))
    first, second = (region[cells] for cells in _shared_edges(position, gid))
    pairs = np.sort(np.stack([first, second], axis=1)[first != second], axis=1)
    borders = np.unique(pairs, axis=0)
    by_people = np.lexsort((gid, -people, region))
    capital = by_people[np.searchsorted(region[by_people], np.arange(REGIONS))]
    wealth = _relief(rng, gid[capital], lowest=1.0, highest=7.0, waves=24) + rng.integers(-700_000, 700_000, REGIONS)
    development = np.argsort(np.argsort(wealth, kind="stable")) / (REGIONS - 1)
    holder = _hold(rng, borders, np.bincount(region, minlength=REGIONS))
    names, codes = _name(rng, int(holder.max()))
    return DemoMap(gid, region, people, position, capital, borders, development, holder, names, codes)


def _relief(
    rng: np.random.Generator, grid: NDArray[np.int64], *, lowest: float, highest: float, waves: int
) -> NDArray[np.int64]:
    """A random field on the sphere at the centres of cells `grid`, in millionths of its standard deviation, about.

    A sum of plane waves in three dimensions looks the same in all directions and at every latitude, which noise drawn
    on the grid itself does not. Wave numbers are spread evenly in their logarithm, amplitudes fall as they grow.
    """
    rows, columns = np.unravel_index(grid - 1, (ROWS, COLUMNS))
    latitude, longitude = np.radians(rows / 2 - 89.75), np.radians(columns / 2 - 179.75)
    x, y, z = np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)
    number = lowest * (highest / lowest) ** ((np.arange(waves) + rng.random(waves)) / waves)
    direction = rng.standard_normal((waves, 3))
    direction *= (number / np.sqrt((direction**2).sum(axis=1)))[:, None]
    phase = rng.random(waves) * 2 * np.pi
    amplitude = np.sqrt(2 * lowest / number / (lowest / number).sum())
    field = np.zeros(len(grid))
    for wave in range(waves):
        a, b, c = direction[wave]
        turn = a * x
        turn += b * y
        turn += c * z + phase[wave]
        field += np.multiply(np.cos(turn, out=turn), amplitude[wave], out=turn)
    return np.rint(field * 1e6).astype(np.int64)


def _shared_edges(position: NDArray[np.int64], gid: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the two land cells on either side of every cell edge on land; the world is round in longitude."""
    column = (gid - 1) % COLUMNS
    east = position[np.where(column == COLUMNS - 1, gid - column, gid + 1)]
    north = position[gid + COLUMNS]
    here = np.arange(len(gid))
    return (
        np.concatenate([here[east >= 0], here[north >= 0]]),
        np.concatenate([east[east >= 0], north[north >= 0]]),
    )


def _grow_regions(
    rng: np.random.Generator, gid: NDArray[np.int64], people: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Land that a region reached (gids) and the region of each cell, by first-passage percolation from random seeds.

    Each cell costs a random time to cross, seeds are denser where people are, and some start late: so borders are
    crooked and sizes heavy-tailed. Seeds overrun before they start, or left too small, are dropped, and enough of the
    rest grow again. Land that none of them reaches over land, small islands, sinks.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    cells = len(gid)
    position = np.full(ROWS * COLUMNS + COLUMNS + 1, -1, dtype=np.int64)
    position[gid] = np.arange(cells)
    first, second = _shared_edges(position, gid)
    cost = rng.integers(2, 12, cells) ** 2
    crossing = cost[first] + cost[second]

    def grow(seeds: NDArray[np.int64], delay: NDArray[np.int64]) -> NDArray[np.int64]:
        starts = cells + np.arange(len(seeds))
        weights = np.concatenate([crossing, crossing, delay]).astype(np.float64)
        edges = (np.concatenate([first, second, starts]), np.concatenate([second, first, seeds]))
        graph = csr_array((weights, edges), shape=(cells + len(seeds),) * 2)
        _, _, source = dijkstra(graph, indices=starts, min_only=True, return_predecessors=True)
        return np.maximum(source[:cells].astype(np.int64) - cells, -1)

    seeds = rng.permutation(np.unique(draw_weighted(np.cumsum(2 + people), rng.random(6 * REGIONS))))
    delay = rng.integers(1, 1_800, len(seeds))
    sizes = np.bincount(grow(seeds, delay) + 1, minlength=len(seeds) + 1)[1:]
    viable = np.flatnonzero(sizes >= SMALLEST_REGION)[:REGIONS]
    if len(viable) < REGIONS:
        raise SourceError("the demo map of this seed has too little room for its countries; choose another seed")
    seeds, delay = seeds[viable], delay[viable]
    region = grow(seeds, delay)
    return gid[region >= 0], region[region >= 0]


def draw_weighted(cumulative: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions drawn in proportion to integer weights, given their cumulative sum and one uniform number per draw."""
    target = np.floor(uniform * cumulative[-1]).astype(np.int64)
    positions: NDArray[np.int64] = np.searchsorted(cumulative, target, side="right").astype(np.int64)
    return positions


def _hold(rng: np.random.Generator, borders: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(T, R) country ids: region r is country r + 1 but for the regions that secede, break up, join or merge."""
    months = WORLD_LAST - WORLD_FIRST + 1
    holder = np.tile(np.arange(1, REGIONS + 1), (months, 1))
    union, unified = REGIONS + 1, REGIONS + 2
    free = np.ones(REGIONS, dtype=bool)
    order = rng.permutation(borders[sizes[borders].min(axis=1) >= np.median(sizes) / 2])

    def take(others: int) -> NDArray[np.int64]:
        """A free region, the largest of the group first, with `others` free neighbours."""
        for edge in order:
            for centre in edge:
                around = order[(order == centre).any(axis=1)]
                around = around[around != centre]
                around = around[free[around]]
                if free[centre] and len(around) >= others:
                    group = np.concatenate([[centre], around[:others]])
                    free[group] = False
                    largest_first: NDArray[np.int64] = group[np.argsort(-sizes[group], kind="stable")]
                    return largest_first
        raise SourceError("the demo map of this seed has too few neighbouring countries; choose another seed")

    holder[: from_key(DISSOLUTION) - WORLD_FIRST, take(2)] = union
    for month in SECESSIONS:
        parent, child = take(1)
        holder[: from_key(month) - WORLD_FIRST, child] = parent + 1
    absorbing, absorbed = take(1)
    holder[from_key(ABSORPTION) - WORLD_FIRST :, absorbed] = absorbing + 1
    holder[from_key(UNIFICATION) - WORLD_FIRST :, take(1)] = unified
    return holder


def _name(rng: np.random.Generator, count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Invented names and codes, each once."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    while len(names) < count:
        name = invented_name(rng).capitalize()
        pairs = chain(combinations(name.upper(), 2), product(ascii_uppercase, repeat=2))
        code = next(code for a, b in pairs if (code := f"X{a}{b}") not in taken)
        if name not in names:
            names[name] = code
            taken.add(code)
    return tuple(names), tuple(names.values())


def invented_name(rng: np.random.Generator) -> str:
    """One lower-case invented word of two to five syllables."""
    syllables = [
        _ONSETS[rng.integers(len(_ONSETS))] + _VOWELS[rng.integers(len(_VOWELS))] for _ in range(rng.integers(1, 3))
    ]
    return "".join(syllables) + _CLOSES[rng.integers(len(_CLOSES))] + _ENDINGS[rng.integers(len(_ENDINGS))]
