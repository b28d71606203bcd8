"""Hurdle models: the probability that anything happens, times how much where something does."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from views_dagster.learners.predictive import Counts
from views_dagster.learners.regressors import Block, Estimator, Matrix
from views_dagster.learners.scikit import Classifier
from views_dagster.learners.step_rows import StepRows, split_in_time
from views_dagster.learners.step_shift import FEWEST_ROWS, LEVEL, LevelLearner
from views_dagster.learners.stepped import FittedStep, SteppedLearner
from views_dagster.learners.stepped_model import SteppedModel
from views_dagster.panel import Panel
from views_dagster.seeds import seed_for

CHANCE: Final = "chance"
HOLDOUT: Final = 0.4
LIMIT: Final = 1e-6


class Hurdle(LevelLearner):
    """A classifier of any event, a regressor fitted on the rows with one, and draws from the mixture of both.

    With probability p of an event, quantile u of the mixture is zero for u <= 1 - p and the positive part's quantile
    (u - 1 + p) / p above. p is the classifier's probability, recalibrated by a logistic curve (Platt 1999) on held-out
    later months; it is never rounded to a label.
    """

    kind: Literal["hurdle"] = "hurdle"
    classifier: Classifier = Field(
        description="learns the probability of any event: {lightgbm: {...}} or {sklearn: {...}}"
    )

    @model_validator(mode="after")
    def _one_source_of_zeros(self) -> Self:
        if isinstance(self.draws_from, Counts):
            raise ValueError("counts have zeros of their own: give a hurdle draws_from residuals or quantiles")
        return self

    def blocks(self) -> Mapping[str, Block]:
        return {CHANCE: self.classifier, LEVEL: self.regressor}

    def needed_months(self, step: int) -> int:
        return 2 * step + 2

    def fit_step(
        self, step: int, rows: StepRows, matrices: Mapping[str, Matrix], *, months: int, seed: int
    ) -> FittedStep:
        chance = self._fit_chance(step, rows, matrices[CHANCE], months=months, seed=seed)
        amount = self.fit_level(
            step, rows.where(rows.outcome > 0), matrices[LEVEL], months=months, seed=seed_for(seed, LEVEL)
        )
        return FittedStep({**chance.estimators, **amount.estimators}, {**chance.tables, **amount.tables})

    def probability(self, fitted: FittedStep, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(U,) probability of a target above zero."""
        intercept, slope = fitted.tables["calibration"]
        if CHANCE not in fitted.estimators:
            return np.full(len(features), expit(intercept))
        return expit(intercept + slope * _logit(fitted.estimators[CHANCE].predict(features)))

    def quantiles(
        self,
        fitted: FittedStep,
        features: NDArray[np.float32],
        anchor: NDArray[np.float64],
        probabilities: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        chance = self.probability(fitted, features)[:, None]
        above = (probabilities - (1 - chance)) / chance
        amounts = self.level_quantiles(fitted, features, anchor, np.clip(above, LIMIT, 1 - LIMIT))
        return np.where(above > 0, amounts, 0.0)

    def means(
        self, fitted: FittedStep, features: NDArray[np.float32], anchor: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return self.probability(fitted, features) * self.level_means(fitted, features, anchor)

    def fit(self, panel: Panel, *, steps: Sequence[int], seed: int) -> "FittedHurdle":
        return FittedHurdle.trained(self, panel, steps=steps, seed=seed)

    def fitted_type(self) -> type["FittedHurdle"]:
        return FittedHurdle

    def _fit_chance(self, step: int, rows: StepRows, matrix: Matrix, *, months: int, seed: int) -> FittedStep:
        known, held = split_in_time(rows, step=step, months=months, holdout=HOLDOUT)
        if min(_rarer(part) for part in (known, held)) < FEWEST_ROWS:
            # Laplace's rule keeps the odds finite.
            rate = ((rows.outcome > 0).sum() + 1) / (len(rows.outcome) + 2)
            return FittedStep({}, {"calibration": np.array([_logit(rate), 0.0])})

        def classifier(part: StepRows) -> Estimator:
            kept, weight = part.thinned(self.sampling, seed=seed)
            event = (kept.outcome > 0).astype(np.float64)
            return matrix.fit(kept.rows, event, weight, goal="probability", seed=seed_for(seed, CHANCE))

        sample, weight = held.thinned(self.sampling, seed=seed)
        raw = _logit(classifier(known).predict(matrix.features[sample.rows]))
        calibration = platt(raw, sample.outcome > 0, weight)
        return FittedStep({CHANCE: classifier(rows)}, {"calibration": calibration})


class FittedHurdle(SteppedModel):
    """A trained `Hurdle`."""

    learner_type: ClassVar[type[SteppedLearner]] = Hurdle


def platt(raw: NDArray[np.float64], event: NDArray[np.bool_], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intercept and slope (2,) of the logistic regression of `event` (N,) on the log-odds `raw` (N,).

    Newton's method from the identity, with a prior worth a handful of rows that it is right: a slope near 1 in doubt.
    A step that makes the fit worse, as the first ones can where a few rows stand for very many, is halved until it
    does not.
    """

    def loss(line: NDArray[np.float64]) -> float:
        odds = design @ line
        misfit = weight * (np.logaddexp(0.0, odds) - event * odds)
        return float(misfit.sum() + (prior * (line - centre) ** 2).sum() / 2)

    prior, centre = np.array([1.0, 10.0]), np.array([0.0, 1.0])
    design = np.stack([np.ones_like(raw), raw], axis=1)
    line = centre.copy()
    for _ in range(25):
        chance = expit(design @ line)
        gradient = design.T @ (weight * (event - chance)) - prior * (line - centre)
        curvature = (design * (weight * chance * (1 - chance))[:, None]).T @ design + np.diag(prior)
        move = np.linalg.solve(curvature, gradient)
        # The tolerance is for steps so small that the loss cannot tell them.
        worst = loss(line) * (1 + 1e-9)
        while loss(line + move) > worst:
            move = move / 2
        line = line + move
        if np.abs(move).max() < 1e-10:
            break
    return line


def expit(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability with these log-odds."""
    return 1 / (1 + np.exp(-np.clip(odds, -500.0, 500.0)))


def _logit(chance: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(chance, LIMIT, 1 - LIMIT)
    return np.log(inside / (1 - inside))


def _rarer(rows: StepRows) -> int:
    """Rows of the rarer of the two outcomes, nothing and something."""
    some = int((rows.outcome > 0).sum())
    return min(some, len(rows.outcome) - some)
