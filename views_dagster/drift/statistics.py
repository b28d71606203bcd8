"""What the input checks look at: statistics of one month against its history, by column, by unit and overall.

Dense arrays of months x units x columns; NaN is a missing value. Nothing here knows thresholds of verdicts or Great
Expectations: the tables made here are what the suites test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.drift.settings import InputDriftSettings
from views_dagster.errors import PanelError
from views_dagster.panel import KEYS

Array = NDArray[np.float64]
MIN_VALUES = 20


@dataclass(frozen=True)
class Window:
    """The tested month and its history.

    Attributes:
        month: the tested month id.
        units: (U,) unit ids that occur in any of the months, ascending.
        columns: P names of the numeric columns.
        present: (H + 1, U) bool, whether the unit has a row; the last row of the array is the tested month.
        values: (H + 1, U, P) float64; NaN where null, NaN, infinite or absent.
        infinite: (P,) number of infinite values in the tested month.
        rows: the tested month's rows as they came, keys and numeric columns.
    """

    month: int
    units: NDArray[np.int64]
    columns: tuple[str, ...]
    present: NDArray[np.bool_]
    values: Array
    infinite: NDArray[np.int64]
    rows: pl.DataFrame

    @classmethod
    def from_frame(
        cls, frame: pl.DataFrame, month: int, *, history_months: int, ignore: Sequence[str] = ()
    ) -> "Window":
        """Rows of `month` and of the `history_months` before it; other months and non-numeric columns are left out.

        Raises:
            PanelError: the frame has no `month_id`, no `unit_id`, or no numeric column besides them.
        """
        missing = [key for key in KEYS if key not in frame.columns]
        columns = tuple(
            name
            for name, dtype in frame.schema.items()
            if name not in KEYS and name not in ignore and (dtype.is_numeric() or dtype == pl.Boolean)
        )
        if missing or not columns:
            raise PanelError(
                f"the window has no {', '.join(missing) or 'numeric column'}; it has {', '.join(frame.columns)}, "
                "and a drift suite needs month_id, unit_id and at least one numeric column that is not ignored"
            )
        frame = frame.filter(pl.col("month_id").is_between(month - history_months, month)).select(
            *KEYS, pl.col(columns).cast(pl.Float64)
        )
        rows = frame.filter(pl.col("month_id") == month)
        keyed = frame.filter(pl.col("unit_id").is_not_null())
        months = np.append(np.setdiff1d(keyed["month_id"].to_numpy(), [month]), month)
        units = keyed["unit_id"].unique().sort().to_numpy().astype(np.int64)
        month_at = np.searchsorted(months, keyed["month_id"].to_numpy())
        unit_at = np.searchsorted(units, keyed["unit_id"].to_numpy())
        present = np.zeros((len(months), len(units)), dtype=bool)
        present[month_at, unit_at] = True
        numbers = keyed.select(columns).to_numpy()
        values = np.full((len(months), len(units), len(columns)), np.nan)
        values[month_at, unit_at] = np.where(np.isfinite(numbers), numbers, np.nan)
        infinite = np.isinf(rows.select(columns).to_numpy()).sum(axis=0)
        return cls(month, units, columns, present, values, infinite, rows)

    @property
    def history(self) -> int:
        """How many months of history there are."""
        return len(self.present) - 1


@dataclass(frozen=True)
class Statistics:
    """The tables a suite tests.

    Attributes:
        columns: one row a column.
        units: one row a unit that was there last month or is there now.
        overall: one row.
        partitions: by column, the bins and weights of its non-zero history, as a Great Expectations partition object.
    """

    columns: pl.DataFrame
    units: pl.DataFrame
    overall: pl.DataFrame
    partitions: dict[str, dict[str, list[float]]]

    def table(self, name: Literal["columns", "units", "overall"]) -> pl.DataFrame:
        """One of the three tables."""
        return {"columns": self.columns, "units": self.units, "overall": self.overall}[name]


def summarise(window: Window, settings: InputDriftSettings) -> Statistics:
    """All statistics of the month. What cannot be computed (no history, too few values) is null."""
    judged = window.history >= settings.min_history_months
    columns, partitions = _by_column(window, settings, judged)
    units = _by_unit(window, settings, judged)
    return Statistics(columns, units, _overall(window, settings, judged, columns), partitions)


def cohens_h(share: Array, low: Array, high: Array) -> Array:
    """Cohen's effect size of `share` against the nearest end of the range `low`..`high`; zero inside, signed outside.

    h = 2 asin(sqrt(p)) - 2 asin(sqrt(q)) (Cohen 1988, Statistical power analysis, chapter 6). Shapes broadcast.
    """

    def angle(p: Array) -> Array:
        return np.asarray(2 * np.arcsin(np.sqrt(p)), dtype=np.float64)

    return np.where(
        share > high, angle(share) - angle(high), np.where(share < low, angle(share) - angle(low), 0 * share)
    )


def ks_distance(values: Array, history: Array) -> float:
    """Two-sample Kolmogorov-Smirnov distance; `history` is sorted, both are non-empty and free of NaN."""
    values = np.sort(values)
    at = np.concatenate([values, history])
    ours = np.searchsorted(values, at, side="right") / len(values)
    theirs = np.searchsorted(history, at, side="right") / len(history)
    return float(np.abs(ours - theirs).max())


def _typical(shares: Array, share: float) -> tuple[Array, Array]:
    """Quantiles 1 - share and share over the first axis, ignoring NaN; NaN where there is nothing else."""
    low, high = np.full((2, shares.shape[1]), np.nan)
    some = ~np.isnan(shares).all(axis=0)
    if some.any():
        low[some], high[some] = np.nanquantile(shares[:, some], [1 - share, share], axis=0)
    return low, high


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Array:
    shares: Array = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _by_column(
    window: Window, settings: InputDriftSettings, judged: bool
) -> tuple[pl.DataFrame, dict[str, dict[str, list[float]]]]:
    values, present = window.values, window.present
    known = ~np.isnan(values)
    nonzero = known & (values != 0)
    present_count = present.sum(axis=1)[:, None]
    known_count, nonzero_count = known.sum(axis=1), nonzero.sum(axis=1)
    missing = _ratio(present_count - known_count, present_count)
    zeros = _ratio(known_count - nonzero_count, known_count)
    table: dict[str, Array] = {
        "missing": missing[-1],
        "missing_typical": np.full(len(window.columns), np.nan),
        "zeros": zeros[-1],
    }
    for name in ("zeros_low", "zeros_high", "zeros_effect", "zeros_limit", "silent", "unchanged", "reach", "outliers"):
        table[name] = np.full(len(window.columns), np.nan)
    for name in ("new_negatives", "ks", "ks_limit", "kl_limit"):
        table[name] = np.full(len(window.columns), np.nan)
    table["infinite"] = window.infinite.astype(np.float64)
    partitions: dict[str, dict[str, list[float]]] = {}
    table["missing_rise"] = np.full(len(window.columns), np.nan)
    if judged:
        table["missing_typical"] = _typical(missing[:-1], settings.typical_share)[1]
        table["missing_rise"] = np.maximum(missing[-1] - table["missing_typical"], 0)
        low, high = _typical(zeros[:-1], settings.typical_share)
        table |= {"zeros_low": low, "zeros_high": high, "zeros_effect": np.abs(cohens_h(zeros[-1], low, high))}
        table["zeros_limit"] = _zeros_limit(settings.zeros_by_column_warning, known_count[-1].astype(np.float64))
        table["zeros_effect"][np.isnan(table["zeros_limit"])] = np.nan
        active = _typical(nonzero_count[:-1].astype(np.float64), settings.typical_share)[0] >= settings.min_active_units
        table["silent"] = np.where(active & (known_count[-1] > 0), nonzero_count[-1] == 0, np.nan)
        table["unchanged"] = _unchanged(values, known, settings)
        _against_history(window, settings, nonzero, table, partitions)
    frame = pl.DataFrame({"column": list(window.columns), **table}).with_columns(pl.col(pl.Float64).fill_nan(None))
    return frame, partitions


def _zeros_limit(threshold: float, counts: Array) -> Array:
    """The threshold of h, or three standard errors (1 / sqrt(n)) where that is more; NaN for too few values."""
    some = counts >= MIN_VALUES
    return np.where(some, np.maximum(threshold, 3 / np.sqrt(np.where(some, counts, 1))), np.nan)


def _unchanged(values: Array, known: NDArray[np.bool_], settings: InputDriftSettings) -> Array:
    """(P,) 1 where a column that moves every month repeats last month in every unit, 0 where not, NaN for others."""
    both = known[1:] & known[:-1]
    changed = (both & (values[1:] != values[:-1])).sum(axis=1)
    moves = _typical(changed[:-1].astype(np.float64), settings.typical_share)[0] >= settings.min_active_units
    return np.where(moves & both[-1].any(axis=0), changed[-1] == 0, np.nan)


def _against_history(
    window: Window,
    settings: InputDriftSettings,
    nonzero: NDArray[np.bool_],
    table: dict[str, Array],
    partitions: dict[str, dict[str, list[float]]],
) -> None:
    """Extremes and distributions, a column at a time: each has its own number of non-zero values."""
    from scipy.special import chdtri

    moved = (nonzero[-1] & (window.values[-1] != window.values[-2])).sum(axis=0)
    news = _ratio(moved, nonzero[-1].sum(axis=0))
    for at, column in enumerate(window.columns):
        history = np.sort(window.values[:-1, :, at][nonzero[:-1, :, at]])
        values = window.values[-1, :, at][nonzero[-1, :, at]]
        if len(history) < MIN_VALUES or not len(values):
            continue
        low, centre, high = np.quantile(history, [0.01, 0.5, 0.99])
        farthest = max(history[-1] - centre, centre - history[0], abs(centre))
        table["reach"][at] = np.abs(values - centre).max() / farthest
        margin = settings.outlier_reach * max(high - low, abs(centre))
        table["new_negatives"][at] = (values < 0).mean() if history[0] > 0 else 0
        if len(values) < MIN_VALUES or news[at] < settings.news_share:
            continue
        table["outliers"][at] = ((values < low - margin) | (values > high + margin)).mean()
        table["ks"][at] = ks_distance(values, history)
        # Dvoretzky-Kiefer-Wolfowitz: P(D > d) <= 2 exp(-2 d^2 nm / (n + m)).
        noise = np.sqrt(-np.log(settings.noise_level / 2) / 2 * (1 / len(values) + 1 / len(history)))
        usual = _usual_distance(window.values[:-1, :, at], nonzero[:-1, :, at], settings.usual_months)
        table["ks_limit"][at] = max(settings.ks_distance_warning, noise, 1.25 * usual)
        if usual > settings.ks_distance_warning:
            continue
        edges = np.unique(np.quantile(history, np.linspace(0, 1, settings.kl_bins + 1)))
        if len(edges) < 3:
            continue
        weights = np.histogram(history, edges)[0] / len(history)
        # 2 n KL is chi-squared with bins - 1 degrees of freedom when nothing changed (Wilks).
        noise = chdtri(len(edges) - 2, settings.noise_level) / (2 * len(values))
        table["kl_limit"][at] = max(settings.kl_divergence_warning, noise)
        partitions[column] = {"bins": edges.tolist(), "weights": weights.tolist()}


def _usual_distance(values: Array, counted: NDArray[np.bool_], months: int) -> float:
    """Median over the last `months` rows of (T, U) `values` of their distance from the rows before; 0 for too few."""
    distances = []
    for month in range(max(len(values) - months, 1), len(values)):
        before, now = values[:month][counted[:month]], values[month][counted[month]]
        if min(len(before), len(now)) >= MIN_VALUES:
            distances.append(ks_distance(now, np.sort(before)))
    return float(np.median(distances)) if distances else 0.0


def _by_unit(window: Window, settings: InputDriftSettings, judged: bool) -> pl.DataFrame:
    values, present = window.values, window.present
    before = present[-2] if window.history else np.zeros(len(window.units), dtype=bool)
    now = present[-1]
    share = np.where(present, np.isnan(values).mean(axis=2), np.nan)
    rise, dead = np.full((2, len(window.units)), np.nan)
    if judged:
        long_known = now & (present[:-1].sum(axis=0) >= settings.min_history_months)
        typical = _typical(share[:-1], settings.typical_share)[1]
        rise = np.where(long_known, np.maximum(share[-1] - typical, 0), np.nan)
        steady = ((values[:-1] != 0) & ~np.isnan(values[:-1]) | ~present[:-1, :, None]).all(axis=0)
        steady_count = steady.sum(axis=1)
        dead_share = _ratio((steady & (values[-1] == 0)).sum(axis=1), steady_count)
        dead = np.where(long_known & (steady_count >= settings.zeros_by_unit_columns), dead_share, np.nan)
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


def _overall(window: Window, settings: InputDriftSettings, judged: bool, columns: pl.DataFrame) -> pl.DataFrame:
    present, known = window.present, ~np.isnan(window.values)
    before, now = (present[-2] if window.history else present[-1]), present[-1]
    # A month should hold the units it has and those the month before it had.
    due = present | np.vstack([present[:1], present[:-1]])
    cells = due.sum(axis=1) * len(window.columns)
    known_cells = known.sum(axis=(1, 2))
    complete = _ratio(known_cells, cells)
    zeros = _ratio((known & (window.values == 0)).sum(axis=(1, 2)), known_cells)
    fall = effect = limit = low = high = typical = None
    if judged:
        typical = float(_typical(complete[:-1, None], settings.typical_share)[0][0])
        fall = max(typical - float(complete[-1]), 0.0)
        lows, highs = _typical(zeros[:-1, None], settings.typical_share)
        low, high = float(lows[0]), float(highs[0])
        effect = float(np.abs(cohens_h(zeros[-1:], lows, highs))[0])
        limit = float(_zeros_limit(settings.zeros_warning, known_cells[-1:].astype(np.float64))[0])
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
