"""Climatology: each unit's own recent distribution, a negative binomial, forecast for every step alike."""

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from views_dagster.learners.balance import slices
from views_dagster.learners.base import Learner
from views_dagster.learners.baselines import FittedOnHistory, check_history
from views_dagster.learners.dependence import joint_draws
from views_dagster.learners.predictive import negative_binomial_quantiles
from views_dagster.panel import Panel
from views_dagster.seeds import seed_for

POISSON_LIMIT: Final = 1e-6
GEOMETRIC: Final = 1.0


class NegativeBinomialClimatology(Learner):
    """A negative binomial for each unit, with the mean and the dispersion of its last months (method of moments).

    With dispersion a, the variance is mean + a * mean^2. Dispersions of single units are noisy, so each is the average
    of its own estimate, weighted by the effective number of months less one, and of the median over all units with any
    event, weighted by `prior_months`; that median is what training learns. Mean and own dispersion come from the months
    up to the forecast's origin, so a unit that appears after training is forecast like any other.

    The edges: a unit without any event in its window forecasts zeros; a unit with one month has the pooled dispersion;
    a unit that varies less than a Poisson variable becomes one; where no unit tells a dispersion it is 1 (geometric).
    """

    kind: Literal["negative_binomial_climatology"] = "negative_binomial_climatology"
    window: int = Field(default=24, ge=1, description="months that count, back from the origin")
    half_life: float | None = Field(
        default=6.0, gt=0, allow_inf_nan=False, description="months until a month counts half; null: all alike"
    )
    prior_months: float = Field(default=3.0, ge=0, description="months that the pooled dispersion counts for")

    def fit(self, panel: Panel, *, steps: Sequence[int], seed: int) -> "FittedClimatology":
        """Learn the pooled dispersion from the last `window` months of all units; `seed` is not used."""
        check_history(panel)
        _, own, _ = self.moments(panel.target, panel.exists)
        known = own[np.isfinite(own)]
        pooled = float(np.median(np.maximum(known, 0.0))) if len(known) else GEOMETRIC
        return FittedClimatology(
            learner=self,
            dispersion=pooled,
            feature_names=panel.feature_names,
            steps=tuple(sorted(steps)),
            origin=panel.origin,
        )

    def fitted_type(self) -> type["FittedClimatology"]:
        return FittedClimatology

    def moments(
        self, target: NDArray[np.float32], exists: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Weighted mean, moment estimate of the dispersion and effective number of months (Kish), each (U,).

        `target` and `exists` are (M, U). Mean 0 and 0 months for a unit that did not exist in the window; NaN
        dispersion where there are fewer than two months or no event.
        """
        target, exists = target[-self.window :], exists[-self.window :]
        values = np.where(exists, target, 0.0).astype(np.float64)
        age = np.arange(len(values))[::-1, None]
        forgetting = np.ones(age.shape) if self.half_life is None else 0.5 ** (age / self.half_life)
        weights = forgetting * exists
        total, squared = weights.sum(axis=0), (weights**2).sum(axis=0)
        mean = _ratio((weights * values).sum(axis=0), total, otherwise=0.0)
        months = _ratio(total**2, squared, otherwise=0.0)
        single = exists.sum(axis=0) < 2
        # The divisor makes the weighted variance unbiased; with equal weights it is n - 1.
        divisor = np.where(single, 0.0, total - _ratio(squared, total, otherwise=0.0))
        variance = _ratio((weights * (values - mean) ** 2).sum(axis=0), divisor, otherwise=np.nan)
        return mean, _ratio(variance - mean, mean**2, otherwise=np.nan), months


class FittedClimatology(FittedOnHistory):
    """The pooled dispersion; everything else is estimated from the panel that is forecast."""

    learner: NegativeBinomialClimatology
    dispersion: float = Field(ge=0, allow_inf_nan=False)

    def sample(self, panel: Panel, *, draws: int, seed: int) -> NDArray[np.float32]:
        current = panel.current
        mean, own, months = self.learner.moments(panel.target[:, current], panel.exists[:, current])
        own_weight = np.where(np.isfinite(own), np.maximum(months - 1.0, 0.0), 0.0)
        pooled_weight = self.learner.prior_months
        dispersion = _ratio(
            own_weight * np.nan_to_num(own) + pooled_weight * self.dispersion,
            own_weight + pooled_weight,
            otherwise=self.dispersion,
        )
        values = negative_binomial_draws(mean, dispersion, draws=draws, seed=seed)
        margins = np.broadcast_to(values[:, None, :], (len(current), len(self.steps), draws))
        return joint_draws(margins, panel, steps=self.steps, seed=seed)


def negative_binomial_draws(
    mean: NDArray[np.float64], dispersion: NDArray[np.float64], *, draws: int, seed: int
) -> NDArray[np.float32]:
    """Ascending draws (U, S) of negative binomials with `mean` (U,) and variance mean + dispersion * mean^2.

    Stratified: one draw from each of S equally probable slices, so that the draws' mean is unbiased and far less noisy
    than that of independent ones. Dispersions below 1e-6 count as a Poisson distribution's.
    """
    levels = slices(len(mean), draws, seed=seed_for(seed, "slices"))
    values = np.zeros((len(mean), draws), dtype=np.float32)
    some = mean > 0
    values[some] = negative_binomial_quantiles(mean[some], np.maximum(dispersion[some], POISSON_LIMIT), levels[some])
    return values


def _ratio(
    numerator: NDArray[np.float64], denominator: NDArray[np.float64], *, otherwise: float
) -> NDArray[np.float64]:
    """numerator / denominator, and `otherwise` where the denominator is zero."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, otherwise), where=denominator != 0)
