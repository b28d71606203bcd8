"""Scores of predicted band fractions against observed ones, computed from sums over the rows of each event.

Every score here is a function of sums that add up over events, so that the pooled score, the score of one event and
the score of a resample of events come from the same numbers. Neighbourhoods on the lattice are summed in
`neighbourhoods`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from views_dagster.evaluation.metrics import crps
from views_dagster.precipitation.bands import exceedance
from views_dagster.precipitation.learners.base import Diagnosis

Array = NDArray[np.float64]
ScoreName = Literal["fss", "brier", "brier_any", "frequency_bias", "rps", "kl", "crps", "mae", "r2"]

PERFECT: Final[dict[ScoreName, float]] = {
    "fss": 1.0,
    "brier": 0.0,
    "brier_any": 0.0,
    "frequency_bias": 1.0,
    "rps": 0.0,
    "kl": 0.0,
    "crps": 0.0,
    "mae": 0.0,
    "r2": 1.0,
}
"""What a perfect prediction scores. Skill is (score - reference) / (perfect - reference); a frequency bias, which may
miss its perfect value on either side, has none."""

KL_FLOOR: Final = 1e-4
"""Least predicted fraction of a band in the Kullback-Leibler divergence; without one a single impossible band costs
infinitely much."""


@dataclass(frozen=True)
class Sums:
    """Sums over the rows of E events; the leading axis may also be resamples, or be absent.

    Attributes:
        rows: (E,) number of rows.
        means: (E, 6) of the box mean in mm/h: absolute error, squared error, CRPS, observation less a centre, its
            square; and the Kullback-Leibler divergence.
        edges: (E, T, 5) by threshold, of exceedance fractions p predicted and o observed: (p - o)^2, p^2 + o^2,
            (p - [o > 0])^2, p, o.
        windows: (E, W, T, 2) by neighbourhood: (p - o)^2 and p^2 + o^2 of the means over windows of boxes.
    """

    rows: Array
    means: Array
    edges: Array
    windows: Array

    def weighted(self, counts: Array) -> "Sums":
        """Sums over events where event e counts `counts[r, e]` times: (R, E) counts make R sums."""

        def mixed(sums: Array) -> Array:
            # Not a matrix product: what BLAS returns in the last digit depends on the machine.
            flat: Array = np.einsum("re,ek->rk", counts, sums.reshape(len(sums), -1))
            return flat.reshape(len(counts), *sums.shape[1:])

        return Sums(mixed(self.rows), mixed(self.means), mixed(self.edges), mixed(self.windows))

    def total(self) -> "Sums":
        """Sums over all events, without the leading axis."""
        return Sums(*(sums.sum(axis=0) for sums in (self.rows, self.means, self.edges, self.windows)))


def event_sums(
    diagnosis: Diagnosis,
    fractions: NDArray[np.float32],
    rain_mean: NDArray[np.float32],
    event: NDArray[np.intp],
    events: int,
    *,
    centre: float,
    members: NDArray[np.float32] | None = None,
) -> Sums:
    """Sums of one model's rows by event; `windows` has no neighbourhoods.

    Args:
        diagnosis: of N rows.
        fractions, rain_mean: (N, B) and (N,), what was observed; finite.
        event: (N,) number of each row's event, 0..events-1.
        centre: mm/h that observations are taken less, near their mean: it changes no score, and keeps digits.
        members: (N, M) mm/h, where the model is an ensemble of box means; its CRPS is then that of the members. That
            of a single box mean is its absolute error.
    """
    predicted, observed = exceedance(diagnosis.fractions), exceedance(fractions)
    mean, truth = diagnosis.rain_mean.astype(np.float64), rain_mean.astype(np.float64)
    error, centred = mean - truth, truth - centre
    probabilistic = np.abs(error) if members is None else crps(members, truth)
    divergence = kl_divergence(diagnosis.fractions, fractions)
    means = np.stack([np.abs(error), error**2, probabilistic, centred, centred**2, divergence], axis=1)
    edges = np.stack(
        [
            (predicted - observed) ** 2,
            predicted**2 + observed**2,
            (predicted - (observed > 0)) ** 2,
            predicted,
            observed,
        ],
        axis=2,
    )
    return Sums(
        rows=np.bincount(event, minlength=events).astype(np.float64),
        means=sum_by_group(means, event, events),
        edges=sum_by_group(edges, event, events),
        windows=np.zeros((events, 0, edges.shape[1], 2)),
    )


def sum_by_group(values: Array, group: NDArray[np.intp], groups: int) -> Array:
    """(G, ...) sums of (N, ...) values over the rows of each group; zero for a group without rows."""
    flat = values.reshape(len(values), -1)
    summed = np.stack([np.bincount(group, weights=column, minlength=groups) for column in flat.T], axis=1)
    return summed.astype(np.float64).reshape(groups, *values.shape[1:])


def kl_divergence(predicted: NDArray[np.floating], observed: NDArray[np.floating]) -> Array:
    """(N,) Kullback-Leibler divergence of predicted from observed fractions (N, B), in nats: sum o ln(o / p).

    Predictions are first mixed with `KL_FLOOR` in each band: p becomes (1 - B floor) p + floor.
    """
    truth = observed.astype(np.float64)
    floored = (1 - truth.shape[1] * KL_FLOOR) * predicted.astype(np.float64) + KL_FLOOR
    ratio = np.divide(truth, floored, out=np.ones_like(truth), where=truth > 0)
    return np.asarray((truth * np.log(ratio)).sum(axis=1), dtype=np.float64)


def edge_scores(sums: Sums) -> dict[ScoreName, Array]:
    """Scores by threshold, each (..., T); NaN where undefined.

    - `fss`: fractions skill score pooled on fractions, 1 - sum (p - o)^2 / sum (p^2 + o^2) over all boxes and times
      (Roberts & Lean 2008, Monthly Weather Review 136, eq. 6-7, with sums over fields as Mittermaier 2021 has them).
      Undefined where the threshold is neither predicted nor observed anywhere.
    - `brier`: mean of (p - o)^2: the Brier score of "a point of the box exceeds" less what no prediction by box can
      avoid, o (1 - o).
    - `brier_any`: mean of (p - [o > 0])^2, p taken as the probability that any part of the box exceeds. A fraction
      is less than that probability, so this is no proper score of fractions: compare with it, do not train on it.
    - `frequency_bias`: predicted area over observed area, sum p / sum o. Exceedance is of the edge alone, so nothing
      is counted under two bands. Undefined where nothing was observed.
    """
    square, power, any_square, predicted, observed = np.moveaxis(sums.edges, -1, 0)
    rows = sums.rows[..., None]
    return {
        "fss": 1 - ratio(square, power),
        "brier": ratio(square, rows),
        "brier_any": ratio(any_square, rows),
        "frequency_bias": ratio(predicted, observed),
    }


def window_scores(sums: Sums) -> Array:
    """(..., W, T) fractions skill score of the neighbourhoods; NaN where undefined."""
    return 1 - ratio(sums.windows[..., 0], sums.windows[..., 1])


def overall_scores(sums: Sums) -> dict[ScoreName, Array]:
    """Scores of whole rows, each (...); NaN where undefined.

    - `rps`: ranked probability score, the mean over rows of sum over edges of (p - o)^2, p and o the exceedance
      fractions (Epstein 1969, J. Applied Meteorology 8; Murphy 1971). Cumulative from below, over all B bands, it is
      the same number: the last term is zero. It is not normalised: divided by B - 1 it lies within 0..1.
    - `kl`: mean Kullback-Leibler divergence of predicted from observed fractions, nats (`kl_divergence`).
    - `crps`: of the box mean, mm/h: of the members where the model has them; of a single value the absolute error.
    - `mae`: mean absolute error of the box mean, mm/h.
    - `r2`: 1 - squared error / squared deviation from the observed mean of the same rows. Undefined where all
      observations are equal.
    """
    absolute, square, probabilistic, centred, centred_square, divergence = np.moveaxis(sums.means, -1, 0)
    # Rounding leaves a little of equal observations.
    spread = centred_square - ratio(centred**2, sums.rows)
    spread = np.where(spread > 1e-12 * centred_square, spread, 0.0)
    return {
        "rps": ratio(sums.edges[..., 0].sum(axis=-1), sums.rows),
        "kl": ratio(divergence, sums.rows),
        "crps": ratio(probabilistic, sums.rows),
        "mae": ratio(absolute, sums.rows),
        "r2": 1 - ratio(square, spread),
    }


def ratio(part: Array, whole: Array) -> Array:
    """part / whole, NaN where the whole is zero."""
    part, whole = np.broadcast_arrays(part, whole)
    out: Array = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def all_scores(
    sums: Sums, edges: Iterable[float], neighbourhoods: Iterable[int]
) -> dict[tuple[ScoreName, float | None, int | None], Array]:
    """Every score of `sums`, each (...), by name, threshold (None: of whole rows) and neighbourhood (None: no window).

    The window of one box is `fss` without a window, and is listed as both.
    """
    thresholds = list(enumerate(edges))
    found: dict[tuple[ScoreName, float | None, int | None], Array] = {
        (name, None, None): value for name, value in overall_scores(sums).items()
    }
    found |= {
        (name, edge, None): values[..., at] for name, values in edge_scores(sums).items() for at, edge in thresholds
    }
    windows = window_scores(sums)
    found |= {
        ("fss", edge, size): windows[..., place, at]
        for place, size in enumerate(neighbourhoods)
        for at, edge in thresholds
    }
    return found
