"""Hurdle: whether it rains in the box at all, then the fractions of a box in which it does."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from views_dagster.errors import ArtifactError, PanelError
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import Diagnosis, DiagnosisLearner, FittedDiagnosis, Report
from views_dagster.precipitation.learners.boosting import Boosted, FittedBoosted
from views_dagster.precipitation.learners.column_network import ColumnNetwork, FittedColumnNetwork
from views_dagster.precipitation.learners.inputs import (
    FEWEST_ROWS,
    MODEL_FILE,
    Inputs,
    Stored,
    check_training,
    diagnosis,
    read_stored,
)
from views_dagster.precipitation.learners.logistic import FittedLogistic, Logistic
from views_dagster.seeds import seed_for

AnyPart = Annotated[Boosted | Logistic | ColumnNetwork, Field(discriminator="kind")]
PartKind = Literal["boosted", "logistic", "column_network"]

_FITTED: Final[dict[PartKind, type[FittedDiagnosis]]] = {
    "boosted": FittedBoosted,
    "logistic": FittedLogistic,
    "column_network": FittedColumnNetwork,
}
WET, BANDS = "wet", "bands"


class Hurdle(DiagnosisLearner):
    """The chance that any of the box is wet, times the fractions given that some of it is.

    A box is wet where more than `wet_fraction` of it has at least the rain of the first edge. Both parts are learners
    of their own: `wet` of two bands, dry boxes and wet ones, on all rows; `bands` of all bands, on wet boxes only.
    """

    kind: Literal["hurdle"] = "hurdle"
    wet: AnyPart = Field(default=Boosted(), description="learns whether a box is wet")
    bands: AnyPart = Field(default=Logistic(), description="learns the fractions of wet boxes")
    wet_fraction: float = Field(default=0.0, ge=0, lt=1, description="most of a dry box that may be wet")

    def fit(self, train: Columns, validation: Columns, *, seed: int, report: Report | None = None) -> "FittedHurdle":
        """`report` is told the rounds of `bands`: what the wet validation boxes add to the mean score of all."""
        inputs = check_training(train, validation, members=self.needs_members)
        rainy, seen = (_is_wet(columns, self.wet_fraction) for columns in (train, validation))
        if rainy.sum() < FEWEST_ROWS:
            raise PanelError(
                f"only {int(rainy.sum())} of {len(train)} training columns are wet; a hurdle needs {FEWEST_ROWS} to "
                "learn their fractions from: give it more months, or use a learner without a hurdle"
            )

        def told(number: int, score: float) -> None:
            if report is not None:
                report(number, score * float(seen.mean()))

        wet = self.wet.fit(_occurrence(train, rainy), _occurrence(validation, seen), seed=seed_for(seed, WET))
        bands = self.bands.fit(train.take(rainy), validation.take(seen), seed=seed_for(seed, BANDS), report=told)
        return FittedHurdle(_Stored(inputs=inputs, wet=self.wet.kind, bands=self.bands.kind), wet, bands)

    def fitted_type(self) -> type["FittedHurdle"]:
        return FittedHurdle

    @property
    def needs_members(self) -> bool:
        return self.wet.needs_members or self.bands.needs_members


class _Stored(Stored):
    inputs: Inputs
    wet: PartKind
    bands: PartKind


@dataclass(frozen=True)
class FittedHurdle(FittedDiagnosis):
    """Both parts; their files have the part's name in front."""

    stored: _Stored
    wet: FittedDiagnosis
    bands: FittedDiagnosis

    def predict(self, columns: Columns) -> Diagnosis:
        self.stored.inputs.check(columns)
        # What was observed, which is not looked at, has the bands that the part was fitted on.
        unknown = np.full((len(columns), 2), np.nan, dtype=np.float32)
        occurrence = self.wet.predict(replace(columns, edges=columns.edges[:1], fractions=unknown))
        chance = occurrence.fractions[:, 1:].astype(np.float64)
        given = self.bands.predict(columns)
        dry = np.eye(1, given.fractions.shape[1])
        fractions = (1 - chance) * dry + chance * given.fractions
        return diagnosis(fractions, chance[:, 0] * given.rain_mean.astype(np.float64))

    def to_files(self) -> dict[str, bytes]:
        parts = {
            f"{part}.{name}": content
            for part, model in ((WET, self.wet), (BANDS, self.bands))
            for name, content in model.to_files().items()
        }
        return {MODEL_FILE: self.stored.to_json(), **parts}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "FittedHurdle":
        stored = read_stored(files, _Stored)

        def part(name: str, kind: PartKind) -> FittedDiagnosis:
            own = {
                path.removeprefix(f"{name}."): content for path, content in files.items() if path.startswith(f"{name}.")
            }
            if not own:
                raise ArtifactError(f"the trained model has no files of {name!r}, only {sorted(files)}; train it again")
            return _FITTED[kind].from_files(own)

        return cls(stored, part(WET, stored.wet), part(BANDS, stored.bands))


def _is_wet(columns: Columns, most: float) -> NDArray[np.bool_]:
    return np.asarray(columns.fractions[:, 1:].sum(axis=1) > most)


def _occurrence(columns: Columns, wet: NDArray[np.bool_]) -> Columns:
    """The columns with two bands, dry boxes and wet ones."""
    return replace(columns, edges=columns.edges[:1], fractions=np.stack([~wet, wet], axis=1).astype(np.float32))
