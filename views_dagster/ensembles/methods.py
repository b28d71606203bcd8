"""How the forecasts of several models become one: the settings a person writes in YAML, and the combining itself.

Draw s of a forecast is one possible future of all units and steps. Each method says how it keeps that joint structure.
Members are taken in the order of their names, so the order in which they are given changes nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from views_dagster.calendar import to_key
from views_dagster.ensembles.weights import Loss, apportion, normalised, trained
from views_dagster.errors import ForecastError
from views_dagster.forecasts import Forecast
from views_dagster.names import listed
from views_dagster.seeds import seed_for

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_CHUNK = 1 << 23


class EnsembleMethod(BaseModel, ABC):
    """One way to combine members. Subclasses add `kind: Literal[...]` and their own settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs_backtests: ClassVar[bool] = False

    @abstractmethod
    def weigh(self, members: Sequence[str], backtests: Mapping[str, pl.DataFrame]) -> dict[str, float]:
        """Weights of the members, not negative, sum 1. `backtests` may be empty unless `needs_backtests`.

        Raises:
            ForecastError: the weights in the settings, or the backtests, are not those of the members.
        """

    @abstractmethod
    def combine(
        self, members: Mapping[str, Forecast], weights: Mapping[str, float], *, draws: int, seed: int
    ) -> Forecast:
        """One forecast with `draws` draws from members of the same origin, units and steps; `weights` are from `weigh`.

        Equal seeds give equal bytes.

        Raises:
            ForecastError: members that differ in origin, units or steps.
        """


class Mixture(EnsembleMethod):
    """Linear pool: each draw of the ensemble is one whole draw, across all units and steps, of one member.

    Members contribute in exact proportion to their weights, whatever number of draws they have.
    """

    kind: Literal["mixture"] = "mixture"
    weights: dict[str, Weight] | None = Field(
        default=None, description="Weight of each member, rescaled to sum 1; equal weights by default."
    )

    def weigh(self, members: Sequence[str], backtests: Mapping[str, pl.DataFrame]) -> dict[str, float]:
        return normalised(self.weights, members)

    def combine(
        self, members: Mapping[str, Forecast], weights: Mapping[str, float], *, draws: int, seed: int
    ) -> Forecast:
        return mixture(members, weights, draws=draws, seed=seed)


class Vincentization(EnsembleMethod):
    """Quantile averaging: the s-th smallest draw is the mean of the members' s-th smallest, for each unit and step.

    Ratcliff (1979), "Group reaction time distributions and an analysis of distribution statistics". Where
    members disagree about the location it averages and stays narrow; a mixture widens. The order of draws is that of
    the mixture of the same members, so units and steps move together as they do there.
    """

    kind: Literal["vincentization"] = "vincentization"
    weights: dict[str, Weight] | None = Field(
        default=None, description="Weight of each member, rescaled to sum 1; equal weights by default."
    )

    def weigh(self, members: Sequence[str], backtests: Mapping[str, pl.DataFrame]) -> dict[str, float]:
        return normalised(self.weights, members)

    def combine(
        self, members: Mapping[str, Forecast], weights: Mapping[str, float], *, draws: int, seed: int
    ) -> Forecast:
        return vincentization(members, weights, draws=draws, seed=seed)


class TrainedWeights(EnsembleMethod):
    """A mixture whose weights minimise the CRPS of the pool on the members' backtests, all before the origin.

    The default loss is CRPS of log(1 + x): in the target's own unit a handful of the largest series would decide, and
    the weights would be worse even by that measure. Some shrinkage pays: a few thousand dependent cases do not tell
    similar members apart (Smith and Wallis 2009, "A simple explanation of the forecast combination puzzle"). 0.3 to 0.5
    scored best at rolling origins on real monthly series.
    """

    kind: Literal["trained_weights"] = "trained_weights"
    loss: Loss = Field(default="crps_log1p", description="What the weights minimise on the backtests.")
    shrinkage: float = Field(default=0.3, ge=0, le=1, description="Part of the weight that members share equally.")

    needs_backtests: ClassVar[bool] = True

    def weigh(self, members: Sequence[str], backtests: Mapping[str, pl.DataFrame]) -> dict[str, float]:
        lacking = sorted(set(members) - set(backtests))
        if lacking or not members:
            raise ForecastError(
                f"no backtest of {', '.join(lacking) or 'any member'}; materialise their artifacts again"
            )
        return trained({name: backtests[name] for name in members}, loss=self.loss, shrinkage=self.shrinkage)

    def combine(
        self, members: Mapping[str, Forecast], weights: Mapping[str, float], *, draws: int, seed: int
    ) -> Forecast:
        return mixture(members, weights, draws=draws, seed=seed)


AnyMethod = Annotated[Mixture | Vincentization | TrainedWeights, Field(discriminator="kind")]


def mixture(members: Mapping[str, Forecast], weights: Mapping[str, float], *, draws: int, seed: int) -> Forecast:
    """Whole draws of the members, in numbers proportional to `weights` (largest remainder), in seeded order.

    A member's draws are used without replacement until all of them are used, then over again.
    """
    first = _alike(members)
    rng = np.random.default_rng(seed_for(seed, "mixture"))
    position = rng.permutation(draws)
    parts = []
    for name, count in _draws_of(members, weights, draws).items():
        available = members[name].draws.shape[2]
        rounds = -(-count // available)
        chosen = np.concatenate([rng.permutation(available) for _ in range(rounds)] or [np.empty(0, np.int64)])[:count]
        # Not indexing: it makes the draws the outermost axis in memory, several times slower to write and to read.
        parts.append(np.take(members[name].draws, chosen, axis=2))
    pooled = np.take(np.concatenate(parts, axis=2), np.argsort(position), axis=2)
    return Forecast(origin=first.origin, units=first.units, steps=first.steps, draws=pooled)


def vincentization(members: Mapping[str, Forecast], weights: Mapping[str, float], *, draws: int, seed: int) -> Forecast:
    """Weighted mean of the members' quantile functions at (s + 1/2) / draws, put in the order of the mixture's draws.

    Quantiles are Hazen's, so a member with `draws` draws contributes its sorted draws unchanged. Equal values in the
    mixture (zeros, mostly) are ordered at random, independently for each unit and step, so that a tie creates no
    dependence.
    """
    pooled = mixture(members, weights, draws=draws, seed=seed)
    shares = normalised(weights, list(members))
    rng = np.random.default_rng(seed_for(seed, "vincentization"))
    averaged = np.empty_like(pooled.draws)
    chunk = max(1, _CHUNK // (len(pooled.steps) * draws))
    for start in range(0, len(pooled.units), chunk):
        rows = slice(start, start + chunk)
        quantiles = np.zeros(pooled.draws[rows].shape)
        for name, share in shares.items():
            if share > 0:
                quantiles += share * _quantiles(members[name].draws[rows], draws)
        order = _random_tie_order(pooled.draws[rows], rng)
        np.put_along_axis(averaged[rows], order, quantiles.astype(np.float32), axis=2)
    return Forecast(origin=pooled.origin, units=pooled.units, steps=pooled.steps, draws=averaged)


def _quantiles(draws: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """(..., size) quantiles of (..., S) draws at (s + 1/2) / size: Hazen's definition, linear between sorted draws."""
    ordered = np.sort(draws, axis=-1).astype(np.float64)
    available = draws.shape[-1]
    if available == size:
        return ordered
    position = np.clip((np.arange(size) + 0.5) * available / size - 0.5, 0, available - 1)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, available - 1)
    below, above = np.take(ordered, low, axis=-1), np.take(ordered, high, axis=-1)
    interpolated: NDArray[np.float64] = below + (position - low) * (above - below)
    return interpolated


def _random_tie_order(draws: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """`argsort` along the last axis of non-negative float32, equal values in random order.

    Bits of non-negative IEEE floats sort like the numbers, so value, random number and position fit in one integer,
    no two of which are equal: sorting them is faster than an argsort, and the same on every machine.
    """
    places = draws.shape[-1]
    position = np.uint64((1 << (places - 1).bit_length()) - 1)
    key = (draws + np.float32(0)).view(np.uint32).astype(np.uint64) << np.uint64(32)
    key |= rng.integers(0, 1 << 32, size=draws.shape, dtype=np.uint32) & ~position
    key |= np.arange(places, dtype=np.uint64)
    key.sort(axis=-1)
    return (key & position).astype(np.int64)


def _draws_of(members: Mapping[str, Forecast], weights: Mapping[str, float], draws: int) -> dict[str, int]:
    """How many of the ensemble's draws each member gives, in the order of names."""
    shares = normalised(weights, list(members))
    counts = apportion(np.array(list(shares.values())), draws)
    return {name: int(count) for name, count in zip(shares, counts, strict=True)}


def _alike(members: Mapping[str, Forecast]) -> Forecast:
    """Any member, once all are known to have the same origin, units and steps."""
    if not members:
        raise ForecastError("an ensemble needs at least one member")
    reference, *others = sorted(members)
    expected = members[reference]
    for name in others:
        member = members[name]
        if member.origin != expected.origin:
            raise ForecastError(
                f"member {name} is from {to_key(member.origin)}, {reference} from {to_key(expected.origin)}; "
                "combine forecasts of one month"
            )
        for what, have, want in (
            ("units", member.units, expected.units),
            ("steps", member.steps, expected.steps),
        ):
            if not np.array_equal(have, want):
                raise ForecastError(
                    f"member {name} and {reference} have different {what}: {name} "
                    f"lacks {listed(np.setdiff1d(want, have))} and alone has {listed(np.setdiff1d(have, want))}; "
                    f"all members must forecast the same {what}"
                )
    return expected
