"""From a predicted level to a predictive distribution: residuals, counts, quantiles.

A level is a prediction on the log1p scale. Residuals and counts learn how outcomes scatter around a level from held-out
later months: an estimator trained on what was known at a cut-off predicts the months after it, so the scatter is that
of real forecasts, never that of a fit. Each distribution is given as its quantile function.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

KNOTS: Final = 48
"""Levels at which the scatter is tabulated, close together where rows are few: at the top."""

DISPERSIONS: Final = np.geomspace(1e-3, 1e3, 61)
TAIL_SLOPE: Final = 1.0


class Scatter(BaseModel, ABC):
    """A distribution around a level, learnt from held-out (level, outcome) pairs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    holdout: float = Field(default=0.6, gt=0, lt=1, description="share of months, the latest, that are held out")
    neighbours: int = Field(default=400, ge=10, description="held-out rows nearest in level that describe a level")

    @abstractmethod
    def tabulate(
        self, level: NDArray[np.float64], outcome: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Tables of fixed shapes from held-out levels, outcomes and how many rows each stands for, all (N,)."""

    @abstractmethod
    def quantiles(
        self, level: NDArray[np.float64], tables: Mapping[str, NDArray[np.float64]], probabilities: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(U, S) outcomes at `probabilities` (U, S), inside (0, 1), for units with `level` (U,)."""

    @abstractmethod
    def means(self, level: NDArray[np.float64], tables: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """(U,) mean outcome of units with `level` (U,), exact: that of all quantiles."""

    def windows(
        self, level: NDArray[np.float64], outcome: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Knots (KNOTS,), and the levels and outcomes of their nearest rows, both (KNOTS, neighbours).

        Windows start at the top and go down in geometrically growing steps of rank; a row of weight w takes w ranks.
        Fewer rows than `neighbours` are all used, evenly repeated.
        """
        order = np.argsort(level, kind="stable")
        reach = np.cumsum(weight[order])
        total = reach[-1]
        size = min(float(self.neighbours), total)
        below_top = np.geomspace(size / 2, total - size / 2, KNOTS) - size / 2
        first = (total - size - below_top[::-1])[:, None]
        ranks = first + (np.arange(self.neighbours) + 0.5) / self.neighbours * size
        positions = order[np.minimum(np.searchsorted(reach, ranks), len(order) - 1)]
        return level[positions].mean(axis=1), level[positions], outcome[positions]


class Residuals(Scatter):
    """The outcomes of the held-out rows nearest in level: a conditional empirical distribution.

    The idea of EasyUQ (Walz, Henzi, Ziegel & Gneiting 2024, SIAM Review 66), with neighbours in place of isotonic
    regression. Positive outcomes are moved along with the level on the log scale by `shift` of its distance, a residual
    bootstrap where it is 1; zeros stay zeros. Without it, the few largest units, whose neighbours lie below, are pulled
    down to them.
    """

    kind: Literal["residuals"] = "residuals"
    shift: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="part of the distance to the level by which positive outcomes are moved, on the log scale",
    )

    def tabulate(
        self, level: NDArray[np.float64], outcome: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        knots, levels, outcomes = self.windows(level, outcome, weight)
        moved = self._move(np.log1p(outcomes), knots[:, None] - levels)
        return {"knots": knots, "outcomes": np.sort(moved, axis=1)}

    def quantiles(
        self, level: NDArray[np.float64], tables: Mapping[str, NDArray[np.float64]], probabilities: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        knots, outcomes = tables["knots"], tables["outcomes"]
        knot = _nearest(knots, level)
        pick = (probabilities * outcomes.shape[1]).astype(np.intp)
        return np.expm1(self._move(outcomes[knot[:, None], pick], (level - knots[knot])[:, None]))

    def means(self, level: NDArray[np.float64], tables: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        knots, outcomes = tables["knots"], tables["outcomes"]
        number = outcomes.shape[1]
        knot = _nearest(knots, level)
        distance = self.shift * (level - knots[knot])
        # One ascending axis for the rows of all knots, far enough apart that a search stays in its own row.
        apart = outcomes.max() + 1.0 + np.abs(distance).max(initial=0.0)
        least = np.clip(-distance, 0.0, apart - 0.5)
        line = (outcomes + apart * np.arange(len(knots))[:, None]).reshape(-1)
        first = np.searchsorted(line, least + apart * knot, side="right") - number * knot
        above = np.pad(np.cumsum(np.exp(outcomes)[:, ::-1], axis=1)[:, ::-1], ((0, 0), (0, 1)))
        total = np.exp(distance) * above[knot, first] - (number - first)
        return np.asarray(np.maximum(total, 0.0) / number, dtype=np.float64)

    def _move(self, logged: NDArray[np.float64], distance: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(logged > 0, np.maximum(logged + self.shift * distance, 0.0), 0.0)


class Counts(Scatter):
    """A negative binomial whose mean and dispersion depend on the level, for targets that count.

    At each knot the mean is that of its neighbours and the dispersion a (variance = mean + a * mean^2) maximises their
    likelihood on a logarithmic grid; between knots both are interpolated on the log scale.
    """

    kind: Literal["counts"] = "counts"

    def tabulate(
        self, level: NDArray[np.float64], outcome: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        knots, _, outcomes = self.windows(level, outcome, weight)
        mean, dispersion = negative_binomial_fit(np.rint(outcomes))
        return {"knots": knots, "mean": mean, "dispersion": dispersion}

    def quantiles(
        self, level: NDArray[np.float64], tables: Mapping[str, NDArray[np.float64]], probabilities: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        mean = self.means(level, tables)
        dispersion = np.exp(np.interp(level, tables["knots"], np.log(tables["dispersion"])))
        return negative_binomial_quantiles(mean, dispersion, probabilities)

    def means(self, level: NDArray[np.float64], tables: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        tiny = 1e-9
        return np.exp(np.interp(level, tables["knots"], np.log(tables["mean"] + tiny)))


def negative_binomial_quantiles(
    mean: NDArray[np.float64], dispersion: NDArray[np.float64], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(U, S) quantiles of negative binomials with `mean` (U,), above 0, and variance mean + dispersion * mean^2."""
    from scipy.stats import nbinom

    size = 1.0 / dispersion
    success = size / (size + mean)
    values = np.zeros(np.broadcast_shapes(probabilities.shape, (len(mean), 1)))
    # Where most draws are zero, asking only for the others is most of the time saved.
    unit, draw = np.nonzero(probabilities > (success**size * (1 - 1e-9))[:, None])
    chosen = np.broadcast_to(probabilities, values.shape)[unit, draw]
    values[unit, draw] = nbinom.ppf(chosen, size[unit], success[unit])
    return values


def negative_binomial_fit(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and maximum-likelihood dispersion (on `DISPERSIONS`) of each row of counts (L, N), both (L,)."""
    from scipy.special import gammaln

    mean = counts.mean(axis=1)
    safe = np.maximum(mean, 1e-9)
    values, inverse = np.unique(counts, return_inverse=True)
    inverse = inverse.reshape(counts.shape)
    likelihood = np.empty((len(counts), len(DISPERSIONS)))
    for position, size in enumerate(1.0 / DISPERSIONS):
        gamma = gammaln(values + size)[inverse].mean(axis=1) - gammaln(size)
        likelihood[:, position] = gamma + size * np.log(size / (size + safe)) + mean * np.log(safe / (size + safe))
    return mean, DISPERSIONS[likelihood.argmax(axis=1)]


class Quantiles(BaseModel):
    """Quantile regression: one estimator for each probability, on the scale of the transform.

    Crossing quantiles are sorted (Chernozhukov, Fernandez-Val & Galichon 2010, Econometrica 78) and interpolated
    linearly on the log scale, from zero at probability 0. Above the last one the log falls off exponentially, as it
    does between the last two, but no heavier than a Pareto tail of index 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["quantiles"] = "quantiles"
    probabilities: tuple[float, ...] = Field(
        default=(0.25, 0.5, 0.75, 0.9, 0.95, 0.99),
        description="quantiles that are learnt, ascending, each by a regressor of its own",
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        inside = (0.0, *self.probabilities, 1.0)
        if len(self.probabilities) < 2 or any(a >= b for a, b in pairwise(inside)):
            raise ValueError(
                f"probabilities must be two or more, ascending and inside (0, 1); got {self.probabilities}"
            )
        return self

    def quantiles(self, levels: NDArray[np.float64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """(U, S) outcomes at `probabilities` (U, S) from levels (U, Q) predicted for `self.probabilities`."""
        given = np.array((0.0, *self.probabilities))
        heights = np.pad(np.sort(np.maximum(levels, 0.0), axis=1), ((0, 0), (1, 0)))
        left = np.clip(np.searchsorted(given, probabilities, side="right") - 1, 0, len(given) - 2)
        low, high = np.take_along_axis(heights, left, axis=1), np.take_along_axis(heights, left + 1, axis=1)
        inside = low + (high - low) * np.minimum((probabilities - given[left]) / (given[left + 1] - given[left]), 1.0)
        decay = np.log((1 - given[-2]) / (1 - given[-1]))
        slope = np.minimum((heights[:, -1:] - heights[:, -2:-1]) / decay, TAIL_SLOPE)
        beyond = np.maximum(np.log((1 - given[-1]) / (1 - probabilities)), 0.0)
        return np.asarray(np.expm1(inside + slope * beyond), dtype=np.float64)


DrawsFrom = Annotated[Residuals | Counts | Quantiles, Field(discriminator="kind")]


def _nearest(knots: NDArray[np.float64], level: NDArray[np.float64]) -> NDArray[np.intp]:
    """Position of the knot nearest to each level; knots ascend."""
    return np.searchsorted((knots[1:] + knots[:-1]) / 2, level).astype(np.intp)
