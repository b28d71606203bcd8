"""The transforms between cells of the lattice, for querysets whose units are cells.

Registered like those of `transforms`, with `cells: Cells` as the second parameter. Unlike them they are never null
where the cell exists: as in VIEWS, a value that is unknown, and what lies outside the grid, count as 0.
"""

from typing import Annotated

import polars as pl
from pydantic import Field

from views_dagster.features.lattice import Cells, Ring
from views_dagster.features.registry import NotNegative, Positive, transform

Inner = Annotated[int, Field(ge=0, le=20, description="whole number of cells, 0 to 20")]
Width = Annotated[int, Field(ge=1, le=20, description="whole number of cells, 1 to 20")]
Switch = Annotated[int, Field(ge=0, le=1, description="0 or 1")]
Count = Annotated[int, Field(ge=1, description="whole number, 1 or more")]
Kernel = Annotated[int, Field(ge=0, le=2, description="0 for 1/ln(1+d), 1 for 1/d or 2 for 1/d^2")]


@transform(memory=0)
def spatial_lag(
    x: pl.Expr, cells: Cells, inner: Inner = 1, width: Width = 1, power: NotNegative = 0.0, normalise: Switch = 0
) -> pl.Expr:
    """Sum over the square ring of cells from `inner` to `inner + width - 1` cells away, weighted by distance^-power.

    The cell itself is left out, unless `inner` is 0. `normalise` 1 divides by the sum of the whole ring's weights.
    """
    ring = Ring(inner, width, power, bool(normalise))
    return cells.apply(x, lambda values: cells.ring_sums(values, ring))


@transform
def sptime_dist(x: pl.Expr, cells: Cells, k: Count = 1, nu: NotNegative = 1.0, cell: Positive = 1.0) -> pl.Expr:
    """Distance to the k-th nearest event (x above 0) of this or an earlier month, 999 where there are fewer than k.

    The distance is sqrt((cell * distance in cells)^2 + (nu * months)^2).
    """
    return cells.apply(x, lambda values: cells.nearest_events(values, k, nu, cell))


@transform(memory=0)
def treelag(x: pl.Expr, cells: Cells, theta: NotNegative, kernel: Kernel) -> pl.Expr:
    """Sum over all other cells, weighted by a kernel of the distance d; far ones are taken together in squares.

    A square stands for its cells where its side over its distance is at most `theta`; 0 gives the exact sum.
    """
    return cells.apply(x, lambda values: cells.tree_sums(values, theta, kernel))
