"""Colour scales of maps: which colour a value has, and what is marked on the bar that says so."""

from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from views_dagster.reports.figures import short_label

if TYPE_CHECKING:
    from matplotlib.colors import Colormap, Normalize

Values = NDArray[np.float64]
Kind = Literal["amount", "chance", "change"]
"""`amount`: >= 0, by log(1 + x); `chance`: 0..1, by its square root, so that small ones are seen; `change`: of either
sign, by log(1 + |x|)."""

LAND: Final = "#e9e9e6"
_COLOURS: Final = {
    "amount": (LAND, "#f7d13d", "#fb9b06", "#ed6925", "#cf4446", "#a52c60", "#781c6d", "#4a0c6b", "#1b0c41"),
    "chance": (LAND, "#c3e0b5", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#253494", "#081d58"),
    "change": ("#08306b", "#2166ac", "#67a9cf", LAND, "#ef8a62", "#b2182b", "#67001f"),
}


def colour_scale(kind: Kind, largest: float) -> tuple["Colormap", "Normalize"]:
    """The colours, that of the land for nothing and the last for `largest`, and where a value lies among them.

    Values beyond `largest` have its colour. Chances always end with 1.
    """
    from matplotlib.colors import FuncNorm, LinearSegmentedColormap

    # An odd number, so that no change has a colour of its own.
    colours = LinearSegmentedColormap.from_list(kind, _COLOURS[kind], N=255)
    if kind == "chance":
        return colours, FuncNorm((np.sqrt, np.square), vmin=0, vmax=1, clip=True)
    if kind == "amount":
        return colours, FuncNorm((np.log1p, np.expm1), vmin=0, vmax=largest, clip=True)
    return colours, FuncNorm((_signed_log, _signed_exp), vmin=-largest, vmax=largest, clip=True)


def shared_largest(*values: Values) -> float:
    """The value of the last colour for values that share a scale: the largest, of either sign, and at least 1."""
    return max(1.0, *(float(np.nanmax(np.abs(some), initial=0)) for some in values))


def scale_ticks(kind: Kind, largest: float) -> tuple[list[float], list[str]]:
    """What to mark on a scale that ends with `largest`, and how to write it."""
    if kind == "chance":
        shares = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1]
        return shares, [f"{share:.0%}" for share in shares]
    amounts = [0.0, *(10.0**power for power in range(9) if 10**power <= largest)]
    if largest < 30:
        amounts = [amount for amount in (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0) if amount <= largest]
    if kind == "amount":
        return amounts, [short_label(amount) for amount in amounts]
    both = [-amount for amount in reversed(amounts[1:])] + amounts
    return both, [f"{'+' if amount > 0 else ''}{short_label(amount)}".replace("-", "−") for amount in both]


def _signed_log(value: Values) -> Values:
    return np.asarray(np.sign(value) * np.log1p(np.abs(value)), dtype=np.float64)


def _signed_exp(value: Values) -> Values:
    return np.asarray(np.sign(value) * np.expm1(np.abs(value)), dtype=np.float64)
