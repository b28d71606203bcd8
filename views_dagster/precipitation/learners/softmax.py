"""Multinomial logistic regression on fractions: the soft-target softmax that the logistic learners share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from views_dagster.precipitation.learners.base import Report
from views_dagster.precipitation.learners.inputs import Stored, ranked_score
from views_dagster.precipitation.learners.predictors import centre_and_scale, standardised

Penalty = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Penalties = Annotated[tuple[Penalty, ...], Field(min_length=1)]

_CHUNK: Final = 1 << 16
_ITERATIONS: Final = 300
STRENGTHS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Parts of the prior correction that are tried on the validation rows. All of it is right where rows of a band look
alike whatever their predictors; where the column tells the fractions nearly, choosing rows by band is choosing them by
column, which changes no prediction, and none of it is."""


class Softmax(Stored):
    """Fractions = softmax(intercept + weights' (x - centre) / scale)."""

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    intercept: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]

    def fractions(self, table: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, B) fractions for predictors (N, P)."""
        weights = np.array(self.weights) / np.array(self.scale)[:, None]
        intercept = np.array(self.intercept) - np.array(self.centre) @ weights
        return softmax(table.astype(np.float64) @ weights + intercept)

    def raised(self, by: NDArray[np.float64]) -> "Softmax":
        """The same with `by` (B,) added to the intercepts."""
        return self.model_copy(update={"intercept": tuple((np.array(self.intercept) + by).tolist())})


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of `scores` (N, B) as fractions that sum to 1."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    fractions: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return fractions


@dataclass(frozen=True)
class SoftmaxProblem:
    """Standardised predictors (N, P) float32 and the fractions (B, N) that they are to explain.

    The loss is the mean cross-entropy (which differs from the mean KL divergence by a constant), plus half of the
    penalty times the squared weights. Half a row of each band at the predictors' means (Laplace's rule) keeps the
    intercept of a band that never occurs finite.
    """

    table: NDArray[np.float32]
    targets: NDArray[np.float32]
    weight: NDArray[np.float32]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        table: NDArray[np.float32],
        fractions: NDArray[np.float32],
        weight: NDArray[np.float32] | None = None,
    ) -> "SoftmaxProblem":
        """From raw predictors; `weight` (N,) of the rows is one each by default."""
        centre, scale = centre_and_scale(table)
        standard = standardised(table, centre, scale)
        weight = np.ones(len(table), dtype=np.float32) if weight is None else weight
        return cls(
            standard,
            np.ascontiguousarray(fractions.T, dtype=np.float32),
            weight / weight.sum(dtype=np.float64).astype(np.float32),
            centre,
            scale,
            (standard.T @ standard).astype(np.float64) / len(table),
        )

    def solve(self, penalties: Sequence[float]) -> Iterator[Softmax]:
        """One fit for each penalty, each started from the one before it: give them from large to small."""
        from scipy.linalg import cholesky, solve_triangular
        from scipy.optimize import minimize
        from threadpoolctl import threadpool_limits

        columns, bands = self.table.shape[1], len(self.targets)
        share = self._overall()
        theta = np.zeros((columns + 1, bands))
        theta[-1] = np.log(share) - np.log(share).mean()
        # Rare bands have a flat loss: unknowns are scaled by the root of the curvature that the overall shares give.
        rarity = np.sqrt(share * (1 - share))
        # Sums over several BLAS threads depend on how many there are.
        with threadpool_limits(limits=1, user_api="blas"):
            for penalty in penalties:
                factor = cholesky(self.covariance + penalty * np.eye(columns) + 1e-9 * np.eye(columns), lower=True)

                def outer(inner: NDArray[np.float64], factor: NDArray[np.float64] = factor) -> NDArray[np.float64]:
                    scaled = inner.reshape(columns + 1, bands) / rarity
                    scaled[:-1] = solve_triangular(factor, scaled[:-1], lower=True, trans="T")
                    return scaled

                def loss(
                    inner: NDArray[np.float64], factor: NDArray[np.float64] = factor, penalty: float = penalty
                ) -> tuple[float, NDArray[np.float64]]:
                    value, slope = self._loss(outer(inner, factor), penalty)
                    slope[:-1] = solve_triangular(factor, slope[:-1], lower=True)
                    return value, (slope / rarity).reshape(-1)

                start = np.vstack([factor.T @ theta[:-1], theta[-1:]]) * rarity
                found = minimize(
                    loss,
                    start.reshape(-1),
                    jac=True,
                    method="L-BFGS-B",
                    options={"maxiter": _ITERATIONS, "ftol": 1e-7, "gtol": 1e-5},
                )
                theta = outer(found.x)
                yield self._fit(theta)

    def _fit(self, theta: NDArray[np.float64]) -> Softmax:
        scale = np.where(np.isfinite(self.scale), self.scale, 1.0)
        weights = np.where(np.isfinite(self.scale)[:, None], theta[:-1], 0.0)
        return Softmax(
            centre=tuple(self.centre.tolist()),
            scale=tuple(scale.tolist()),
            intercept=tuple(theta[-1].tolist()),
            weights=tuple(map(tuple, weights.tolist())),
        )

    def _overall(self) -> NDArray[np.float64]:
        sums = (self.targets * self.weight).sum(axis=1, dtype=np.float64)
        prior = 0.5 / len(self.table)
        share: NDArray[np.float64] = (sums + prior) / (sums + prior).sum()
        return share

    def _loss(self, theta: NDArray[np.float64], penalty: float) -> tuple[float, NDArray[np.float64]]:
        """Loss and gradient at theta (P + 1, B), the intercepts last; in chunks of rows, to stay in the cache."""
        weights, intercept = theta[:-1].astype(np.float32), theta[-1].astype(np.float32)
        value = penalty / 2 * float((theta[:-1] ** 2).sum())
        slope = np.vstack([penalty * theta[:-1], np.zeros((1, theta.shape[1]))])
        for first in range(0, len(self.weight), _CHUNK):
            rows = slice(first, first + _CHUNK)
            # Bands lie along the first axis, so that sums over them are sums of whole rows of memory.
            scores = weights.T @ self.table[rows].T + intercept[:, None]
            scores -= scores.max(axis=0)
            powers = np.exp(scores)
            total = powers.sum(axis=0)
            wanted, weight = self.targets[:, rows], self.weight[rows]
            value += float((weight * (np.log(total) - (wanted * scores).sum(axis=0))).sum(dtype=np.float64))
            misfit = weight * (powers / total - wanted)
            slope[:-1] += self.table[rows].T @ misfit.T
            slope[-1] += misfit.sum(axis=1, dtype=np.float64)
        prior = 0.5 / len(self.table)
        logs = theta[-1] - theta[-1].max()
        logs = logs - np.log(np.exp(logs).sum())
        value -= prior * float(logs.sum())
        slope[-1] += prior * (len(logs) * np.exp(logs) - 1)
        return value, slope


def best_fit(
    problem: SoftmaxProblem,
    penalties: Sequence[float],
    table: NDArray[np.float32],
    observed: NDArray[np.float32],
    *,
    correction: NDArray[np.float64],
    report: Report | None,
) -> Softmax:
    """The fit whose penalty gives the lowest ranked probability score on validation rows (N, P) and (N, B).

    Penalties are tried from large to small; without validation rows the middle one is used.

    Args:
        correction: (B,) added to the intercepts: the logarithm of what rebalanced training rows made a band rarer by.
            How much of it is right the validation rows tell (`STRENGTHS`); without them it is added whole.
    """
    descending = sorted(set(penalties), reverse=True)
    fits = problem.solve(descending)
    if not len(table):
        return list(fits)[len(descending) // 2].raised(correction)
    tried, scores = [], []
    for number, fit in enumerate(fits):
        versions = [fit.raised(strength * correction) for strength in (STRENGTHS if correction.any() else (1.0,))]
        found = [ranked_score(version.fractions(table), observed) for version in versions]
        tried.append(versions[int(np.argmin(found))])
        scores.append(min(found))
        if report is not None:
            report(number, scores[-1])
    return tried[int(np.argmin(scores))]
