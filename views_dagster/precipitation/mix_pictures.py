"""Pictures of how rows and rain are spread over the bands, as PNG: by rebalancing, and through time."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.precipitation import bands
from views_dagster.precipitation.panels import panels
from views_dagster.reports.figures import GREY, INK, palette_png

_AFTER: Final = "#0072b2"


def rebalancing_bars(
    rows_before: Sequence[float],
    rows_after: Sequence[float],
    fractions_before: Sequence[float],
    fractions_after: Sequence[float],
    edges: tuple[float, ...],
    *,
    title: str,
) -> bytes:
    """What rebalancing did to the training rows: by dominant band, and to the mean fraction of each band.

    Args:
        rows_before, rows_after: (B,) rows by dominant band; weighted, where rows have weights.
        fractions_before, fractions_after: (B,) mean fractions.
    """
    figure, axes = panels(1, 2, title, panel=(3.6, 2.6), legend=2, gap=0.75)
    names = bands.names(edges)
    halves = (
        (rows_before, rows_after, "training rows by dominant band"),
        (fractions_before, fractions_after, "mean fraction of the box"),
    )
    for axis, (before, after, heading) in zip(axes[0], halves, strict=True):
        for at, values in enumerate((before, after)):
            amounts = np.asarray(values, dtype=np.float64)
            share = amounts / amounts.sum()
            bars = axis.bar(np.arange(len(names)) + (at - 0.5) * 0.4, share, 0.38, color=(GREY, _AFTER)[at])
            axis.bar_label(bars, [_percent(value) for value in share], fontsize=7, color=INK, padding=1)
        axis.set_title(heading, y=1, fontsize=10, color=INK)
        axis.set_xticks(range(len(names)), names)
        axis.set_xlabel("band, mm/h", fontsize=9, color=INK)
        axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
        axis.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    from matplotlib.patches import Patch

    counts = [float(np.sum(rows_before)), float(np.sum(rows_after))]
    handles = [
        Patch(color=colour, label=f"{name}, {count:,.0f} rows")
        for colour, name, count in zip((GREY, _AFTER), ("before", "after"), counts, strict=True)
    ]
    figure.legend(handles=handles, loc="lower center", ncols=2, fontsize=8, frameon=False)
    return palette_png(figure)


def band_mix_over_time(
    rows: Mapping[str, NDArray[np.floating]],
    valid_time: NDArray[np.datetime64],
    edges: tuple[float, ...],
    *,
    title: str,
) -> bytes:
    """Mean fraction of all boxes in each wet band through time, a panel for each of `rows`; gaps in time stay empty.

    Args:
        rows: by heading (a model, `observed`), fractions (N, B); rows of NaN are left out.
        valid_time: (N,).
    """
    times, place = np.unique(valid_time.astype("datetime64[s]"), return_inverse=True)
    gaps, drawn_at = _gaps(times)
    figure, axes = panels(len(rows), 1, title, panel=(7.2, 1.5), legend=len(edges), share_x=True, share_y=True)
    colours = _band_colours(len(edges))
    for axis, (heading, fractions) in zip(axes[:, 0], rows.items(), strict=True):
        known = np.isfinite(fractions[:, 0])
        count = np.bincount(place[known], minlength=len(times))
        total = np.stack(
            [np.bincount(place[known], weights=band, minlength=len(times)) for band in fractions[known].T], axis=0
        )
        mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        axis.stackplot(drawn_at, np.insert(mean[1:], gaps, np.nan, axis=1), colors=colours, linewidth=0)
        axis.set_title(heading, loc="left", y=1, fontsize=10, color=INK)
        axis.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.patches import Patch

    # Untyped in matplotlib.
    locate: Any = AutoDateLocator
    write: Any = ConciseDateFormatter
    locator = locate(minticks=4, maxticks=10)
    axes[-1, 0].xaxis.set_major_locator(locator)
    axes[-1, 0].xaxis.set_major_formatter(write(locator))
    axes[-1, 0].set_xlim(*times[[0, -1]].astype(object))
    axes[-1, 0].set_ylim(bottom=0)
    figure.supylabel("share of all boxes' area", fontsize=9, color=INK, x=0.01)
    names = bands.names(edges)[1:]
    handles = [Patch(color=colour, label=f"{name} mm/h") for colour, name in zip(colours, names, strict=True)]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8, frameon=False)
    return palette_png(figure)


def _gaps(times: NDArray[np.datetime64]) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """Positions of times that come after a gap, of more than the most common step, and times with one in each gap."""
    steps = np.diff(times)
    if not len(steps):
        return np.zeros(0, dtype=np.intp), times.astype(object)
    found, counts = np.unique(steps, return_counts=True)
    gaps = np.flatnonzero(steps > found[np.argmax(counts)]) + 1
    return gaps, np.insert(times, gaps, times[gaps - 1] + np.timedelta64(1, "s")).astype(object)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}" if share >= 0.001 else "<0.1%"


def _band_colours(count: int) -> list[str]:
    """Light to dark, so that the wetter band is the darker one."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    scale = LinearSegmentedColormap.from_list("wet", ["#b7dcd0", "#41b6c4", "#225ea8", "#0b1d4d"])
    return [to_hex(scale(at / max(count - 1, 1))) for at in range(count)]
