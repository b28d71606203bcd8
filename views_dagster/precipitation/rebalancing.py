"""Rebalancing of training rows over the intensity bands, and the correction of what a model then predicts.

Dry boxes are most of any archive. A model's settings may state the mix of dominant bands that it is trained on; the
correction takes the stated mix out of the predictions again. Validation and test rows are never rebalanced.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from views_dagster.errors import PanelError, QuerysetError
from views_dagster.precipitation.bands import dominant, names


def _shares_sum_to_one(shares: tuple[float, ...]) -> tuple[float, ...]:
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"the shares of the bands sum to {sum(shares):g}, not to 1")
    return shares


Shares = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=2), AfterValidator(_shares_sum_to_one)]
Distribution = Literal["uniform", "sqrt"] | Shares


class RebalanceReport(BaseModel):
    """What rebalancing did, by band (B each).

    Attributes:
        kind: `none`, `resample` or `weights`.
        bands: names of the bands, by their dominance the rows are counted.
        wanted: shares of rows that were asked for.
        rows_before, rows_after: rows of training by dominant band; weights do not change them.
        weight: of a row, mean 1 over the rows after.
        most_repeats: how often the most repeated row of the band is used.
        prevented: rows that `max_repeats` kept from being repeated, or 0; under weights, the share of weight that
            `max_weight` kept away.
        fractions_before, fractions_after: mean fraction of the box in each band, weighted after; their ratio is the
            prior correction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    bands: tuple[str, ...]
    wanted: tuple[float, ...]
    rows_before: tuple[int, ...]
    rows_after: tuple[int, ...]
    weight: tuple[float, ...]
    most_repeats: tuple[int, ...]
    prevented: tuple[float, ...]
    fractions_before: tuple[float, ...]
    fractions_after: tuple[float, ...]

    def frame(self) -> pl.DataFrame:
        """One row a band, with the shares of training before and after; for metadata and pictures."""
        by_band = {name: value for name, value in self if name not in ("kind", "bands")}
        weighted = pl.col("rows_after") * pl.col("weight")
        return pl.DataFrame({"band": self.bands, **by_band}).with_columns(
            share_before=pl.col("rows_before") / pl.col("rows_before").sum(), share_after=weighted / weighted.sum()
        )


@dataclass(frozen=True)
class Rebalanced:
    """Rows to train on.

    Attributes:
        rows: (M,) positions among the training rows, ascending, repeated where a row is used more than once.
        weights: (M,) float32 with mean 1.
        report: what changed.
    """

    rows: NDArray[np.intp]
    weights: NDArray[np.float32]
    report: RebalanceReport

    @property
    def untouched(self) -> bool:
        """Whether every row counts once, as it did."""
        return self.report.kind == "none"

    @property
    def correction(self) -> NDArray[np.float64]:
        """(B,) factors on a model's fractions that undo the rebalancing, once the fractions are rescaled to sum 1.

        The ratio of the mean fractions by band. It is exact where each box lies in one band and rows of a band are
        chosen whatever their predictors: label shift (Saerens, Latinne and Decaestecker 2002, eq. 2.4). Boxes with rain
        of several bands come out too dry; a learner that can then shifts its scores until mean fractions match. A band
        that neither side has is left as predicted.

        Raises:
            PanelError: a band that rows had before and have no more.
        """
        return _ratio(np.asarray(self.report.fractions_before), np.asarray(self.report.fractions_after))


class NoRebalance(BaseModel):
    """Train on the rows as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["none"] = "none"

    def apply(self, fractions: NDArray[np.floating], edges: tuple[float, ...], *, seed: int) -> Rebalanced:
        """Every row once, whatever the seed; `fractions` is (N, B) without NaN."""
        before = _rows_by_band(fractions)
        return _rebalanced(self.kind, fractions, edges, before / before.sum(), np.arange(len(fractions)))


class Resample(BaseModel):
    """Under- and over-sample to a stated distribution of the dominant band.

    Of each band, every row is used equally often, but for a remainder that is drawn without replacement: no row is
    repeated more than `max_repeats` times, and thinning drops no row twice. Where the cap binds, the band falls short
    of its share and the others keep their counts, so that the training set is smaller than `size`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["resample"] = "resample"
    distribution: Distribution = Field(
        "sqrt", description="shares of the bands from dry to wet, `uniform`, or `sqrt` of the shares found"
    )
    max_repeats: int = Field(5, ge=1, description="how often one row may be used")
    min_keep: float = Field(0.0, ge=0, le=1, description="share of each band's rows that thinning must keep")
    size: int | None = Field(None, ge=1, description="rows to train on where no cap binds; if not set, as before")

    def apply(self, fractions: NDArray[np.floating], edges: tuple[float, ...], *, seed: int) -> Rebalanced:
        """Draw the rows; `fractions` is (N, B) of the training rows without NaN.

        Raises:
            QuerysetError: the distribution has not one share for each band.
            PanelError: a band would lose every row that has rain in it, so that no correction could bring it back.
        """
        from imblearn.under_sampling import RandomUnderSampler

        band, before = dominant(fractions), _rows_by_band(fractions)
        wanted = _wanted(self.distribution, before)
        asked = _whole(wanted, self.size or len(fractions))
        asked = np.where(before > 0, np.maximum(asked, np.ceil(self.min_keep * before).astype(int)), asked)
        allowed = np.minimum(asked, before * self.max_repeats)
        whole, remainder = np.divmod(allowed, np.maximum(before, 1))
        drawn = {int(b): int(remainder[b]) for b in np.flatnonzero(before)}
        positions = np.arange(len(band))
        picker = RandomUnderSampler(sampling_strategy=drawn, random_state=seed)
        picked = picker.fit_resample(positions[:, None], band)[0][:, 0] if any(remainder) else positions[:0]
        rows = np.sort(np.concatenate([np.repeat(positions, whole[band]), picked]))
        return _rebalanced(self.kind, fractions, edges, wanted, rows, prevented=asked - allowed)


class Weights(BaseModel):
    """Weigh the rows of each dominant band in the loss, so that the bands count in the stated distribution."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["weights"] = "weights"
    distribution: Distribution = Field(
        "sqrt", description="shares of the bands from dry to wet, `uniform`, or `sqrt` of the shares found"
    )
    max_weight: float = Field(10.0, gt=0, description="largest ratio of a band's share asked for to its share found")

    def apply(self, fractions: NDArray[np.floating], edges: tuple[float, ...], *, seed: int) -> Rebalanced:
        """Weigh every row, whatever the seed; errors as of `Resample.apply`."""
        before = _rows_by_band(fractions)
        wanted, found = _wanted(self.distribution, before), before / before.sum()
        asked = np.divide(wanted, found, out=np.zeros_like(wanted), where=found > 0)
        weight = np.minimum(asked, self.max_weight)
        return _rebalanced(
            self.kind,
            fractions,
            edges,
            wanted,
            np.arange(len(fractions)),
            weight=weight / (weight @ found),
            prevented=(asked - weight) * found,
        )


Rebalance = Annotated[NoRebalance | Resample | Weights, Field(discriminator="kind")]


def _ratio(before: NDArray[np.floating], after: NDArray[np.floating]) -> NDArray[np.float64]:
    lost = (after <= 0) & (before > 0)
    if lost.any():
        raise PanelError(
            f"rebalancing left no row with rain in band {np.flatnonzero(lost).tolist()} of 0..{len(lost) - 1}, so "
            "predictions of it could not be corrected; give the band a share, or raise min_keep"
        )
    ratio: NDArray[np.float64] = np.divide(before, after, out=np.ones(len(before)), where=after > 0)
    return ratio


def _rows_by_band(fractions: NDArray[np.floating]) -> NDArray[np.intp]:
    """(B,) rows by dominant band."""
    if not len(fractions) or not np.isfinite(fractions).all():
        raise PanelError("rebalancing needs training rows, all with observed rain; drop the others first")
    return np.bincount(dominant(fractions), minlength=fractions.shape[1])


def _wanted(distribution: Distribution, before: NDArray[np.intp]) -> NDArray[np.float64]:
    """(B,) shares asked for; the bands that no row has get none under `uniform` and `sqrt`."""
    if distribution == "uniform":
        shares = (before > 0).astype(np.float64)
    elif distribution == "sqrt":
        shares = np.sqrt(before)
    elif len(distribution) == len(before):
        shares = np.asarray(distribution, dtype=np.float64)
    else:
        raise QuerysetError(
            f"the rebalancing states {len(distribution)} shares, but there are {len(before)} bands; state one for each"
        )
    normalised: NDArray[np.float64] = shares / shares.sum()
    return normalised


def _whole(shares: NDArray[np.float64], total: int) -> NDArray[np.intp]:
    """`total` split by shares into whole numbers, by largest remainder."""
    exact = shares * total
    count = np.floor(exact).astype(np.intp)
    short = total - int(count.sum())
    count[np.argsort(count - exact, kind="stable")[:short]] += 1
    return count


def _rebalanced(
    kind: str,
    fractions: NDArray[np.floating],
    edges: tuple[float, ...],
    wanted: NDArray[np.float64],
    rows: NDArray[np.intp],
    *,
    weight: NDArray[np.float64] | None = None,
    prevented: NDArray[np.number] | None = None,
) -> Rebalanced:
    if not len(rows):
        raise PanelError("rebalancing leaves no row to train on; give a share to a band that the training rows have")
    band, count = dominant(fractions), fractions.shape[1]
    by_band = np.ones(count) if weight is None else weight
    weights = by_band[band[rows]]
    used = np.bincount(rows, minlength=len(fractions))
    most = np.zeros(count, dtype=np.intp)
    np.maximum.at(most, band, used)
    before = fractions.mean(axis=0, dtype=np.float64)
    after = (np.bincount(rows, by_band[band[rows]], len(fractions)) @ fractions.astype(np.float64)) / weights.sum()
    report = RebalanceReport(
        kind=kind,
        bands=names(edges),
        wanted=tuple(wanted.tolist()),
        rows_before=tuple(np.bincount(band, minlength=count).tolist()),
        rows_after=tuple(np.bincount(band[rows], minlength=count).tolist()),
        weight=tuple(by_band.tolist()),
        most_repeats=tuple(most.tolist()),
        prevented=tuple(np.zeros(count).tolist() if prevented is None else prevented.tolist()),
        fractions_before=tuple(before.tolist()),
        fractions_after=tuple(after.tolist()),
    )
    _ratio(before, after)
    return Rebalanced(rows, weights.astype(np.float32), report)
