"""The contract of precipitation's learners: settings that know how to fit, and a fitted model of band fractions."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from views_dagster.errors import ForecastError
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.rebalancing import RebalanceReport

Report = Callable[[int, float], None]
"""Told after each round of training (an epoch, say): its number from 0 and the validation score, where lower is
better. It may raise to stop the training (a sweep that prunes a trial)."""


class Checkpoint(Protocol):
    """Where the state of an unfinished training is kept."""

    def load(self) -> bytes | None:
        """What was saved last, whole, or None."""

    def save(self, state: bytes) -> None:
        """Replace what was saved, atomically."""

    def resumed(self, rounds: int) -> None:
        """Hear that the training goes on after so many rounds."""


@dataclass(frozen=True)
class Diagnosis:
    """What a model says of N columns.

    Attributes:
        fractions: (N, B) float32, each in 0..1, rows sum to 1 within 1e-6.
        rain_mean: (N,) float32, mm/h, the box mean that goes with them.
    """

    fractions: NDArray[np.float32]
    rain_mean: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.fractions.ndim != 2 or len(self.fractions) != len(self.rain_mean):
            raise ForecastError(
                f"fractions {self.fractions.shape} and means {self.rain_mean.shape} do not belong together"
            )
        if not len(self.fractions):
            raise ForecastError("there are no columns to diagnose")
        sums = self.fractions.sum(axis=1, dtype=np.float64)
        bad = ~np.isfinite(sums) | (np.abs(sums - 1) > 1e-6) | (self.fractions.min(axis=1) < 0)
        bad |= ~np.isfinite(self.rain_mean) | (self.rain_mean < 0)
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise ForecastError(
                f"{int(bad.sum())} of {len(bad)} columns have fractions that are negative, not finite or do not sum "
                f"to 1, or a bad mean; the first is row {at}: {self.fractions[at].tolist()}, {self.rain_mean[at]} mm/h"
            )


class FittedDiagnosis(ABC):
    """A trained model. It remembers what it was fitted on: variables, levels, bands, its normalisation."""

    @property
    def rebalance(self) -> RebalanceReport | None:
        """What was done to its training rows; None where it was trained on them as they were given."""
        return None

    @abstractmethod
    def predict(self, columns: Columns) -> Diagnosis:
        """Diagnose columns; their rain is not looked at. Equal columns give equal bytes.

        Raises:
            PanelError: variables, levels or bands are not those of training, or a value is NaN.
        """

    @abstractmethod
    def to_files(self) -> dict[str, bytes]:
        """The model as named files, in formats that cannot execute code when read."""

    @classmethod
    @abstractmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "FittedDiagnosis":
        """Undo `to_files`; ArtifactError where the files are not this kind of model."""


class DiagnosisLearner(BaseModel, ABC):
    """Hyperparameters of one algorithm. Subclasses add `kind: Literal[...]`.

    Attributes:
        looks_at_columns: whether there is anything to explain: what it says depends on the column.
        trains_with: the library's icon in the UI.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    looks_at_columns: ClassVar[bool] = True
    trains_with: ClassVar[str] = "python"

    @abstractmethod
    def fit(self, train: Columns, validation: Columns, *, seed: int, report: Report | None = None) -> FittedDiagnosis:
        """Train on `train`; `validation` may pick the moment to stop and calibrate, and is never resampled.

        Both hold observed rows only. Equal arguments give equal bytes on any machine with the same libraries.

        Raises:
            PanelError: too few rows, a variable that a setting names is absent, or a NaN.
        """

    def resume(
        self, train: Columns, validation: Columns, *, seed: int, report: Report | None, checkpoint: Checkpoint
    ) -> FittedDiagnosis:
        """`fit`, going on from where `checkpoint` stands; a learner that keeps no state starts over."""
        return self.fit(train, validation, seed=seed, report=report)

    @abstractmethod
    def fitted_type(self) -> type[FittedDiagnosis]:
        """The class whose `from_files` reads what `fit(...).to_files()` wrote."""

    @property
    def needs_members(self) -> bool:
        """Whether the columns must come with NWP members."""
        return False
