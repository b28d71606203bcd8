"""Pictures as PNG bytes, for the metadata of assets and checks and for reports: no display, no global plotting state.

Colours are from palettes that colour-blind readers can tell apart, and none of them is the only bearer of a meaning.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import month_id_of, to_key, year_month
from views_dagster.forecasts import Forecast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 90
_NAME_LENGTH = 29
INK: Final = "#262626"
GREY: Final = "#8a8a8a"
_BANDS: Final = ((0.9, "#d6e4f2"), (0.8, "#a9cbe6"), (0.5, "#6ba5d3"))
_MEDIAN = "#0b4a8f"
_MEAN = "#c2410c"


def hardest_hit(forecast: Forecast, history: pl.DataFrame, *, value: str, count: int) -> list[int]:
    """The `count` units with the largest sum of `value` over the last 12 months; ties by mean forecast, then by id."""
    recent = history.filter(pl.col("month_id").is_between(forecast.origin - 11, forecast.origin))
    seen = recent.group_by("unit_id").agg(pl.col(value).cast(pl.Float64).sum().alias("seen"))
    expected = pl.DataFrame({"unit_id": forecast.units, "expected": forecast.mean.sum(axis=1, dtype=np.float64)})
    ranked = expected.join(seen, on="unit_id", how="left").with_columns(pl.col("seen").fill_null(0))
    return ranked.sort("seen", "expected", "unit_id", descending=[True, True, False])["unit_id"].head(count).to_list()


def fan_chart(
    forecast: Forecast,
    history: pl.DataFrame,
    *,
    value: str,
    measure: str,
    title: str,
    names: Mapping[int, str] | None = None,
    units: Sequence[int] | None = None,
    history_months: int = 60,
) -> bytes:
    """One panel a unit: its last `history_months` months and the fan of the forecast, on a log(1 + x) axis.

    Args:
        forecast: the draws; bands hold the central 50, 80 and 90 % of them.
        history: `month_id`, `unit_id` and `value`; months after the origin, where there are any, are drawn as dots.
        value: the column of `history`.
        measure: what the vertical axis counts, for people.
        title: heading of the picture.
        names: what to call the units; a unit without a name is shown by its id.
        units: which units, in order; the six hardest hit where None.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    chosen = list(units) if units is not None else hardest_hit(forecast, history, value=value, count=6)
    columns = min(3, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    legend_columns = (3, 4, 7)[columns - 1]
    width, height = 0.9 + 3.5 * columns, 1.2 + 2.15 * rows + 0.2 * math.ceil(7 / legend_columns)
    figure = Figure(figsize=(width, height), dpi=_DPI)
    # Margins in inches: laying out by measuring every text takes as long as drawing.
    figure.subplots_adjust(
        left=0.75 / width,
        right=1 - 0.15 / width,
        top=1 - 0.65 / height,
        bottom=(0.4 + 0.2 * math.ceil(7 / legend_columns)) / height,
        wspace=0.06,
        hspace=0.32,
    )
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).reshape(-1)
    first = forecast.origin - history_months + 1
    shown = history.filter(pl.col("month_id") >= first, pl.col("unit_id").is_in(chosen)).sort("unit_id", "month_id")
    position = {int(unit): place for place, unit in enumerate(forecast.units)}
    later = False
    for axis, unit in zip(axes, chosen, strict=False):
        series = shown.filter(pl.col("unit_id") == unit)
        draws = forecast.draws[position[unit]]
        _draw_fan(axis, forecast.origin + forecast.steps, draws)
        past = series.filter(pl.col("month_id") <= forecast.origin)
        axis.plot(past["month_id"], past[value], color=INK, linewidth=1.1)
        after = series.filter(pl.col("month_id").is_between(forecast.origin + 1, forecast.origin + forecast.steps[-1]))
        axis.plot(after["month_id"], after[value], color=INK, linestyle="none", marker="o", markersize=2.6)
        later = later or not after.is_empty()
        axis.axvline(forecast.origin + 0.5, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
        name = (names or {}).get(unit, f"unit {unit}")
        shown_name = name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1].rstrip()}…"
        # With a height of their own, titles are not moved out of the way of ticks, which would be measured for that.
        axis.set_title(shown_name, loc="left", y=1, fontsize=10, fontweight="bold", color=INK)
        mean = short_label(float(draws.mean(dtype=np.float64)))
        axis.set_title(f"mean {mean}", loc="right", y=1, fontsize=8, color=_MEAN)
        tidy(axis)
    for place, axis in enumerate(axes):
        axis.set_visible(place < len(chosen))
        # A panel with none below it carries the month labels of its column.
        axis.tick_params(labelbottom=place + columns >= len(chosen))
    last = int(forecast.origin + forecast.steps[-1])
    peak = max(
        (float(line.get_ydata().max()) for a in axes for line in a.lines[:-1] if len(line.get_ydata())), default=1
    )
    _month_axis(axes[0], first, last)
    _log_axis(axes[0], max(peak, float(np.quantile(forecast.draws[[position[u] for u in chosen]], 0.95, axis=2).max())))
    figure.supylabel(measure, x=0.08 / width, fontsize=9, color=INK)
    figure.suptitle(
        title, x=0.1 / width, y=1 - 0.08 / height, ha="left", va="top", fontsize=12, fontweight="bold", color=INK
    )
    handles = [
        Line2D([], [], color=INK, linewidth=1.1, label="observed"),
        *(
            [Line2D([], [], color=INK, linestyle="none", marker="o", markersize=3, label="observed later")]
            if later
            else []
        ),
        Line2D([], [], color=_MEDIAN, linewidth=1.6, label="median"),
        Line2D([], [], color=_MEAN, linewidth=1.2, linestyle=(0, (4, 2)), label="mean"),
        *(Patch(color=colour, label=f"{mass:.0%} of draws") for mass, colour in reversed(_BANDS)),
    ]
    figure.legend(handles=handles, loc="lower center", ncols=legend_columns, fontsize=8, frameon=False)
    return palette_png(figure)


def _draw_fan(axis: "Axes", months: NDArray[np.int64], draws: NDArray[np.float32]) -> None:
    """Bands, median and mean of (K, S) draws; a single month is drawn as wide as one."""
    if len(months) == 1:
        months, draws = np.array([months[0] - 0.5, months[0] + 0.5]), np.repeat(draws, 2, axis=0)
    for mass, colour in _BANDS:
        low, high = np.quantile(draws, [(1 - mass) / 2, (1 + mass) / 2], axis=1)
        axis.fill_between(months, low, high, color=colour, linewidth=0)
    axis.plot(months, np.median(draws, axis=1), color=_MEDIAN, linewidth=1.6)
    axis.plot(months, draws.mean(axis=1), color=_MEAN, linewidth=1.2, linestyle=(0, (4, 2)))


def tidy(axis: "Axes") -> None:
    """The house's look of a panel: two spines, small labels, faint horizontal lines."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GREY)
    axis.tick_params(labelsize=8, colors=INK, color=GREY)
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    axis.set_axisbelow(True)


def _month_axis(axis: "Axes", first: int, last: int) -> None:
    """Ticks at Januaries, at most about eight; months where there are fewer than two Januaries."""
    axis.set_xlim(first - 1, last + 1)
    years = [
        year for year in range(year_month(first)[0], year_month(last)[0] + 1) if first <= month_id_of(year, 1) <= last
    ]
    if len(years) < 2:
        ticks = np.unique(np.linspace(first, last, 4).round().astype(int)).tolist()
        axis.set_xticks(ticks, [to_key(month) for month in ticks])
        return
    every = math.ceil(len(years) / 5)
    axis.set_xticks([month_id_of(year, 1) for year in years], minor=True)
    labelled = [year for year in years if year % every == 0]
    axis.set_xticks([month_id_of(year, 1) for year in labelled], [str(year) for year in labelled])


def _log_axis(axis: "Axes", peak: float) -> None:
    """A log(1 + x) axis from 0 to a little above `peak`, with ticks at 0 and powers of ten."""
    axis.set_yscale("function", functions=(np.log1p, np.expm1))
    top = float(np.expm1(np.log1p(max(peak, 1)) * 1.06))
    # A little room below, so that a series of zeros is seen.
    axis.set_ylim(float(np.expm1(-0.03 * np.log1p(top))), top)
    ticks = [0, *(10**power for power in range(9) if 10**power <= top)]
    if top < 30:
        ticks = [tick for tick in (0, 1, 2, 5, 10, 20) if tick <= top]
    axis.set_yticks(ticks, [short_label(tick) for tick in ticks])


def short_label(number: float) -> str:
    """A number in a few characters: 0.3, 7.5, 320, 1.2k, 45k, 3.1M."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{suffix}"
    return f"{number:.0f}" if abs(number) >= 10 or number == round(number) else f"{number:.2g}"


def palette_png(figure: "Figure") -> bytes:
    """The figure as a PNG of 256 colours, less than half the size of full colour; equal pictures are equal bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    drawn, file = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3]), io.BytesIO()
    drawn.quantize(256, dither=Image.Dither.NONE).save(file, format="png")
    return file.getvalue()
