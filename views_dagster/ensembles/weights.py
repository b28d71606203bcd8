"""Weights of ensemble members: normalised, turned into numbers of draws, and trained on backtests.

Trained weights minimise the CRPS of the linear pool. With CRPS(F, y) = integral of (F(z) - 1{z >= y})^2 dz (Gneiting
and Raftery 2007) and F = sum_i w_i F_i, sum_i w_i = 1, the mean over cases is the quadratic form w' G w, where G_ij =
mean of the integral of (F_i - 1{z >= y})(F_j - 1{z >= y}) dz. G is a Gram matrix, so the problem is convex. It is the
same number as sum_i w_i E|X_i - y| - 1/2 sum_ij w_i w_j E|X_i - X_j|, without the cancellation.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.errors import ForecastError

Loss = Literal["crps", "crps_log1p"]
CASE: Final = ("month_id", "unit_id", "step", "target")
_CHUNK = 1 << 22
# Breaks ties between members that the backtest cannot tell apart, in favour of equal weights.
_RIDGE = 1e-8
_TOLERANCE = 1e-12
_DECIMALS = 6


def normalised(weights: Mapping[str, float] | None, members: Sequence[str]) -> dict[str, float]:
    """Weights of `members` that sum to 1, in the order of names; None means equal weights.

    Raises:
        ForecastError: no members, or `weights` names others than `members`.
    """
    names = sorted(members)
    if not names:
        raise ForecastError("an ensemble needs at least one member")
    if weights is None:
        return dict.fromkeys(names, 1 / len(names))
    if sorted(weights) != names:
        raise ForecastError(f"weights are given for {', '.join(sorted(weights))}; the members are {', '.join(names)}")
    total = sum(weights[name] for name in names)
    return {name: weights[name] / total for name in names}


def apportion(shares: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Whole numbers that sum to `total`, in proportion to `shares` (M,), which sum to 1: the largest remainder method.

    Of equal remainders the first is rounded up.
    """
    quotas = shares * total
    # Shares such as 1/3 leave rounding noise that must not decide who gets the last draw.
    whole = np.floor(quotas + 1e-9)
    order = np.argsort(-np.round(quotas - whole, 9), kind="stable")
    whole[order[: total - int(whole.sum())]] += 1
    return whole.astype(np.int64)


def pool_gram(draws: Sequence[NDArray[np.float32]], observed: NDArray[np.float32]) -> NDArray[np.float64]:
    """The matrix G (M, M) of which w' G w is the mean CRPS of the linear pool with weights w, over N cases.

    `draws` are M arrays (N, S_m), S_m may differ; `observed` is (N,); no value is negative. Each member is taken as the
    empirical distribution of its draws.

    All values below the smallest positive one are zero, where no interval has any width. Cases are taken from those
    with the most positive values to those with the fewest, and only as many of the largest values as can be positive
    are looked at: where nearly all is zero, nearly all is left out.
    """
    members, cases = len(draws), len(observed)
    sizes = [values.shape[1] for values in draws]
    label = np.repeat(np.arange(members + 1, dtype=np.uint64), [*sizes, 1])
    positive = np.count_nonzero(observed[:, None], axis=1) + sum(np.count_nonzero(v, axis=1) for v in draws)
    order = np.argsort(-positive, kind="stable")
    gram = np.zeros((members, members))
    first, last = 0, int(np.count_nonzero(positive))
    while first < last:
        looked_at = min(int(positive[order[first]]) + 1, len(label))
        chunk = max(1, _CHUNK // max(len(label), looked_at * (members + 4)))
        rows = order[first : min(first + chunk, last)]
        pooled = np.concatenate([*(values[rows] for values in draws), observed[rows, None]], axis=1, dtype=np.float32)
        # Bits of floats that are not negative sort like the numbers, so a value and its owner are one integer.
        key = (pooled + np.float32(0)).view(np.uint32).astype(np.uint64) << np.uint64(32) | label
        key.sort(axis=1)
        key = key[:, len(label) - looked_at :]
        value = (key >> np.uint64(32)).astype(np.uint32).view(np.float32).astype(np.float64)
        width = np.sqrt(np.diff(value, axis=1))
        source = key.astype(np.uint32)
        above = _reached(source == members, 1)
        # (F_m - 1{z >= y}) sqrt(dz) on each interval between neighbouring values, all cases side by side.
        distance = np.stack(
            [((_reached(source == m, size) / size - above) * width).reshape(-1) for m, size in enumerate(sizes)]
        )
        gram += distance @ distance.T
        first += len(rows)
    return gram / cases


def _reached(owned: NDArray[np.bool_], size: int) -> NDArray[np.int32]:
    """(n, L - 1) how many of an owner's `size` values lie at or below each of L sorted values, all but the last.

    `owned` (n, L) are the largest values; what the owner has beyond them is smaller.
    """
    found = np.cumsum(owned, axis=1, dtype=np.int32)
    return size - found[:, -1:] + found[:, :-1]


def minimise_on_simplex(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """The w >= 0 with sum 1 that minimises w' G w for a positive semi-definite G (M, M); exact, by an active set.

    Wolfe (1976), "Finding the nearest point in a polytope". Where several w are equally good the one nearest to equal
    weights is returned, so identical members share alike and the order of members does not matter.
    """
    members = len(gram)
    scale = float(np.diag(gram).max())
    if scale == 0:
        return np.full(members, 1 / members)
    hessian = gram / scale + _RIDGE * np.eye(members)
    weights = np.zeros(members)
    weights[np.argmin(np.diag(hessian))] = 1
    best, lowest = weights, np.inf
    while True:
        slope = hessian @ weights
        # Each round lowers the objective; where rounding keeps it from doing so, the minimum is reached.
        if weights @ slope >= lowest:
            return best
        best, lowest = weights, float(weights @ slope)
        support = weights > 0
        best_outside = int(np.argmin(np.where(support, np.inf, slope)))
        if support.all() or slope[best_outside] >= lowest - _TOLERANCE:
            return weights
        support[best_outside] = True
        while True:
            goal = np.zeros(members)
            goal[support] = np.linalg.solve(hessian[np.ix_(support, support)], np.ones(int(support.sum())))
            goal /= goal.sum()
            shrinking = support & (goal <= 0)
            if not shrinking.any():
                weights = goal
                break
            ratio = np.full(members, np.inf)
            ratio[shrinking] = weights[shrinking] / (weights[shrinking] - goal[shrinking])
            leaving = int(np.argmin(ratio))
            weights = weights + ratio[leaving] * (goal - weights)
            weights[leaving] = 0
            support[leaving] = False


def trained(backtests: Mapping[str, pl.DataFrame], *, loss: Loss, shrinkage: float) -> dict[str, float]:
    """Weights that minimise the mean `loss` of the linear pool over the cases that all `backtests` share.

    Args:
        backtests: for each member the rows of `views_dagster.evaluation.backtest.backtest`.
        loss: `crps` in the target's own unit, or `crps_log1p`: CRPS of log(1 + x), which weighs relative error.
        shrinkage: 0..1, the part of the weight that is shared equally whatever the backtests say.

    Raises:
        ForecastError: no case that all members share, or members that were tested against different observations.
    """
    names = sorted(backtests)
    draws, observed = _shared_cases({name: backtests[name] for name in names})
    if loss == "crps_log1p":
        draws, observed = [np.log1p(values) for values in draws], np.log1p(observed)
    weights = (1 - shrinkage) * minimise_on_simplex(pool_gram(draws, observed)) + shrinkage / len(names)
    # Linear algebra differs in the last digits between machines; the weights that are stored do not.
    weights = np.round(weights, _DECIMALS)
    return normalised(dict(zip(names, weights.tolist(), strict=True)), names)


def _shared_cases(backtests: Mapping[str, pl.DataFrame]) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """Draws (N, S_m) of each member and observations (N,) on the cases that all members have, in one order."""
    names = list(backtests)
    shared = backtests[names[0]].select(*CASE, "observed")
    for name in names:
        cases = backtests[name].select(*CASE, pl.col("observed").alias("other")).with_row_index(f"row of {name}")
        shared = shared.join(cases, on=CASE, how="inner", validate="1:1")
        differs = shared.filter(pl.col("observed") != pl.col("other")).height
        if differs:
            raise ForecastError(
                f"{name} was backtested against other observations than {names[0]} in {differs} of {shared.height} "
                "cases; materialise the artifacts of both again"
            )
        shared = shared.drop("other")
    if shared.is_empty():
        have = ", ".join(f"{name} ({rows.height} cases)" for name, rows in backtests.items())
        raise ForecastError(
            f"the backtests share no case (month, unit, step, target): {have}. A backtest needs five years "
            "of history before each of its origins, 12, 24 and 36 months back: use another method before then"
        )
    shared = shared.sort(CASE)
    draws = []
    for name in names:
        column = backtests[name]["draws"]
        values = column.explode(empty_as_null=True, keep_nulls=True).to_numpy().reshape(len(column), -1)
        draws.append(values[shared[f"row of {name}"].to_numpy()])
    return draws, shared["observed"].to_numpy()
