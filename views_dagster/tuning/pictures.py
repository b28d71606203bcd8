"""Pictures of a sweep as PNG bytes: how the score fell, which settings matter, and where good values lie."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import JsonValue

from views_dagster.reports.figures import GREY, INK, palette_png, short_label, tidy
from views_dagster.tuning.dimensions import Choices, Dimension, Range
from views_dagster.tuning.records import SweepResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI: Final = 90
_BLUE: Final = "#0b4a8f"
_ORANGE: Final = "#c2410c"
_LABEL_LENGTH: Final = 24
_SHOWN_SPREADS: Final = 4.0


def history(result: SweepResult, *, measure: str, title: str) -> bytes:
    """Score of each trial in their order, the best so far, and that of the present settings.

    Args:
        measure: what the score is, for people; lower is better.
        title: heading of the picture.
    """
    from matplotlib.ticker import MaxNLocator

    figure, (axis,) = _panels(1, 1, width=8.0, height=3.9, title=title)
    heights = _heights(result)
    low, high = _window(heights)
    _draw_trials(axis, result, {trial.number: float(trial.number) for trial in result.trials}, heights, low, high)
    numbers = [trial.number for trial in result.scored]
    if numbers:
        best = np.minimum.accumulate([trial.score or 0.0 for trial in result.scored])
        axis.step([*numbers, result.wanted - 1], [*best, best[-1]], where="post", color=_ORANGE, linewidth=1.4)
    failed = [trial.number for trial in result.trials if trial.state == "failed"]
    axis.plot(failed, [low] * len(failed), color=INK, linestyle="none", marker="x", markersize=5, clip_on=False)
    axis.set_xlim(-0.6, max(result.wanted, 2) - 0.4)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("trial", fontsize=9, color=INK)
    axis.set_ylabel(measure, fontsize=9, color=INK)
    _legend(figure, result, failed=bool(failed))
    return palette_png(figure)


def slices(result: SweepResult, space: Mapping[str, Dimension], *, measure: str, title: str) -> bytes:
    """One panel a setting: the score of each trial over the value it tried.

    Args:
        measure: what the score is, for people; lower is better.
        title: heading of the picture.
    """
    columns = min(3, len(space))
    rows = math.ceil(len(space) / columns)
    figure, axes = _panels(rows, columns, width=0.9 + 3.1 * columns, height=1.3 + 2.3 * rows, title=title)
    heights = _heights(result)
    low, high = _window(heights)
    for place, (axis, (path, dimension)) in enumerate(zip(axes, space.items(), strict=False)):
        positions = {trial.number: _position(dimension, trial.values[path]) for trial in result.trials}
        _draw_trials(axis, result, positions, heights, low, high)
        _value_axis(axis, dimension)
        axis.set_title(_shortened(path), loc="left", fontsize=9, fontweight="bold", color=INK)
        axis.tick_params(labelleft=place % columns == 0)
    figure.supylabel(measure, x=0.12 / figure.get_figwidth(), fontsize=9, color=INK)
    for axis in axes[len(space) :]:
        axis.set_visible(False)
    _legend(figure, result, failed=False)
    return palette_png(figure)


def importance(shares: Mapping[str, float], *, title: str) -> bytes:
    """A bar for each setting's share of the score's variance.

    Args:
        shares: of `importance.importances`; none of them gives a picture that says so.
        title: heading of the picture.
    """
    count = max(len(shares), 1)
    figure, (axis,) = _panels(1, 1, width=7.0, height=1.5 + 0.34 * count, title=title, left=2.9, bottom=0.6)
    names = [_shortened(path, 36) for path in shares]
    axis.barh(names, list(shares.values()), color=_BLUE, height=0.62)
    for place, share in enumerate(shares.values()):
        axis.text(share, place, f" {share:.0%}", va="center", fontsize=8, color=INK)
    if not shares:
        axis.text(0.5, 0.5, "too few scores to tell", ha="center", transform=axis.transAxes, fontsize=9, color=GREY)
        axis.set_yticks([])
    axis.invert_yaxis()
    axis.set_xlim(0, 1.08)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("share of the score's variance", fontsize=9, color=INK)
    return palette_png(figure)


def _panels(
    rows: int, columns: int, *, width: float, height: float, title: str, left: float = 0.8, bottom: float = 0.85
) -> "tuple[Figure, Sequence[Axes]]":
    """A figure of that size in inches, its heading, and its panels in the house's look."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.subplots_adjust(
        left=left / width,
        right=1 - 0.2 / width,
        top=1 - 0.65 / height,
        bottom=bottom / height,
        wspace=0.08,
        hspace=0.42,
    )
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        tidy(axis)
    figure.suptitle(
        title, x=0.1 / width, y=1 - 0.08 / height, ha="left", va="top", fontsize=12, fontweight="bold", color=INK
    )
    return figure, axes


def _window(heights: Mapping[int, float]) -> tuple[float, float]:
    """The scores that are shown at their height; those far above the others are drawn at the upper edge."""
    scores = np.array(list(heights.values()))
    if not len(scores):
        return 0.0, 1.0
    low = float(scores.min())
    high = min(float(scores.max()), low + _SHOWN_SPREADS * float(np.median(scores) - low))
    if high <= low:
        high = max(float(scores.max()), low + max(abs(low), 1.0) * 0.01)
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def _heights(result: SweepResult) -> dict[int, float]:
    """Height of each trial that did not fail.

    What a trial had reached when it was stopped is no score: it saw a part of what the others saw. It is drawn as far
    above or below the best one as it was of that one at the same point.
    """
    heights = {trial.number: trial.score for trial in result.trials if trial.score is not None}
    best = result.best if result.scored else None
    for trial in result.trials:
        if trial.state == "pruned" and trial.reports:
            point = max(trial.reports)
            offset = 0.0
            if best is not None and best.score is not None and point in best.reports:
                offset = best.score - best.reports[point]
            heights[trial.number] = trial.reports[point] + offset
    return heights


def _draw_trials(
    axis: "Axes",
    result: SweepResult,
    at: Mapping[int, float],
    heights: Mapping[int, float],
    low: float,
    high: float,
) -> None:
    styles: list[tuple[str, dict[str, Any]]] = [
        ("pruned", {"color": GREY, "markerfacecolor": "none", "marker": "o", "markersize": 4}),
        ("complete", {"color": _BLUE, "marker": "o", "markersize": 4}),
    ]
    for state, style in styles:
        numbers = [trial.number for trial in result.trials if trial.state == state and trial.number in heights]
        shown = [number for number in numbers if heights[number] <= high]
        above = [number for number in numbers if heights[number] > high]
        axis.plot([at[n] for n in shown], [heights[n] for n in shown], linestyle="none", **style)
        peak = style | {"marker": "^", "clip_on": False}
        axis.plot([at[n] for n in above], [high] * len(above), linestyle="none", **peak)
    if result.current is not None and result.current.score is not None:
        axis.axhline(min(result.current.score, high), color=GREY, linewidth=0.9, linestyle=(0, (3, 2)))
    if result.scored:
        best = result.best
        axis.plot(
            [at[best.number]],
            [heights[best.number]],
            linestyle="none",
            marker="o",
            markersize=10,
            markerfacecolor="none",
            markeredgecolor=_ORANGE,
            markeredgewidth=1.8,
        )
    axis.set_ylim(low, high)
    ticks = [tick for tick in axis.get_yticks() if low <= tick <= high]
    axis.set_yticks(ticks)


def _position(dimension: Dimension, value: JsonValue) -> float:
    if isinstance(dimension, Range):
        return float(dimension.parameter(value) or 0.0)
    return float(dimension.texts.index(str(dimension.parameter(value))))


def _value_axis(axis: "Axes", dimension: Dimension) -> None:
    if isinstance(dimension, Range):
        low, high = dimension.low, dimension.high
        if dimension.log:
            from matplotlib.ticker import NullFormatter

            margin = (high / low) ** 0.03
            # Limits first: without a trial there is nothing to put on a log scale.
            axis.set_xlim(low / margin, high * margin)
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter(NullFormatter())
            ticks = np.geomspace(low, high, 4)
        else:
            axis.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
            ticks = np.linspace(low, high, 4)
        if dimension.whole:
            ticks = np.unique(ticks.round())
        axis.set_xticks(ticks, [short_label(tick) for tick in ticks])
        return
    length = max(6, 40 // len(dimension.choices))
    shown = [
        "\n".join(part if len(part) <= length else f"{part[: length - 1]}…" for part in parts)
        for parts in choice_labels(dimension)
    ]
    axis.set_xticks(range(len(shown)), shown)
    axis.set_xlim(-0.5, len(shown) - 0.5)


def choice_labels(dimension: Choices) -> list[list[str]]:
    """What to call each choice: of a block, the values that not all of the blocks have."""
    blocks = [choice for choice in dimension.choices if isinstance(choice, dict)]
    common = {
        key for block in blocks[:1] for key in block if all(key in each and each[key] == block[key] for each in blocks)
    }
    named = []
    for choice, text in zip(dimension.choices, dimension.texts, strict=True):
        parts = [text]
        if isinstance(choice, str):
            parts = [choice]
        elif isinstance(choice, dict) and len(blocks) > 1:
            inner = {key: value for key, value in choice.items() if key not in common}
            parts = [value if isinstance(value, str) else f"{key} {value}" for key, value in inner.items()] or [text]
        named.append(parts)
    return named


def _shortened(path: str, length: int = _LABEL_LENGTH) -> str:
    """The end of a dotted path, which tells settings apart: as many whole names as fit, and at least one."""
    parts = path.split(".")
    while len(parts) > 1 and len(".".join(parts)) > length:
        parts = parts[1:]
    name = ".".join(parts)
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _legend(figure: "Figure", result: SweepResult, *, failed: bool) -> None:
    from matplotlib.lines import Line2D

    circle: dict[str, Any] = {"linestyle": "none", "marker": "o"}
    ring: dict[str, Any] = {"markerfacecolor": "none", "markersize": 8, "markeredgewidth": 1.8}
    handles = [
        Line2D([], [], color=_BLUE, markersize=4, label="scored", **circle),
        Line2D([], [], color=GREY, markerfacecolor="none", markersize=4, label="stopped early", **circle),
        Line2D([], [], color=INK, linestyle="none", marker="x", markersize=5, label="failed"),
        Line2D([], [], color=GREY, linewidth=0.9, linestyle=(0, (3, 2)), label="present settings"),
        Line2D([], [], color=_ORANGE, label="best", **circle, **ring),
    ]
    present = [True, result.count("pruned") > 0, failed, result.current is not None, True]
    figure.legend(
        handles=[handle for handle, shown in zip(handles, present, strict=True) if shown],
        loc="lower center",
        ncols=3 if figure.get_figwidth() < 6 else 5,
        fontsize=8,
        frameon=False,
    )
