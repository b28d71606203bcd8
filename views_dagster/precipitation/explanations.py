"""What a trained model looks at, as one table and as pictures: importance for any model, maps for a column network."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.precipitation import bands, profile_plots
from views_dagster.precipitation.attributions import attributions, first_layer_filters, randomised_maps
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.importance import permutation_importance
from views_dagster.precipitation.learners.base import FittedDiagnosis
from views_dagster.precipitation.learners.column_network import FittedColumnNetwork

MOST_ROWS: Final = 4000
"""Columns that importance is measured on; more change its second digit."""
MOST_MAPPED: Final = 400
"""Columns that attributions are averaged over."""

EXPLANATION_SCHEMA: Final = {
    "part": pl.String(),
    "group": pl.String(),
    "variable": pl.String(),
    "lowest": pl.Float64(),
    "highest": pl.Float64(),
    "value": pl.Float64(),
    "spread": pl.Float64(),
}
_INCREASE: Final = "increase of the ranked probability score"
_PART: Final = "part of the fraction, in 0..1"


@dataclass(frozen=True)
class Explained:
    """Rows of `EXPLANATION_SCHEMA` (`part` says which: importance, attribution, likeness_when_randomised), pictures by
    what they show, and a few numbers."""

    table: pl.DataFrame
    pictures: dict[str, bytes]
    numbers: dict[str, float]


def explain(fitted: FittedDiagnosis, columns: Columns, *, name: str, seed: int) -> Explained:
    """Explain a model on columns with observed rain that it was not trained on.

    Raises:
        PanelError: fewer than two columns.
    """
    rng = np.random.default_rng(seed)
    some = columns.take(_sample(rng, np.arange(len(columns)), MOST_ROWS))
    importance = permutation_importance(fitted, some, seed=seed)
    parts = [
        importance.select(
            pl.lit("importance").alias("part"), "group", "variable", "lowest", "highest", "spread", value="increase"
        )
    ]
    pictures = _importance_pictures(importance, columns, name)
    numbers = {"score": float(importance["score"][0])}
    if isinstance(fitted, FittedColumnNetwork):
        filters = first_layer_filters(fitted)
        pictures["filters"] = profile_plots.first_layer_filters(
            filters.weights, filters.profile_names, title=f"{name}: filters of the first layer"
        )
        wet = np.flatnonzero(columns.rain_mean >= columns.edges[0])
        mapped = columns.take(_sample(rng, wet if len(wet) else np.arange(len(columns)), MOST_MAPPED))
        table, drawn = _attributions(fitted, mapped, name)
        likeness = randomised_maps(fitted, mapped.take(np.arange(min(100, len(mapped)))), seed=seed)
        parts += [
            table,
            likeness.select(pl.lit("likeness_when_randomised").alias("part"), group="layer", value="rank_correlation"),
        ]
        pictures |= drawn
        numbers["likeness_to_a_randomised_network"] = float(likeness["rank_correlation"][-1])
    whole = pl.concat(parts, how="diagonal_relaxed")
    return Explained(
        whole.select(pl.col(key).cast(kind) for key, kind in EXPLANATION_SCHEMA.items()), pictures, numbers
    )


def _sample(rng: np.random.Generator, rows: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _importance_pictures(importance: pl.DataFrame, columns: Columns, name: str) -> dict[str, bytes]:
    def named(row: dict[str, object]) -> str:
        if row["group"] in ("level", "block"):
            ends = f"{row['lowest']:g}" if row["lowest"] == row["highest"] else f"{row['lowest']:g}-{row['highest']:g}"
            return f"{row['variable'] or 'all'} {ends} {columns.level_unit}"
        return str(row["variable"] or row["group"])

    pictures = {}
    for group, title in (("variable", "variables"), ("level", "levels"), ("block", "blocks of levels")):
        wanted = ["variable", "surface", "members"] if group == "variable" else [group]
        rows = importance.filter(pl.col("group").is_in(wanted))
        if rows.height:
            value, spread = rows["increase"].to_numpy(), rows["spread"].to_numpy()
            pictures[f"importance_of_{title.replace(' ', '_')}"] = profile_plots.importance_bars(
                [named(row) for row in rows.iter_rows(named=True)],
                value,
                low=value - spread,
                high=value + spread,
                title=f"{name}: importance of {title}",
                measure=_INCREASE,
            )
    if (importance["group"] == "block").any():
        pictures["importance_by_level"] = profile_plots.importance_map(
            profile_plots.importance_of_blocks(importance, columns.profile_names, columns.levels),
            columns.profile_names,
            columns.levels,
            columns.level_unit,
            title=f"{name}: importance by level",
            measure=_INCREASE,
        )
    return pictures


def _attributions(model: FittedColumnNetwork, columns: Columns, name: str) -> tuple[pl.DataFrame, dict[str, bytes]]:
    """Integrated gradients averaged over the columns, and those of the wettest one."""
    maps = attributions(model, columns)
    table = maps.frame().select(
        pl.lit("attribution").alias("part"),
        "variable",
        group="band",
        lowest="level",
        highest="level",
        value="mean",
        spread="magnitude",
    )
    wettest = int(columns.rain_mean.argmax())
    slopes = attributions(model, columns, "saliency")
    drawn = {
        "saliency": profile_plots.attribution_profiles(
            slopes.profiles.mean(axis=1),
            bands.names(columns.edges),
            slopes.profile_names,
            slopes.levels,
            slopes.level_unit,
            title=f"{name}: saliency, mean of {len(columns)} wet columns",
            measure="slope of the fraction, per standard deviation",
        )
    }
    for label, profiles, inputs, spread in (
        (
            f"mean of {len(columns)} wet columns",
            maps.profiles.mean(axis=1),
            columns.profiles.mean(axis=0),
            columns.profiles.std(axis=0),
        ),
        (
            f"the wettest column, {columns.rain_mean[wettest]:.1f} mm/h",
            maps.profiles[:, wettest],
            columns.profiles[wettest],
            None,
        ),
    ):
        key = "attributions" if spread is not None else "attributions_of_one_box"
        drawn[key] = profile_plots.attribution_profiles(
            profiles,
            bands.names(columns.edges),
            maps.profile_names,
            maps.levels,
            maps.level_unit,
            title=f"{name}: integrated gradients, {label}",
            measure=_PART,
            inputs=inputs,
            spread=spread,
        )
    return table, drawn
