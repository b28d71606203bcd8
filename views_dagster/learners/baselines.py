"""Baseline learners: forecasts that any other model has to beat, made of the unit's own past target and nothing else.

All four forecast the same draws for every step. What they share with other learners that read the target's history at
prediction time is `FittedOnHistory`. Baselines that estimate a distribution (climatology) have their own module.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from views_dagster.calendar import to_key
from views_dagster.errors import ArtifactError, PanelError
from views_dagster.forecasts import Forecast
from views_dagster.learners.base import FittedModel, Learner
from views_dagster.learners.neighbours import CellNeighbours
from views_dagster.panel import Panel
from views_dagster.seeds import seed_for

MODEL_FILE: Final = "model.json"


class FittedOnHistory(BaseModel, FittedModel):
    """A fitted model that is a few numbers and reads the target's latest months when it predicts: one JSON file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    feature_names: tuple[str, ...]
    steps: tuple[int, ...]
    origin: int

    @abstractmethod
    def sample(self, panel: Panel, *, draws: int, seed: int) -> NDArray[np.float32]:
        """Draws (U, K, S) of the units `panel.current` and of `self.steps`; the panel has been checked."""

    def predict(self, panel: Panel, *, draws: int, seed: int) -> Forecast:
        check_forecastable(panel, feature_names=self.feature_names, trained_until=self.origin)
        return Forecast(
            origin=panel.origin,
            units=panel.units[panel.current],
            steps=np.asarray(self.steps, dtype=np.int64),
            draws=self.sample(panel, draws=draws, seed=seed),
        )

    def to_files(self) -> dict[str, bytes]:
        return {MODEL_FILE: self.model_dump_json().encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        if set(files) != {MODEL_FILE}:
            raise ArtifactError(f"expected the file {MODEL_FILE}, got {sorted(files)}; train the model again")
        try:
            return cls.model_validate_json(files[MODEL_FILE])
        except ValidationError as error:
            raise ArtifactError(f"{MODEL_FILE} is not a {cls.__name__}: {error}; train the model again") from error


def check_history(panel: Panel) -> None:
    """Refuse a panel whose target or newest features cannot be used.

    Raises:
        PanelError: a target that is NaN, infinite or negative where its unit exists, or such a feature (negative ones
            are fine) of a unit that is to be forecast.
    """
    bad = panel.exists & ~(np.isfinite(panel.target) & (panel.target >= 0))
    if bad.any():
        month, unit = (int(position) for position in np.argwhere(bad)[0])
        raise PanelError(
            f"target {panel.target_name} is NaN, infinite or negative in {int(bad.sum())} unit-months, first in "
            f"{to_key(int(panel.months[month]))} for unit {panel.units[unit]}; repair it in its queryset"
        )
    newest = ~np.isfinite(panel.features[-1, panel.current])
    if newest.any():
        unit, feature = (int(position) for position in np.argwhere(newest)[0])
        raise PanelError(
            f"feature {panel.feature_names[feature]} is NaN or infinite in {to_key(panel.origin)} for unit "
            f"{panel.units[panel.current[unit]]}; end its transforms with fill and replace_na"
        )


def check_forecastable(panel: Panel, *, feature_names: tuple[str, ...], trained_until: int) -> None:
    """Refuse a panel that a model with these features, trained until that month id, cannot forecast from.

    Raises:
        PanelError: what `check_history` raises; other features or another order of them; an origin before training's.
    """
    check_history(panel)
    if panel.feature_names != feature_names:
        raise PanelError(
            f"the model was trained on features {list(feature_names)}, the panel has {list(panel.feature_names)}"
        )
    if panel.origin < trained_until:
        raise PanelError(
            f"the model has seen {to_key(trained_until)}, it may not forecast from {to_key(panel.origin)}; "
            "train it on an earlier month"
        )


class Baseline(Learner):
    """A learner with nothing to learn: `draws_of_units` says it all."""

    @abstractmethod
    def draws_of_units(self, panel: Panel, *, draws: int, seed: int) -> NDArray[np.float32]:
        """Draws (U, S), or (U, 1) where all are equal, of the units `panel.current`."""

    def fit(self, panel: Panel, *, steps: Sequence[int], seed: int) -> "FittedBaseline":
        check_history(panel)
        return FittedBaseline.model_validate(
            {
                "learner": self,
                "feature_names": panel.feature_names,
                "steps": tuple(sorted(steps)),
                "origin": panel.origin,
            }
        )

    def fitted_type(self) -> type["FittedBaseline"]:
        return FittedBaseline


class Zero(Baseline):
    """Nothing will happen: every draw is zero."""

    kind: Literal["zero"] = "zero"

    def draws_of_units(self, panel: Panel, *, draws: int, seed: int) -> NDArray[np.float32]:
        return np.zeros((len(panel.current), 1), dtype=np.float32)


class Locf(Baseline):
    """Last observation carried forward: every draw is the value of the last month."""

    kind: Literal["locf"] = "locf"

    def draws_of_units(self, panel: Panel, *, draws: int, seed: int) -> NDArray[np.float32]:
        return np.take(panel.target[-1], panel.current)[:, None]


class Average(Baseline):
    """Every draw is the mean over those of the last `window` months in which the unit existed."""

    kind: Literal["average"] = "average"
    window: int = Field(default=12, ge=1, description="months")

    def draws_of_units(self, panel: Panel, *, draws: int, seed: int) -> NDArray[np.float32]:
        existed = panel.exists[-self.window :, panel.current]
        values = np.where(existed, panel.target[-self.window :, panel.current], 0.0)
        mean: NDArray[np.float64] = values.sum(axis=0, dtype=np.float64) / existed.sum(axis=0)
        return mean.astype(np.float32)[:, None]


class Conflictology(Baseline):
    """Draws are the unit's values in the last `window` months: the near future looks like the near past.

    (The benchmark of the VIEWS Prediction Challenge 2023/24, Hegre et al. 2025, J. Peace Research.) Draw s takes the
    same past month for all units, so that what happened together stays together; each month is drawn equally often, and
    a seeded choice of months once more where `window` does not divide the number of draws. A unit that did not exist in
    that month takes in turn, newest first, the months of the window in which it did.

    With `neighbours`, on a lattice of cells, a share of the draws are the months of the cells around. Such a draw moves
    the whole map by one offset, the same for all cells, so that space stays as coherent as time; each offset is used
    equally often. A cell without a neighbour there, or whose neighbour did not exist in that month, takes its own.
    """

    kind: Literal["conflictology"] = "conflictology"
    window: int = Field(default=12, ge=1, description="months")
    neighbours: CellNeighbours | None = Field(
        default=None, description="draw months of the cells around too; cells only"
    )

    @property
    def needs_cells(self) -> bool:
        return self.neighbours is not None

    def draws_of_units(self, panel: Panel, *, draws: int, seed: int) -> NDArray[np.float32]:
        recent = panel.target[-self.window :, panel.current][::-1]
        existed = panel.exists[-self.window :, panel.current][::-1]
        months, units = recent.shape
        rng = np.random.default_rng(seed_for(seed, "conflictology"))
        month_of_draw = rng.permutation(rng.permutation(months)[np.arange(draws) % months])
        missing = ~existed[month_of_draw]
        own_months = np.argsort(~existed, axis=0, kind="stable")
        turn = (np.cumsum(missing, axis=0) - 1) % existed.sum(axis=0)
        chosen = np.where(missing, own_months[turn, np.arange(units)], month_of_draw[:, None])
        values = np.take_along_axis(recent, chosen, axis=0)
        if self.neighbours is not None:
            number = round(self.neighbours.share * draws)
            positions = self.neighbours.positions(panel.units[panel.current])
            rng = np.random.default_rng(seed_for(seed, "neighbours"))
            moved = np.sort(rng.permutation(draws)[:number])
            offset = rng.permutation(rng.permutation(len(positions))[np.arange(number) % len(positions)])
            beside = positions[offset]
            month = month_of_draw[moved][:, None]
            there = (beside >= 0) & existed[month, beside]
            values[moved] = np.where(there, recent[month, beside], values[moved])
        return np.ascontiguousarray(values.T)


class FittedBaseline(FittedOnHistory):
    """A baseline with the steps it was asked for."""

    learner: Annotated[Zero | Locf | Average | Conflictology, Field(discriminator="kind")]

    def sample(self, panel: Panel, *, draws: int, seed: int) -> NDArray[np.float32]:
        values = self.learner.draws_of_units(panel, draws=draws, seed=seed)
        return np.ascontiguousarray(np.broadcast_to(values[:, None, :], (len(values), len(self.steps), draws)))
