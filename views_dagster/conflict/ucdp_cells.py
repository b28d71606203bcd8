"""Where on the grid events happened: the cell of one whose place is known, the cells of one whose place is not.

Codes of location precision (`where_prec`) and their meaning: UCDP GED codebook (Sundberg & Melander 2013).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import numpy as np
import polars as pl

from views_dagster.conflict.holders import OFFSETS, Flags, Holders, Ints
from views_dagster.conflict.ucdp_events import GRAIN_BITS, VIOLENCE
from views_dagster.geography import CELLS, gid_at, require_cells

LOCATED: Final = (1, 2, 3)
"""The point itself, within 25 km of it, or in its second-order administrative unit; an unknown code counts as these."""
AROUND: Final = (4, 5, 7)
"""In the first-order administrative unit of the point, in a larger area or along a line, or off shore."""
MEMORY_MONTHS: Final = 12
"""Months, the event's own included, whose located deaths say where in its country an unlocated event fell."""

_BLOCK: Final = 9
# Divisible by 1..9, the numbers of cells that the deaths of one cell are shared between.
_SHARES: Final = 2520


@dataclass(frozen=True)
class PlacedEvents:
    """Events on the cells of a domain.

    Attributes:
        cells: `month_id` Int32, `unit_id` Int64, `{sb,ns,os}_{best,low,high,located}` Float64 deaths and
            `{sb,ns,os}_count` Int64 of the cells that saw an event, sorted.
        summary: what became of the events: numbers of event-months, and deaths by the best estimate.
    """

    cells: pl.DataFrame
    summary: Mapping[str, float]


def place_events(raw: pl.LazyFrame, units: pl.LazyFrame) -> PlacedEvents:
    """Event-months as cell-months.

    - A located event (`LOCATED`, or without a code) lies in the cell that holds its coordinates, whatever its
      `priogrid_gid` says. If that cell is not in the domain, as off a coast, it lies in the nearest cell of its country
      within 2 rows and columns.
    - One of `AROUND` is spread evenly over the cells of its country within 2 rows and columns of its point, if there
      are at least two.
    - Any other is spread over its country in proportion to the country's located deaths of the same type (best
      estimate) in the 12 months up to its own, those of each cell first shared evenly by the country's cells in its
      block of 3 x 3. If there are none, or they fall to a single cell, it is spread evenly over the country.
    - Its country is `country_id` if that holds cells of the domain in the month, otherwise the holder of the cell with
      its coordinates. An event that has neither lies outside the domain and is left out.

    Only located events count in `_count` and `_located`. The parts of an event are multiples of 2^-20 of a death and
    add up exactly to it, and low <= best <= high in every cell. A month depends on no later one.

    Args:
        raw: rows of `EVENT_MONTH_SCHEMA`, for complete memories from 11 months before the units on.
        units: `month_id`, `unit_id`, `parent_id` of the cells of the domain, in the months that are wanted.

    Raises:
        GeographyError: a unit is no cell of the PRIO-GRID, or a point lies off the globe.
    """
    domain = Holders.of(units)
    columns = ("type_of_violence", "country_id", "where_prec", "latitude", "longitude", "priogrid_gid")
    rows = (
        raw.filter(pl.col("month_id").is_between(domain.first - MEMORY_MONTHS + 1, domain.last))
        .select(pl.col("month_id").cast(pl.Int64), *columns, "low", "best", "high")
        .collect()
    )
    question = tuple(sha256(frame.hash_rows().to_numpy().tobytes()).digest() for frame in (rows, domain.cells))
    placed = _LATEST.get(question)
    if placed is None:
        placed = _place(rows, domain)
        _LATEST.clear()
        _LATEST[question] = placed
    return placed


_LATEST: Final[dict[tuple[bytes, ...], PlacedEvents]] = {}
"""What was placed last: all tables of features on a grid that a run makes ask for the same."""


def _place(rows: pl.DataFrame, domain: Holders) -> PlacedEvents:
    events = _Events.of(rows, domain)
    known = events.located & (events.gid > 0)
    settled, moved = _settle(events.take(known & events.wanted), domain)
    unlocated = events.take(~known & events.wanted)
    parts = pl.concat([settled, _spread(unlocated, events.take(known), domain)])
    total, placed = events.take(events.wanted), parts.select("best", "located").sum()
    deaths = int(total.deaths[:, 1].sum())
    summary = {
        "events": len(total.gid),
        "deaths": deaths / 2**GRAIN_BITS,
        "deaths_placed_exactly": placed["located"][0] / 2**GRAIN_BITS,
        "deaths_spread": (placed["best"][0] - placed["located"][0]) / 2**GRAIN_BITS,
        "deaths_outside_domain": (deaths - placed["best"][0]) / 2**GRAIN_BITS,
        "events_moved_to_nearest_cell": moved,
        "events_with_another_gid": int(total.differs.sum()),
    }
    return PlacedEvents(_sums(parts), summary)


@dataclass(frozen=True)
class _Events:
    """Event-months (N) as arrays.

    Attributes:
        month: month id. kind: type of violence, 1..3.
        country: position in `Holders.countries` of `country_id`, 0 if it holds no cell of the domain in any month.
        gid: cell of the coordinates, or the given one where there are none; 0 where neither is known.
        located, around: whether `where_prec` says so. wanted: whether the month is one of the domain's.
        differs: whether the given gid is another than that of the coordinates.
        deaths: (N, 3) low, best, high in grains of 2^-20 of a death.
    """

    month: Ints
    kind: Ints
    country: Ints
    gid: Ints
    located: Flags
    around: Flags
    wanted: Flags
    differs: Flags
    deaths: Ints

    @classmethod
    def of(cls, rows: pl.DataFrame, domain: Holders) -> "_Events":
        pointed = (rows["latitude"].is_not_null() & rows["longitude"].is_not_null()).to_numpy()
        given = rows["priogrid_gid"].fill_null(0).to_numpy()
        gid = given.copy()
        gid[pointed] = gid_at(rows["latitude"].to_numpy()[pointed], rows["longitude"].to_numpy()[pointed])
        if not pointed.all():
            require_cells(gid[~pointed & (gid != 0)])
        country = rows["country_id"].to_numpy()
        place = np.minimum(np.searchsorted(domain.countries, country), len(domain.countries) - 1)
        month = rows["month_id"].to_numpy()
        return cls(
            month=month,
            kind=rows["type_of_violence"].cast(pl.Int64).to_numpy(),
            country=np.where(domain.countries[place] == country, place, 0),
            gid=gid,
            located=rows["where_prec"].is_in(LOCATED).fill_null(True).to_numpy(),
            around=rows["where_prec"].is_in(AROUND).fill_null(False).to_numpy(),
            wanted=month >= domain.first,
            differs=pointed & (given != 0) & (given != gid),
            deaths=np.rint(rows.select("low", "best", "high").to_numpy() * 2**GRAIN_BITS).astype(np.int64),
        )

    def take(self, which: Flags | Ints) -> "_Events":
        """Those of a mask or of positions."""
        return _Events(**{name: values[which] for name, values in vars(self).items()})


def _settle(events: _Events, domain: Holders) -> tuple[pl.DataFrame, int]:
    """Located events in their cells, and how many of them the nearest cell of their country took in."""
    gid = np.where(domain.holder_of(events.month, events.gid) > 0, events.gid, 0)
    astray = np.flatnonzero(gid == 0)
    cells, held = domain.around(events.month[astray], events.gid[astray], events.country[astray], len(OFFSETS))
    ashore = held.any(axis=1)
    gid[astray[ashore]] = cells[ashore, held[ashore].argmax(axis=1)]
    inside = gid > 0
    kept = events.take(inside)
    return _rows(kept.month, gid[inside], kept.kind, kept.deaths, located=True), int(ashore.sum())


def _spread(events: _Events, located: _Events, domain: Holders) -> pl.DataFrame:
    """Events without an exact place, spread over cells of their countries."""
    month = events.month - domain.first
    at_point = domain.holder_of(events.month, events.gid)
    country = np.where(domain.holds[month, events.country], events.country, at_point)
    cells, held = domain.around(events.month, events.gid, country, len(OFFSETS))
    near = events.around & (events.gid > 0) & (held.sum(axis=1) > 1)
    event, offset = np.nonzero(held & near[:, None])
    number, gid, parts = _shared(event, cells[event, offset], np.ones(len(event), dtype=np.int64), events.deaths)
    around = _rows(events.month[number], gid, events.kind[number], parts, located=False)

    # All unlocated events of a type, month and country fall alike: they are spread as one.
    far = np.flatnonzero(~near & (country > 0))
    keys, group = np.unique(
        np.column_stack([events.month[far], country[far], events.kind[far]]), axis=0, return_inverse=True
    )
    deaths = np.zeros((len(keys), 3), dtype=np.int64)
    np.add.at(deaths, group.ravel(), events.deaths[far])
    number, gid, parts = _shared(*_country_shares(keys, located, domain), deaths)
    return pl.concat([around, _rows(keys[number, 0], gid, keys[number, 2], parts, located=False)])


def _country_shares(keys: Ints, located: _Events, domain: Holders) -> tuple[Ints, Ints, Ints]:
    """Weights of the cells of each of `keys` (Q, 3: month, country, type): which key, which cell, and the weight."""
    wanted = np.full((len(domain.holder), len(domain.countries), len(VIOLENCE) + 1), -1, dtype=np.int64)
    wanted[keys[:, 0] - domain.first, keys[:, 1], keys[:, 2]] = np.arange(len(keys))

    past = np.repeat(np.arange(len(located.month)), MEMORY_MONTHS)
    month = located.month[past] + np.tile(np.arange(MEMORY_MONTHS), len(located.month))
    inside = (month >= domain.first) & (month <= domain.last)
    past, month = past[inside], month[inside]
    holder = domain.holder_of(month, located.gid[past])
    country = np.where(holder > 0, holder, located.country[past])
    key = wanted[month - domain.first, country, located.kind[past]]
    past, key = past[key >= 0], key[key >= 0]
    key, gid, grains = _summed(key, located.gid[past], located.deaths[past, 1])
    cells, held = domain.around(keys[key, 0], gid, keys[key, 1], _BLOCK)
    source, offset = np.nonzero(held & (grains > 0)[:, None])
    each = grains * (_SHARES // np.maximum(held.sum(axis=1), 1))
    key, gid, weight = _summed(key[source], cells[source, offset], each[source])

    remembered = np.bincount(key, minlength=len(keys)) > 1
    recalled = remembered[key]
    evenly = np.flatnonzero(~remembered)
    asked = pl.DataFrame(
        {
            "month_id": pl.Series(keys[evenly, 0], dtype=pl.Int32),
            "parent_id": domain.countries[keys[evenly, 1]],
            "key": evenly,
        }
    )
    country_cells = domain.cells.join(asked, on=["month_id", "parent_id"])
    return (
        np.concatenate([key[recalled], country_cells["key"].to_numpy()]),
        np.concatenate([gid[recalled], country_cells["unit_id"].to_numpy()]),
        np.concatenate([weight[recalled], np.ones(country_cells.height, dtype=np.int64)]),
    )


def _summed(key: Ints, gid: Ints, amount: Ints) -> tuple[Ints, Ints, Ints]:
    """Sums of `amount` by key and cell, in their order."""
    pairs, group = np.unique(key * (CELLS + 1) + gid, return_inverse=True)
    total = np.zeros(len(pairs), dtype=np.int64)
    np.add.at(total, group, amount)
    return pairs // (CELLS + 1), pairs % (CELLS + 1), total


def _shared(key: Ints, gid: Ints, weight: Ints, deaths: Ints) -> tuple[Ints, Ints, Ints]:
    """`deaths` (Q, 3: low, best, high, in grains) shared by weight among the cells of each key: key, cell, (K, 3).

    Cell by cell the part is what the cells so far are due, rounded down, less what they have: so parts are whole and
    add up. What best exceeds low by, and high best, is shared like deaths, so that the three stay in order.
    """
    order = np.lexsort((gid, key))
    key, gid, weight = key[order], gid[order], weight[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    lengths = np.diff(starts, append=len(key))
    running = np.cumsum(weight)
    running -= np.repeat(running[starts] - weight[starts], lengths)
    total = np.repeat(running[starts + lengths - 1], lengths)
    excess = np.diff(deaths, axis=1, prepend=0)
    due = np.floor(excess[key] * (running / total)[:, None]).astype(np.int64)
    parts = np.diff(due, axis=0, prepend=0)
    parts[starts] = due[starts]
    return key, gid, np.cumsum(parts, axis=1)


def _rows(month: Ints, gid: Ints, kind: Ints, deaths: Ints, *, located: bool) -> pl.DataFrame:
    """Parts of events by month, cell and type; `deaths` (N, 3) low, best, high in grains."""
    return pl.DataFrame(
        {
            "month_id": pl.Series(month, dtype=pl.Int32),
            "unit_id": gid,
            "kind": kind,
            "low": deaths[:, 0],
            "best": deaths[:, 1],
            "high": deaths[:, 2],
            "located": deaths[:, 1] * int(located),
            "count": np.full(len(gid), int(located), dtype=np.int64),
        }
    )


def _sums(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns of `PlacedEvents.cells`."""
    of_kind = {violence: pl.col("kind") == kind for violence, kind in VIOLENCE.items()}
    return (
        rows.group_by("month_id", "unit_id")
        .agg(
            *(
                (pl.col(name).filter(of_kind[violence]).sum() / 2**GRAIN_BITS).alias(f"{violence}_{name}")
                for violence in VIOLENCE
                for name in ("best", "low", "high", "located")
            ),
            *(pl.col("count").filter(of_kind[violence]).sum().alias(f"{violence}_count") for violence in VIOLENCE),
        )
        .sort("month_id", "unit_id")
    )
