"""Pictures of an evaluation, as PNG: reliability, skill by threshold, by scale and by event.

Everything is drawn from the frames of `verification.Evaluation`. A model has one colour and one marker in all pictures
that list the same models in the same order.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from views_dagster.precipitation.panels import (
    colour_of,
    dodge,
    draw_legend,
    draw_with_interval,
    look_of,
    marker_of,
    panels,
)
from views_dagster.reports.figures import GREY, INK, palette_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMES: Final = {
    "fss": "fractions skill score",
    "brier": "Brier score of the fraction",
    "brier_any": "Brier score of any exceedance",
    "frequency_bias": "frequency bias",
    "rps": "ranked probability score",
    "kl": "Kullback-Leibler divergence",
    "crps": "CRPS of the box mean",
    "mae": "absolute error of the box mean",
    "r2": "R² of the box mean",
}


def reliability_diagram(reliability: pl.DataFrame, *, title: str, models: Sequence[str] | None = None) -> bytes:
    """Predicted against observed exceedance fraction by threshold, above how often each fraction is predicted.

    Args:
        reliability: as of an `Evaluation`.
        models: which, in this order; all where None.
    """
    models = _models(reliability, models)
    thresholds = reliability["threshold"].unique().sort().to_list()
    figure, axes = panels(2, len(thresholds), title, panel=(2.35, 2.35), heights=(1.0, 0.42), legend=len(models))
    for (upper, lower), threshold in zip(axes.T, thresholds, strict=True):
        rows = reliability.filter(pl.col("threshold") == threshold)
        shown = rows.filter(pl.col("rows") > 0, pl.col("model").is_in(models))
        largest = max(float(shown.select(pl.max_horizontal("predicted", "observed").max()).item()), 0.02)
        largest = 1.0 if largest > 0.8 else largest
        upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=(0, (3, 2)))
        for at, model in enumerate(models):
            mine = rows.filter(pl.col("model") == model)
            some = mine.filter(pl.col("rows") > 0)
            upper.plot(some["predicted"], some["observed"], **look_of(at))
            share = mine["rows"].to_numpy() / max(int(mine["rows"].sum()), 1)
            edges = np.append(mine["bin_low"].to_numpy(), mine["bin_high"].to_numpy()[-1])
            lower.stairs(np.where(share > 0, share, np.nan), edges, color=colour_of(at), linewidth=1.4)
        # Room for the markers at either end.
        upper.set(xlim=(-0.03 * largest, 1.05 * largest), ylim=(-0.03 * largest, 1.05 * largest))
        lower.set(xlim=upper.get_xlim(), yscale="log")
        upper.set_title(f"≥ {threshold:g} mm/h", fontsize=10, color=INK)
        upper.tick_params(labelbottom=False)
        upper.locator_params(nbins=5)
        lower.set_xlabel("predicted fraction", fontsize=9, color=INK)
    axes[0, 0].set_ylabel("observed fraction", fontsize=9, color=INK)
    axes[1, 0].set_ylabel("share of boxes", fontsize=9, color=INK)
    draw_legend(figure, models)
    return palette_png(figure)


def fss_by_scale(pooled: pl.DataFrame, *, title: str, models: Sequence[str] | None = None) -> bytes:
    """Fractions skill score by width of the neighbourhood, a panel for each threshold, with intervals.

    Args:
        pooled: as of an `Evaluation`.
        models: which, in this order; all where None.
    """
    rows = pooled.filter(pl.col("score") == "fss", pl.col("neighbourhood").is_not_null(), pl.col("value").is_not_null())
    models = _models(rows, models)
    thresholds = rows["threshold"].unique().sort().to_list()
    sizes = rows["neighbourhood"].unique().sort().to_list()
    figure, axes = panels(1, len(thresholds), title, panel=(2.35, 2.6), legend=len(models), share_y=True)
    for axis, threshold in zip(axes[0], thresholds, strict=True):
        for at, model in enumerate(models):
            mine = rows.filter(pl.col("model") == model, pl.col("threshold") == threshold).sort("neighbourhood")
            values = mine.select(pl.col("value", "low", "high").fill_null(np.nan)).to_numpy()
            place = np.searchsorted(sizes, mine["neighbourhood"].to_numpy()) + dodge(at, len(models), 0.1)
            draw_with_interval(axis, place, values, at, line=True)
        axis.set_title(f"≥ {threshold:g} mm/h", fontsize=10, color=INK)
        axis.set_xticks(range(len(sizes)), [f"{size}" for size in sizes])
        axis.set_xlim(-0.5, len(sizes) - 0.5)
        axis.set_xlabel("neighbourhood, boxes", fontsize=9, color=INK)
    _score_limits(axes[0, 0], rows)
    axes[0, 0].set_ylabel("fractions skill score", fontsize=9, color=INK)
    draw_legend(figure, models)
    return palette_png(figure)


def fss_by_threshold(pooled: pl.DataFrame, *, title: str, models: Sequence[str] | None = None) -> bytes:
    """Fractions skill score of single boxes by threshold, with intervals; arguments as of `fss_by_scale`."""
    rows = pooled.filter(pl.col("score") == "fss", pl.col("neighbourhood").is_null())
    models = _models(rows, models)
    thresholds = rows["threshold"].unique().sort().to_list()
    figure, axes = panels(1, 1, title, panel=(1.1 + 1.05 * len(thresholds), 2.9), legend=len(models), headed=False)
    axis = axes[0, 0]
    for at, model in enumerate(models):
        mine = rows.filter(pl.col("model") == model).sort("threshold")
        values = mine.select(pl.col("value", "low", "high").fill_null(np.nan)).to_numpy()
        place = np.searchsorted(thresholds, mine["threshold"].to_numpy()) + dodge(at, len(models), 0.6)
        draw_with_interval(axis, place, values, at, line=False)
    axis.set_xticks(range(len(thresholds)), [f"≥ {threshold:g}" for threshold in thresholds])
    axis.set_xlim(-0.5, len(thresholds) - 0.5)
    axis.set_xlabel("threshold, mm/h", fontsize=9, color=INK)
    axis.set_ylabel("fractions skill score", fontsize=9, color=INK)
    for between in range(len(thresholds) - 1):
        axis.axvline(between + 0.5, color="#e6e6e6", linewidth=0.7)
    _score_limits(axis, rows)
    draw_legend(figure, models)
    return palette_png(figure)


def skill_chart(skill: pl.DataFrame, *, reference: str, title: str, models: Sequence[str] | None = None) -> bytes:
    """Skill against one reference, a line for each score of single boxes, with intervals.

    Args:
        skill: as of an `Evaluation`.
    """
    rows = skill.filter(
        pl.col("reference") == reference, pl.col("neighbourhood").is_null(), pl.col("skill").is_not_null()
    )
    models = _models(rows, models)
    lines = rows.select("score", "threshold").unique(maintain_order=True).rows()
    figure, axes = panels(1, 1, title, panel=(4.6, 0.5 + 0.3 * len(lines)), left=2.75, legend=len(models), headed=False)
    axis = axes[0, 0]
    for at, model in enumerate(models):
        mine = {
            (row["score"], row["threshold"]): row for row in rows.filter(pl.col("model") == model).iter_rows(named=True)
        }
        place = np.arange(len(lines)) + dodge(at, len(models), 0.55)
        values = np.array(
            [[_float(mine.get(line, {}).get(name)) for name in ("skill", "skill_low", "skill_high")] for line in lines]
        )
        draw_with_interval(axis, place, values, at, line=False, upright=False)
    axis.axvline(0, color=INK, linewidth=0.9)
    low = float(rows.select(pl.min_horizontal("skill", "skill_low").min()).item())
    # One hopeless score must not squeeze all others: what lies further is marked by an arrow at the edge.
    axis.set_xlim(max(-1.05, min(1.15 * low, -0.08)), 1.0)
    for at, model in enumerate(models):
        beyond = rows.filter(pl.col("model") == model, pl.col("skill") < axis.get_xlim()[0])
        heights = [
            lines.index(key) + dodge(at, len(models), 0.55) for key in beyond.select("score", "threshold").rows()
        ]
        axis.plot(
            [axis.get_xlim()[0] + 0.015] * len(heights),
            heights,
            linestyle="none",
            marker="<",
            color=colour_of(at),
            markersize=5,
        )
    axis.set_yticks(range(len(lines)), [_name(score, threshold) for score, threshold in lines])
    axis.set_ylim(len(lines) - 0.5, -0.5)
    axis.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    axis.set_xlabel(f"skill against {reference} (1 is perfect)", fontsize=9, color=INK)
    draw_legend(figure, models)
    return palette_png(figure)


def event_strip(
    by_event: pl.DataFrame,
    *,
    score: str,
    title: str,
    threshold: float | None = None,
    models: Sequence[str] | None = None,
) -> bytes:
    """One score of each event, a line of dots for each model, larger for events with more rows; a bar at the median.

    Args:
        by_event: as of an `Evaluation`.
        score, threshold: which; null threshold for scores of whole rows.
    """
    rows = by_event.filter(
        pl.col("score") == score, pl.col("threshold").eq_missing(threshold), pl.col("neighbourhood").is_null()
    ).drop_nulls("value")
    models = _models(rows, models)
    figure, axes = panels(1, 1, title, panel=(5.6, 0.5 + 0.42 * len(models)), left=1.7, legend=0, headed=False)
    axis = axes[0, 0]
    largest = max(int(rows.select(pl.col("rows").max()).item() or 1), 1)
    for at, model in enumerate(models):
        mine = rows.filter(pl.col("model") == model).sort("event")
        values = mine["value"].to_numpy()
        # Evenly spread, so that equal dots do not hide each other and the picture is the same each time.
        height = at + (np.arange(len(values)) * 0.618 % 1 - 0.5) * 0.5
        sizes = 10 + 50 * mine["rows"].to_numpy() / largest
        axis.scatter(values, height, s=sizes, color=colour_of(at), alpha=0.65, linewidth=0, marker=marker_of(at))
        if len(values):
            axis.plot([np.median(values)] * 2, [at - 0.36, at + 0.36], color=INK, linewidth=1.6)
    axis.set_yticks(range(len(models)), models)
    axis.set_ylim(max(len(models), 1) - 0.5, -0.5)
    axis.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    axis.grid(axis="y", visible=False)
    count = rows["event"].n_unique()
    axis.set_xlabel(f"{_name(score, threshold)}, {count} events (bar: median)", fontsize=9, color=INK)
    return palette_png(figure)


def _models(rows: pl.DataFrame, wanted: Sequence[str] | None) -> list[str]:
    return list(wanted) if wanted is not None else rows["model"].unique(maintain_order=True).to_list()


def _score_limits(axis: "Axes", rows: pl.DataFrame) -> None:
    """From 0, or a little below the lowest value, to 1: that of a perfect prediction."""
    lowest = rows.select(pl.min_horizontal("value", "low").min()).item()
    axis.set_ylim(min(0.0, 1.05 * (lowest or 0.0)), 1.0)


def _name(score: str, threshold: float | None) -> str:
    return _NAMES[score] + ("" if threshold is None else f", ≥ {threshold:g} mm/h")


def _float(value: float | None) -> float:
    return np.nan if value is None else value
