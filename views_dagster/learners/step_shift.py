"""Step-shifted regression: for each step k a regressor learns the target k months ahead from a month's features.

Here is how a level is learnt and predicted, also for the positive part of a hurdle. Distributions around a level are in
`predictive`, the loop over steps and the files in `stepped`.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from views_dagster.learners.predictive import DrawsFrom, Quantiles, Residuals
from views_dagster.learners.regressors import Block, Estimator, Goal, Matrix
from views_dagster.learners.scikit import Regressor
from views_dagster.learners.step_rows import StepRows, log_recent_mean, split_in_time
from views_dagster.learners.stepped import FittedStep, SteppedLearner
from views_dagster.learners.stepped_model import SteppedModel
from views_dagster.panel import Panel
from views_dagster.seeds import seed_for

LEVEL: Final = "level"
FEWEST_ROWS: Final = 20
"""With fewer rows to train or to hold out, a step forecasts the distribution of the outcomes it has seen."""


class LevelLearner(SteppedLearner):
    """A learner that predicts a level with a regressor and draws around it.

    A level is a prediction on the log1p scale. Poisson and Tweedie regressors predict the mean of the target itself
    (`transform: identity`); the level is log1p of that.
    """

    regressor: Regressor = Field(description="learns the level: {lightgbm: {...}} or {sklearn: {...}}")
    transform: Literal["log1p", "identity"] = Field(default="log1p", description="scale on which the regressor fits")
    anchor: int | None = Field(
        default=None,
        ge=1,
        le=1200,
        description="learn the change from the unit's mean over this many months, on the log scale",
    )
    draws_from: DrawsFrom = Field(default=Residuals(), description="how draws arise around the level; `kind` picks it")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        block = self.regressor
        if self.anchor is not None and self.transform != "log1p":
            raise ValueError("anchor learns changes on the log scale: it needs transform log1p")
        if block.positive_only and self.transform != "identity":
            raise ValueError("a regressor with a log link already works on the log scale: give it transform identity")
        if isinstance(self.draws_from, Quantiles) and "quantile" not in block.goals:
            raise ValueError("draws_from quantiles needs lightgbm or HistGradientBoostingRegressor")
        if isinstance(self.draws_from, Quantiles) and self.balance:
            raise ValueError("balance needs a mean: give draws_from residuals or counts")
        return self

    def needed_months(self, step: int) -> int:
        # The held-out scatter needs one month to train on, its outcome, and two months of outcomes after that.
        return step + 1 if isinstance(self.draws_from, Quantiles) else 2 * step + 2

    def anchors(self, panel: Panel) -> NDArray[np.float64] | None:
        return None if self.anchor is None else log_recent_mean(panel, self.anchor)

    def fit_level(self, step: int, rows: StepRows, matrix: Matrix, *, months: int, seed: int) -> FittedStep:
        """Fit the regressor (for quantiles, one a probability) and the tables of the scatter around it."""
        method = self.draws_from
        if isinstance(method, Quantiles):
            goals: dict[str, Goal] = {f"{LEVEL}-q{number}": q for number, q in enumerate(method.probabilities)}
            if len(rows) < FEWEST_ROWS:
                outcomes = _outcomes(rows)
                return FittedStep({}, {"constant": np.log1p(np.quantile(outcomes, method.probabilities))})
            estimators = {
                name: self._estimator(rows, matrix, goal=goal, step=step, seed=seed) for name, goal in goals.items()
            }
            return FittedStep(estimators, {"constant": np.zeros(len(goals))})
        known, held = split_in_time(rows, step=step, months=months, holdout=method.holdout)
        # A log link has no level for outcomes that are all zero.
        silent = self.regressor.positive_only and not _outcomes(known).any()
        if silent or min(len(known), len(held)) < FEWEST_ROWS:
            outcomes = _outcomes(rows)
            constant = np.log1p(outcomes).mean(keepdims=True)
            tables = method.tabulate(np.repeat(constant, len(outcomes)), outcomes, np.ones(len(outcomes)))
            return FittedStep({}, {"constant": constant, **tables})
        earlier = self._estimator(known, matrix, goal="mean", step=step, seed=seed)
        sample, weight = held.thinned(self.sampling, seed=seed)
        level = self._level(earlier, matrix.features[sample.rows], sample.anchor)
        tables = method.tabulate(level, _outcomes(sample), weight)
        latest = self._estimator(rows, matrix, goal="mean", step=step, seed=seed)
        return FittedStep({LEVEL: latest}, {"constant": np.zeros(1), **tables})

    def level_quantiles(
        self,
        fitted: FittedStep,
        features: NDArray[np.float32],
        anchor: NDArray[np.float64],
        probabilities: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """(U, S) outcomes at `probabilities` (U, S) of what `fit_level` learnt."""
        levels = self._levels(fitted, features, anchor)
        if isinstance(self.draws_from, Quantiles):
            return self.draws_from.quantiles(levels, probabilities)
        return self.draws_from.quantiles(levels[:, 0], fitted.tables, probabilities)

    def level_means(
        self, fitted: FittedStep, features: NDArray[np.float32], anchor: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(N,) mean outcomes of what `fit_level` learnt, from residuals or counts."""
        if isinstance(self.draws_from, Quantiles):
            raise TypeError("quantiles have no mean")
        return self.draws_from.means(self._levels(fitted, features, anchor)[:, 0], fitted.tables)

    def _levels(
        self, fitted: FittedStep, features: NDArray[np.float32], anchor: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(N, Q) predicted levels, one for each estimator of the level."""
        fitters = [estimator for name, estimator in fitted.estimators.items() if name.split("-")[0] == LEVEL]
        if fitters:
            return np.stack([self._level(estimator, features, anchor) for estimator in fitters], axis=1)
        return np.broadcast_to(fitted.tables["constant"], (len(features), len(fitted.tables["constant"])))

    def _estimator(self, rows: StepRows, matrix: Matrix, *, goal: Goal, step: int, seed: int) -> Estimator:
        kept, weight = rows.thinned(self.sampling, seed=seed)
        outcome = _outcomes(kept) if self.transform == "identity" else np.log1p(_outcomes(kept)) - kept.anchor
        return matrix.fit(kept.rows, outcome, weight, goal=goal, seed=seed_for(seed, LEVEL))

    def _level(
        self, estimator: Estimator, features: NDArray[np.float32], anchor: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        predicted = estimator.predict(features)
        return np.log1p(np.maximum(predicted, 0.0)) if self.transform == "identity" else predicted + anchor


def _outcomes(rows: StepRows) -> NDArray[np.float64]:
    """Outcomes of the rows; a zero where there is none."""
    return rows.outcome.astype(np.float64) if len(rows) else np.zeros(1)


class StepShift(LevelLearner):
    """One regressor a step, and draws around its prediction."""

    kind: Literal["step_shift"] = "step_shift"

    def blocks(self) -> Mapping[str, Block]:
        return {LEVEL: self.regressor}

    def fit_step(
        self, step: int, rows: StepRows, matrices: Mapping[str, Matrix], *, months: int, seed: int
    ) -> FittedStep:
        return self.fit_level(step, rows, matrices[LEVEL], months=months, seed=seed)

    def quantiles(
        self,
        fitted: FittedStep,
        features: NDArray[np.float32],
        anchor: NDArray[np.float64],
        probabilities: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        return self.level_quantiles(fitted, features, anchor, probabilities)

    def means(
        self, fitted: FittedStep, features: NDArray[np.float32], anchor: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return self.level_means(fitted, features, anchor)

    def fit(self, panel: Panel, *, steps: Sequence[int], seed: int) -> "FittedStepShift":
        return FittedStepShift.trained(self, panel, steps=steps, seed=seed)

    def fitted_type(self) -> type["FittedStepShift"]:
        return FittedStepShift


class FittedStepShift(SteppedModel):
    """A trained `StepShift`."""

    learner_type: ClassVar[type[SteppedLearner]] = StepShift
