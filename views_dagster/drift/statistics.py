"""What the input checks look at: statistics of one month against its history, by column, by unit and overall.

Nothing here knows thresholds of verdicts or Great Expectations: the tables made here are what the suites test.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.drift.distributions import MIN_VALUES, Comparison, compare, units_alike
from views_dagster.drift.settings import InputDriftSettings
from views_dagster.drift.window import Array, Window

Counts = NDArray[np.int64]
_JUDGED_BY_COLUMN: Final = (
    "missing_typical",
    "missing_rise",
    "lost",
    "zeros_low",
    "zeros_high",
    "zeros_effect",
    "zeros_limit",
    "silent",
    "unchanged",
)


@dataclass(frozen=True)
class Statistics:
    """The tables a suite tests.

    Attributes:
        columns: one row a column.
        units: one row a unit that was there last month or is there now.
        overall: one row.
    """

    columns: pl.DataFrame
    units: pl.DataFrame
    overall: pl.DataFrame

    def table(self, name: Literal["columns", "units", "overall"]) -> pl.DataFrame:
        """One of the three tables."""
        return {"columns": self.columns, "units": self.units, "overall": self.overall}[name]


@dataclass(frozen=True)
class _Counts:
    """What is counted in one pass over the columns.

    Attributes:
        known, nonzero: (H + 1, P) units with a value, and with one that is not zero.
        changed, comparable: (H, P) units whose value differs from the month before's, and that have both.
        missing: (H + 1, U) columns without a value.
        steady, dead: (U,) columns that were never zero nor missing in history, and those of them that are zero now.
        alike: (P,) units that one independent value is spread over.
        comparisons: P.
    """

    known: Counts
    nonzero: Counts
    changed: Counts
    comparable: Counts
    missing: Counts
    steady: Counts
    dead: Counts
    alike: Array
    comparisons: tuple[Comparison, ...]


def summarise(window: Window, settings: InputDriftSettings) -> Statistics:
    """All statistics of the month. What cannot be computed (no history, too few values) is null."""
    judged = window.history >= settings.min_history_months
    counts = _count(window, settings, judged)
    columns = _by_column(window, counts, settings, judged)
    return Statistics(
        columns, _by_unit(window, counts, settings, judged), _overall(window, counts, settings, judged, columns)
    )


def cohens_h(share: Array, low: Array, high: Array) -> Array:
    """Cohen's effect size of `share` against the nearest end of the range `low`..`high`; zero inside, signed outside.

    h = 2 asin(sqrt(p)) - 2 asin(sqrt(q)) (Cohen 1988, Statistical power analysis, chapter 6). Shapes broadcast.
    """
    return np.where(
        share > high, _angle(share) - _angle(high), np.where(share < low, _angle(share) - _angle(low), 0 * share)
    )


def _angle(share: Array) -> Array:
    return np.asarray(2 * np.arcsin(np.sqrt(share)), dtype=np.float64)


def _typical(shares: Array, share: float) -> tuple[Array, Array]:
    """Quantiles 1 - share and share over the first axis, ignoring NaN; NaN where there is nothing else."""
    ordered = np.sort(shares, axis=0)
    last = np.maximum((~np.isnan(shares)).sum(axis=0) - 1, 0)

    def quantile(at: float) -> Array:
        place = at * last
        below = place.astype(np.int64)
        low, high = (
            np.take_along_axis(ordered, rows[None, :], axis=0)[0] for rows in (below, np.minimum(below + 1, last))
        )
        return np.asarray(low + (place - below) * (high - low), dtype=np.float64)

    return quantile(1 - share), quantile(share)


def _ratio(part: Counts, whole: Counts) -> Array:
    shares: Array = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _count(window: Window, settings: InputDriftSettings, judged: bool) -> _Counts:
    months, units, columns = window.values.shape
    known, nonzero = np.zeros((2, months, columns), dtype=np.int64)
    changed, comparable = np.zeros((2, months - 1, columns), dtype=np.int64)
    missing = np.zeros((months, units), dtype=np.int64)
    steady, dead = np.zeros((2, units), dtype=np.int64)
    alike, comparisons = np.ones(columns), []
    for at in range(columns):
        values = window.values[:, :, at]
        there = ~np.isnan(values)
        some = there & (values != 0)
        both = there[1:] & there[:-1]
        known[:, at], nonzero[:, at] = there.sum(axis=1), some.sum(axis=1)
        comparable[:, at] = both.sum(axis=1)
        moved = both & (values[1:] != values[:-1])
        changed[:, at] = moved.sum(axis=1)
        # Of history alone: a fault that hits many units alike is no reason to expect it.
        alike[at] = units_alike(values[:-1, moved[:-1].any(axis=0)])
        missing += ~there
        never_zero = (some | ~window.present)[:-1].all(axis=0)
        steady += never_zero
        dead += never_zero & (values[-1] == 0)
        comparisons.append(compare(values, some, float(alike[at]), settings) if judged else Comparison())
    return _Counts(known, nonzero, changed, comparable, missing, steady, dead, alike, tuple(comparisons))


def _by_column(window: Window, counts: _Counts, settings: InputDriftSettings, judged: bool) -> pl.DataFrame:
    present = window.present.sum(axis=1)[:, None]
    missing = _ratio(present - counts.known, present)
    zeros = _ratio(counts.known - counts.nonzero, counts.known)
    table = {name: np.full(len(window.columns), np.nan) for name in _JUDGED_BY_COLUMN}
    table |= {"missing": missing[-1], "zeros": zeros[-1], "infinite": window.infinite.astype(np.float64)}
    table |= {
        name: np.array([getattr(comparison, name) for comparison in counts.comparisons], dtype=np.float64)
        for name in Comparison.__dataclass_fields__
    }
    if judged:
        typical = _typical(missing[:-1], settings.typical_share)[1]
        table["missing_typical"] = typical
        table["missing_rise"] = np.maximum(missing[-1] - typical, 0)
        table["lost"] = np.where(typical < 1, missing[-1] == 1, np.nan)
        low, high = _typical(zeros[:-1], settings.typical_share)
        limit = _zeros_limit(settings.zeros_by_column_warning, high, counts.known[-1], counts.alike, settings)
        effect = np.where(np.isnan(limit), np.nan, np.abs(cohens_h(zeros[-1], low, high)))
        table |= {"zeros_low": low, "zeros_high": high, "zeros_effect": effect, "zeros_limit": limit}
        usual = _typical(counts.nonzero[:-1].astype(np.float64), settings.typical_share)[0]
        active = (usual >= settings.min_active_units) & (counts.known[-1] > 0)
        table["silent"] = np.where(active, counts.nonzero[-1] == 0, np.nan)
        usual = _typical(counts.changed[:-1].astype(np.float64), settings.typical_share)[0]
        moving = (usual >= settings.min_active_units) & (counts.comparable[-1] > 0)
        table["unchanged"] = np.where(moving, counts.changed[-1] == 0, np.nan)
    return pl.DataFrame({"column": list(window.columns), **table}).with_columns(pl.col(pl.Float64).fill_nan(None))


def _zeros_limit(threshold: float, typical: Array, values: Counts, alike: Array, settings: InputDriftSettings) -> Array:
    """How far h may go: the threshold, or less where few values are not zero, but three standard errors at least.

    The largest h that a column can lose is that to all zeros, which is small where the `typical` share of zeros is
    high. A standard error is 1 / sqrt(n) for n independent values, each of them spread over `alike` units. NaN for too
    few values.
    """
    some = values >= MIN_VALUES
    noise = 3 * np.sqrt(alike / np.where(some, values, 1))
    scaled = np.fmin(threshold, settings.zeros_of_active * (np.pi - _angle(typical)))
    return np.where(some, np.maximum(scaled, noise), np.nan)


def _by_unit(window: Window, counts: _Counts, settings: InputDriftSettings, judged: bool) -> pl.DataFrame:
    present = window.present
    now = present[-1]
    before = present[-2] if window.history else np.zeros_like(now)
    share = np.where(present, counts.missing / len(window.columns), np.nan)
    rise, dead = np.full((2, len(window.units)), np.nan)
    if judged:
        long_known = now & (present[:-1].sum(axis=0) >= settings.min_history_months)
        typical = _typical(share[:-1], settings.typical_share)[1]
        rise = np.where(long_known, np.maximum(share[-1] - typical, 0), np.nan)
        enough = long_known & (counts.steady >= settings.zeros_by_unit_columns)
        # Units with too few such columns count as not hit: the threshold is a share of all units.
        dead = np.where(enough, _ratio(counts.dead, counts.steady), 0.0 if enough.any() else np.nan)
    frame = pl.DataFrame(
        {
            "unit_id": window.units,
            "before": before,
            "now": now,
            "missing": share[-1],
            "missing_rise": rise,
            "dead": dead,
        }
    )
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None)).filter(pl.col("before") | pl.col("now"))


def _overall(
    window: Window, counts: _Counts, settings: InputDriftSettings, judged: bool, columns: pl.DataFrame
) -> pl.DataFrame:
    present = window.present
    before, now = (present[-2] if window.history else present[-1]), present[-1]
    # A month should hold the units it has and those the month before it had.
    due = present | np.vstack([present[:1], present[:-1]])
    cells = due.sum(axis=1) * len(window.columns)
    known = counts.known.sum(axis=1)
    complete = _ratio(known, cells)
    zeros = _ratio(known - counts.nonzero.sum(axis=1), known)
    fall = effect = limit = low = high = typical = None
    if judged:
        typical = float(_typical(complete[:-1, None], settings.typical_share)[0][0])
        fall = max(typical - float(complete[-1]), 0.0)
        lows, highs = _typical(zeros[:-1, None], settings.typical_share)
        low, high = float(lows[0]), float(highs[0])
        effect = float(np.abs(cohens_h(zeros[-1:], lows, highs))[0])
        limit = float(_zeros_limit(settings.zeros_warning, highs, known[-1:], np.ones(1), settings)[0])
        effect = effect if np.isfinite(limit) else None
    row = {
        "rows": float(window.rows.height),
        "units": float(now.sum()),
        "missing_units": float((before & ~now).sum()),
        "missing_units_share": float((before & ~now).sum() / before.sum()) if window.history and before.any() else None,
        "new_units": float((now & ~before).sum()),
        "new_units_share": float((now & ~before).sum() / before.sum()) if window.history and before.any() else None,
        "missing_cells": float(1 - complete[-1]) if cells[-1] else 1.0,
        "missing_cells_typical": None if typical is None else 1 - typical,
        "completeness_fall": fall,
        "zeros": float(zeros[-1]),
        "zeros_low": low,
        "zeros_high": high,
        "zeros_effect": effect,
        "zeros_limit": limit,
        "moving_columns": float(columns["unchanged"].count()),
        "unchanged_columns": columns["unchanged"].sum(),
        "unchanged_share": columns["unchanged"].mean(),
    }
    return pl.DataFrame(row, schema=dict.fromkeys(row, pl.Float64), strict=False).with_columns(pl.all().fill_nan(None))
