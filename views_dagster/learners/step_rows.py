"""Rows that a step learns from: unit-months with their target k months later, their sampling and their split in time.

Everything about time in step-shifted learning is here: nothing else shifts a month.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from views_dagster.errors import PanelError
from views_dagster.names import nearest
from views_dagster.panel import Panel
from views_dagster.seeds import seed_for

QUIET_MONTHS: Final = 12
KEPT, NEAR, QUIET = range(3)
"""Whether a row is always used, stands for others near events, or stands for others far from any."""


class Sampling(BaseModel):
    """Which rows a step learns from: all that tell something, and a seeded random share of the zeros.

    A row is always used if its outcome is positive or the unit's target was in the last 12 months. The others are
    quiet; those where one of the columns `near` is not zero, the surroundings of events, are used with probability
    `near_share`, the rest with probability `share`. A row used with probability p has weight 1 / p, so that every
    weighted sum over the sample has the sum over all rows as its expectation (Horvitz & Thompson 1952, JASA 47), and
    sums over positive outcomes are exact.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(default=0.1, gt=0, le=1, description="share that is used of the quiet rows far from events")
    near: tuple[str, ...] = Field(
        default=(), description="columns that are not zero in the surroundings of events, for example a spatial lag"
    )
    near_share: float = Field(default=1.0, gt=0, le=1, description="share that is used of the quiet rows near events")

    def tiers(self, panel: Panel) -> NDArray[np.uint8]:
        """(M, U) `KEPT`, `NEAR` or `QUIET` for each unit-month, by what was known in that month.

        Raises:
            PanelError: the panel has no such column.
        """
        tiers = np.where(moving_sum(panel.target > 0, QUIET_MONTHS) > 0, KEPT, QUIET).astype(np.uint8)
        for name in self.near:
            if name not in panel.feature_names:
                raise PanelError(
                    f"sampling near {name}: the panel has no such column{nearest(name, panel.feature_names)}"
                )
            around = panel.features[:, :, panel.feature_names.index(name)] != 0
            tiers[around & (tiers == QUIET)] = NEAR
        return tiers

    def at_least(self, share: float) -> "Sampling":
        """The sampling that uses at least this share of any quiet rows; all of them from 1 on."""
        share = min(share, 1.0)
        return self.model_copy(update={"share": max(self.share, share), "near_share": max(self.near_share, share)})

    def shares(self) -> NDArray[np.float64]:
        """(3,) probability that a row of each tier is used."""
        return np.array([1.0, self.near_share, self.share])


@dataclass(frozen=True)
class StepRows:
    """The unit-months t that step k learns from: those whose target k months later was observed.

    Attributes:
        rows: (N,) their positions in the flattened (M, U) panel, ascending: month by month, in a month unit by unit.
        outcome: (N,) float32, the target at t + k.
        tier: (N,) uint8, `KEPT`, `NEAR` or `QUIET`.
        units: U.
        anchors: (M * U,) log1p of the unit's recent mean as known in each month, or None for no anchor.
    """

    rows: NDArray[np.intp]
    outcome: NDArray[np.float32]
    tier: NDArray[np.uint8]
    units: int
    anchors: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def month(self) -> NDArray[np.intp]:
        """(N,) position of t in the panel's months."""
        return self.rows // self.units

    @property
    def anchor(self) -> NDArray[np.float64]:
        """(N,) what change is measured from, zero without an anchor."""
        return np.zeros(len(self.rows)) if self.anchors is None else self.anchors[self.rows]

    def where(self, keep: NDArray[np.bool_] | NDArray[np.intp] | slice) -> "StepRows":
        """The rows at `keep`: a mask, ascending positions, or a slice, which copies nothing."""
        return replace(self, rows=self.rows[keep], outcome=self.outcome[keep], tier=self.tier[keep])

    def thinned(self, sampling: Sampling, *, seed: int) -> tuple["StepRows", NDArray[np.float64]]:
        """Rows to use and their weights (n,).

        Which rows stay depends on the seed alone, so that fewer months of history keep the same ones.
        """
        lot = np.random.default_rng(seed_for(seed, "quiet")).random(len(self))
        shares = sampling.shares()
        used = self.tier == KEPT
        for tier in (NEAR, QUIET):
            used |= (self.tier == tier) & (lot < shares[tier])
        kept = self.where(np.flatnonzero(used))
        return kept, (1 / shares)[kept.tier]


def rows_of_step(
    panel: Panel, step: int, tiers: NDArray[np.uint8], anchors: NDArray[np.float64] | None = None
) -> StepRows:
    """Rows of the pairs (features at t, target at t + step), for units that exist in both months.

    Args:
        tiers: (M, U), what `Sampling.tiers` returns.
        anchors: (M, U), what `log_recent_mean` returns.
    """
    rows = np.flatnonzero(panel.exists[:-step] & panel.exists[step:])
    outcome = panel.target[step:].reshape(-1)[rows]
    return StepRows(
        rows=rows,
        outcome=outcome,
        tier=np.where(outcome > 0, np.uint8(KEPT), tiers.reshape(-1)[rows]),
        units=len(panel.units),
        anchors=None if anchors is None else anchors.reshape(-1),
    )


def split_in_time(rows: StepRows, *, step: int, months: int, holdout: float) -> tuple[StepRows, StepRows]:
    """Rows to train on and rows held out: a cut-off month, what was known at it, and what was forecast from then on.

    The latest `holdout` of the months with a known outcome are held out; fewer where that would leave nothing to train
    on. Outcomes of training rows are no later than the cut-off, features of held-out rows no earlier.
    """
    usable = months - step
    cutoff = max(step, round(usable * (1 - holdout)))
    first_held = np.searchsorted(rows.rows, cutoff * rows.units)
    after_known = np.searchsorted(rows.rows, (cutoff - step + 1) * rows.units)
    return rows.where(slice(None, after_known)), rows.where(slice(first_held, None))


def log_recent_mean(panel: Panel, months: int) -> NDArray[np.float64]:
    """(M, U) log1p of the unit's `recent_mean`."""
    return np.log1p(recent_mean(panel, months))


def recent_mean(panel: Panel, months: int) -> NDArray[np.float64]:
    """(M, U) mean target over those of the last `months` months in which the unit existed; else zero."""
    total = moving_sum(np.where(panel.exists, panel.target, 0.0), months)
    count = moving_sum(panel.exists, months)
    return np.maximum(total, 0.0) / np.maximum(count, 1.0)


def moving_sum(values: NDArray[np.bool_] | NDArray[np.float64], months: int) -> NDArray[np.float64]:
    """(M, U) sums over each month and the `months` - 1 before it, from (M, U)."""
    total = np.cumsum(values, axis=0, dtype=np.float64)
    total[months:] = total[months:] - total[:-months]
    return total
