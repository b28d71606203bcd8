"""One model a step on one matrix: settings that such learners share, and training of all steps in parallel.

What is fitted for a step, and how it becomes draws, belongs to the learners built on this (`step_shift`, `hurdle`);
the trained model is a `stepped_model`.
"""

import os
from abc import abstractmethod
from bisect import bisect
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from views_dagster.calendar import to_key
from views_dagster.errors import PanelError
from views_dagster.learners.balance import BALANCE, Balance, balancing
from views_dagster.learners.base import Learner
from views_dagster.learners.baselines import check_history
from views_dagster.learners.regressors import Block, Estimator, Matrix
from views_dagster.learners.step_rows import Sampling, StepRows, recent_mean, rows_of_step
from views_dagster.panel import Panel
from views_dagster.seeds import seed_for

LEVEL_ROWS: Final = 100_000
"""About so many rows tell the level of a step where there are more."""


class OwnHistory(BaseModel):
    """A share of the draws taken from the unit's own last months (conflictology), the rest from the model.

    A linear pool (Gneiting & Ranjan 2013, Electronic J. Statistics 7). A regression on all units knows where a unit is
    heading, but little of how it differs from others that look alike; its own last months know nothing else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(default=0.5, gt=0, lt=1, description="share of the draws that are the unit's own months")
    months: int = Field(default=12, ge=1, description="how many of the unit's last months")


@dataclass(frozen=True)
class FittedStep:
    """What one step learnt: named estimators, and named tables whose shapes are the same for all steps."""

    estimators: Mapping[str, Estimator]
    tables: Mapping[str, NDArray[np.float64]]


class SteppedLearner(Learner):
    """Settings that all learners with one model a step share, and the training of all steps on one matrix."""

    sampling: Sampling = Field(default=Sampling(), description="which rows each step learns from")
    trained_steps: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        description="steps that get models of their own, ascending; between two of them quantiles are interpolated, "
        "beyond them the nearest one's hold; null: all",
    )
    balance: Balance | None = Field(default=None, description="hold the mean of the draws to the level observed")
    own_history: OwnHistory | None = Field(default=None, description="mix in the unit's own last months")
    workers: int | None = Field(
        default=None, ge=1, exclude=True, description="steps trained at once; default one a core; changes no result"
    )

    @field_validator("trained_steps")
    @classmethod
    def _ascending(cls, steps: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if steps is not None and (steps[0] < 1 or any(second <= first for first, second in pairwise(steps))):
            raise ValueError(f"trained_steps {list(steps)} are not ascending from 1 on")
        return steps

    @abstractmethod
    def blocks(self) -> Mapping[str, Block]:
        """The estimator settings by the prefix of the names that `fit_step` gives to their estimators."""

    @abstractmethod
    def needed_months(self, step: int) -> int:
        """Months of history without which `step` cannot be trained."""

    @abstractmethod
    def fit_step(
        self, step: int, rows: StepRows, matrices: Mapping[str, Matrix], *, months: int, seed: int
    ) -> FittedStep:
        """Train one step; `months` is the panel's length and `matrices` has the keys of `blocks`."""

    @abstractmethod
    def quantiles(
        self,
        fitted: FittedStep,
        features: NDArray[np.float32],
        anchor: NDArray[np.float64],
        probabilities: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """(U, S) quantiles of the target at ascending `probabilities` (U, S), given features (U, P) and anchor (U,)."""

    @abstractmethod
    def means(
        self, fitted: FittedStep, features: NDArray[np.float32], anchor: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(N,) means of the same distributions; needed for `balance` only."""

    def anchors(self, panel: Panel) -> NDArray[np.float64] | None:
        """(M, U) what the learner measures change from, on the log scale; None where it learns none."""
        return None

    @property
    def needed_columns(self) -> tuple[str, ...]:
        return self.sampling.near

    def shares(self, step: int) -> dict[int, float]:
        """The trained steps that `step` is forecast by, with the share of each: the one before it and the one after.

        Quantiles are averaged, as in vincentization (Ratcliff 1979), so that a forecast runs smoothly over steps.
        """
        own = self.trained_steps
        if own is None or step in own:
            return {step: 1.0}
        after = bisect(own, step)
        if after in (0, len(own)):
            return {own[min(after, len(own) - 1)]: 1.0}
        first, second = own[after - 1], own[after]
        share = (step - first) / (second - first)
        return {first: 1 - share, second: share}

    def to_train(self, steps: Sequence[int]) -> tuple[int, ...]:
        """The steps to train so that all of `steps` are forecast, ascending."""
        return tuple(sorted({trained for step in steps for trained in self.shares(step)}))

    def train(self, panel: Panel, *, steps: Sequence[int], seed: int) -> tuple[FittedStep, ...]:
        """One fitted step for each of `self.to_train(steps)`.

        Raises:
            PanelError: a feature or target that is not finite, or too little history for a step.
        """
        from threadpoolctl import threadpool_limits

        check_history(panel)
        steps = self.to_train(steps)
        needed = max(self.needed_months(step) for step in steps)
        if len(panel.months) < needed:
            raise PanelError(
                f"step {max(steps)} needs at least {needed} months of history, the panel has {len(panel.months)} "
                f"({to_key(int(panel.months[0]))}..{to_key(panel.origin)}); make more months or forecast fewer steps"
            )
        _check_features(panel)
        features = panel.features.reshape(-1, panel.features.shape[2])
        anchors, tiers = self.anchors(panel), self.sampling.tiers(panel)
        own = None if self.own_history is None else recent_mean(panel, self.own_history.months).reshape(-1)
        matrices = {name: block.matrix(features) for name, block in self.blocks().items()}

        def one(step: int) -> FittedStep:
            rows = rows_of_step(panel, step, tiers, anchors)
            chosen = seed_for(seed, "step", step)
            fitted = self.fit_step(step, rows, matrices, months=len(panel.months), seed=chosen)
            if self.balance is None:
                return fitted
            latest = self.balance.latest(rows, step=step, months=len(panel.months))
            return self._balanced(fitted, latest, features, own, seed=chosen)

        workers = min(self.workers or os.cpu_count() or 1, len(steps))
        # Sums over several BLAS threads depend on how many there are.
        with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
            return tuple(pool.map(one, steps))

    def _balanced(
        self,
        fitted: FittedStep,
        rows: StepRows,
        features: NDArray[np.float32],
        own: NDArray[np.float64] | None,
        *,
        seed: int,
    ) -> FittedStep:
        """The step with the table `BALANCE`; `own` are the flattened means of each unit's own months."""
        # Not the sample that the step was fitted on, which would flatter it.
        sampling = self.sampling.at_least(LEVEL_ROWS / max(len(rows), 1))
        kept, weight = rows.thinned(sampling, seed=seed_for(seed, "level"))
        learnt = float((weight * self.means(fitted, features[kept.rows], kept.anchor)).sum())
        observed = float(rows.outcome.sum(dtype=np.float64))
        if self.own_history is None or own is None:
            factors = balancing(observed, learnt)
        else:
            factors = balancing(observed, learnt, own=float(own[rows.rows].sum()), share=self.own_history.share)
        return FittedStep(fitted.estimators, {**fitted.tables, BALANCE: factors})


def _check_features(panel: Panel) -> None:
    """Refuse features that cannot be learnt from.

    Raises:
        PanelError: a feature that is not finite where its unit exists.
    """
    # A year at a time, so that the mask of a large panel is never whole in memory.
    for first in range(0, len(panel.months), 12):
        year = slice(first, first + 12)
        bad = ~np.isfinite(panel.features[year]) & panel.exists[year, :, None]
        if bad.any():
            name = panel.feature_names[int(np.argwhere(bad)[0][2])]
            raise PanelError(
                f"feature {name} is NaN or infinite in the panel's history; end its transforms with fill and replace_na"
            )
