"""Dimensions of a search space: the values that a sweep may try for one setting of a learner."""

import json
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

DIGITS: Final = 4
"""Significant digits of a proposed number, so that a person can read it and YAML holds exactly what was tried."""


class Range(BaseModel):
    """Numbers between two bounds, both included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float = Field(allow_inf_nan=False, description="smallest value")
    high: float = Field(allow_inf_nan=False, description="largest value")
    log: bool = Field(default=False, description="look at orders of magnitude evenly; needs low > 0 and no step")
    step: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="only low, low + step, ...")
    whole: bool = Field(default=False, alias="int", description="whole numbers only")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low > 0 and no step")
        if self.whole and any(not float(number).is_integer() for number in (self.low, self.high, self.step or 1)):
            raise ValueError("int needs whole numbers for low, high and step")
        if self.step is not None and (_exact(self.high) - _exact(self.low)) % _exact(self.step):
            raise ValueError(f"high {self.high:g} is not low {self.low:g} plus a number of steps of {self.step:g}")
        return self

    def probes(self) -> tuple[JsonValue, ...]:
        """Both bounds."""
        return self._value(self.low), self._value(self.high)

    def distribution(self) -> "BaseDistribution":
        """The range as Optuna writes it."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def suggest(self, trial: "Trial", name: str) -> JsonValue:
        """The sampler's next value, rounded."""
        if self.whole:
            step = int(self.step or 1)
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log, step=step)
        return self._rounded(trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step))

    def parameter(self, value: JsonValue) -> float | int | None:
        """What the sampler calls a value; None where the value is not in the range."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        step = self.step or (1 if self.whole else None)
        if step is not None and (_exact(value) - _exact(self.low)) % _exact(step):
            return None
        return self._value(value)

    def _value(self, number: float) -> float | int:
        return int(number) if self.whole else float(number)

    def _rounded(self, number: float) -> float:
        if self.step is not None:
            steps = round((number - self.low) / self.step)
            return float(_exact(self.low) + steps * _exact(self.step))
        if self.log:
            rounded = float(f"{number:.{DIGITS - 1}e}")
        else:
            rounded = round(number, DIGITS - 1 - math.floor(math.log10(self.high - self.low)))
        return min(max(rounded, self.low), self.high)


class Choices(BaseModel):
    """Some values of any kind: numbers, names, lists, null or whole blocks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choices: tuple[JsonValue, ...] = Field(min_length=2, description="the values")

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if twice := sorted({text for text in self.texts if self.texts.count(text) > 1}):
            raise ValueError(f"{', '.join(twice)} is written twice")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as JSON."""
        return tuple(as_text(choice) for choice in self.choices)

    def probes(self) -> tuple[JsonValue, ...]:
        """All of them."""
        return self.choices

    def distribution(self) -> "BaseDistribution":
        """The choices as Optuna writes them, which are JSON: a database holds no lists."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.texts)

    def suggest(self, trial: "Trial", name: str) -> JsonValue:
        """The sampler's next choice."""
        value: JsonValue = json.loads(trial.suggest_categorical(name, self.texts))
        return value

    def parameter(self, value: JsonValue) -> str | None:
        """What the sampler calls a value; None where it is none of the choices."""
        found = (choice for choice in self.choices if choice == value and as_text(choice)[:1] == as_text(value)[:1])
        return next((as_text(choice) for choice in found), None)


Dimension = Range | Choices


def _exact(number: float) -> Decimal:
    """A number as it is written: 0.1 is a tenth."""
    return Decimal(str(number))


def as_text(value: JsonValue) -> str:
    """A value as JSON."""
    return json.dumps(value, sort_keys=True)
