"""What a model looks at, drawn over variables and levels, as PNG: filters, importance, attributions.

Levels run upwards as in the atmosphere: height grows and pressure falls towards the top. Everything is drawn from plain
arrays; how they are computed is in `attributions` and `importance`.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.reports.figures import GREY, INK, palette_png, tidy
from views_dagster.reports.scales import colour_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.floating]

_DPI: Final = 100
_BANDS: Final = ("#8a8a8a", "#7cc4a8", "#2a9fc4", "#225ea8", "#1b0c41")
_STYLES: Final = ((0, (1, 1)), (0, (5, 1.5)), "-", (0, (4, 1, 1, 1)), "-")


def first_layer_filters(weights: Array, names: Sequence[str], *, title: str, most: int = 24) -> bytes:
    """Filters of the first layer, the strongest first, each a picture of variables by place in the kernel.

    Args:
        weights: (F, V, K), the kernel's first place the lowest level.
        names: V variables.
        most: how many filters are drawn.
    """
    from matplotlib.colors import Normalize

    strength = np.sqrt((weights.astype(np.float64) ** 2).sum(axis=(1, 2)))
    order = np.argsort(-strength, kind="stable")[:most]
    _, variables, kernel = weights.shape
    columns = min(8, len(order))
    rows = math.ceil(len(order) / columns)
    cell = min(0.28, 1.5 / kernel)
    across, up = kernel * cell, variables * cell
    left, right, top, bottom, gap, head = 0.15 + _written(names, 8), 0.95, 0.55, 0.55, 0.16, 0.24
    width = left + columns * across + (columns - 1) * gap + right
    height = top + rows * (up + head) + (rows - 1) * 0.08 + bottom
    figure = _figure(width, height, title)
    largest = float(np.abs(weights[order]).max()) or 1.0
    colours, norm = colour_scale("change", 1.0)[0], Normalize(-largest, largest)
    offsets = np.arange(kernel) - (kernel - 1) // 2
    image = None
    for place, number in enumerate(order):
        row, column = divmod(place, columns)
        x = left + column * (across + gap)
        y = height - top - (row + 1) * (up + head) - row * 0.08
        axis = figure.add_axes((x / width, y / height, across / width, up / height))
        image = axis.imshow(weights[number], cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
        axis.set_title(f"filter {number}", fontsize=8, color=INK, pad=3)
        axis.set_yticks(range(variables), names if column == 0 else [""] * variables)
        last = place + columns >= len(order)
        shown = [0, kernel // 2, kernel - 1] if kernel > 2 else list(range(kernel))
        axis.set_xticks(
            shown, [f"{offsets[at]:+d}" if offsets[at] else "0" for at in shown] if last else [""] * len(shown)
        )
        axis.tick_params(labelsize=8, colors=INK, color=GREY, length=2)
        for spine in axis.spines.values():
            spine.set(color=GREY, linewidth=0.6)
    figure.text(
        (left + (width - left - right) / 2) / width,
        0.14 / height,
        "levels from the middle of the kernel, + is above",
        ha="center",
        fontsize=9,
        color=INK,
    )
    tall = min(height - top - bottom - head, 2.4)
    middle = bottom + (height - top - bottom - head - tall) / 2
    bar_axis = figure.add_axes(((width - right + 0.16) / width, middle / height, 0.12 / width, tall / height))
    _bar(figure, image, bar_axis, "weight")
    return palette_png(figure)


def importance_bars(
    names: Sequence[str],
    importance: Array,
    *,
    title: str,
    measure: str,
    low: Array | None = None,
    high: Array | None = None,
    most: int = 20,
) -> bytes:
    """Permutation importance, the largest first: how much worse the score gets when this is shuffled.

    Args:
        names: of variables, levels or blocks of levels.
        importance, low, high: (N,), with the ends of intervals where there are any.
        measure: what is on the axis, with its unit.
    """
    order = np.argsort(-importance, kind="stable")[:most]
    left, height = 0.3 + _written([names[at] for at in order], 8), 1.05 + 0.24 * len(order)
    width = left + 4.6
    figure = _figure(width, height, title)
    axis = figure.add_axes((left / width, 0.5 / height, (width - left - 0.55) / width, (height - 0.95) / height))
    tidy(axis)
    axis.grid(axis="y", visible=False)
    axis.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    place = np.arange(len(order))
    axis.barh(place, importance[order], 0.66, color="#6ba5d3")
    if low is not None and high is not None:
        axis.hlines(place, low[order], high[order], color=INK, linewidth=1.3)
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_yticks(place, [names[at] for at in order])
    axis.set_ylim(len(order) - 0.4, -0.6)
    axis.set_xlabel(measure, fontsize=9, color=INK)
    return palette_png(figure)


def importance_of_blocks(importance: pl.DataFrame, names: Sequence[str], levels: Array) -> NDArray[np.float64]:
    """(V, L) for `importance_map`: of each variable and level, the increase of the block that holds it; NaN where none.

    Args:
        importance: as of `importance.permutation_importance`, with the group `block`.
    """
    found = np.full((len(names), len(levels)), np.nan)
    for row in importance.filter(pl.col("group") == "block").iter_rows(named=True):
        low, high = sorted((row["lowest"], row["highest"]))
        found[list(names).index(row["variable"]), (levels >= low) & (levels <= high)] = row["increase"]
    return found


def importance_map(
    importance: Array, names: Sequence[str], levels: Array, level_unit: str, *, title: str, measure: str
) -> bytes:
    """Permutation importance by variable and level; shuffling that helped, which is chance, is drawn as none.

    Args:
        importance: (V, L), as `importance_of_blocks` makes it: levels that were moved together share one value.
        names: V variables.
        levels: (L,) ascending in height, in `level_unit`, `m` or `hPa`.
    """
    from matplotlib.colors import Normalize

    variables, count = importance.shape
    left, right, top, bottom = 0.85, 1.0, 0.55, 0.25 + 0.55 * _written(names, 9)
    across, up = 0.62 * variables, min(max(0.17 * count, 2.2), 4.6)
    width, height = max(left + across + right, 4.2), top + up + bottom
    figure = _figure(width, height, title)
    axis = figure.add_axes((left / width, bottom / height, across / width, up / height))
    largest = float(np.nanmax(importance, initial=0)) or 1.0
    colours = colour_scale("amount", 1.0)[0]
    image = axis.imshow(
        np.maximum(importance.T, 0),
        origin="lower",
        cmap=colours,
        norm=Normalize(0, largest),
        aspect="auto",
        interpolation="nearest",
    )
    axis.set_xticks(range(variables), names, rotation=40, ha="right", rotation_mode="anchor")
    shown = np.unique(np.linspace(0, count - 1, min(count, 12)).round().astype(int))
    axis.set_yticks(shown, [_level(float(levels[at]), level_unit) for at in shown])
    axis.set_ylabel(_LEVEL_AXES[level_unit], fontsize=9, color=INK)
    axis.tick_params(labelsize=8, colors=INK, color=GREY, length=2)
    for spine in axis.spines.values():
        spine.set(color=GREY, linewidth=0.6)
    bar = figure.add_axes(((left + across + 0.16) / width, bottom / height, 0.13 / width, up / height))
    _bar(figure, image, bar, measure)
    return palette_png(figure)


def attribution_profiles(
    attributions: Array,
    bands: Sequence[str],
    names: Sequence[str],
    levels: Array,
    level_unit: str,
    *,
    title: str,
    measure: str,
    inputs: Array | None = None,
    spread: Array | None = None,
    units: Sequence[str] | None = None,
) -> bytes:
    """Attributions by band over the levels of each variable, below the profiles that went in.

    Args:
        attributions: (B, V, L): of one box, or averaged over boxes.
        bands: B names.
        names: V variables.
        levels: (L,) ascending in height, in `level_unit`, `m` or `hPa`.
        measure: what an attribution counts, with its unit.
        inputs: (V, L), the profile of the box, or the mean one, in `units`.
        spread: (V, L), its standard deviation over the boxes.
        units: V units of the inputs.
    """
    variables = len(names)
    rows = 1 if inputs is None else 2
    left, right, top, gap, across, up = 0.75, 0.2, 0.85, 0.2, 1.75, 2.35
    space = 0.62
    width = left + variables * across + (variables - 1) * gap + right
    legend_rows = math.ceil(len(bands) / _legend_columns(width, len(bands)))
    bottom = 0.72 + 0.2 * legend_rows
    height = top + rows * up + (rows - 1) * space + bottom
    figure = _figure(width, height, title)
    heights = levels / 1000 if level_unit == "m" else levels
    limit = float(np.abs(attributions).max()) * 1.08 or 1.0
    for variable, name in enumerate(names):
        x = (left + variable * (across + gap)) / width
        for row in range(rows):
            y = (bottom + (rows - 1 - row) * (up + space)) / height
            axis = figure.add_axes((x, y, across / width, up / height))
            tidy(axis)
            axis.grid(axis="both", color="#e6e6e6", linewidth=0.7)
            _level_axis(axis, heights, level_unit, labelled=variable == 0)
            if row == 0:
                axis.set_title(name.replace("_", " "), fontsize=10, color=INK, pad=6)
            if inputs is not None and row == 0:
                if spread is not None:
                    low, high = inputs[variable] - spread[variable], inputs[variable] + spread[variable]
                    axis.fill_betweenx(heights, low, high, color="#d6e4f2", linewidth=0)
                axis.plot(inputs[variable], heights, color=INK, linewidth=1.5)
                axis.set_xlabel(units[variable] if units else "", fontsize=8, color=INK)
                axis.locator_params(axis="x", nbins=4)
                continue
            axis.axvline(0, color=INK, linewidth=0.8)
            for band in range(len(bands)):
                axis.plot(attributions[band, variable], heights, **_band_look(band, len(bands)))
            axis.set_xlim(-limit if attributions.min() < 0 else -0.03 * limit, limit)
            axis.locator_params(axis="x", nbins=3)
    middle = (left + (width - left - right) / 2) / width
    figure.text(middle, (bottom - 0.5) / height, measure, ha="center", fontsize=9, color=INK)
    if inputs is not None:
        words = "input profile" + ("" if spread is None else ", mean and one standard deviation")
        figure.text(
            0.12 / width, 1 - 0.36 / height, f"above: {words}; below: attributions", va="top", fontsize=9, color=INK
        )
    _band_legend(figure, bands)
    return palette_png(figure)


_LEVEL_AXES: Final = {"m": "height, km", "hPa": "pressure, hPa"}


def _figure(width: float, height: float, title: str) -> "Figure":
    """A titled, empty figure of so many inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.text(0.12 / width, 1 - 0.1 / height, title, va="top", fontsize=12, fontweight="bold", color=INK)
    return figure


def _written(names: Sequence[str], size: float) -> float:
    """About how many inches the longest name is in letters of so many points."""
    return 0.62 * size / 72 * max(len(name) for name in names)


def _level(level: float, unit: str) -> str:
    return f"{level / 1000:.1f}" if unit == "m" else f"{level:.4g}"


def _level_axis(axis: "Axes", heights: Array, unit: str, *, labelled: bool) -> None:
    low, high = float(heights[0]), float(heights[-1])
    margin = 0.02 * (high - low)
    # Ascending in height: pressure comes first high, so that this turns its axis over.
    axis.set_ylim(low - margin, high + margin)
    axis.tick_params(labelleft=labelled)
    if labelled:
        axis.set_ylabel(_LEVEL_AXES[unit], fontsize=9, color=INK)


def _band_look(band: int, count: int) -> dict[str, Any]:
    """Darker for wetter, and its own line: neither colour nor line alone tells."""
    at = round(band * (len(_BANDS) - 1) / max(count - 1, 1))
    return {"color": _BANDS[at], "linestyle": _STYLES[at], "linewidth": 1.2 + 0.15 * at}


def _legend_columns(width: float, entries: int) -> int:
    return max(1, min(entries, int(width / 1.45)))


def _band_legend(figure: "Figure", bands: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=f"{name} mm/h", **_band_look(at, len(bands))) for at, name in enumerate(bands)]
    columns = _legend_columns(figure.get_figwidth(), len(bands))
    figure.legend(handles=handles, loc="lower center", ncols=columns, fontsize=8, frameon=False, handlelength=2.6)


def _bar(figure: "Figure", image: Any, axis: "Axes", measure: str) -> None:
    bar = figure.colorbar(image, cax=axis)
    bar.set_label(measure, fontsize=8, color=INK)
    bar.outline.set(color=GREY, linewidth=0.6)
    axis.tick_params(labelsize=8, colors=INK, color=GREY, length=2)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("-", "−"))
