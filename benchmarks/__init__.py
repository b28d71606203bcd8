"""Scripts that print the figures behind every promise about speed and memory, and how they measure, run and plot."""

import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from views_dagster.features.querysets import parse_step
from views_dagster.sources.base import PanelReader, RawMonths


class ReadyPanel(PanelReader):
    """Raw rows that are a panel already, of columns `names`."""

    names: tuple[str, ...]

    def columns(self, level: str) -> frozenset[str]:
        return frozenset(self.names)

    @property
    def row_keys(self) -> tuple[str, ...]:
        return ("month_id", "unit_id")

    def read(self, first: int, last: int) -> RawMonths:
        raise NotImplementedError

    def panel(self, raw: pl.LazyFrame, level: str, units: pl.LazyFrame | None = None) -> pl.LazyFrame:
        return raw.select("month_id", "unit_id", *self.names)


def timed(run: Callable[[], Any], times: int = 1) -> tuple[float, float]:
    """Wall and CPU seconds, the best of some runs."""
    wall, cpu = [], []
    for _ in range(times):
        began = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() - began[1])
    return min(wall), min(cpu)


def peak_gigabytes() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def chained(chain: Sequence[str], places: Any) -> pl.Expr:
    """Column `x` passed through transforms as querysets write them; `places` are its units' neighbours or cells."""
    x = pl.col("x")
    for step in map(parse_step, chain):
        x = step.transform.apply(x, step.arguments, places)
    return x


def plot_growth(
    file: Path, title: str, time: str, sizes: Sequence[tuple[int, int]], seconds: Sequence[float], slope: float
) -> None:
    """Save a plot of seconds (of what `time` says) against cells x months, beside a line of slope 1."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    rows = [cells * months for cells, months in sizes]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.loglog(rows, seconds, "o-", label=f"measured, slope {slope:.2f}")
    axes.loglog(rows, [seconds[0] * size / rows[0] for size in rows], "--", color="grey", label="slope 1")
    for (cells, months), x, y in zip(sizes, rows, seconds, strict=True):
        axes.annotate(f"{cells:,} x {months}", (x, y), xytext=(6, -10), textcoords="offset points", fontsize=8)
    axes.set(xlabel="cells x months", ylabel=f"seconds ({time})", title=title)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.15)
    axes.legend()
    figure.savefig(file, dpi=120)
    print(f"plot: {file}")
