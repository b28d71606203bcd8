"""A month of columns in a few numbers for each variable and level: what the checks compare.

A history of months is a list of summaries; the rows of two months are never in memory together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.precipitation import bands
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.drift.settings import ColumnDriftSettings

Array = NDArray[np.float64]

_SAMPLE: Final = 20_000
QUANTILES: Final = 201
"""Points of a distribution that are kept, from its lowest to its highest value."""


@dataclass(frozen=True)
class ColumnSummary:
    """One month.

    Attributes:
        month: month id.
        rows, repeated_rows: how many, and how many repeat the box and time of another.
        times: (T,) valid times, ascending.
        boxes: (G,) box ids, ascending.
        levels: (L,).
        fields: (variable, level) of each of F fields; the level of a single-level field is NaN.
        not_finite: (F,) values that are not.
        mean, spread: (F,) mean and standard deviation of the others, NaN where there is none.
        quantiles: (F, QUANTILES) of at most 20,000 rows that are evenly spaced.
        extremes: (F, 2) lowest and highest value.
        beyond_bounds: (F,) share of values beyond the bounds of their variable, NaN where it has none.
        repeated_times: how many times have the profiles of the time before.
        rain_missing: share of the area without rain data.
        rows_with_rain: rows whose fractions are known.
        bad_fractions: rows whose fractions are negative or do not sum to 1 within 1e-4.
        inconsistent_rain: rows whose mean is below what their fractions allow, or above their maximum.
        wet_share: share of the observed area at or above the lowest edge, NaN where nothing was observed.
        rates: lowest and highest rate of a fine pixel or box, mm/h; NaN where nothing was observed.
    """

    month: int
    rows: int
    repeated_rows: int
    times: NDArray[np.datetime64]
    boxes: NDArray[np.int64]
    levels: NDArray[np.float32]
    fields: tuple[tuple[str, float], ...]
    not_finite: Array
    mean: Array
    spread: Array
    quantiles: Array
    extremes: Array
    beyond_bounds: Array
    repeated_times: int
    rain_missing: float
    rows_with_rain: int
    bad_fractions: int
    inconsistent_rain: int
    wet_share: float
    rates: tuple[float, float]

    @classmethod
    def of(cls, columns: Columns, month: int, settings: ColumnDriftSettings | None = None) -> "ColumnSummary":
        """Summarise the rows of one month, and no others; there may be none. Of the settings, the bounds matter."""
        settings = settings or ColumnDriftSettings()
        times, time = np.unique(columns.valid_time, return_inverse=True)
        boxes, box = np.unique(columns.box_id, return_inverse=True)
        values = [
            *(
                (name, float(level), columns.profiles[:, variable, at])
                for variable, name in enumerate(columns.profile_names)
                for at, level in enumerate(columns.levels)
            ),
            *((name, np.nan, columns.surface[:, at]) for at, name in enumerate(columns.surface_names)),
        ]
        figures = [_figures(value, settings.bounds_of(name)) for name, _, value in values]
        seen = columns.observed
        fractions = columns.fractions[seen].astype(np.float64)
        mean, top = columns.rain_mean[seen].astype(np.float64), columns.rain_max[seen].astype(np.float64)
        off = (np.abs(fractions.sum(axis=1) - 1) > 1e-4) | (fractions < 0).any(axis=1)
        least = fractions @ np.array([0.0, *columns.edges])
        off_mean = (mean < 0.999 * least - 1e-4) | (mean > 1.001 * top + 1e-4)
        return cls(
            month=month,
            rows=len(columns),
            repeated_rows=len(columns) - len(np.unique(time * max(len(boxes), 1) + box)),
            times=times,
            boxes=boxes,
            levels=columns.levels,
            fields=tuple((name, level) for name, level, _ in values),
            not_finite=np.array([figure[0] for figure in figures]),
            mean=np.array([figure[1] for figure in figures]),
            spread=np.array([figure[2] for figure in figures]),
            quantiles=np.stack([figure[3] for figure in figures]),
            extremes=np.stack([figure[4] for figure in figures]),
            beyond_bounds=np.array([figure[5] for figure in figures]),
            repeated_times=_repeated_times(columns, time, len(times)),
            rain_missing=float(np.where(seen, columns.missing, 1.0).mean()) if len(columns) else np.nan,
            rows_with_rain=int(seen.sum()),
            bad_fractions=int(off.sum()),
            inconsistent_rain=int(off_mean.sum()),
            wet_share=float(bands.exceedance(fractions)[:, 0].mean()) if seen.any() else np.nan,
            rates=(float(min(mean.min(), top.min())), float(top.max())) if seen.any() else (np.nan, np.nan),
        )

    @property
    def hours(self) -> float:
        """The most common distance of consecutive valid times, hours; NaN for fewer than two."""
        steps, counts = np.unique(np.diff(self.times), return_counts=True)
        if not len(steps):
            return np.nan
        return float(steps[np.argmax(counts)] / np.timedelta64(3600, "s"))


def _figures(
    values: NDArray[np.float32], bounds: tuple[float, float] | None
) -> tuple[float, float, float, Array, Array, float]:
    """Not finite, mean, standard deviation, quantiles, extremes and share beyond bounds of one field (N,)."""
    finite = values[np.isfinite(values)]
    bad = float(len(values) - len(finite))
    if not len(finite):
        return bad, np.nan, np.nan, np.full(QUANTILES, np.nan), np.full(2, np.nan), np.nan
    some = np.sort(finite[:: max(1, -(-len(finite) // _SAMPLE))])
    points = some[np.linspace(0, len(some) - 1, QUANTILES).round().astype(np.int64)].astype(np.float64)
    extremes = np.array([finite.min(), finite.max()], dtype=np.float64)
    beyond = np.nan if bounds is None else float(((finite < bounds[0]) | (finite > bounds[1])).mean())
    mean, spread = finite.mean(dtype=np.float64), finite.std(dtype=np.float64)
    return bad, float(mean), float(spread), points, extremes, beyond


def _repeated_times(columns: Columns, time: NDArray[np.intp], times: int) -> int:
    """Times whose profiles are those of the time before: sums over boxes that are equal in every variable.

    Of numbers that differ, such sums are never equal to the last bit of float64 in all variables.
    """
    if times < 2 or not columns.profiles.shape[1]:
        return 0
    sums = columns.profiles.sum(axis=2, dtype=np.float64)
    by_time = np.stack([np.bincount(time, weights=column, minlength=times) for column in sums.T], axis=1)
    return int((by_time[1:] == by_time[:-1]).all(axis=1).sum())


def spread_over_months(summaries: Sequence[ColumnSummary]) -> tuple[Array, Array]:
    """(F,) mean and standard deviation of all months together, each month that has values counting the same."""
    means = np.ma.masked_invalid(np.stack([summary.mean for summary in summaries]))
    within = np.ma.masked_invalid(np.stack([summary.spread for summary in summaries]) ** 2)
    mean = means.mean(axis=0)
    variance = within.mean(axis=0) + ((means - mean) ** 2).mean(axis=0)
    return mean.filled(np.nan), np.sqrt(variance.filled(np.nan))
