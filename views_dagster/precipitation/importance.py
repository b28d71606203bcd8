"""Permutation importance: how much worse a model of any kind gets when its predictors change places between rows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.errors import PanelError
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import FittedDiagnosis
from views_dagster.precipitation.learners.inputs import ranked_score

Group = Literal["variable", "level", "block", "surface", "members"]
GROUPS: Final[tuple[Group, ...]] = ("variable", "level", "block", "surface", "members")


def permutation_importance(
    model: FittedDiagnosis,
    columns: Columns,
    *,
    repeats: int = 3,
    seed: int = 0,
    correlation: float = 0.9,
    groups: Sequence[Group] = GROUPS,
) -> pl.DataFrame:
    """How much worse the ranked probability score gets when predictors are exchanged between rows (Breiman 2001).

    Groups are moved together: a `variable` on all levels, a `level` of all variables, a `block` of one variable on
    neighbouring levels that correlate by at least `correlation` (each alone would be stood in for by the next), a
    `surface` field, the NWP `members`. Each group is moved by the same `repeats` seeded orders of the rows.

    Returns:
        `group`, `variable` (null for a level), `lowest` and `highest` level (null for surface fields and members),
        `increase` of the score, mean over repeats, its standard deviation `spread` (0 of a single repeat), and the
        `score` of the columns as they are.

    Raises:
        PanelError: fewer than two columns, or one without observed rain.
    """
    if len(columns) < 2 or not columns.observed.all():
        raise PanelError("importance needs at least two columns, all with observed rain; drop the others first")

    def score(moved: Columns) -> float:
        return ranked_score(model.predict(moved).fractions, moved.fractions)

    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(columns)) for _ in range(repeats)]
    base = score(columns)
    rows = []
    for group, variable, at in _groups(columns, correlation):
        if group not in groups:
            continue
        increases = [score(_moved(columns, group, at, order)) - base for order in orders]
        levels = columns.levels[at[1]] if isinstance(at, tuple) else None
        rows.append(
            {
                "group": group,
                "variable": variable,
                "lowest": None if levels is None else float(levels[0]),
                "highest": None if levels is None else float(levels[-1]),
                "increase": float(np.mean(increases)),
                "spread": float(np.std(increases)),
                "score": base,
            }
        )
    kinds = {"group": pl.String, "variable": pl.String} | dict.fromkeys(
        ("lowest", "highest", "increase", "spread", "score"), pl.Float64
    )
    return pl.DataFrame(rows, schema=kinds)


def level_blocks(profiles: NDArray[np.floating], correlation: float) -> list[list[slice]]:
    """Of each variable of (N, V, L), runs of levels in which each correlates with the next by at least this much."""
    wide = profiles.astype(np.float64)
    wide -= wide.mean(axis=0)
    spread = np.sqrt((wide**2).mean(axis=0))
    products = (wide[..., :-1] * wide[..., 1:]).mean(axis=0)
    scale = spread[:, :-1] * spread[:, 1:]
    found = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    blocks = []
    for joined in found >= correlation:
        ends = [0, *(np.flatnonzero(~joined) + 1).tolist(), profiles.shape[2]]
        blocks.append([slice(low, high) for low, high in pairwise(ends)])
    return blocks


Place = tuple[NDArray[np.intp], slice] | int | None


def _groups(columns: Columns, correlation: float) -> Iterator[tuple[Group, str | None, Place]]:
    """Kind, variable and place of each group: variables and levels of a profile, a surface field, or the members."""
    everything, every_level = np.arange(len(columns.profile_names)), slice(0, len(columns.levels))
    for position, name in enumerate(columns.profile_names):
        yield "variable", name, (everything[position : position + 1], every_level)
    for level in range(len(columns.levels)):
        yield "level", None, (everything, slice(level, level + 1))
    for position, runs in enumerate(level_blocks(columns.profiles, correlation)):
        for run in runs:
            yield "block", columns.profile_names[position], (everything[position : position + 1], run)
    for position, name in enumerate(columns.surface_names):
        yield "surface", name, position
    if columns.members.shape[1]:
        yield "members", "members", None


def _moved(columns: Columns, group: Group, at: Place, order: NDArray[np.intp]) -> Columns:
    """The columns with one group taken from other rows."""
    if isinstance(at, tuple):
        profiles = columns.profiles.copy()
        profiles[:, at[0], at[1]] = columns.profiles[order][:, at[0], at[1]]
        return replace(columns, profiles=profiles)
    if group == "members":
        return replace(columns, members=columns.members[order])
    surface = columns.surface.copy()
    surface[:, at] = columns.surface[order, at]
    return replace(columns, surface=surface)
