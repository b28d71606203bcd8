"""Multinomial logistic regression of the fractions on predictors made of the column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import Diagnosis, DiagnosisLearner, FittedDiagnosis, Report
from views_dagster.precipitation.learners.inputs import (
    MODEL_FILE,
    Inputs,
    Stored,
    band_rates,
    check_training,
    diagnosis,
    read_stored,
)
from views_dagster.precipitation.learners.predictors import Predictors
from views_dagster.precipitation.learners.softmax import Penalties, Softmax, SoftmaxProblem, best_fit
from views_dagster.precipitation.rebalancing import NoRebalance, Rebalance, RebalanceReport


class Logistic(DiagnosisLearner):
    """Multinomial logistic regression with the observed fractions as soft targets, on standardised predictors.

    The box mean is the sum of the fractions times the typical rain of each band.
    """

    kind: Literal["logistic"] = "logistic"
    predictors: Predictors = Field(default=Predictors(profiles="levels"), description="what it sees of a column")
    penalties: Penalties = Field(
        default=(1e-2, 1e-3), description="of squared weights; the best on the validation rows is taken"
    )
    rebalance: Rebalance = Field(default=NoRebalance(), description="the mix of bands that it is trained on")

    def fit(self, train: Columns, validation: Columns, *, seed: int, report: Report | None = None) -> "FittedLogistic":
        """One round of `report` is one penalty."""
        return FittedLogistic.trained(
            self.predictors, self.penalties, self.rebalance, train, validation, seed=seed, report=report
        )

    def fitted_type(self) -> type["FittedLogistic"]:
        return FittedLogistic

    @property
    def needs_members(self) -> bool:
        return self.predictors.members


class _Stored(Stored):
    inputs: Inputs
    predictors: Predictors
    softmax: Softmax
    rates: tuple[float, ...] = Field(description="typical rain of each band, mm/h")
    rebalance: RebalanceReport


@dataclass(frozen=True)
class FittedLogistic(FittedDiagnosis):
    """Weights of the predictors."""

    stored: _Stored

    @classmethod
    def trained(
        cls,
        predictors: Predictors,
        penalties: Sequence[float],
        rebalance: Rebalance,
        train: Columns,
        validation: Columns,
        *,
        seed: int,
        report: Report | None,
    ) -> "FittedLogistic":
        """The regression on these predictors, with the best of the penalties."""
        inputs = check_training(train, validation, members=predictors.members)
        balanced = rebalance.apply(train.fractions, train.edges, seed=seed)
        table = predictors.table(train)
        if isinstance(rebalance, NoRebalance):
            problem = SoftmaxProblem.of(table, train.fractions)
        else:
            problem = SoftmaxProblem.of(table[balanced.rows], train.fractions[balanced.rows], balanced.weights)
        softmax = best_fit(
            problem,
            penalties,
            predictors.table(validation),
            validation.fractions,
            correction=np.log(balanced.correction),
            report=report,
        )
        stored = _Stored(
            inputs=inputs,
            predictors=predictors,
            softmax=softmax,
            rates=band_rates(train),
            rebalance=balanced.report,
        )
        return cls(stored)

    @property
    def rebalance(self) -> RebalanceReport:
        return self.stored.rebalance

    def predict(self, columns: Columns) -> Diagnosis:
        self.stored.inputs.check(columns)
        fractions = self.stored.softmax.fractions(self.stored.predictors.table(columns))
        return diagnosis(fractions, fractions @ np.array(self.stored.rates))

    def to_files(self) -> dict[str, bytes]:
        return {MODEL_FILE: self.stored.to_json()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "FittedLogistic":
        return cls(read_stored(files, _Stored))
