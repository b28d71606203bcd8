"""Search spaces: which settings of a learner a sweep may change, and between which values.

Here a space is judged against the learner it belongs to and its values become settings; what tries them is in `study`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations, product
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from views_dagster.errors import QuerysetError
from views_dagster.names import nearest
from views_dagster.tuning.dimensions import Dimension, as_text


class MedianPruning(BaseModel):
    """Stop a trial that is worse than the median of the earlier ones at the same point."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["median"] = "median"
    startup_trials: int = Field(default=5, ge=1, description="trials that finish before any is stopped")
    warmup_steps: int = Field(default=0, ge=0, description="points of a trial that are never its last")


class HyperbandPruning(BaseModel):
    """Give most trials little and few much (Li et al. 2018, JMLR 18)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hyperband"] = "hyperband"
    min_resource: int = Field(default=1, ge=1, description="points before which no trial is stopped")
    max_resource: int | None = Field(default=None, ge=1, description="points of a whole trial; null: as the first had")
    reduction_factor: int = Field(default=3, ge=2, description="one trial in so many goes on")


class NoPruning(BaseModel):
    """Every trial runs to its end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["none"] = "none"


Pruning = Annotated[MedianPruning | HyperbandPruning | NoPruning, Field(discriminator="kind")]


class SweepSettings(BaseModel):
    """A `sweep:` block: the search for better settings of a model's learner."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: int = Field(
        default=40, ge=1, le=100_000, description="how many settings to try; raising it goes on where it stopped"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="of the proposals; no model's training depends on it")
    workers: int = Field(
        default=1, ge=1, le=1000, description="steps that share the trials; each is a pod where steps are pods"
    )
    parallel: int = Field(
        default=1, ge=1, le=1000, description="trials at once in each worker, each in a process of its own"
    )
    pruner: Pruning = Field(default=MedianPruning(), description="when to stop a trial early; `kind` picks the rule")
    timeout_hours: float | None = Field(
        default=None, gt=0, description="begin no trial after so long; the next run goes on"
    )
    space: dict[str, Dimension] = Field(
        min_length=1, description="settings of the learner by dotted path, such as regressor.lightgbm.num_leaves"
    )


@dataclass(frozen=True)
class StartingPoint:
    """A learner's settings before any is changed.

    Attributes:
        written: those that a person wrote.
        complete: all of them, with defaults.
    """

    written: dict[str, Any]
    complete: dict[str, Any]

    @classmethod
    def of(cls, learner: BaseModel) -> Self:
        """The settings of a validated learner."""
        return cls(learner.model_dump(mode="json", exclude_unset=True), learner.model_dump(mode="json"))

    def changed(self, values: Mapping[str, JsonValue]) -> dict[str, Any]:
        """The written settings with values at dotted paths; blocks on the way that nobody wrote are made.

        Raises:
            QuerysetError: a path leads through a setting that is not a block.
        """
        settings = deepcopy(self.written)
        for path, value in values.items():
            *way, last = path.split(".")
            block, default = settings, self.complete
            for place, key in enumerate(way, start=1):
                below = default.get(key) if block.get(key) is None else block[key]
                if not isinstance(below, dict | None):
                    reached = ".".join(way[:place])
                    raise QuerysetError(f"{path}: {reached} is {as_text(below)}, which has nothing below it")
                default = default.get(key) or {}
                if block.get(key) is None:
                    # Of a block that is left to its default, what is written must still say which kind it is.
                    block[key] = {"kind": default["kind"]} if "kind" in default else {}
                block = block[key]
            block[last] = deepcopy(value)
        return settings

    def value(self, path: str) -> JsonValue:
        """The setting at a dotted path, written or by default.

        Raises:
            KeyError: there is none.
        """
        return _at(self.complete, path)

    def as_written(self, path: str) -> JsonValue:
        """The setting at a dotted path as a person wrote it, a block without its defaults.

        Raises:
            KeyError: it is left to its default, or there is none.
        """
        return _at(self.written, path)

    def paths(self) -> list[str]:
        """Dotted paths of all settings that are not blocks."""
        return sorted(_leaves(self.complete))


def current_values(space: Mapping[str, Dimension], start: StartingPoint) -> dict[str, JsonValue] | None:
    """The values that the learner has now, by path; None where one of them is not in the space."""
    values: dict[str, JsonValue] = {}
    for path, dimension in space.items():
        # A choice that is a block says no more than a person would write, and stands for the same block.
        for find in (start.value, start.as_written):
            with suppress(KeyError):
                if dimension.parameter(value := find(path)) is not None:
                    values[path] = value
                    break
        else:
            return None
    return values


def problems(space: Mapping[str, Dimension], start: StartingPoint, learner: TypeAdapter[Any]) -> list[tuple[str, str]]:
    """What is wrong with a space, as (path, message): every bound and choice must make a valid learner.

    Each is tried with the other settings as they are, then together with each bound and choice of each other path,
    because rules between settings mostly join two. What three or more may not be together shows in a failed trial.

    Args:
        learner: validates settings, as the catalogue does.
    """
    found = [
        (inner, f"{outer} is in the space too, and it contains {inner}; leave one of them out")
        for outer, inner in product(space, space)
        if inner.startswith(f"{outer}.")
    ]
    for path, dimension in space.items():
        said = (_refusal(learner, start, {path: probe}) for probe in dimension.probes())
        found += [(path, message) for message in dict.fromkeys(said) if message is not None]
    if found:
        return found
    for first, second in combinations(space, 2):
        pairs = product(space[first].probes(), space[second].probes())
        said = (_refusal(learner, start, {first: one, second: other}) for one, other in pairs)
        message = next((message for message in said if message is not None), None)
        if message is not None:
            found.append((second, message))
    return found


def _refusal(learner: TypeAdapter[Any], start: StartingPoint, values: Mapping[str, JsonValue]) -> str | None:
    """Why the learner cannot have the values, or None."""
    try:
        # As strictly as the YAML in which the values may end: 3.0 is no whole number.
        learner.validate_json(json.dumps(start.changed(values)), strict=True)
    except QuerysetError as error:
        return str(error).split(": ", 1)[1] + nearest(next(iter(values)), start.paths())
    except ValidationError as error:
        for problem in error.errors():
            for path in values:
                if problem["type"] == "extra_forbidden" and problem["loc"][-1] in path.split("."):
                    return f"the learner has no such setting{nearest(path, start.paths())}"
        said = "; ".join(dict.fromkeys(problem["msg"].removeprefix("Value error, ") for problem in error.errors()))
        shown = " with ".join(f"{path} {as_text(value)}" for path, value in values.items())
        fraction = any(problem["type"] == "int_type" for problem in error.errors())
        return f"{shown} is refused: {said}" + ("; add int: true" if fraction else "")
    return None


def _at(settings: Mapping[str, Any], path: str) -> JsonValue:
    value: Any = settings
    for key in path.split("."):
        if not isinstance(value, dict):
            raise KeyError(path)
        value = value[key]
    found: JsonValue = value
    return found


def _leaves(settings: Mapping[str, Any], before: Sequence[str] = ()) -> Iterator[str]:
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*before, key))
        else:
            yield ".".join((*before, key))
