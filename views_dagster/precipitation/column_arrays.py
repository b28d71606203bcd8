"""Between lists in tables and arrays: lists as padded arrays, arrays as lists, and a stored column set as `Columns`.

Lists lie end to end in memory, so that those of one length are an array without a copy.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.errors import PanelError, SourceError
from views_dagster.precipitation.column_sets import KEYS, LEVELS, MEMBERS, PLACE, RAIN, ColumnSet
from views_dagster.precipitation.columns import Columns


def lengths(lists: pl.Series) -> NDArray[np.intp]:
    """(N,) lengths, 0 for null."""
    found: NDArray[np.intp] = lists.list.len().fill_null(0).to_numpy().astype(np.intp)
    return found


def padded(lists: pl.Series, width: int | None = None) -> NDArray[np.float32]:
    """(N, width) float32 of N lists, NaN beyond the end of shorter ones and for null; as wide as the longest."""
    sizes = lengths(lists)
    width = int(sizes.max(initial=0)) if width is None else width
    flat = lists.explode(empty_as_null=False, keep_nulls=False).cast(pl.Float32).fill_null(np.nan).to_numpy()
    if (sizes == width).all():
        whole: NDArray[np.float32] = flat.reshape(len(sizes), width)
        return whole
    filled = np.full((len(sizes), width), np.nan, dtype=np.float32)
    filled[np.arange(width) < sizes[:, None]] = flat
    return filled


def profile(lists: pl.Series, levels: pl.Series, where: str) -> NDArray[np.float32]:
    """(N, L) float32 of a profile, padded as `levels` is; NaN throughout where a row has none.

    Raises:
        SourceError: a list has not one value for each level of its row.
    """
    sizes, depths = lengths(lists), lengths(levels)
    uneven = (sizes != depths) & (sizes > 0)
    if uneven.any():
        at = int(np.flatnonzero(uneven)[0])
        raise SourceError(
            f"{lists.name} of {where} has not one value a level in {int(uneven.sum())} rows: in the first "
            f"{sizes[at]} on {depths[at]} levels; read the source again with all its levels"
        )
    return padded(lists, int(depths.max(initial=0)))


def as_lists(name: str, values: NDArray[np.float32]) -> pl.Series:
    """(N, L) as a column of N lists of Float32."""
    return pl.Series(name, np.ascontiguousarray(values, dtype=np.float32)).arr.to_list()


def to_columns(frame: pl.DataFrame, settings: ColumnSet) -> Columns:
    """The rows of a stored column set as arrays, sorted by time and box.

    Raises:
        PanelError: no rows, repeated rows, a variable is absent or has no value, or levels, bands or the number of
            members are not the same in all rows.
    """
    names = [*KEYS, *PLACE, *settings.profile_names, LEVELS, *settings.surface_names, *RAIN, MEMBERS]
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise PanelError(f"the column set's table has no {', '.join(absent)}; materialise its features again")
    if frame.is_empty():
        raise PanelError("the column set's table has no rows in these months; materialise its features")
    time = frame["valid_time"].to_numpy().astype("datetime64[s]")
    box = frame["box_id"].to_numpy().astype(np.int64)
    order = _order(time, box)
    levels = _common_levels(frame[LEVELS], settings)
    profiles = np.empty((frame.height, len(settings.profile_names), len(levels)), dtype=np.float32)
    for position, name in enumerate(settings.profile_names):
        profiles[:, position] = _known(name, _dense(frame[name], len(levels)))[order]
    surface = np.empty((frame.height, len(settings.surface_names)), dtype=np.float32)
    for position, name in enumerate(settings.surface_names):
        surface[:, position] = _known(name, _numbers(frame[name]))[order]
    sizes = frame[MEMBERS].list.len().drop_nulls().unique().sort().to_list()
    if len(sizes) > 1:
        raise PanelError(f"rows have {' and '.join(map(str, sizes))} members; take months of one ensemble")
    return Columns(
        month_id=frame["month_id"].to_numpy().astype(np.int32)[order],
        valid_time=time[order],
        box_id=box[order],
        latitude=_numbers(frame["latitude"])[order],
        longitude=_numbers(frame["longitude"])[order],
        profiles=profiles,
        profile_names=settings.profile_names,
        levels=levels,
        level_unit=settings.levels.unit,
        surface=surface,
        surface_names=settings.surface_names,
        fractions=_dense(frame["fractions"], len(settings.edges) + 1)[order],
        rain_mean=_numbers(frame["rain_mean"])[order],
        rain_max=_numbers(frame["rain_max"])[order],
        missing=_numbers(frame["missing"])[order],
        members=_dense(frame[MEMBERS], sizes[0] if sizes else 0)[order],
        edges=settings.edges,
    )


def _order(time: NDArray[np.datetime64], box: NDArray[np.int64]) -> NDArray[np.intp] | slice:
    """Positions that sort rows by time and box; a slice where they are sorted, which copies nothing."""
    later, same = time[1:] > time[:-1], time[1:] == time[:-1]
    if bool((later | (same & (box[1:] > box[:-1]))).all()):
        return slice(None)
    order: NDArray[np.intp] = np.lexsort((box, time))
    repeated = (time[order][1:] == time[order][:-1]) & (box[order][1:] == box[order][:-1])
    if repeated.any():
        raise PanelError(f"the column set's table repeats {int(repeated.sum())} rows; materialise its features again")
    return order


def _common_levels(lists: pl.Series, settings: ColumnSet) -> NDArray[np.float32]:
    dense = _dense(lists, int(lengths(lists)[0]))
    if not bool((dense == dense[0]).all()):
        raise PanelError("levels differ between rows; materialise all months of the features with the same levels")
    wanted = settings.levels.ascending
    if wanted is not None and not np.array_equal(dense[0], np.array(wanted, dtype=np.float32)):
        raise PanelError("the table is on other levels than the column set's; materialise its features again")
    first: NDArray[np.float32] = dense[0].copy()
    return first


def _dense(lists: pl.Series, width: int) -> NDArray[np.float32]:
    """(N, width) float32 of lists that are all that long, NaN where one is null."""
    known = lists.is_not_null().to_numpy()
    if not bool((lengths(lists)[known] == width).all()):
        raise PanelError(f"{lists.name} has lists that are not {width} long; materialise the features again")
    return padded(lists, width)


def _numbers(series: pl.Series) -> NDArray[np.float32]:
    values: NDArray[np.float32] = series.cast(pl.Float32).fill_null(np.nan).to_numpy()
    return values


def _known(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    # The sum of finite numbers is finite in float64, and one pass finds that almost all variables are.
    if not np.isfinite(values.sum(dtype=np.float64)):
        bad = int((~np.isfinite(values.reshape(len(values), -1))).any(axis=1).sum())
        raise PanelError(f"{name} has no value in {bad} rows; materialise the features again")
    return values
