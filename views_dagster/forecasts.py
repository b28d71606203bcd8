"""The forecast contract: what every model and ensemble returns, stores and reads back.

A forecast has one row per (month, model, level, unit, step, target) with `draws`, S non-negative finite values.
Draw s of all units and steps together is one possible future, so code that mixes or scales draws keeps s aligned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import to_key
from views_dagster.errors import ForecastError

FORECAST_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    "month_id": pl.Int32(),
    "model": pl.String(),
    "level": pl.String(),
    "unit_id": pl.Int64(),
    "step": pl.Int16(),
    "target": pl.String(),
    "target_month": pl.Int32(),
    "mean": pl.Float32(),
    "draws": pl.List(pl.Float32()),
}


@dataclass(frozen=True)
class Forecast:
    """Draws of one model from one origin.

    Attributes:
        origin: last observed month id; step k predicts month origin + k.
        units: (U,) int64, ascending.
        steps: (K,) int64, ascending, from 1.
        draws: (U, K, S) float32, non-negative and finite, in the target's own unit.
    """

    origin: int
    units: NDArray[np.int64]
    steps: NDArray[np.int64]
    draws: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.draws.ndim != 3 or self.draws.shape[:2] != (len(self.units), len(self.steps)) or 0 in self.draws.shape:
            raise ForecastError(
                f"draws have shape {self.draws.shape}; "
                f"expected ({len(self.units)} units, {len(self.steps)} steps, draws), none of them empty"
            )
        if len(self.units) > 1 and not (np.diff(self.units) > 0).all():
            raise ForecastError(f"units must ascend, each once; they begin with {self.units[:5].tolist()}")
        # Smallest and largest first: a NaN becomes both, and a sound forecast needs no mask as large as itself.
        if self.draws.min() >= 0 and self.draws.max() < np.inf:
            return
        for problem, bad in (
            ("not finite", ~np.isfinite(self.draws)),
            ("negative", self.draws < 0),
        ):
            if bad.any():
                unit, step, _ = (int(i) for i in np.argwhere(bad)[0])
                raise ForecastError(
                    f"{int(bad.sum())} draws are {problem}, first for unit {self.units[unit]} "
                    f"at step {self.steps[step]} from {to_key(self.origin)}"
                )

    @property
    def mean(self) -> NDArray[np.float32]:
        """(U, K) float32, the mean over draws (summed in float64)."""
        means: NDArray[np.float64] = self.draws.mean(axis=2, dtype=np.float64)
        return means.astype(np.float32)

    def to_frame(self, *, model: str, level: str, target: str) -> pl.DataFrame:
        """Rows of `FORECAST_SCHEMA`, sorted by unit and step."""
        units, steps, draws = self.draws.shape
        step = np.tile(self.steps, units)
        values = pl.Series(self.draws.reshape(-1, draws), dtype=pl.Array(pl.Float32, draws))
        return pl.DataFrame(
            {
                "month_id": np.full(units * steps, self.origin, dtype=np.int32),
                "unit_id": np.repeat(self.units, steps),
                "step": step.astype(np.int16),
                "target_month": (step + self.origin).astype(np.int32),
                "mean": self.mean.reshape(-1),
                "draws": values.arr.to_list(),
            }
        ).select(
            "month_id",
            pl.lit(model).alias("model"),
            pl.lit(level).alias("level"),
            "unit_id",
            "step",
            pl.lit(target).alias("target"),
            "target_month",
            "mean",
            "draws",
        )

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> "Forecast":
        """The forecast of one model, month and target from its rows, in any order.

        Raises:
            ForecastError: several models, months or targets; a missing or repeated (unit, step); unequal numbers of
                draws; a null, negative or non-finite draw; a target month that is not month + step.
        """
        for name in ("month_id", "model", "level", "target"):
            if frame[name].n_unique() != 1:
                raise ForecastError(f"expected the rows of one {name}, got {frame[name].unique().sort().to_list()[:5]}")
        model = frame["model"][0]
        frame = frame.sort("unit_id", "step")
        units = frame["unit_id"].unique().sort().to_numpy()
        steps = frame["step"].unique().sort().to_numpy().astype(np.int64)
        expected = pl.DataFrame({"unit_id": np.repeat(units, len(steps)), "step": np.tile(steps, len(units))})
        if not frame.select("unit_id", pl.col("step").cast(pl.Int64)).equals(expected):
            raise ForecastError(
                f"{model} has {frame.height} rows for {len(units)} units x {len(steps)} steps; "
                "each pair must appear once"
            )
        if not (frame["target_month"] == frame["month_id"] + frame["step"].cast(pl.Int32)).all():
            raise ForecastError(f"{model} has rows whose target_month is not month_id + step")
        lengths = frame["draws"].list.len().unique()
        if len(lengths) != 1 or lengths[0] in (None, 0):
            raise ForecastError(
                f"{frame['model'][0]} has rows with {lengths.sort().to_list()} draws; all must have the same number"
            )
        flat = frame["draws"].explode(empty_as_null=True, keep_nulls=True).cast(pl.Float32)
        draws = flat.to_numpy().reshape(len(units), len(steps), int(lengths[0]))
        return cls(origin=int(frame["month_id"][0]), units=units, steps=steps, draws=draws)
