"""The demo world as tables: events with the columns of UCDP GED, and the countries of each month with their neighbours.

How violence comes about belongs in `demo_violence`, the map in `demo_geography`, indicators in `demo_covariates`.
"""

from functools import lru_cache
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import first_day, to_key
from views_dagster.conflict.demo_geography import (
    COLUMNS,
    REGIONS,
    WORLD_FIRST,
    WORLD_LAST,
    DemoMap,
    demo_map,
    invented_name,
)
from views_dagster.conflict.demo_violence import FOCI, RawEvents, simulate
from views_dagster.conflict.ucdp_events import EVENT_SCHEMA
from views_dagster.errors import SourceError
from views_dagster.seeds import seed_for

# Cumulative shares of where_prec 1..6 in UCDP Candidate 23.0.10.
_PRECISION: Final = np.array([0.40, 0.74, 0.81, 0.88, 0.98])
_COUNTRY_ONLY: Final = 6
_IDS_A_MONTH: Final = 100_000
_GROUPS: Final = ("{} Front", "{} Liberation Army", "Army of {}", "{} Movement", "Sons of {}")


@lru_cache(maxsize=2)
def demo_events(seed: int) -> pl.DataFrame:
    """All events that start in 1989-01..2035-12, rows of `EVENT_SCHEMA` sorted by month and id."""
    return _publish(demo_map(seed), simulate(seed, WORLD_LAST), seed)


def require_covered(first: int, last: int) -> None:
    """SourceError unless `WORLD_FIRST` <= first <= last <= `WORLD_LAST`."""
    if not WORLD_FIRST <= first <= last <= WORLD_LAST:
        raise SourceError(
            f"the demo world has months {to_key(WORLD_FIRST)}..{to_key(WORLD_LAST)}, not "
            f"{to_key(first)}..{to_key(last)}; ask for months inside, or point the source at real data"
        )


def _publish(world: DemoMap, events: RawEvents, seed: int) -> pl.DataFrame:
    """Say of each event what a coder would: where, when, who against whom, and how sure."""
    uniform = events.uniform.T
    region = world.region[events.cell]
    row = events.month - WORLD_FIRST
    country = world.holder[row, region]

    days = np.array([first_day(month) for month in range(WORLD_FIRST, WORLD_LAST + 2)], dtype="datetime64[D]")
    start = days[row] + np.floor(uniform[0] * (days[row + 1] - days[row]).astype(np.int64)).astype(np.int64)
    few, many = 2 + np.floor(5 * uniform[7]), 7 + np.floor(24 * uniform[7])
    longer = np.select(
        [uniform[1] < 0.75, uniform[1] < 0.95, uniform[1] < 0.985, uniform[1] < 0.998],
        [np.zeros(len(row)), np.ones(len(row)), few, many],
        default=31 + np.floor(200 * uniform[7]),
    )
    # An event belongs to one country, so it may not outlast the country's hold of the region.
    end = np.minimum(start + longer.astype(np.int64), days[_held_until(world)[row, region] + 1] - 1)

    precision = 1 + np.searchsorted(_PRECISION, uniform[2], side="right")
    gid = world.gid[np.where(precision == _COUNTRY_ONLY, world.capital[region], events.cell)]
    south, west = np.divmod(gid - 1, COLUMNS)
    latitude = (south * 5000 + 1 + np.floor(4999 * uniform[3]) - 900_000) / 10_000
    longitude = (west * 5000 + 1 + np.floor(4999 * uniform[4]) - 1_800_000) / 10_000

    best = events.best
    doubt = np.minimum((uniform[5] - 0.86) / 0.14, 0.999)
    above = 1 + np.floor(0.67 * (best + 1) * ((1 - np.maximum(doubt, 0)) ** -0.8 - 1)).astype(np.int64)
    below = np.floor(best * (uniform[6] / 0.05)).astype(np.int64)

    position = np.arange(len(row)) - np.searchsorted(events.month, events.month)
    frame = pl.DataFrame(
        {
            "month_id": events.month,
            "id": events.month * _IDS_A_MONTH + position,
            "date_start": start,
            "date_end": end,
            "type_of_violence": events.kind + 1,
            "country_id": country,
            "country": pl.Series(world.names).gather(country - 1),
            **_actors(world, events, region, country, seed),
            "where_prec": precision,
            "latitude": latitude,
            "longitude": longitude,
            "priogrid_gid": gid,
            "best": best,
            "low": np.where(uniform[6] < 0.05, below, best),
            "high": np.where(doubt > 0, best + above, best),
        }
    )
    return frame.select(pl.col(name).cast(dtype) for name, dtype in EVENT_SCHEMA.items())


def _held_until(world: DemoMap) -> NDArray[np.int64]:
    """(T, R) index of the last month in which each region's holder is still that of the month."""
    months = len(world.holder)
    changes = np.where(world.holder[1:] != world.holder[:-1], np.arange(months - 1)[:, None], months - 1)
    changes = np.concatenate([changes, np.full((1, REGIONS), months - 1)])
    return np.minimum.accumulate(changes[::-1])[::-1]


def _actors(
    world: DemoMap,
    events: RawEvents,
    region: NDArray[np.int64],
    country: NDArray[np.int64],
    seed: int,
) -> dict[str, pl.Series]:
    """`conflict_name`, `side_a` and `side_b` in UCDP's manner; each region has `FOCI` rebel groups and `FOCI` feuds."""
    rng = np.random.Generator(np.random.PCG64(seed_for("demo_names", seed)))
    words = [invented_name(rng).capitalize() for _ in range(3 * REGIONS * FOCI)]
    groups = [_GROUPS[number % len(_GROUPS)].format(word) for number, word in enumerate(words[: REGIONS * FOCI])]
    rebels = pl.Series(groups)
    militias = pl.Series(words[REGIONS * FOCI :])
    group = region * FOCI + events.faction
    names = pl.DataFrame(
        {
            "kind": events.kind,
            "faction": events.faction,
            "country": pl.Series(world.names).gather(country - 1),
            "rebels": rebels.gather(group),
            "one": militias.gather(2 * group) + " militia",
            "other": militias.gather(2 * group + 1) + " militia",
        }
    )
    government = "Government of " + pl.col("country")
    state_based, non_state = pl.col("kind") == 0, pl.col("kind") == 1
    attacker = pl.when(pl.col("faction") == 0).then(government).otherwise("rebels")
    stake = pl.when(pl.col("faction") < 3).then(pl.lit("Government")).otherwise(pl.lit("Territory"))
    return (
        names.select(
            side_a=pl.when(state_based).then(government).when(non_state).then("one").otherwise(attacker),
            side_b=pl.when(state_based).then("rebels").when(non_state).then("other").otherwise(pl.lit("Civilians")),
            incompatibility=pl.when(state_based).then(pl.col("country") + ": " + stake),
        )
        .select(
            "side_a",
            "side_b",
            conflict_name=pl.coalesce("incompatibility", pl.col("side_a") + " - " + pl.col("side_b")),
        )
        .to_dict()
    )


@lru_cache(maxsize=2)
def demo_countries(seed: int) -> pl.DataFrame:
    """Countries of each month: `month_id` Int32, `unit_id` Int64, `name`, `iso3`, `neighbours` List(Int64), ascending.

    Rows only for countries that exist in the month; neighbours share a cell edge, and islands have an empty list.
    """
    world = demo_map(seed)
    changed = (world.holder[1:] != world.holder[:-1]).any(axis=1)
    epoch = np.concatenate([[0], np.cumsum(changed)])
    maps = pl.concat(
        _countries_of(world, number, month)
        for number, month in enumerate(np.unique(epoch, return_index=True)[1].tolist())
    )
    months = pl.DataFrame({"month_id": np.arange(WORLD_FIRST, WORLD_LAST + 1, dtype=np.int32), "epoch": epoch})
    return months.join(maps, on="epoch", how="left").drop("epoch").sort("month_id", "unit_id")


def _countries_of(world: DemoMap, epoch: int, month: int) -> pl.DataFrame:
    countries = np.unique(world.holder[month])
    pairs = world.holder[month][world.borders]
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    both = np.concatenate([pairs, pairs[:, ::-1]])
    neighbours = (
        pl.DataFrame({"unit_id": both[:, 0], "neighbours": both[:, 1]})
        .unique()
        .sort("neighbours")
        .group_by("unit_id", maintain_order=True)
        .agg("neighbours")
    )
    return (
        pl.DataFrame({"epoch": np.full(len(countries), epoch), "unit_id": countries})
        .with_columns(
            name=pl.Series(world.names).gather(countries - 1),
            iso3=pl.Series(world.codes).gather(countries - 1),
        )
        .join(neighbours, on="unit_id", how="left")
        .with_columns(pl.col("neighbours").fill_null(pl.lit([], dtype=pl.List(pl.Int64))))
    )
