"""The level of draws: the factor that holds their mean to what was observed, and where in a distribution they lie."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from views_dagster.learners.step_rows import StepRows

BALANCE: Final = "balance"
FACTORS: Final = (0.25, 4.0)
"""Bounds of a balancing factor: a level that is further off is a fault of the model, and is not hidden."""
EDGE: Final = 2.0**-32


class Balance(BaseModel):
    """One factor a step on the draws, so that over its rows their mean is the mean outcome.

    The rows are all that the step can learn from, in training, with the outcomes of the latest `months`. The draws are
    also taken at random inside equally probable slices, not in their middles: what is rarer than one draw in all would
    never be drawn, and where most units are quiet most of the level is made of that. A factor is held inside `FACTORS`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    months: int | None = Field(
        default=None, ge=12, description="latest months of outcomes whose level counts; null: all, outliers included"
    )

    def latest(self, rows: StepRows, *, step: int, months: int) -> StepRows:
        """The rows whose level counts, of a panel of `months` months."""
        first = 0 if self.months is None else max(months - step - self.months, 0)
        return rows.where(slice(np.searchsorted(rows.rows, first * rows.units), None))


def balancing(observed: float, learnt: float, *, own: float = 0.0, share: float = 0.0) -> NDArray[np.float64]:
    """The factor within `FACTORS`, and the one without bounds, (2,); infinite where what was learnt has no level.

    Args:
        observed, learnt, own: sums over rows of the outcomes, of the means of the learnt distributions, and of the
            means of the unit's own months, which are `share` of the draws.
    """
    wanted = (observed - share * own) / (1 - share)
    factor = wanted / learnt if learnt > 0 else np.inf if wanted > 0 else 1.0
    return np.array([np.clip(factor, *FACTORS), factor])


def slices(units: int, number: int, *, seed: int | None) -> NDArray[np.float64]:
    """(U, n) probabilities, one in each of n equal slices of (0, 1): their middles, or with a seed random ones."""
    if seed is None:
        return np.broadcast_to((np.arange(number) + 0.5) / max(number, 1), (units, number))
    inside = np.random.default_rng(seed).random((units, number))
    return np.clip((np.arange(number) + inside) / max(number, 1), EDGE, 1 - EDGE)
