"""What raw columns, rain and members must satisfy to become rows of a column set, within and between months."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import to_key
from views_dagster.errors import QuerysetError, SourceError
from views_dagster.names import listed, nearest
from views_dagster.precipitation.column_arrays import as_lists, lengths, padded
from views_dagster.precipitation.column_sets import KEYS, LEVELS, MEMBERS, PLACE, ColumnSet
from views_dagster.precipitation.levels import LevelUnit

SUM_TOLERANCE: Final = 1e-4
"""How far from 1 stored float32 fractions of a box may sum; coarsening keeps within 1e-6."""
BOX: Final = ("valid_time", "box_id")


@dataclass
class Agreement:
    """What later months must agree with: the places of boxes, as-is levels, the number of members."""

    places: pl.DataFrame | None = None
    levels: NDArray[np.float32] | None = None
    members: int | None = None

    @classmethod
    def before(
        cls, first: int, settings: ColumnSet, columns: pl.LazyFrame, members: pl.LazyFrame | None
    ) -> "Agreement":
        """With the newest month before `first`; with anything where there is none."""
        agreement = cls()
        newest = _newest(columns, first)
        if newest is not None:
            month = columns.filter(pl.col("month_id") == newest)
            agreement.places = month.select("box_id", *PLACE, *settings.static.values()).unique("box_id").collect()
            if settings.levels.values is None:
                agreement.levels = upward(padded(month.select(LEVELS).head(1).collect()[LEVELS])[0], settings)
        if members is not None and (newest := _newest(members, first)) is not None:
            said = members.filter((pl.col("month_id") == newest) & pl.col(MEMBERS).is_not_null())
            sizes = said.select(pl.col(MEMBERS).list.len()).head(1).collect()
            agreement.members = sizes.item() if sizes.height else None
        return agreement


def _newest(rows: pl.LazyFrame, before: int) -> int | None:
    found: int | None = rows.filter(pl.col("month_id") < before).select(pl.col("month_id").max()).collect().item()
    return found


def upward(levels: NDArray[np.float32], settings: ColumnSet) -> NDArray[np.float32]:
    """One row's levels in ascending height, without padding."""
    unit: LevelUnit = settings.levels.unit
    found = levels[np.isfinite(levels)]
    return found[::-1] if len(found) > 1 and (found[0] > found[-1]) == (unit == "m") else found


def require_fields(settings: ColumnSet, schema: pl.Schema) -> None:
    """QuerysetError where the source of columns lacks a field, or has it as a profile where a number is meant."""
    lists, numbers = settings.source_profiles, settings.source_fields
    absent = [name for name in (*KEYS, *PLACE, LEVELS, *lists, *numbers) if name not in schema]
    if absent:
        raise QuerysetError(f"{settings.columns} has no field {absent[0]}{nearest(absent[0], schema.names())}")
    flat = [name for name in lists if not isinstance(schema[name], pl.List)]
    if flat:
        raise QuerysetError(f"{', '.join(flat)} of {settings.columns} is not a profile: name it in surface or static")
    deep = [name for name in numbers if not schema[name].is_numeric()]
    if deep:
        raise QuerysetError(f"{', '.join(deep)} of {settings.columns} is no single-level field: name it in profiles")


def require_distinct(frame: pl.DataFrame, source: str, month_id: int) -> None:
    """SourceError where a box has two rows at one time."""
    repeated = frame.height - frame.select(pl.struct(BOX).n_unique()).item()
    if repeated:
        time, box = frame.filter(pl.struct(BOX).is_duplicated()).select(BOX).sort(BOX).row(0)
        raise SourceError(
            f"{source} repeats {repeated} rows of {to_key(month_id)}, the first at {time:%Y-%m-%d %H:%M} in box {box}; "
            "a box has one row at a time: read the source again without overlapping files"
        )


def require_same_places(raw: pl.DataFrame, settings: ColumnSet, month_id: int, agreement: Agreement) -> None:
    """SourceError where a box moves or what is static in it changes, within the month or since earlier ones."""
    fixed = [*PLACE, *settings.static.values()]
    places = raw.select("box_id", *fixed).unique()
    known = places if agreement.places is None else pl.concat([agreement.places, places]).unique()
    agreement.places = known
    if known["box_id"].n_unique() == known.height:
        return
    spread = known.group_by("box_id").agg(pl.col(fixed).n_unique()).sort("box_id")
    name = next(name for name in fixed if spread.select((pl.col(name) > 1).any()).item())
    boxes = listed(spread.filter(pl.col(name) > 1)["box_id"].to_list())
    if name in PLACE:
        raise SourceError(
            f"the lattice of {settings.columns} changed in {to_key(month_id)}: there is more than one {name} of boxes "
            f"{boxes}; bring all months to one lattice"
        )
    raise SourceError(
        f"{name} of {settings.columns} is not static in {to_key(month_id)}: there is more than one value in boxes "
        f"{boxes}; name it in surface"
    )


def common_levels(settings: ColumnSet, coordinate: NDArray[np.float32], agreement: Agreement) -> NDArray[np.float32]:
    """(K,) levels in ascending height to which all rows are brought; SourceError where as-is ones differ."""
    if settings.levels.ascending is not None:
        return np.array(settings.levels.ascending, dtype=np.float32)
    one = upward(coordinate[0], settings)
    agreed = one if agreement.levels is None else agreement.levels
    different = np.ones(len(coordinate), dtype=bool)
    if coordinate.shape[1] == len(agreed):
        different = (coordinate != agreed).any(axis=1) & (coordinate != agreed[::-1]).any(axis=1)
    if different.any():
        other = coordinate[np.flatnonzero(different)[0]]
        raise SourceError(
            f"levels are not the same in all rows: {agreed.tolist()} and, in {int(different.sum())} rows of "
            f"{len(different)}, {other.tolist()} for example; give levels.values, to which all are brought"
        )
    agreement.levels = agreed
    return agreed


def checked_rain(observed: pl.DataFrame, settings: ColumnSet, month_id: int) -> pl.DataFrame:
    """The rows of rain whose fractions are known, as List(Float32).

    Raises:
        SourceError: a row has not one fraction for each band, a negative one, or they do not sum to 1.
    """
    where, bands = f"{settings.rain} in {to_key(month_id)}", len(settings.edges) + 1
    known = observed.filter(pl.col("fractions").is_not_null())
    sizes = lengths(known["fractions"])
    if (sizes != bands).any():
        raise SourceError(
            f"{where} has {int(sizes[sizes != bands][0])} fractions a box, and edges of the column set make {bands}; "
            "give the edges that the source has, or coarsen it again"
        )
    fractions = padded(known["fractions"], bands)
    finite = np.isfinite(fractions).all(axis=1)
    off = finite & ((np.abs(fractions.sum(axis=1) - 1) > SUM_TOLERANCE) | (fractions < 0).any(axis=1))
    if off.any():
        raise SourceError(
            f"{int(off.sum())} rows of {where} have fractions that are negative or do not sum to 1, the first "
            f"{fractions[off][0].tolist()}; coarsen the rain again"
        )
    return known.with_columns(as_lists("fractions", fractions)).filter(pl.Series(finite))


def checked_members(said: pl.DataFrame, source: str, month_id: int, agreement: Agreement) -> pl.DataFrame:
    """The rows in which every member has a rate, as List(Float32).

    Raises:
        SourceError: the number of members is not that of all other rows, or a rate is negative.
    """
    known = said.filter(pl.col(MEMBERS).is_not_null())
    sizes = lengths(known[MEMBERS])
    if not len(sizes):
        return known.cast({MEMBERS: pl.List(pl.Float32)})
    agreed = int(sizes[0]) if agreement.members is None else agreement.members
    if (sizes != agreed).any():
        raise SourceError(
            f"{source} has {agreed} members in earlier rows and {int(sizes[sizes != agreed][0])} in "
            f"{to_key(month_id)}; what is fitted on one ensemble cannot use another: make a source of each"
        )
    agreement.members = agreed
    rates = padded(known[MEMBERS], agreed)
    if (rates < 0).any():
        raise SourceError(f"{source} has negative rain in {to_key(month_id)}, {float(np.nanmin(rates)):g} mm/h")
    return known.with_columns(as_lists(MEMBERS, rates)).filter(pl.Series(np.isfinite(rates).all(axis=1)))
