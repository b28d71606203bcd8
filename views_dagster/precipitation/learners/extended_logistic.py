"""Extended logistic regression: one regression for all edges, in which the edge is a predictor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from views_dagster.precipitation.bands import exceedance
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import Diagnosis, DiagnosisLearner, FittedDiagnosis, Report
from views_dagster.precipitation.learners.inputs import (
    MODEL_FILE,
    Inputs,
    Stored,
    band_rates,
    check_training,
    diagnosis,
    from_exceedance,
    ranked_score,
    read_stored,
)
from views_dagster.precipitation.learners.predictors import Predictors, centre_and_scale, standardised
from views_dagster.precipitation.learners.softmax import Penalties

_ITERATIONS: Final = 300
Floats = NDArray[np.float64]
Table = NDArray[np.float32]


class ExtendedLogistic(DiagnosisLearner):
    """Logistic regression of the fraction above an edge q on the predictors and the cube root of q.

    All edges share the weights (Wilks 2009, Meteorological Applications 16). What is learnt of light rain therefore
    goes for heavy rain too, of which there may be next to none in training; and fractions never grow with the edge.
    """

    kind: Literal["extended_logistic"] = "extended_logistic"
    predictors: Predictors = Field(default=Predictors(profiles="levels"), description="what it sees of a column")
    penalties: Penalties = Field(
        default=(1e-2, 1e-3), description="of squared weights; the best on the validation rows is taken"
    )

    def fit(
        self, train: Columns, validation: Columns, *, seed: int, report: Report | None = None
    ) -> "FittedExtendedLogistic":
        """One round of `report` is one penalty, from large to small; without validation rows the middle one is used."""
        inputs = check_training(train, validation, members=self.predictors.members)
        descending = sorted(set(self.penalties), reverse=True)
        table = self.predictors.table(validation)
        fits, scores = [], []
        for number, line in enumerate(_solve(self.predictors.table(train), train, descending)):
            fits.append(line)
            if len(validation):
                above = line.above(table, train.edges)
                scores.append(ranked_score(from_exceedance(above), validation.fractions))
                if report is not None:
                    report(number, scores[-1])
        best = fits[int(np.argmin(scores)) if scores else len(fits) // 2]
        stored = _Stored(inputs=inputs, predictors=self.predictors, line=best, rates=band_rates(train))
        return FittedExtendedLogistic(stored)

    def fitted_type(self) -> type["FittedExtendedLogistic"]:
        return FittedExtendedLogistic

    @property
    def needs_members(self) -> bool:
        return self.predictors.members


class Line(Stored):
    """Log-odds of being above q: intercept + weights' (x - centre) / scale + slope * cube root of q."""

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    slope: float

    def above(self, table: Table, edges: Sequence[float]) -> Floats:
        """(N, E) fractions above each edge for predictors (N, P)."""
        from scipy.special import expit

        weights = np.array(self.weights) / np.array(self.scale)
        common = table.astype(np.float64) @ weights + (self.intercept - np.array(self.centre) @ weights)
        return np.asarray(expit(common[:, None] + self.slope * np.cbrt(edges)))


class _Stored(Stored):
    inputs: Inputs
    predictors: Predictors
    line: Line
    rates: tuple[float, ...] = Field(description="typical rain of each band, mm/h")


@dataclass(frozen=True)
class FittedExtendedLogistic(FittedDiagnosis):
    """Weights of the predictors and of the edge."""

    stored: _Stored

    def predict(self, columns: Columns) -> Diagnosis:
        self.stored.inputs.check(columns)
        table = self.stored.predictors.table(columns)
        fractions = from_exceedance(self.stored.line.above(table, columns.edges))
        return diagnosis(fractions, fractions @ np.array(self.stored.rates))

    def to_files(self) -> dict[str, bytes]:
        return {MODEL_FILE: self.stored.to_json()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "FittedExtendedLogistic":
        return cls(read_stored(files, _Stored))


def _solve(table: Table, train: Columns, penalties: Sequence[float]) -> Iterator[Line]:
    """The line of each penalty, each started from the one before it.

    The loss is the cross-entropy summed over edges, its mean over rows, plus half the penalty times the squared
    weights. Half a row of each band at the predictors' means (Laplace's rule) keeps the line finite where all is dry.
    """
    from scipy.linalg import cholesky, solve_triangular
    from scipy.optimize import minimize
    from scipy.special import expit
    from threadpoolctl import threadpool_limits

    rows, count = table.shape
    centre, scale = centre_and_scale(table)
    varies, standard = np.isfinite(scale), standardised(table, centre, scale)
    above = exceedance(train.fractions).astype(np.float64)
    roots = np.cbrt(train.edges)
    prior, even = 0.5 / rows, np.arange(len(roots), 0, -1) / (len(roots) + 1)
    weight_of_prior = prior * (len(roots) + 1)

    def loss(theta: Floats, penalty: float) -> tuple[float, Floats]:
        weights, (intercept, slope) = theta[:count], theta[count:]
        common = (standard @ weights.astype(np.float32)).astype(np.float64) + intercept
        value, misfit, grown = penalty / 2 * float(weights @ weights), np.zeros(rows), np.zeros(2)
        for position, root in enumerate(roots):
            scores = common + slope * root
            residual = (expit(scores) - above[:, position]) / rows
            value += float((np.logaddexp(0.0, scores) - above[:, position] * scores).mean())
            typical = intercept + slope * root
            excess = weight_of_prior * (expit(typical) - even[position])
            value += weight_of_prior * float(np.logaddexp(0.0, typical) - even[position] * typical)
            misfit += residual
            total = residual.sum() + excess
            grown += total, root * total
        return value, np.concatenate([penalty * weights + standard.T @ misfit.astype(np.float32), grown])

    theta = np.concatenate([np.zeros(count + 1), [-1.0]])
    # Sums over several BLAS threads depend on how many there are.
    with threadpool_limits(limits=1, user_api="blas"):
        covariance = (standard.T @ standard).astype(np.float64) / rows
        for penalty in penalties:
            factor = cholesky(covariance + (penalty + 1e-9) * np.eye(count), lower=True) if count else np.empty((0, 0))

            def outer(inner: Floats, factor: Floats = factor) -> Floats:
                weights = solve_triangular(factor, inner[:count], lower=True, trans="T") if count else inner[:0]
                return np.concatenate([weights, inner[count:]])

            def scaled(inner: Floats, factor: Floats = factor, penalty: float = penalty) -> tuple[float, Floats]:
                value, slope = loss(outer(inner, factor), penalty)
                if count:
                    slope[:count] = solve_triangular(factor, slope[:count], lower=True)
                return value, slope

            start = np.concatenate([factor.T @ theta[:count], theta[count:]])
            found = minimize(
                scaled,
                start,
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": _ITERATIONS, "ftol": 1e-9, "gtol": 1e-6},
            )
            theta = outer(found.x)
            yield Line(
                centre=tuple(centre.tolist()),
                scale=tuple(np.where(varies, scale, 1.0).tolist()),
                weights=tuple(np.where(varies, theta[:count], 0.0).tolist()),
                intercept=float(theta[count]),
                slope=float(theta[count + 1]),
            )
