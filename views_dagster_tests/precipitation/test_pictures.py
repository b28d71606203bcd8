"""Maps and animations: the pixels of a box are the colour of its fraction, and files stay small."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from views_dagster.precipitation.bands import EDGES
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.pictures import animate_exceedance, band_maps, exceedance_maps
from views_dagster.reports.scales import colour_scale

GRID = BoxGrid(latitude=46.0, longitude=-2.0, step=0.5, rows=6, columns=8)
BOX = np.arange(GRID.count)


def fractions(share: float, count: int = GRID.count) -> NDArray[np.float32]:
    """So much of each box in the last band, the rest dry."""
    rows = np.zeros((count, 5), dtype=np.float32)
    rows[:, 4], rows[:, 0] = share, 1 - share
    return rows


def colours(png: bytes) -> dict[tuple[int, ...], int]:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    counted = image.getcolors(1 << 24)
    assert counted is not None
    return {tuple(colour): count for count, colour in counted if isinstance(colour, tuple)}


def near(found: dict[tuple[int, ...], int], share: float) -> int:
    """How many pixels have the colour of a share of the box, to what a palette of 256 colours can keep."""
    scale, norm = colour_scale("chance", 1.0)
    wanted = np.array(scale(norm(share), bytes=True)[:3], dtype=int)
    return sum(count for colour, count in found.items() if np.abs(np.array(colour) - wanted).max() <= 4)


def test_boxes_have_the_colour_of_their_fraction() -> None:
    half = colours(band_maps({"model": fractions(0.5)}, BOX, GRID, EDGES, title="t"))
    whole = colours(band_maps({"model": fractions(1.0)}, BOX, GRID, EDGES, title="t"))
    # Two of five maps hold a half; with a whole box in the last band one map is all dark.
    assert near(half, 0.5) > 40_000
    assert near(whole, 0.5) < 2000
    assert near(whole, 1.0) > 20_000


def test_exceedance_adds_the_bands_above() -> None:
    found = colours(exceedance_maps({"model": fractions(0.5)}, BOX, GRID, EDGES, title="t"))
    assert near(found, 0.5) > 80_000


def test_boxes_without_a_value_are_hatched_not_painted() -> None:
    some = colours(band_maps({"model": fractions(1.0, 24)}, BOX[:24], GRID, EDGES, title="t"))
    unseen = np.where(BOX[:, None] < 24, fractions(1.0), np.float32(np.nan))
    assert some == colours(band_maps({"model": unseen}, BOX, GRID, EDGES, title="t"))
    full = colours(band_maps({"model": fractions(1.0)}, BOX, GRID, EDGES, title="t"))
    assert near(some, 1.0) < 0.7 * near(full, 1.0)


def test_each_row_and_longitude_convention_is_drawn() -> None:
    shifted = GRID.model_copy(update={"longitude": 358.0})
    rows = {"model": fractions(0.2), "observed": fractions(0.4)}
    png = band_maps(rows, BOX, GRID, EDGES, title="t")
    tall, short = (
        Image.open(io.BytesIO(each)).size
        for each in (png, band_maps({"a": rows["model"]}, BOX, GRID, EDGES, title="t"))
    )
    assert tall[1] > short[1] + 150
    assert png == band_maps(rows, BOX, shifted, EDGES, title="t")


def test_an_animation_has_a_frame_for_each_time_and_fits_its_budget() -> None:
    times = np.repeat(np.datetime64("2020-01-01T01", "s") + np.arange(12) * np.timedelta64(3600, "s"), GRID.count)
    rng = np.random.default_rng(0)
    rows = {name: rng.dirichlet(np.ones(5), len(times)).astype(np.float32) for name in ("model", "observed")}
    arguments = {"edge": 0.5, "title": "event"}
    gif = animate_exceedance(rows, times, np.tile(BOX, 12), GRID, EDGES, **arguments)  # type: ignore[arg-type]
    image = Image.open(io.BytesIO(gif))
    assert (image.format, image.n_frames) == ("GIF", 12)  # type: ignore[attr-defined]
    assert len(gif) < 300_000
    small = animate_exceedance(rows, times, np.tile(BOX, 12), GRID, EDGES, max_bytes=len(gif) // 2, **arguments)  # type: ignore[arg-type]
    assert len(small) <= len(gif) // 2
    assert 2 <= Image.open(io.BytesIO(small)).n_frames < 12  # type: ignore[attr-defined]


def test_an_edge_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError):
        animate_exceedance({"a": fractions(0.1)}, np.zeros(48, "datetime64[s]"), BOX, GRID, EDGES, edge=0.7, title="t")
