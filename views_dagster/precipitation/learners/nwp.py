"""What the numerical weather prediction says by itself: the members' shares of the bands, raw and calibrated."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from views_dagster.precipitation.bands import band_of
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import Diagnosis, DiagnosisLearner, FittedDiagnosis, Report
from views_dagster.precipitation.learners.inputs import (
    MODEL_FILE,
    Inputs,
    Stored,
    check_training,
    check_values,
    diagnosis,
    ranked_score,
    read_stored,
)
from views_dagster.precipitation.learners.logistic import FittedLogistic
from views_dagster.precipitation.learners.predictors import Predictors
from views_dagster.precipitation.learners.softmax import Penalties
from views_dagster.precipitation.rebalancing import NoRebalance


class Nwp(DiagnosisLearner):
    """Raw NWP: the fraction of a band is the share of members whose box mean lies in it; nothing is fitted.

    Any number of members will do, and one (the coarse model's own rain) makes every fraction 0 or 1. The box mean is
    that of the members.
    """

    looks_at_columns: ClassVar[bool] = False

    kind: Literal["nwp"] = "nwp"

    def fit(self, train: Columns, validation: Columns, *, seed: int, report: Report | None = None) -> "FittedNwp":
        check_training(train, validation, members=True)
        fitted = FittedNwp(_Stored(inputs=Inputs.of(train)))
        if report is not None and len(validation):
            report(0, ranked_score(fitted.predict(validation).fractions, validation.fractions))
        return fitted

    def fitted_type(self) -> type["FittedNwp"]:
        return FittedNwp

    @property
    def needs_members(self) -> bool:
        return True


class _Stored(Stored):
    inputs: Inputs


class FittedNwp(FittedDiagnosis):
    """Nothing but the bands."""

    def __init__(self, stored: _Stored) -> None:
        self.stored = stored

    def predict(self, columns: Columns) -> Diagnosis:
        self.stored.inputs.check(columns)
        check_values(columns, members=True)
        bands = band_of(columns.members, columns.edges)
        shares = [(bands == band).mean(axis=1) for band in range(len(columns.edges) + 1)]
        return diagnosis(np.stack(shares, axis=1), columns.members.mean(axis=1, dtype=np.float64))

    def to_files(self) -> dict[str, bytes]:
        return {MODEL_FILE: self.stored.to_json()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "FittedNwp":
        return cls(read_stored(files, _Stored))


class CalibratedNwp(DiagnosisLearner):
    """Calibrated NWP: multinomial logistic regression of the fractions on statistics of the members.

    The statistics are the share of members above each edge, their mean, spread and largest (`member_statistics`): an
    ensemble version of extended logistic regression (Wilks 2009, Meteorological Applications 16).
    """

    kind: Literal["calibrated_nwp"] = "calibrated_nwp"
    surface: bool = Field(default=False, description="whether single-level and static fields are predictors too")
    penalties: Penalties = Field(
        default=(1e-1, 1e-2, 1e-3, 1e-4), description="of squared weights; the best on the validation rows is taken"
    )

    def fit(self, train: Columns, validation: Columns, *, seed: int, report: Report | None = None) -> FittedLogistic:
        predictors = Predictors(profiles="none", surface=self.surface, members=True)
        return FittedLogistic.trained(
            predictors, self.penalties, NoRebalance(), train, validation, seed=seed, report=report
        )

    def fitted_type(self) -> type[FittedLogistic]:
        return FittedLogistic

    @property
    def needs_members(self) -> bool:
        return True
