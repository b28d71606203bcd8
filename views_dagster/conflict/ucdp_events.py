"""UCDP GED events: the columns that are kept, what is repaired or refused, and how events become months.

Files, the API and the demo world pass their events through here; where events come from is no business of this module.
Format and units: UCDP Georeferenced Event Dataset codebook (Sundberg & Melander 2013).
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import polars as pl

from views_dagster.calendar import describe_months
from views_dagster.errors import SourceError
from views_dagster.sources.columns import month_id_from, typed

EVENT_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    "month_id": pl.Int32(),
    "id": pl.Int64(),
    "date_start": pl.Date(),
    "date_end": pl.Date(),
    "type_of_violence": pl.Int8(),
    "country_id": pl.Int64(),
    "country": pl.String(),
    "conflict_name": pl.String(),
    "side_a": pl.String(),
    "side_b": pl.String(),
    "where_prec": pl.Int64(),
    "latitude": pl.Float64(),
    "longitude": pl.Float64(),
    "priogrid_gid": pl.Int64(),
    "best": pl.Int64(),
    "low": pl.Int64(),
    "high": pl.Int64(),
}
"""One row an event; `month_id`: month of `date_start`; `country_id`: Gleditsch-Ward number (UCDP's variant)."""

EVENT_COLUMNS: Final = tuple(EVENT_SCHEMA)
DEATHS: Final = ("best", "low", "high")
REQUIRED: Final = ("id", "date_start", "type_of_violence", "country_id", *DEATHS)
EVENT_MONTH_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    **EVENT_SCHEMA,
    **dict.fromkeys(DEATHS, pl.Float64()),
    "share": pl.Float64(),
}
"""One row an event and month it touches: deaths are the month's part of them, `share` its part of the event's days."""

VIOLENCE: Final[Mapping[str, int]] = {"sb": 1, "ns": 2, "os": 3}
"""Short names of `type_of_violence`: state-based, non-state, one-sided."""

LONGEST_DAYS: Final = 2 * 366
"""GED dates events within a year or little more; a later end is a mistyped year, which would spread deaths thin."""

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {"country_id": ("country_id", "gwno")}
Dating = Literal["split_by_day", "start"]

# Parts of an event are whole multiples of 2^-20 of a death: float64 adds them without rounding, in any order.
GRAIN_BITS: Final = 20


def month_of(date: pl.Expr) -> pl.Expr:
    """Int32 month id of a date expression."""
    return month_id_from(date.dt.year(), date.dt.month())


def published_columns(available: Sequence[str]) -> list[str]:
    """The columns among `available` that `normalise` reads, so that a reader need not parse the others."""
    wanted = {name for kept in EVENT_SCHEMA if kept != "month_id" for name in ALIASES.get(kept, (kept,))}
    return [name for name in available if name in wanted]


def normalise(frame: pl.DataFrame, *, origin: str) -> pl.DataFrame:
    """Events of any published variant as `EVENT_SCHEMA`; columns it does not know are ignored.

    Numbers and dates may be typed or text (dates as `2023-10-02`, with or without a time of day); an empty text is
    null. Without a column `date_end`, events end on the day they start; any other column that is not required may be
    absent, and is null then.

    Args:
        origin: what `frame` was read from, for messages.

    Raises:
        SourceError: a required column is missing, or a value of a column cannot be read as its type.
    """
    source = {kept: next((c for c in ALIASES.get(kept, (kept,)) if c in frame.columns), None) for kept in EVENT_SCHEMA}
    missing = [" or ".join(ALIASES.get(name, (name,))) for name in REQUIRED if source[name] is None]
    if missing:
        raise SourceError(
            f"{origin} has no column {', '.join(missing)}; expected UCDP GED events with at least "
            f"{', '.join(REQUIRED)}, found {', '.join(frame.columns)}"
        )
    columns = {
        name: typed(frame[column], wanted, origin=origin)
        for name, wanted in EVENT_SCHEMA.items()
        if name != "month_id" and (column := source[name]) is not None
    }
    events = pl.DataFrame(columns)
    if source["date_end"] is None:
        events = events.with_columns(date_end="date_start")
    return events.with_columns(
        month_of(pl.col("date_start")).alias("month_id"),
        *(
            pl.lit(None, dtype=wanted).alias(n)
            for n, wanted in EVENT_SCHEMA.items()
            if n not in {*events.columns, "month_id"}
        ),
    ).select(EVENT_COLUMNS)


def clean(
    events: pl.DataFrame, *, origin: str = "the events", months: tuple[int, int] | None = None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Refuse events that cannot be right; repair, and count, what has one sensible reading.

    Repairs: `duplicate_events` (identical rows, dropped), `bounds_widened` (low > best or best > high: low and high are
    moved to include best), `end_before_start` and `end_date_missing` (the event then ends on the day it starts).

    Args:
        events: rows of `EVENT_SCHEMA`.
        origin: what they were read from, for messages.
        months: count only repairs of events that start in these months (inclusive); all are repaired either way.

    Returns:
        Events of `EVENT_SCHEMA` in their order, with unique ids, low <= best <= high and date_start <= date_end; and
        the counts.

    Raises:
        SourceError: null in a required column; an unknown type_of_violence, where_prec or country_id; negative deaths;
            coordinates off the globe; one id with differing content. Names the ids.
    """
    for name in REQUIRED:
        _refuse(events, pl.col(name).is_null(), f"have no {name}", origin=origin)
    refused = {
        f"have a type_of_violence other than {', '.join(f'{n} ({s})' for s, n in VIOLENCE.items())}": ~pl.col(
            "type_of_violence"
        ).is_in(list(VIOLENCE.values())),
        "have a where_prec other than 1..7": ~pl.col("where_prec").is_between(1, 7),
        "have a country_id that is no Gleditsch-Ward number (1..999)": ~pl.col("country_id").is_between(1, 999),
        "have negative deaths": pl.min_horizontal(DEATHS) < 0,
        f"end more than {LONGEST_DAYS} days after they start": _days_between("date_start", "date_end") > LONGEST_DAYS,
        "lie off the globe": ~(pl.col("latitude").is_between(-90, 90) & pl.col("longitude").is_between(-180, 180)),
    }
    for problem, where in refused.items():
        _refuse(events, where, problem, origin=origin)

    unique = events.unique(maintain_order=True)
    _refuse(unique, pl.col("id").is_duplicated(), "appear more than once with differing content", origin=origin)

    best, low, high, start, end = (pl.col(name) for name in ("best", "low", "high", "date_start", "date_end"))
    found = {
        "bounds_widened": (low > best) | (best > high),
        "end_before_start": end < start,
        "end_date_missing": end.is_null(),
    }
    counted = pl.lit(True) if months is None else pl.col("month_id").is_between(*months)
    repairs = {
        "duplicate_events": events.filter(counted).height - unique.filter(counted).height,
        **unique.select((where & counted).sum().alias(name) for name, where in found.items()).row(0, named=True),
    }
    repaired = unique.with_columns(
        low=pl.min_horizontal("low", "best"),
        high=pl.max_horizontal("high", "best"),
        date_end=pl.max_horizontal("date_end", "date_start"),
    )
    return repaired, repairs


def _refuse(events: pl.DataFrame, where: pl.Expr, problem: str, *, origin: str) -> None:
    bad = events.filter(where)
    if bad.height:
        ids = bad["id"].unique(maintain_order=True).to_list()
        shown = ", ".join(map(str, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
        raise SourceError(f"{origin}: {bad.height} events {problem}: id {shown}; correct or remove them at the source")


def to_event_months(events: pl.DataFrame, *, dating: Dating) -> pl.DataFrame:
    """Events as one row per event and month it touches, sorted by month and id.

    Args:
        events: cleaned rows of `EVENT_SCHEMA`.
        dating: `start` puts an event whole into the month of its first day; `split_by_day` gives each month it touches
            the part of its deaths that falls there if every day of the event saw the same, both ends included.

    Returns:
        Rows of `EVENT_MONTH_SCHEMA`. The parts are multiples of 2^-20 of a death and add up, in any order, to exactly
        the event's deaths (and shares to 1); sums over any number of events are exact as well.
    """
    if dating == "split_by_day":
        inside = month_of(pl.col("date_end")) == pl.col("month_id")
        frames = [_whole(events.filter(inside)), _split(events.filter(~inside))]
    else:
        frames = [_whole(events)]
    return pl.concat(frames).sort("month_id", "id")


def _whole(events: pl.DataFrame) -> pl.DataFrame:
    return events.with_columns(share=pl.lit(1.0)).select(pl.col(n).cast(t) for n, t in EVENT_MONTH_SCHEMA.items())


def _split(events: pl.DataFrame) -> pl.DataFrame:
    rows = events.with_columns(
        first_of_month=pl.date_ranges(pl.col("date_start").dt.month_start(), "date_end", interval="1mo"),
        days=_days_between("date_start", "date_end") + 1,
    ).explode("first_of_month", empty_as_null=True, keep_nulls=True)
    through = pl.min_horizontal(_days_between("date_start", pl.col("first_of_month").dt.month_end()) + 1, "days")
    before = pl.max_horizontal(_days_between("date_start", "first_of_month"), 0)
    return (
        rows.with_columns(through=through, before=before)
        .with_columns(
            month_of(pl.col("first_of_month")).alias("month_id"),
            (_part(pl.lit(1), "through") - _part(pl.lit(1), "before")).alias("share"),
            *(_part(pl.col(name), "through") - _part(pl.col(name), "before") for name in DEATHS),
        )
        .select(pl.col(n).cast(t) for n, t in EVENT_MONTH_SCHEMA.items())
    )


def _days_between(start: str, end: str | pl.Expr) -> pl.Expr:
    return ((pl.col(end) if isinstance(end, str) else end) - pl.col(start)).dt.total_days()


def _part(amount: pl.Expr, elapsed: str) -> pl.Expr:
    """What falls on the event's first `elapsed` days, rounded down to the grain; such values' differences are exact."""
    days = pl.col("days")
    grains = (amount % days * pl.col(elapsed) * 2**GRAIN_BITS) // days
    return (amount // days * pl.col(elapsed)).cast(pl.Float64) + grains.cast(pl.Float64) / 2**GRAIN_BITS


def require_every_month(rows: pl.DataFrame, first: int, last: int, *, origin: str) -> None:
    """SourceError naming the months of `first..last` without a row: a month without any event is a broken source."""
    absent = set(range(first, last + 1)) - set(rows["month_id"].unique().to_list())
    if absent:
        raise SourceError(
            f"{origin} has not one event in {describe_months(absent)}, although it should cover it; "
            "check that it is complete"
        )
