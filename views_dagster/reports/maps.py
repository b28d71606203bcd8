"""Maps of lattice cells as PNG bytes: amounts, chances and changes, each cell a whole number of pixels wide.

What is drawn is what there is: no projection, no smoothing, no resampling. Cells of the domain are land, all else
is left white. Colours grow darker step by step, so that colour-blind readers can order them, and begin with the colour
of the land: a cell that stands out is a cell with something in it. What of a forecast is drawn is said in `outlooks`.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import GeographyError
from views_dagster.geography import CELL_DEGREES, COLUMNS, ROWS, Raster
from views_dagster.reports.scales import Kind, Values, colour_scale, scale_ticks, shared_largest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.path import Path

Ids = NDArray[np.int64]

_INK, _GREY = "#262626", "#8a8a8a"
_LINES: Final = ("#949494", "#4d4d4d")
"""Borders between parents, and the outline of the land."""

# A power of two, so that pixels become inches and come back without rounding.
_DPI = 128
# Pixels around a map: degrees on its left and below, its heading above, its colour bar on the right.
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 104, 40, 34
_HEAD = 46
_PAIRED, _ALONE = (640, 560), (1440, 820)
_WIDEST_PIXELS = 16


@dataclass(frozen=True)
class Layer:
    """One map.

    Attributes:
        values: (U,) float64, one a cell; NaN, where nothing is known, is drawn as land.
        kind: which colours they have.
        title: heading of the map.
        measure: what the colours count.
        largest: the value of the last colour; the largest there is, and at least 1, where None.
        note: written across the map, which then has no colour bar.
    """

    values: Values
    kind: Kind
    title: str
    measure: str
    largest: float | None = None
    note: str = ""


def difference(now: Values, before: Values | None, *, title: str, measure: str, vmax: float | None = None) -> Layer:
    """What is said now less what was said before (U,), on a scale that is symmetric around no change.

    Args:
        before: NaN for cells of which nothing was said; None where there is nothing earlier, which the map then says.
    """
    if before is None:
        nothing = np.full(len(now), np.nan)
        return Layer(nothing, "change", title, measure, vmax, note="no earlier forecast to compare with")
    return Layer(now - before, "change", title, measure, vmax)


def draw_maps(layers: Sequence[Layer], units: Ids, parents: Ids, *, title: str = "") -> bytes:
    """Several maps of the same cells (U,) in one picture, two side by side unless their cells would be dots.

    Raises:
        GeographyError: no cell, an id that is no cell, a repeated cell, or unequal lengths.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch

    for name, given in (("parents", parents), *((layer.title, layer.values) for layer in layers)):
        if len(given) != len(units):
            raise GeographyError(f"{name}: {len(given)} values for {len(units)} cells; give each cell one")
    if len(np.unique(units)) != len(units) or not len(units):
        raise GeographyError(
            f"a map needs cells, each once; got {len(units)}, {len(np.unique(units))} of them different"
        )
    raster = Raster.around(units)
    frame = _frame(raster)
    wide, high = frame[1] - frame[0], frame[3] - frame[2]
    columns = 2 if len(layers) > 1 and _pixels(_PAIRED, wide, high) > 1 else 1
    pixels = _pixels(_PAIRED if columns == 2 else _ALONE, wide, high)
    across, up = wide * pixels, high * pixels
    head = _HEAD if title else 0
    rows = math.ceil(len(layers) / columns)
    width, height = columns * (_LEFT + across + _RIGHT), rows * (_TOP + up + _BOTTOM) + head
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    lines = [(_path(segments), colour) for segments, colour in zip(_edges(raster, parents), _LINES, strict=True)]
    for place, layer in enumerate(layers):
        row, column = divmod(place, columns)
        left = column * (_LEFT + across + _RIGHT) + _LEFT
        bottom = height - head - (row + 1) * (_TOP + up + _BOTTOM) + _BOTTOM
        axis = figure.add_axes((left / width, bottom / height, across / width, up / height))
        largest = layer.largest or shared_largest(layer.values)
        colours, norm = colour_scale(layer.kind, largest)
        painted = raster.paint(np.where(np.isnan(layer.values), 0.0, layer.values), empty=np.nan)
        _draw_cells(axis, painted, frame, raster, colours, norm)
        for path, colour in lines:
            # Without antialiasing an edge of cells is one pixel wide, and its colour is mixed with nothing.
            look = {"edgecolor": colour, "linewidth": _points(1), "antialiased": False, "snap": True}
            # Not `add_patch`, which walks along every edge to find limits that are set already.
            axis.add_artist(PathPatch(path, fill=False, transform=axis.transData, **look))
        axis.set_title(
            layer.title, loc="left", fontsize=_points(17), fontweight="bold", color=_INK, pad=_points(9), y=1
        )
        if layer.note:
            paper = {"facecolor": "white", "edgecolor": _GREY, "linewidth": _points(1)}
            axis.text(
                0.5,
                0.5,
                layer.note,
                transform=axis.transAxes,
                ha="center",
                fontsize=_points(16),
                color=_INK,
                bbox=paper,
            )
            continue
        bar = figure.add_axes(((left + across + 12) / width, bottom / height, 16 / width, up / height))
        _draw_bar(figure, bar, layer, colours, norm)
    if title:
        at = _LEFT / width
        figure.text(at, 1 - 14 / height, title, va="top", fontsize=_points(21), fontweight="bold", color=_INK)
    return _exact_png(figure)


def _points(pixels: float) -> float:
    return pixels * 72 / _DPI


def _pixels(room: tuple[int, int], wide: int, high: int) -> int:
    """Width of a cell, so that a map of that many cells fits into the room."""
    return max(1, min(_WIDEST_PIXELS, room[0] // wide, room[1] // high))


def _frame(raster: Raster) -> tuple[int, int, int, int]:
    """West, east, south and north of the map in lattice columns and rows from the lattice's corner.

    A margin around the cells, more where there are too few of them for headings; not beyond the globe.
    """
    rows, columns = raster.shape
    margin = max(2, round(0.02 * max(rows, columns)))
    high = max(rows + 2 * margin, 24)
    wide = max(columns + 2 * margin, 24, round(0.6 * high))
    west = max(0, raster.west - 1 - (wide - columns) // 2)
    south = max(0, raster.south - 1 - (high - rows) // 2)
    return west, min(COLUMNS, west + wide), south, min(ROWS, south + high)


def _edges(raster: Raster, parents: Ids) -> tuple[Values, Values]:
    """Segments (N, 2, 2), longitude and latitude of both ends: borders between parents, and the outline of the land."""
    _, code = np.unique(parents, return_inverse=True)
    held = np.pad(raster.paint(code.astype(np.int64), empty=-1), 1, constant_values=-1)
    # Rows of the padded raster meet on horizontal edges; rows of its transpose, which are columns, on vertical ones.
    across, up = _edges_between_rows(held), _edges_between_rows(held.T)
    corner = np.array([raster.west - 2, raster.south - 2]) * CELL_DEGREES - np.array([180.0, 90.0])
    borders, outline = (
        np.concatenate([horizontal, vertical[:, :, ::-1]]) * CELL_DEGREES + corner
        for horizontal, vertical in zip(across, up, strict=True)
    )
    return borders, outline


def _edges_between_rows(held: Ids) -> tuple[Ids, Ids]:
    """Segments (N, 2, 2) in cells, column and row of both ends, between rows of parents (R, C), -1 where there is none.

    First those with a parent on either side, then those with one on one side alone.
    """
    below, above = held[:-1], held[1:]
    differs, both = below != above, (below >= 0) & (above >= 0)
    return _runs(differs & both), _runs(differs & ~both)


def _path(segments: Values) -> "Path":
    """Segments (N, 2, 2) as one path, which is drawn many times faster than each of them."""
    from matplotlib.path import Path

    codes = np.tile(np.array([Path.MOVETO, Path.LINETO], dtype=np.uint8), len(segments))
    return Path(segments.reshape(-1, 2), codes)


def _runs(mask: NDArray[np.bool_]) -> Ids:
    """Every run of True along the rows of (R, C) as a segment on the upper edge of its row."""
    turns = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, first = np.nonzero(turns == 1)
    _, end = np.nonzero(turns == -1)
    return np.stack([first, row + 1, end, row + 1], axis=1).reshape(-1, 2, 2)


def _draw_cells(
    axis: "Axes",
    painted: Values,
    frame: tuple[int, int, int, int],
    raster: Raster,
    colours: "Colormap",
    norm: "Normalize",
) -> None:
    west, east, south, north = frame
    left, bottom = raster.west - 1, raster.south - 1
    right, top = left + raster.shape[1], bottom + raster.shape[0]
    seen = np.ma.masked_invalid(painted)
    rgba = colours(norm(seen), bytes=True)
    rgba[seen.mask] = 255
    corners = np.array([left, right, bottom, top]) * CELL_DEGREES - np.array([180, 180, 90, 90])
    axis.imshow(rgba, extent=tuple(corners), origin="lower", interpolation="nearest", aspect="auto")
    axis.set_xlim(west * CELL_DEGREES - 180, east * CELL_DEGREES - 180)
    axis.set_ylim(south * CELL_DEGREES - 90, north * CELL_DEGREES - 90)
    for line, (low, high), signs in (
        (axis.xaxis, axis.get_xlim(), ("° W", "° E")),
        (axis.yaxis, axis.get_ylim(), ("° S", "° N")),
    ):
        ticks = _degrees(low, high)
        line.set_ticks(ticks, [f"{abs(tick)}{signs[tick > 0] if tick else '°'}" for tick in ticks])
    axis.tick_params(labelsize=_points(13), colors=_INK, color=_GREY, length=_points(5), width=_points(1))
    for spine in axis.spines.values():
        spine.set(color=_GREY, linewidth=_points(1))


def _degrees(low: float, high: float) -> list[int]:
    """Whole degrees to mark, about five of them."""
    step = next(step for step in (1, 2, 5, 10, 20, 30, 60) if high - low <= 6.5 * step or step == 60)
    return list(range(math.ceil(low / step) * step, math.floor(high / step) * step + 1, step))


def _draw_bar(figure: "Figure", axis: "Axes", layer: Layer, colours: "Colormap", norm: "Normalize") -> None:
    from matplotlib.cm import ScalarMappable

    largest = float(norm.vmax or 1)
    beyond = bool(np.nanmax(np.abs(layer.values), initial=0) > largest)
    both = layer.kind == "change"
    extend = ("both" if both else "max") if beyond else "neither"
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=axis, extend=extend)
    ticks, labels = scale_ticks(layer.kind, largest)
    bar.set_ticks(ticks, labels=labels)
    bar.minorticks_off()
    bar.set_label(layer.measure, fontsize=_points(14), color=_INK)
    bar.outline.set(color=_GREY, linewidth=_points(1))
    axis.tick_params(labelsize=_points(13), colors=_INK, color=_GREY, length=_points(5), width=_points(1))


def _exact_png(figure: "Figure") -> bytes:
    """The figure in full colour: fewer colours would take those of the few cells that matter first."""
    from PIL import Image

    drawn, written = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="raw")
    width, height = (int(side) for side in figure.bbox.size)
    # Not its fourth channel: nothing is transparent.
    pixels = np.frombuffer(drawn.getvalue(), dtype=np.uint8).reshape(height, width, 4)[:, :, :3]
    Image.fromarray(pixels).save(written, format="png", compress_level=6)
    return written.getvalue()
