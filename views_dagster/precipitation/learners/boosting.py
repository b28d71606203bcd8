"""Gradient boosting: one ensemble of trees an edge, for the fraction of the box above it."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from views_dagster.errors import ArtifactError
from views_dagster.precipitation.bands import exceedance
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import Diagnosis, DiagnosisLearner, FittedDiagnosis, Report
from views_dagster.precipitation.learners.inputs import (
    FEWEST_ROWS,
    MODEL_FILE,
    Inputs,
    Stored,
    band_rates,
    check_training,
    diagnosis,
    from_exceedance,
    read_stored,
)
from views_dagster.precipitation.learners.predictors import Predictors
from views_dagster.precipitation.learners.trees import (
    DiagnosisTrees,
    Outcomes,
    grow,
    predict_all,
    read_trees,
    shifted,
)
from views_dagster.precipitation.rebalancing import NoRebalance, Rebalance, RebalanceReport

_SUFFIX: Final = ".lightgbm.txt"


class Boosted(DiagnosisLearner):
    """LightGBM with the observed fraction above each edge as a soft label (cross-entropy).

    Fractions of the bands are differences between edges, after the predictions were made not to grow from edge to
    edge. An edge that hardly any training row reaches has a constant fraction. The box mean is the sum of the
    fractions times the typical rain of each band.
    """

    kind: Literal["boosted"] = "boosted"
    lightgbm: DiagnosisTrees = Field(default=DiagnosisTrees(), description="gradient-boosted trees of LightGBM")
    predictors: Predictors = Field(default=Predictors(), description="what it sees of a column")
    rebalance: Rebalance = Field(default=NoRebalance(), description="the mix of bands that it is trained on")

    def fit(self, train: Columns, validation: Columns, *, seed: int, report: Report | None = None) -> "FittedBoosted":
        """One round of `report` is one tree for each edge that still gets better."""
        inputs = check_training(train, validation, members=self.predictors.members)
        rates = band_rates(train)
        balanced = self.rebalance.apply(train.fractions, train.edges, seed=seed)
        before, after = (
            exceedance(np.array([shares]))[0]
            for shares in (balanced.report.fractions_before, balanced.report.fractions_after)
        )
        labels = exceedance(train.fractions)
        seen = np.minimum((labels > 0).sum(axis=0), (labels < 1).sum(axis=0)) >= FEWEST_ROWS
        constants = (labels.sum(axis=0) + 0.5) / (len(labels) + 1)
        shift = _log_odds(before) - _log_odds(after)
        plain = isinstance(self.rebalance, NoRebalance)
        rows, weight = (slice(None), None) if plain else (balanced.rows, balanced.weights)
        grown = grow(
            Outcomes(self.predictors.table(train)[rows], labels[rows][:, seen].astype(np.float32), weight),
            Outcomes(self.predictors.table(validation), exceedance(validation.fractions)[:, seen].astype(np.float32)),
            self.lightgbm,
            objective="cross_entropy",
            seed=seed,
            shift=shift[seen],
            report=report,
        )
        moves = iter(trees.shift for trees in grown)
        edges = (
            Edge(constant=None, shift=next(moves)) if some else Edge(constant=float(value), shift=0.0)
            for some, value in zip(seen, constants, strict=True)
        )
        stored = _Stored(
            inputs=inputs,
            predictors=self.predictors,
            edges=tuple(edges),
            rates=rates,
            rebalance=balanced.report,
        )
        return FittedBoosted(stored, [trees.text for trees in grown])

    def fitted_type(self) -> type["FittedBoosted"]:
        return FittedBoosted

    @property
    def needs_members(self) -> bool:
        return self.predictors.members


class Edge(Stored):
    """How the fraction above one edge is predicted: the same everywhere, or by trees whose log-odds are shifted."""

    constant: float | None
    shift: float


class _Stored(Stored):
    inputs: Inputs
    predictors: Predictors
    edges: tuple[Edge, ...]
    rates: tuple[float, ...] = Field(description="typical rain of each band, mm/h")
    rebalance: RebalanceReport


class FittedBoosted(FittedDiagnosis):
    """Trees of the edges that were reached in training."""

    def __init__(self, stored: _Stored, texts: Sequence[bytes]) -> None:
        self.stored, self._texts = stored, tuple(texts)
        self._trees = [read_trees(text) for text in texts]

    @property
    def rebalance(self) -> RebalanceReport:
        return self.stored.rebalance

    def predict(self, columns: Columns) -> Diagnosis:
        self.stored.inputs.check(columns)
        grown = iter(predict_all(self._trees, self.stored.predictors.table(columns)))
        above = [
            shifted(next(grown), edge.shift) if edge.constant is None else np.full(len(columns), edge.constant)
            for edge in self.stored.edges
        ]
        fractions = from_exceedance(np.stack(above, axis=1))
        return diagnosis(fractions, fractions @ np.array(self.stored.rates))

    def to_files(self) -> dict[str, bytes]:
        return {MODEL_FILE: self.stored.to_json(), **dict(zip(self._names(self.stored), self._texts, strict=True))}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "FittedBoosted":
        stored = read_stored(files, _Stored)
        missing = [name for name in cls._names(stored) if name not in files]
        if missing:
            raise ArtifactError(f"the trained model lacks {', '.join(missing)}; train the model again")
        return cls(stored, [files[name] for name in cls._names(stored)])

    @staticmethod
    def _names(stored: _Stored) -> list[str]:
        grown = (value for value, edge in zip(stored.inputs.edges, stored.edges, strict=True) if edge.constant is None)
        return [f"above_{value:g}{_SUFFIX}" for value in grown]


def _log_odds(chance: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(chance, 1e-9, 1 - 1e-9)
    odds: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return odds
