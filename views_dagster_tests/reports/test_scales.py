"""Colour scales: the land's colour for nothing, darker for more, ticks that people can read."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from views_dagster.reports.scales import LAND, Kind, colour_scale, scale_ticks, shared_largest


def lightness(kind: Kind) -> np.ndarray:
    """Relative luminance (ITU-R BT.709) of each colour."""
    colours, _ = colour_scale(kind, 100)
    linear = colours(np.arange(colours.N))[:, :3] ** 2.2
    return np.asarray(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("kind", ["amount", "chance"])
def test_more_is_darker(kind: Kind) -> None:
    assert (np.diff(lightness(kind)) < 0).all()


def test_a_change_is_darker_the_larger_it_is() -> None:
    steps = np.diff(lightness("change"))
    assert (steps[:127] > 0).all()
    assert (steps[127:] < 0).all()


@pytest.mark.parametrize(
    ("kind", "value", "colour"),
    [
        ("amount", 0, LAND),
        ("amount", 100, "#1b0c41"),
        ("amount", 1e6, "#1b0c41"),
        ("chance", 0, LAND),
        ("chance", 1, "#081d58"),
        ("change", 0, LAND),
        ("change", 100, "#67001f"),
        ("change", -1e6, "#08306b"),
    ],
)
def test_the_ends_of_the_scales(kind: Kind, value: float, colour: str) -> None:
    colours, norm = colour_scale(kind, 100)
    assert to_hex(colours(norm(value))) == colour


def test_values_lie_where_their_logarithm_says() -> None:
    _, amount = colour_scale("amount", 99)
    assert amount(9) == pytest.approx(0.5)
    _, change = colour_scale("change", 99)
    assert [float(change(value)) for value in (-9, 0, 9)] == pytest.approx([0.25, 0.5, 0.75])
    _, chance = colour_scale("chance", 1)
    assert chance(0.25) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("kind", "largest", "labels"),
    [
        ("amount", 5000, ["0", "1", "10", "100", "1k"]),
        ("amount", 12, ["0", "0.5", "1", "2", "5", "10"]),
        ("amount", 1, ["0", "0.5", "1"]),
        ("change", 150, ["−100", "−10", "−1", "0", "+1", "+10", "+100"]),
        ("chance", 1, ["0%", "1%", "5%", "10%", "25%", "50%", "75%", "100%"]),
    ],
)
def test_ticks(kind: Kind, largest: float, labels: list[str]) -> None:
    ticks, written = scale_ticks(kind, largest)
    assert written == labels
    assert ticks == sorted(ticks)
    assert max(ticks) <= largest


def test_the_largest_of_several() -> None:
    assert shared_largest(np.array([3.0, np.nan]), np.array([-7.0])) == 7
    assert shared_largest(np.array([0.2]), np.array([np.nan])) == 1
