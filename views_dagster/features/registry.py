"""The registry of transforms: what a registered function is, and how its arguments are declared and checked.

The transforms themselves are in `transforms`; how a queryset writes them is in `querysets`.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final, TypeVar, get_type_hints, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from views_dagster.errors import QuerysetError
from views_dagster.features.lattice import Cells

Months = Annotated[int, Field(ge=1, le=1200, description="whole number of months, 1 to 1200")]
Number = Annotated[float, Field(allow_inf_nan=False, description="number")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, description="number above 0")]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, description="number, 0 or more")]


@dataclass(frozen=True)
class Neighbours:
    """Which grid rows border which in the same month, as pairs of row positions sorted by `row`."""

    row: NDArray[np.int64]
    neighbour: NDArray[np.int64]

    def sum(self, x: pl.Expr) -> pl.Expr:
        """Sum of `x` over the neighbours that exist and are known; 0 without neighbours, null where none is known."""

        def summed(series: pl.Series) -> pl.Series:
            values = series.to_numpy()[self.neighbour]
            known = ~np.isnan(values)
            rows = len(series)
            total = np.bincount(self.row[known], values[known], rows).astype(np.float64)
            some_known = np.bincount(self.row[known], minlength=rows) > 0
            some_unknown = np.bincount(self.row[~known], minlength=rows) > 0
            total[some_unknown & ~some_known] = np.nan
            return pl.Series(total, nan_to_null=True)

        return x.map_batches(summed, return_dtype=pl.Float64)


@dataclass(frozen=True)
class Transform:
    """A registered function with what its arguments must be, taken from its annotations.

    Attributes:
        needs_neighbours: whether it works across units that border each other.
        needs_cells: whether it works across cells of the lattice.
        memory: months before its own that a value depends on, given the arguments; None where all of the past matters.
    """

    name: str
    function: Callable[..., pl.Expr]
    parameters: tuple[inspect.Parameter, ...]
    needs_neighbours: bool
    needs_cells: bool = False
    memory: Callable[..., int] | None = None

    @property
    def across_units(self) -> bool:
        """Whether a unit's value depends on other units."""
        return self.needs_neighbours or self.needs_cells

    @property
    def signature(self) -> str:
        """For messages: `tlag(k)`, `entropy(w, offset=0)`, followed by what each argument must be."""
        shown, meanings = [], []
        for parameter in self.parameters:
            optional = parameter.default is not inspect.Parameter.empty
            shown.append(f"{parameter.name}={parameter.default:g}" if optional else parameter.name)
            meanings.append(f"{parameter.name} a {parameter.annotation.__metadata__[0].description}")
        call = f"{self.name}({', '.join(shown)})" if shown else self.name
        return ", ".join([call, *meanings])

    @cached_property
    def _adapters(self) -> list[TypeAdapter[Any]]:
        return [TypeAdapter(parameter.annotation) for parameter in self.parameters]

    def arguments(self, given: Sequence[int | float | str]) -> tuple[int | float, ...]:
        """All arguments, checked and with defaults filled in.

        Raises:
            QuerysetError: too many, too few, of the wrong type or out of range.
        """
        required = sum(parameter.default is inspect.Parameter.empty for parameter in self.parameters)
        if not required <= len(given) <= len(self.parameters):
            raise QuerysetError(f"{self.name} does not take {len(given)} arguments; write {self.signature}")
        checked = []
        for position, parameter in enumerate(self.parameters):
            value = given[position] if position < len(given) else parameter.default
            try:
                checked.append(self._adapters[position].validate_python(value, strict=True))
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise QuerysetError(
                    f"{self.name}: {parameter.name} is {value!r}: {reason}; write {self.signature}"
                ) from error
        return tuple(checked)

    def apply(
        self, x: pl.Expr, arguments: Sequence[int | float], neighbours: Neighbours | Cells | None = None
    ) -> pl.Expr:
        """The transformed column; across units, on the grid that `neighbours` describes.

        On the lattice the neighbours of a cell are the cells around it.
        """
        context = (neighbours,) if self.across_units else ()
        return self.function(x, *context, *arguments)


TRANSFORMS: Final[dict[str, Transform]] = {}


Function = TypeVar("Function", bound=Callable[..., pl.Expr])


@overload
def transform(function: Function) -> Function: ...
@overload
def transform(*, memory: int | Callable[..., int]) -> Callable[[Function], Function]: ...
def transform(function: Function | None = None, *, memory: int | Callable[..., int] | None = None) -> Any:
    """Register `function(x, argument, ...)` as a transform under its own name.

    Annotate arguments with `Months`, `Number`, `Positive` or `NotNegative`: they say what a queryset may write. A
    transform across units takes `neighbours: Neighbours` as its second parameter, one across cells `cells: Cells`.

    `memory` is how many months before its own a value depends on, as a number or a function of the arguments. Where it
    is given, a month is computed from these months alone; without it, from the whole past.
    """
    if function is None:
        return lambda function: _register(function, memory)
    return _register(function, memory)


def _register(function: Function, memory: int | Callable[..., int] | None) -> Function:
    hints = get_type_hints(function, include_extras=True)
    first, *others = inspect.signature(function).parameters.values()
    context = hints[others[0].name] if others and hints[others[0].name] in (Neighbours, Cells) else None
    if hints[first.name] is not pl.Expr or not function.__doc__:
        raise TypeError(f"transform {function.__name__} needs a docstring and a first parameter of type polars.Expr")
    TRANSFORMS[function.__name__] = Transform(
        name=function.__name__,
        function=function,
        parameters=tuple(p.replace(annotation=hints[p.name]) for p in others[context is not None :]),
        needs_neighbours=context is Neighbours,
        needs_cells=context is Cells,
        memory=(lambda *_: memory) if isinstance(memory, int) else memory,
    )
    return function
