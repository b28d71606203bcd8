"""What is known of finished trials: their records, and the result of a sweep as a whole."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import polars as pl
from pydantic import JsonValue

from views_dagster.errors import ForecastError

State = Literal["complete", "pruned", "failed"]
STATES: Final[Mapping[str, State]] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
"""Our names of Optuna's finished states."""

TRIAL_SCHEMA: Final = {
    "trial": pl.Int32(),
    "state": pl.String(),
    "score": pl.Float64(),
    "values": pl.String(),
    "reports": pl.List(pl.Float64()),
    "began": pl.Datetime("us"),
    "seconds": pl.Float64(),
    "error": pl.String(),
}


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial.

    Attributes:
        number: from 0.
        state: whether it has a score, was stopped early, or its settings cannot be scored.
        values: what it tried, by dotted path.
        score: lower is better; None unless complete.
        reports: score so far by point of its way.
        began, ended: local time.
        error: why it failed.
    """

    number: int
    state: State
    values: dict[str, JsonValue]
    score: float | None
    reports: dict[int, float]
    began: datetime
    ended: datetime
    error: str | None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended - self.began).total_seconds()


@dataclass(frozen=True)
class SweepResult:
    """What a sweep has found so far.

    Attributes:
        study: its name.
        trials: finished ones, by number.
        wanted: how many there are to be.
        current: the trial of the learner's settings as they are, where the space contains them.
    """

    study: str
    trials: tuple[TrialRecord, ...]
    wanted: int
    current: TrialRecord | None

    @property
    def is_complete(self) -> bool:
        """Whether all trials have finished."""
        return len(self.trials) == self.wanted

    @property
    def scored(self) -> tuple[TrialRecord, ...]:
        """Trials with a score, by number."""
        return tuple(trial for trial in self.trials if trial.score is not None)

    @property
    def best(self) -> TrialRecord:
        """The trial with the lowest score, of equal ones the first.

        Raises:
            ForecastError: no trial has a score.
        """
        if not self.scored:
            errors = [trial.error for trial in self.trials if trial.error]
            raise ForecastError(
                f"none of the {len(self.trials)} finished trials of {self.study} has a score"
                + (f"; the first failed because {errors[0]}" if errors else "; let it run for longer")
            )
        return min(self.scored, key=lambda trial: (trial.score, trial.number))

    def count(self, state: State) -> int:
        """How many trials ended so."""
        return sum(trial.state == state for trial in self.trials)

    def to_frame(self) -> pl.DataFrame:
        """One row of `TRIAL_SCHEMA` a finished trial; `values` is JSON."""
        return pl.DataFrame(
            [
                {
                    "trial": trial.number,
                    "state": trial.state,
                    "score": trial.score,
                    "values": json.dumps(trial.values, sort_keys=True),
                    "reports": [value for _, value in sorted(trial.reports.items())],
                    "began": trial.began,
                    "seconds": trial.seconds,
                    "error": trial.error,
                }
                for trial in self.trials
            ],
            schema=TRIAL_SCHEMA,
        )
