"""Scripts that print the figures behind every promise about speed and memory, and the plot that some of them draw."""

from collections.abc import Sequence
from pathlib import Path


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
