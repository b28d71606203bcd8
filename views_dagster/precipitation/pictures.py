"""Maps of band fractions on the lattice: by band, by threshold, and through an event as an animation.

Each box is drawn as it is: no projection, no smoothing. Boxes without a row are hatched. What is drawn of scores is in
`score_pictures`.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.precipitation import bands
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.reports.figures import GREY, INK, palette_png
from views_dagster.reports.scales import colour_scale, scale_ticks

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from PIL import Image

Array = NDArray[np.floating]

_DPI: Final = 100
# Inches around the panels.
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.62, 0.85, 0.82, 0.42, 0.14
_LEAST_WIDTH: Final = 4.6
_HATCHED: Final[Mapping[str, Any]] = {"facecolor": "white", "edgecolor": "#b5b5b5", "hatch": "/////", "linewidth": 0}


def band_maps(
    rows: Mapping[str, Array], box_id: NDArray[np.int64], grid: BoxGrid, edges: tuple[float, ...], *, title: str
) -> bytes:
    """Maps of the fraction of each box in each band at one valid time, a row of maps for each of `rows`, as PNG.

    Args:
        rows: by heading (a model's name, `observed`), fractions (N, B); NaN where not observed.
        box_id: (N,) the boxes.
    """
    names = [f"{name} mm/h" for name in bands.names(edges)]
    return _maps(rows, box_id, grid, names, f"{title}\nfraction of each box by intensity band")


def exceedance_maps(
    rows: Mapping[str, Array], box_id: NDArray[np.int64], grid: BoxGrid, edges: tuple[float, ...], *, title: str
) -> bytes:
    """Maps of the fraction of each box at or above each threshold, as `band_maps`: for a point that is drawn at random
    in the box, its probability of exceedance."""
    names = [f"≥ {edge:g} mm/h" for edge in edges]
    above = {heading: bands.exceedance(fractions) for heading, fractions in rows.items()}
    return _maps(above, box_id, grid, names, f"{title}\nfraction of each box at or above a threshold")


def animate_exceedance(
    rows: Mapping[str, Array],
    valid_time: NDArray[np.datetime64],
    box_id: NDArray[np.int64],
    grid: BoxGrid,
    edges: tuple[float, ...],
    *,
    edge: float,
    title: str,
    milliseconds: int = 350,
    max_bytes: int = 700_000,
) -> bytes:
    """An event as a GIF that repeats: side by side for each of `rows`, the fraction of each box at or above `edge`.

    Args:
        rows: by heading, fractions (N, B) of all times; NaN where not observed.
        valid_time, box_id: (N,).
        edge: one of `edges`, mm/h.
        milliseconds: how long a frame is shown.
        max_bytes: what the GIF may be large; frames are left out evenly until it fits, at least two stay.
    """
    from PIL import Image

    at = edges.index(edge)
    above = {heading: bands.exceedance(fractions)[:, at] for heading, fractions in rows.items()}
    times, frame_of = np.unique(valid_time, return_inverse=True)
    figure, [panels] = _panels(grid, [*rows], [""], title)
    images = [_draw(axis, np.full((grid.rows, grid.columns), np.nan), grid) for axis in panels]
    words = figure.texts[0]
    canvas = _still_of(figure, [words, *images])
    still = canvas.copy_from_bbox(figure.bbox)
    moving: list[Artist] = [*images, *(spine for axis in panels for spine in axis.spines.values()), words]
    frames = []
    for frame, time in enumerate(times):
        now = frame_of == frame
        for image, values in zip(images, above.values(), strict=True):
            image.set_data(_field(values[now], box_id[now], grid))
        words.set_text(f"{title}\n≥ {edge:g} mm/h, {_moment(time)}")
        # Only what moves is drawn again, which is several times faster.
        canvas.restore_region(still)
        for artist in moving:
            figure.draw_artist(artist)
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy()))
    while True:
        gif = _gif(frames, milliseconds)
        if len(gif) <= max_bytes or len(frames) <= 2:
            return gif
        frames, milliseconds = frames[::2], 2 * milliseconds


def _maps(
    rows: Mapping[str, Array], box_id: NDArray[np.int64], grid: BoxGrid, columns: Sequence[str], title: str
) -> bytes:
    figure, panels = _panels(grid, columns, [*rows], title)
    for row, values in zip(panels, rows.values(), strict=True):
        for at, axis in enumerate(row):
            _draw(axis, _field(values[:, at], box_id, grid), grid)
    return palette_png(figure)


def _field(values: Array, box_id: NDArray[np.int64], grid: BoxGrid) -> NDArray[np.float64]:
    """(rows, columns) of the lattice, NaN where there is no row."""
    field = np.full((grid.rows, grid.columns), np.nan)
    field[grid.rows_columns(box_id)] = values
    return field


def _panels(
    grid: BoxGrid, headings: Sequence[str], labels: Sequence[str], title: str
) -> tuple["Figure", list[list["Axes"]]]:
    """A figure with a row of empty maps for each label and a column for each heading, and one colour bar."""
    from matplotlib.figure import Figure

    rows, columns = len(labels), len(headings)
    across, up = _size_of_map(grid, 2.6 if rows * columns <= 4 else 1.9)
    left = _LEFT + (0.25 if any(labels) else 0.0)
    maps_width, maps_height = columns * across + (columns - 1) * _GAP, rows * up + (rows - 1) * _GAP
    width, height = max(left + maps_width + _RIGHT, _LEAST_WIDTH), _TOP + maps_height + _BOTTOM
    figure = Figure(figsize=(width, height), dpi=_DPI)
    panels: list[list[Axes]] = []
    for row, label in enumerate(labels):
        bottom = height - _TOP - (row + 1) * up - row * _GAP
        panels.append([])
        for column, heading in enumerate(headings):
            x = left + column * (across + _GAP)
            axis = figure.add_axes((x / width, bottom / height, across / width, up / height))
            _frame(axis, grid, across, up)
            axis.tick_params(labelleft=column == 0, labelbottom=row == rows - 1)
            axis.tick_params(left=column == 0, bottom=row == rows - 1)
            if row == 0:
                axis.set_title(heading, fontsize=10, color=INK, pad=5, y=1)
            if column == 0 and label:
                axis.set_ylabel(label, fontsize=10, fontweight="bold", color=INK, labelpad=6)
            panels[-1].append(axis)
    tall = min(maps_height, 3.6)
    x, y = left + maps_width + 0.18, _BOTTOM + (maps_height - tall) / 2
    _colour_bar(figure, figure.add_axes((x / width, y / height, 0.13 / width, tall / height)))
    words: dict[str, Any] = {"fontsize": 11, "fontweight": "bold", "color": INK, "linespacing": 1.4, "va": "top"}
    figure.text(0.12 / width, 1 - 0.1 / height, title, **words)
    return figure, panels


def _size_of_map(grid: BoxGrid, high: float) -> tuple[float, float]:
    """Inches across and up, so that a kilometre is as long both ways in the middle of the lattice."""
    south, north = grid.latitude_edges[[0, -1]]
    west, east = grid.longitude_edges[[0, -1]]
    shape = float((east - west) * np.cos(np.radians((south + north) / 2)) / (north - south))
    across = min(max(high * shape, 1.5), 3.6)
    return across, across / shape


def _frame(axis: "Axes", grid: BoxGrid, across: float, up: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_xlim(*grid.longitude_edges[[0, -1]])
    axis.set_ylim(*grid.latitude_edges[[0, -1]])
    for line, written, count in ((axis.xaxis, _east, across / 0.6), (axis.yaxis, _north, up / 0.45)):
        line.set_major_locator(MaxNLocator(max(int(count), 2), steps=[1, 2, 2.5, 5, 10], prune="upper"))
        line.set_major_formatter(FuncFormatter(written))
    axis.tick_params(labelsize=8, colors=INK, color=GREY, length=2.5)
    for spine in axis.spines.values():
        spine.set(color=GREY, linewidth=0.7)
    axis.patch.set(**_HATCHED)


def _colour_bar(figure: "Figure", axis: "Axes") -> None:
    """What the colours mean, and below it what the hatching does."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.patches import Patch

    colours, norm = colour_scale("chance", 1.0)
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=axis)
    ticks, written = scale_ticks("chance", 1.0)
    bar.set_ticks(ticks, labels=written)
    bar.minorticks_off()
    bar.outline.set(color=GREY, linewidth=0.7)
    axis.tick_params(labelsize=8, colors=INK, color=GREY, length=2.5)
    bar.set_label("share of the box", fontsize=8, color=INK, labelpad=1)
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-1.0, -0.02), "borderpad": 0, "handlelength": 1.3}
    axis.legend(handles=[Patch(**_HATCHED, label="no value")], fontsize=8, frameon=False, **place)


def _draw(axis: "Axes", field: NDArray[np.float64], grid: BoxGrid) -> "AxesImage":
    colours, norm = colour_scale("chance", 1.0)
    extent = (*grid.longitude_edges[[0, -1]], *grid.latitude_edges[[0, -1]])
    # NaN is transparent, so that the hatching of the panel shows.
    look: dict[str, Any] = {
        "origin": "lower",
        "interpolation": "nearest",
        "aspect": "auto",
        "cmap": colours,
        "norm": norm,
    }
    return axis.imshow(field, extent=extent, **look)


def _east(degree: float, _: int) -> str:
    degree = (degree + 180) % 360 - 180
    return f"{abs(degree):g}°{'E' if degree > 0 else 'W' if degree else ''}"


def _north(degree: float, _: int) -> str:
    return f"{abs(degree):g}°{'N' if degree > 0 else 'S' if degree else ''}"


def _moment(time: np.datetime64) -> str:
    return f"{np.datetime_as_string(time, unit='m').replace('T', ' ')} UTC"


def _still_of(figure: "Figure", moving: Sequence["Artist"]) -> Any:
    """A canvas with the figure, drawn without the moving parts; matplotlib has no types for what one can do."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    return canvas


def _gif(frames: Sequence["Image.Image"], milliseconds: int) -> bytes:
    """Frames that share the 128 colours of a few of them stacked: what does not move is not stored again."""
    from PIL import Image

    few = [frames[at] for at in np.unique(np.linspace(0, len(frames) - 1, 6).astype(int))]
    width, height = few[0].size
    stacked = Image.new("RGB", (width, height * len(few)))
    for at, frame in enumerate(few):
        stacked.paste(frame, (0, at * height))
    palette = stacked.quantize(128, method=Image.Quantize.MAXCOVERAGE)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    written = io.BytesIO()
    first.save(
        written,
        format="gif",
        save_all=True,
        append_images=others,
        duration=milliseconds,
        loop=0,
        optimize=True,
        disposal=1,
    )
    return written.getvalue()
