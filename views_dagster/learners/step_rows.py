"""Rows that a step learns from: unit-months with their target k months later, and their split in time.

Everything about time in step-shifted learning is here: nothing else shifts a month.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.panel import Panel

QUIET_MONTHS: Final = 12


@dataclass(frozen=True)
class StepRows:
    """The unit-months t that step k learns from: those whose target k months later was observed.

    Attributes:
        rows: (N,) their positions among all rows of the panel, ascending: month by month, in a month unit by unit.
        month: (N,) position of t in the panel's months.
        anchor: (N,) float64, log1p of the unit's recent mean as known at t, zero without an anchor.
        outcome: (N,) float64, the target at t + k.
        quiet: (N,) bool, whether the outcome is zero and so was the target in the `QUIET_MONTHS` up to t.
    """

    rows: NDArray[np.intp]
    month: NDArray[np.intp]
    anchor: NDArray[np.float64]
    outcome: NDArray[np.float64]
    quiet: NDArray[np.bool_]

    def where(self, keep: NDArray[np.bool_]) -> "StepRows":
        """The rows for which `keep` (N,) holds."""
        return StepRows(self.rows[keep], self.month[keep], self.anchor[keep], self.outcome[keep], self.quiet[keep])


def rows_of_step(panel: Panel, step: int, anchor: NDArray[np.float64]) -> StepRows:
    """Rows of the pairs (features at t, target at t + step), for units that exist in both months.

    Args:
        anchor: (M, U), what `log_recent_mean` returns or zeros.
    """
    position = np.cumsum(panel.exists).reshape(panel.exists.shape) - 1
    usable = panel.exists[:-step] & panel.exists[step:]
    month, _ = np.nonzero(usable)
    events = _moving_sum((panel.target > 0).astype(np.float64), QUIET_MONTHS)[:-step][usable]
    outcome = panel.target[step:][usable].astype(np.float64)
    return StepRows(
        rows=position[:-step][usable].astype(np.intp),
        month=month.astype(np.intp),
        anchor=anchor[:-step][usable],
        outcome=outcome,
        quiet=(outcome == 0) & (events == 0),
    )


def split_in_time(rows: StepRows, *, step: int, months: int, holdout: float) -> tuple[StepRows, StepRows]:
    """Rows to train on and rows held out: a cut-off month, what was known at it, and what was forecast from then on.

    The latest `holdout` of the months with a known outcome are held out; fewer where that would leave nothing to train
    on. Outcomes of training rows are no later than the cut-off, features of held-out rows no earlier.
    """
    usable = months - step
    cutoff = max(step, round(usable * (1 - holdout)))
    return rows.where(rows.month + step <= cutoff), rows.where(rows.month >= cutoff)


def log_recent_mean(panel: Panel, months: int) -> NDArray[np.float64]:
    """(M, U) log1p of the mean target over those of the last `months` months in which the unit existed; else zero."""
    total = _moving_sum(np.where(panel.exists, panel.target, 0.0).astype(np.float64), months)
    count = _moving_sum(panel.exists.astype(np.float64), months)
    return np.log1p(np.maximum(total, 0.0) / np.maximum(count, 1.0))


def _moving_sum(values: NDArray[np.float64], months: int) -> NDArray[np.float64]:
    total = np.cumsum(values, axis=0)
    total[months:] = total[months:] - total[:-months]
    return total
