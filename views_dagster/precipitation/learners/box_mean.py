"""The box mean by regression, and from it the fractions that boxes of such a mean have had."""

from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from views_dagster.errors import ArtifactError
from views_dagster.precipitation.bands import exceedance
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import Diagnosis, DiagnosisLearner, FittedDiagnosis, Report
from views_dagster.precipitation.learners.inputs import (
    FEWEST_ROWS,
    MODEL_FILE,
    Inputs,
    Stored,
    check_training,
    diagnosis,
    from_exceedance,
    read_stored,
)
from views_dagster.precipitation.learners.predictors import Predictors, centre_and_scale
from views_dagster.precipitation.learners.trees import DiagnosisTrees, Outcomes, grow, predict_all, read_trees, trees_in

_TREES_FILE: Final = "mean.lightgbm.txt"
_FOLDS: Final = 3
_BINS: Final = 100
_FEWEST_IN_BIN: Final = 30
Floats = NDArray[np.float64]
Table = NDArray[np.float32]


class Ridge(BaseModel):
    """Linear least squares with squared weights penalised, on standardised predictors; cut off at zero."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["ridge"] = "ridge"
    penalty: float = Field(default=1e-2, gt=0, allow_inf_nan=False, description="of squared weights, for each row")


class BoostedMean(BaseModel):
    """Gradient-boosted trees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["boosted"] = "boosted"
    lightgbm: DiagnosisTrees = Field(default=DiagnosisTrees(), description="gradient-boosted trees of LightGBM")
    objective: Literal["regression", "tweedie"] = Field(
        default="tweedie", description="squared error, or the likelihood of a variable that is zero or skewed"
    )


class BoxMean(DiagnosisLearner):
    """Regression of the box mean; the fractions are those of training boxes for which a similar mean was predicted.

    For each edge the fraction above it is a function of the predicted mean that never falls: averages over bins of
    rows with similar predictions, made monotone (isotonic regression), with straight lines between. So that the
    function sees errors as large as in use, the predictions that it is learnt from are those of models that were
    trained on the other two thirds of the times.
    """

    kind: Literal["box_mean"] = "box_mean"
    regressor: Annotated[Ridge | BoostedMean, Field(discriminator="kind")] = Field(
        default=BoostedMean(), description="how the mean is predicted"
    )
    predictors: Predictors = Field(default=Predictors(), description="what it sees of a column")

    def fit(self, train: Columns, validation: Columns, *, seed: int, report: Report | None = None) -> "FittedBoxMean":
        """`report` is told the squared error of the mean on the validation rows; a ridge has one round."""
        inputs = check_training(train, validation, members=self.predictors.members)
        table, seen = self.predictors.table(train), self.predictors.table(validation)
        observed, wanted = train.rain_mean.astype(np.float64), validation.rain_mean.astype(np.float64)
        regressor = self.regressor
        mean = _fit(regressor, table, observed, seen, wanted, seed=seed, report=report)
        if isinstance(regressor, BoostedMean) and isinstance(mean, Trees):
            parameters = regressor.lightgbm.model_copy(update={"n_estimators": trees_in(mean.text)})
            regressor = regressor.model_copy(update={"lightgbm": parameters})

        def again(rows: NDArray[np.bool_]) -> Mean:
            return _fit(regressor, table[rows], observed[rows], seen[:0], wanted[:0], seed=seed, report=None)

        curve = _curve(_held_out(again, table, train.valid_time), exceedance(train.fractions))
        r2 = _r2(mean.predict(seen), wanted) if len(validation) else None
        line = mean if isinstance(mean, Line) else None
        stored = _Stored(inputs=inputs, predictors=self.predictors, line=line, curve=curve, r2=r2)
        return FittedBoxMean(stored, mean)

    def fitted_type(self) -> type["FittedBoxMean"]:
        return FittedBoxMean

    @property
    def needs_members(self) -> bool:
        return self.predictors.members


class Line(Stored):
    """A mean that is linear in the predictors, and not negative."""

    intercept: float
    weights: tuple[float, ...]

    @classmethod
    def fitted(cls, table: Table, observed: Floats, penalty: float) -> "Line":
        """Ridge regression of `observed` (N,) on `table` (N, P)."""
        from threadpoolctl import threadpool_limits

        centre, scale = centre_and_scale(table)
        # Sums over several BLAS threads depend on how many there are.
        with threadpool_limits(limits=1, user_api="blas"):
            standard = (table - centre) / scale
            gram = standard.T @ standard / len(table) + penalty * np.eye(len(centre))
            weights = np.linalg.solve(gram, standard.T @ (observed - observed.mean()) / len(table)) / scale
        return cls(intercept=float(observed.mean() - centre @ weights), weights=tuple(weights.tolist()))

    def predict(self, table: Table) -> Floats:
        """(N,) mm/h."""
        mean: Floats = np.maximum(table.astype(np.float64) @ np.array(self.weights) + self.intercept, 0.0)
        return mean


class Trees:
    """A mean by boosted trees, in LightGBM's text format."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._trees = read_trees(text)

    def predict(self, table: Table) -> Floats:
        """(N,) mm/h."""
        return np.maximum(predict_all([self._trees], table)[0], 0.0)


Mean = Line | Trees


def _fit(
    regressor: Ridge | BoostedMean,
    table: Table,
    observed: Floats,
    seen: Table,
    wanted: Floats,
    *,
    seed: int,
    report: Report | None,
) -> Mean:
    """Fit `observed` (N,) on `table` (N, P); `wanted` of the validation rows `seen` says when trees are enough.

    Where fewer than 20 rows have any rain the mean is the same everywhere.
    """
    if isinstance(regressor, BoostedMean) and (observed > 0).sum() >= FEWEST_ROWS:
        train, validation = (
            Outcomes(rows, means.astype(np.float32)[:, None]) for rows, means in ((table, observed), (seen, wanted))
        )
        settings, objective = regressor.lightgbm, regressor.objective
        (grown,) = grow(train, validation, settings, objective=objective, seed=seed, report=report)
        return Trees(grown.text)
    if isinstance(regressor, Ridge):
        line = Line.fitted(table, observed, regressor.penalty)
    else:
        line = Line(intercept=float(observed.mean()), weights=(0.0,) * table.shape[1])
    if report is not None and len(wanted):
        report(0, float(((line.predict(seen) - wanted) ** 2).mean()))
    return line


class Curve(Stored):
    """Fractions above each edge at rising predicted means, `above` one list a mean."""

    means: tuple[float, ...]
    above: tuple[tuple[float, ...], ...]

    def at(self, mean: Floats) -> Floats:
        """(N, B - 1) fractions above each edge for predicted means (N,)."""
        return np.stack([np.interp(mean, self.means, values) for values in np.array(self.above).T], axis=1)


class _Stored(Stored):
    inputs: Inputs
    predictors: Predictors
    line: Line | None
    curve: Curve
    r2: float | None = Field(description="share of the variance of the validation rows' means that is explained")


class FittedBoxMean(FittedDiagnosis):
    """A regression of the mean and the curves of the fractions over it."""

    def __init__(self, stored: _Stored, mean: Mean) -> None:
        self.stored, self._mean = stored, mean

    def predict(self, columns: Columns) -> Diagnosis:
        self.stored.inputs.check(columns)
        mean = self._mean.predict(self.stored.predictors.table(columns))
        return diagnosis(from_exceedance(self.stored.curve.at(mean)), mean)

    def to_files(self) -> dict[str, bytes]:
        trees = {_TREES_FILE: self._mean.text} if isinstance(self._mean, Trees) else {}
        return {MODEL_FILE: self.stored.to_json(), **trees}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "FittedBoxMean":
        stored = read_stored(files, _Stored)
        if stored.line is not None:
            return cls(stored, stored.line)
        if _TREES_FILE not in files:
            raise ArtifactError(f"the trained model lacks {_TREES_FILE}; train the model again")
        return cls(stored, Trees(files[_TREES_FILE]))


def _held_out(fit: Callable[[NDArray[np.bool_]], Mean], table: Table, valid_time: NDArray[np.datetime64]) -> Floats:
    """(N,) predictions of models that were fitted without the third of the times that a row is in.

    Where all rows are of one time there is nothing to hold out, and the predictions are those of the fit.
    """
    times, position = np.unique(valid_time, return_inverse=True)
    if len(times) == 1:
        return fit(np.ones(len(table), dtype=np.bool_)).predict(table)
    fold = position * min(_FOLDS, len(times)) // len(times)
    predicted = np.empty(len(table))
    for number in range(fold.max() + 1):
        rows = fold == number
        predicted[rows] = fit(~rows).predict(table[rows])
    return predicted


def _curve(predicted: Floats, above: Floats) -> Curve:
    """Monotone averages of `above` (N, B - 1) over bins of `predicted` (N,), narrower where predictions are large."""
    from scipy.optimize import isotonic_regression

    ascending = np.sort(predicted)
    from_top = np.geomspace(min(_FEWEST_IN_BIN, len(ascending)), len(ascending), _BINS).astype(np.intp)
    bounds = np.unique(ascending[len(ascending) - from_top])
    group = np.searchsorted(bounds, predicted, side="right") - 1
    rows = np.bincount(group)
    means = np.bincount(group, weights=predicted) / rows
    averages = [np.bincount(group, weights=column) / rows for column in above.T]
    rising = [isotonic_regression(values, weights=rows).x for values in averages]
    return Curve(means=tuple(means.tolist()), above=tuple(map(tuple, np.stack(rising, axis=1).tolist())))


def _r2(predicted: Floats, observed: Floats) -> float | None:
    """1 - squared error / variance; None where the observations do not vary."""
    spread = float(((observed - observed.mean()) ** 2).sum())
    return 1 - float(((predicted - observed) ** 2).sum()) / spread if spread else None
