"""Panels of pictures of models: a grid of axes in the house's look, and one colour and marker for each model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.reports.figures import INK, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's palette, told apart by colour-blind readers; markers say the same.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#262626")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_DPI: Final = 100


def panels(
    rows: int,
    columns: int,
    title: str,
    *,
    panel: tuple[float, float],
    heights: Sequence[float] = (),
    left: float = 0.72,
    gap: float = 0.42,
    legend: int,
    share_x: bool = False,
    share_y: bool = False,
    headed: bool = True,
) -> tuple["Figure", "NDArray[np.object_]"]:
    """A titled figure of panels in rows and columns, and room for a legend of so many entries below."""
    from matplotlib.figure import Figure

    shares = list(heights) or [1.0] * rows
    # Margins in inches: laying out by measuring every text takes as long as drawing.
    space = 0.18 if heights else 0.36
    bottom, top, right = 0.52 + (0.3 if legend else 0.0), 0.75 if headed else 0.5, 0.2
    width = left + columns * panel[0] + (columns - 1) * gap + right
    tall = panel[1] * sum(shares) + (rows - 1) * space
    height = bottom + tall + top
    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=gap / panel[0],
        hspace=space / (panel[1] * sum(shares) / rows),
    )
    axes = figure.subplots(
        rows, columns, squeeze=False, sharex=share_x, sharey=share_y, gridspec_kw={"height_ratios": shares}
    )
    for axis in axes.reshape(-1):
        tidy(axis)
    figure.text(0.12 / width, 1 - 0.1 / height, title, va="top", fontsize=12, fontweight="bold", color=INK)
    return figure, axes


def colour_of(at: int) -> str:
    """The colour of the model at this place; from the eighth on they repeat."""
    return _COLOURS[at % len(_COLOURS)]


def marker_of(at: int) -> str:
    """Its marker."""
    return _MARKERS[at % len(_MARKERS)]


def look_of(at: int) -> dict[str, Any]:
    """Both, with line and marker sizes, as matplotlib takes them."""
    return {"color": colour_of(at), "marker": marker_of(at), "markersize": 4, "linewidth": 1.4}


def dodge(at: int, count: int, room: float) -> float:
    """How far aside the mark of one of several models stands, so that intervals do not cover each other."""
    return room * ((at + 0.5) / count - 0.5) if count > 1 else 0.0


def draw_with_interval(
    axis: "Axes",
    place: NDArray[np.floating],
    values: NDArray[np.floating],
    at: int,
    *,
    line: bool,
    upright: bool = True,
) -> None:
    """Marks at (value, low, high) rows and bars between the ends, which need not lie on either side of the value."""
    value, low, high = values.T
    bars: dict[str, Any] = {"color": colour_of(at), "linewidth": 1.2, "alpha": 0.8}
    if upright:
        axis.vlines(place, low, high, **bars)
        axis.plot(place, value, **look_of(at) | ({} if line else {"linestyle": "none"}))
    else:
        axis.hlines(place, low, high, **bars)
        axis.plot(value, place, **look_of(at) | {"linestyle": "none"})


def draw_legend(figure: "Figure", models: Sequence[str]) -> None:
    """Which model is which, below the panels."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=model, **look_of(at)) for at, model in enumerate(models)]
    figure.legend(handles=handles, loc="lower center", ncols=min(len(models), 6), fontsize=8, frameon=False)
