"""What a queryset is, how its transforms are written, and the check that it names only what exists.

Nothing here touches data: a typo fails when definitions load. `compute` runs querysets.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator

import views_dagster.features.grid_transforms  # importing them registers them
import views_dagster.features.transforms  # noqa: F401
from views_dagster.errors import QuerysetError
from views_dagster.features.registry import TRANSFORMS, Transform
from views_dagster.names import nearest
from views_dagster.panel import KEYS
from views_dagster.sources.base import PanelReader

_CALL: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\(([^()]*)\))?\s*")
_INTEGER: Final = re.compile(r"[+-]?\d+")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NAME: Final = re.compile(r"[A-Za-z_]\w*")

ColumnName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]\w*\.[A-Za-z]\w*$")]


@dataclass(frozen=True)
class Step:
    """One transform of a chain with its checked arguments."""

    transform: Transform
    arguments: tuple[int | float, ...]

    @property
    def memory(self) -> int | None:
        """Months before its own that a value depends on; None where all of the past matters."""
        return None if self.transform.memory is None else self.transform.memory(*self.arguments)

    def __str__(self) -> str:
        return f"{self.transform.name}({', '.join(map(repr, self.arguments))})"


def parse_step(text: str) -> Step:
    """Read one transform written as `name` or `name(argument, ...)`; arguments are numbers or names.

    Raises:
        QuerysetError: not of that form, an unknown transform, or arguments that it does not take.
    """
    match = _CALL.fullmatch(text)
    if match is None:
        raise QuerysetError(
            f"{text!r} is not a transform: write name or name(argument, ...), quoted where there are two arguments"
        )
    name, inside = match[1], (match[2] or "").strip()
    if name not in TRANSFORMS:
        raise QuerysetError(f"no transform is called {name}{nearest(name, TRANSFORMS)}")
    arguments = [_argument(part.strip(), text) for part in inside.split(",")] if inside else []
    transform = TRANSFORMS[name]
    return Step(transform, transform.arguments(arguments))


def _argument(word: str, text: str) -> int | float | str:
    if _INTEGER.fullmatch(word):
        return int(word)
    if _NUMBER.fullmatch(word):
        return float(word)
    if _NAME.fullmatch(word):
        return word
    raise QuerysetError(f"{word!r} in {text!r} is neither a number nor a name")


def _a_transform(text: str) -> str:
    try:
        parse_step(text)
    except QuerysetError as error:
        # pydantic says where in the YAML a ValueError arose; a QuerysetError would pass through without the place.
        raise ValueError(str(error)) from error
    return text


TransformText = Annotated[
    str,
    AfterValidator(_a_transform),
    WithJsonSchema({"type": "string", "pattern": rf"^\s*({'|'.join(sorted(TRANSFORMS))})\s*(\(.*\))?\s*$"}),
]


class ColumnSpec(BaseModel):
    """Where a column comes from and what is done to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: Reference = Field(
        alias="from", description="`<source>.<column>`, a column that the source offers at the queryset's level."
    )
    transforms: tuple[TransformText, ...] = Field(
        default=(), description="Transforms in the order they are applied, each `name` or `name(argument, ...)`."
    )

    @property
    def source(self) -> str:
        """Name of the source."""
        return self.from_.partition(".")[0]

    @property
    def column(self) -> str:
        """Name of the column within the source."""
        return self.from_.partition(".")[2]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The transforms, parsed."""
        return tuple(map(parse_step, self.transforms))


class Queryset(BaseModel):
    """The columns of a feature set, each taken from a source and passed through a chain of transforms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = Field(default="", description="What the queryset is for; shown with its asset.")
    level: str = Field(description="Level of analysis that rows are units of, for example `cm`.")
    units: str = Field(default="countries", description="Source that lists which units exist in each month.")
    targets: dict[ColumnName, ColumnSpec] = Field(
        min_length=1, description="What can be forecast, on the raw scale, by name."
    )
    columns: dict[ColumnName, ColumnSpec] = Field(min_length=1, description="What models learn from, by name.")

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "Queryset":
        taken = [name for name in self.columns if name in self.targets or name in KEYS]
        taken += [name for name in self.targets if name in KEYS]
        if taken:
            raise ValueError(f"{', '.join(taken)}: a column may not be named like a target, nor {' or '.join(KEYS)}")
        return self

    @property
    def specs(self) -> dict[str, ColumnSpec]:
        """Targets, then columns."""
        return {**self.targets, **self.columns}

    @property
    def sources(self) -> frozenset[str]:
        """Names of all sources that computing the queryset reads, the units included."""
        return frozenset({self.units, *(spec.source for spec in self.specs.values())})


def check(queryset: Queryset, sources: Mapping[str, PanelReader]) -> None:
    """Check every source and column that the queryset names, without touching data.

    A column may be offered at the level of the queryset or at that of its units' parents, and is then broadcast to the
    units; a target only at the former. Transforms between cells need units that are cells: those that have parents.

    Args:
        queryset: its transforms were checked when it was made.
        sources: every source of the system by name.

    Raises:
        QuerysetError: names of sources or columns that do not exist, all of them, each with the nearest that do, and
            transforms or units that do not fit the level.
    """
    problems = []
    parent_level = None
    if queryset.units not in sources:
        problems.append(f"units: no source is called {queryset.units}{nearest(queryset.units, sources)}")
    else:
        parent_level = sources[queryset.units].parent_level
        if sources[queryset.units].lists_units:
            problems += _refusal("units", sources[queryset.units], queryset.level)
    for part, specs in (("targets", queryset.targets), ("columns", queryset.columns)):
        for name, spec in specs.items():
            if spec.source not in sources:
                problems.append(f"{part}.{name}.from: no source is called {spec.source}{nearest(spec.source, sources)}")
                continue
            coarser = parent_level if part == "columns" else None
            problems += _missing(f"{part}.{name}.from", spec, sources[spec.source], queryset.level, coarser)
            between_cells = [step.transform.name for step in spec.steps if step.transform.needs_cells]
            if between_cells and parent_level is None and queryset.units in sources:
                problems.append(
                    f"{part}.{name}.transforms: {between_cells[0]} works between cells of the grid, and units of level "
                    f"{queryset.level} are none"
                )
    if problems:
        raise QuerysetError("\n".join(problems))


def _refusal(place: str, source: PanelReader, level: str) -> list[str]:
    try:
        source.columns(level)
    except QuerysetError as error:
        return [f"{place}: {error}"]
    return []


def _missing(place: str, spec: ColumnSpec, source: PanelReader, level: str, coarser: str | None) -> list[str]:
    """What is wrong with the column of a spec: nothing where the source offers it at `level` or at `coarser`."""
    offered, refusals = set[str](), []
    for at in filter(None, (level, coarser)):
        try:
            offered |= source.columns(at)
        except QuerysetError as error:
            refusals.append(str(error))
    if spec.column in offered:
        return []
    if refusals and not offered:
        return [f"{place}: {'; '.join(dict.fromkeys(refusals))}"]
    at = f"level {level}" + (f" or {coarser}" if coarser else "")
    return [f"{place}: {spec.source} has no column {spec.column} at {at}{nearest(spec.column, offered)}"]
