"""How the diagnoses of several models become one: the settings a person writes in YAML, and the combining itself.

Members are taken in the order of their names, so the order in which they are given changes nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from views_dagster.ensembles.weights import minimise_on_simplex, normalised
from views_dagster.errors import ForecastError
from views_dagster.precipitation.bands import exceedance
from views_dagster.precipitation.learners.base import Diagnosis
from views_dagster.precipitation.learners.inputs import diagnosis, from_exceedance

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Floats = NDArray[np.float64]
_DECIMALS: Final = 6


class PoolMethod(BaseModel, ABC):
    """One way to combine members. Subclasses add `kind: Literal[...]` and their own settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs_validation: ClassVar[bool] = False

    @abstractmethod
    def weigh(
        self,
        members: Sequence[str],
        validation: Mapping[str, Diagnosis] | None = None,
        observed: NDArray[np.float32] | None = None,
    ) -> dict[str, float]:
        """Weights of the members, not negative, sum 1.

        Args:
            members: their names.
            validation: each member's diagnosis of N rows that it was not trained on, the same rows in the same order;
                looked at where `needs_validation`.
            observed: (N, B) fractions of these rows.

        Raises:
            ForecastError: the weights in the settings, or the diagnoses, are not those of the members.
        """

    def combine(self, members: Mapping[str, Diagnosis], weights: Mapping[str, float]) -> Diagnosis:
        """One diagnosis of N rows from the members' diagnoses of them; `weights` are from `weigh`.

        Raises:
            ForecastError: members without weights, or of other rows or bands than each other.
        """
        names = _same_rows(members)
        if sorted(weights) != names:
            raise ForecastError(
                f"there are weights of {', '.join(sorted(weights)) or 'no member'}, and diagnoses of {', '.join(names)}"
            )
        above = np.stack([exceedance(members[name].fractions) for name in names])
        mean = np.stack([members[name].rain_mean.astype(np.float64) for name in names])
        share = np.array([weights[name] for name in names])
        return diagnosis(from_exceedance(self._pool(above, share)), self._pool(mean, share))

    @abstractmethod
    def _pool(self, values: Floats, weights: Floats) -> Floats:
        """Values (M, ...) of the members as one (...); what falls along an axis in all members falls in the pool."""


class LinearPool(PoolMethod):
    """Weighted mean of the members' fractions and box means (Stone 1961)."""

    kind: Literal["linear_pool"] = "linear_pool"
    weights: dict[str, Weight] | None = Field(
        default=None, description="Weight of each member, rescaled to sum 1; equal weights by default."
    )

    def weigh(
        self,
        members: Sequence[str],
        validation: Mapping[str, Diagnosis] | None = None,
        observed: NDArray[np.float32] | None = None,
    ) -> dict[str, float]:
        return normalised(self.weights, members)

    def _pool(self, values: Floats, weights: Floats) -> Floats:
        return _mean(values, weights)


class TrainedPool(PoolMethod):
    """Weighted mean with the weights that give the lowest ranked probability score on the validation rows.

    That score of a linear pool is quadratic in the weights, so the best ones on the simplex are found exactly.
    """

    kind: Literal["trained_pool"] = "trained_pool"
    shrinkage: float = Field(
        default=0.1, ge=0, le=1, description="Part of the weight that is shared equally whatever the validation says."
    )

    needs_validation: ClassVar[bool] = True

    def weigh(
        self,
        members: Sequence[str],
        validation: Mapping[str, Diagnosis] | None = None,
        observed: NDArray[np.float32] | None = None,
    ) -> dict[str, float]:
        names = sorted(members)
        if not validation or sorted(validation) != names or observed is None:
            raise ForecastError(
                f"a trained pool needs validation diagnoses of {', '.join(names) or 'members'}, and has those of "
                f"{', '.join(sorted(validation or {})) or 'none'}; train these models again, or use a linear pool"
            )
        _same_rows(validation)
        if validation[names[0]].fractions.shape != observed.shape or not np.isfinite(observed).all():
            raise ForecastError(
                f"validation diagnoses are of {validation[names[0]].fractions.shape} rows and bands, what was observed "
                f"of {observed.shape}, or it is not finite; give all members the same observed rows"
            )
        truth = exceedance(observed)
        errors = np.stack([(exceedance(validation[name].fractions) - truth).reshape(-1) for name in names])
        # Not a matrix product: what BLAS returns in the last digit depends on the machine.
        gram = np.einsum("in,jn->ij", errors, errors) / len(truth)
        trained = (1 - self.shrinkage) * minimise_on_simplex(gram) + self.shrinkage / len(names)
        return normalised(dict(zip(names, np.round(trained, _DECIMALS).tolist(), strict=True)), names)

    def _pool(self, values: Floats, weights: Floats) -> Floats:
        return _mean(values, weights)


class MedianPool(PoolMethod):
    """Median over the members of the fraction above each edge, and of the box mean: one bad member changes little."""

    kind: Literal["median_pool"] = "median_pool"

    def weigh(
        self,
        members: Sequence[str],
        validation: Mapping[str, Diagnosis] | None = None,
        observed: NDArray[np.float32] | None = None,
    ) -> dict[str, float]:
        return normalised(None, members)

    def _pool(self, values: Floats, weights: Floats) -> Floats:
        return np.asarray(np.median(values, axis=0), dtype=np.float64)


AnyPool = Annotated[LinearPool | TrainedPool | MedianPool, Field(discriminator="kind")]


def _mean(values: Floats, weights: Floats) -> Floats:
    return np.asarray(np.einsum("m,m...->...", weights, values), dtype=np.float64)


def _same_rows(members: Mapping[str, Diagnosis]) -> list[str]:
    """Names of the members in order; ForecastError where there are none or their rows or bands differ."""
    names = sorted(members)
    if not names:
        raise ForecastError("an ensemble needs at least one member")
    shapes = {name: members[name].fractions.shape for name in names}
    other = [name for name in names if shapes[name] != shapes[names[0]]]
    if other:
        raise ForecastError(
            f"{names[0]} has {shapes[names[0]]} rows and bands, {other[0]} has {shapes[other[0]]}; diagnose the same "
            "columns with all members"
        )
    return names
