"""Climatology: what it rains on average in a calendar month, at an hour, in an area. It looks at no column."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from views_dagster.calendar import year_month
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import Diagnosis, DiagnosisLearner, FittedDiagnosis, Report
from views_dagster.precipitation.learners.inputs import (
    MODEL_FILE,
    Inputs,
    Stored,
    check_training,
    diagnosis,
    ranked_score,
    read_stored,
)

Factor = Literal["month", "hour", "area"]
Codes = tuple[int, ...]
_DECIMALS: Final = 9


class Climatology(DiagnosisLearner):
    """Mean fractions of groups of rows: by calendar month, then by hour of the day, by area, as `by` says.

    Groups are nested in the order of `by`. A group's mean is drawn towards that of the group around it, and the first
    group's towards the overall mean, as if `prior_days` more days had been seen there: rain of one day is one storm,
    however many boxes it fell on. A group without training rows has the mean of the group around it.
    """

    looks_at_columns: ClassVar[bool] = False

    kind: Literal["climatology"] = "climatology"
    by: Annotated[tuple[Factor, ...], Field(max_length=3)] = Field(
        default=("month",), description="what groups differ in, the widest first: month (of the year), hour (UTC), area"
    )
    area_degrees: float = Field(default=2.0, gt=0, le=90, description="side of the areas, in latitude and in longitude")
    prior_days: float = Field(default=10.0, ge=0, description="days that the mean of the wider group counts for")

    def fit(
        self, train: Columns, validation: Columns, *, seed: int, report: Report | None = None
    ) -> "FittedClimatology":
        """Average the training rows; neither `validation` nor `seed` is used but for the report."""
        inputs = check_training(train, validation)
        outcome = np.column_stack([train.fractions, train.rain_mean]).astype(np.float64)
        overall = outcome.mean(axis=0)
        codes = self._codes(train)
        day = train.valid_time.astype("datetime64[D]").astype(np.int64)
        around = np.broadcast_to(overall, outcome.shape)
        groups: list[tuple[Codes, tuple[float, ...]]] = []
        for depth in range(1, codes.shape[1] + 1):
            keys, first, group = np.unique(codes[:, :depth], axis=0, return_index=True, return_inverse=True)
            group = group.reshape(-1)
            rows = np.bincount(group)
            sums = np.stack([np.bincount(group, weights=column) for column in outcome.T], axis=1)
            days = np.bincount(np.unique(np.column_stack([group, day]), axis=0)[:, 0])
            own = days / (days + self.prior_days)
            means = own[:, None] * sums / rows[:, None] + (1 - own)[:, None] * around[first]
            groups += zip(map(tuple, keys.tolist()), map(tuple, np.round(means, _DECIMALS).tolist()), strict=True)
            around = means[group]
        fitted = FittedClimatology(
            _Stored(inputs=inputs, settings=self, overall=tuple(overall.tolist()), groups=tuple(groups))
        )
        if report is not None and len(validation):
            report(0, ranked_score(fitted.predict(validation).fractions, validation.fractions))
        return fitted

    def fitted_type(self) -> type["FittedClimatology"]:
        return FittedClimatology

    def _codes(self, columns: Columns) -> NDArray[np.int64]:
        """(N, factors) the group of each row by each factor."""
        codes = [self._code(factor, columns) for factor in self.by]
        return np.stack(codes, axis=1) if codes else np.zeros((len(columns), 0), dtype=np.int64)

    def _code(self, factor: Factor, columns: Columns) -> NDArray[np.int64]:
        if factor == "month":
            months, position = np.unique(columns.month_id, return_inverse=True)
            return np.array([year_month(int(month))[1] for month in months], dtype=np.int64)[position]
        if factor == "hour":
            return columns.valid_time.astype("datetime64[h]").astype(np.int64) % 24
        row = np.floor((columns.latitude.astype(np.float64) + 90) / self.area_degrees).astype(np.int64)
        column = np.floor((columns.longitude.astype(np.float64) % 360) / self.area_degrees).astype(np.int64)
        return row * 1_000_000 + column


class _Stored(Stored):
    inputs: Inputs
    settings: Climatology
    overall: tuple[float, ...] = Field(description="mean fractions, then mean rain")
    groups: tuple[tuple[Codes, tuple[float, ...]], ...]


class FittedClimatology(FittedDiagnosis):
    """Means by group."""

    def __init__(self, stored: _Stored) -> None:
        self.stored = stored
        self._means = {codes: np.array(means) for codes, means in stored.groups}

    def predict(self, columns: Columns) -> Diagnosis:
        self.stored.inputs.check(columns)
        wanted, position = np.unique(self.stored.settings._codes(columns), axis=0, return_inverse=True)
        means = np.stack([self._mean(tuple(codes)) for codes in wanted.tolist()])[position.reshape(-1)]
        return diagnosis(means[:, :-1], means[:, -1])

    def _mean(self, codes: Codes) -> NDArray[np.float64]:
        """That of the narrowest group that was seen in training."""
        depths = range(len(codes), 0, -1)
        found = (self._means[codes[:depth]] for depth in depths if codes[:depth] in self._means)
        return next(found, np.array(self.stored.overall))

    def to_files(self) -> dict[str, bytes]:
        return {MODEL_FILE: self.stored.to_json()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "FittedClimatology":
        return cls(read_stored(files, _Stored))
