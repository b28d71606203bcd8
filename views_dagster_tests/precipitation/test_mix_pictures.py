"""Pictures of band mixes show what they are given, and nothing where there is nothing."""

import io

import numpy as np
import pytest
from PIL import Image

from views_dagster.precipitation import mix_pictures
from views_dagster.precipitation.bands import EDGES
from views_dagster_tests.precipitation.columns_worlds import SIDE, columns_world

COLUMNS = columns_world(SIDE * SIDE * 24 * 4, seed=1, levels=2)


def size(png: bytes) -> tuple[int, int]:
    image = Image.open(io.BytesIO(png))
    image.verify()
    return image.size


def test_rebalancing_shows_both_mixes() -> None:
    before, after = [900, 50, 30, 15, 5], [200, 200, 200, 200, 100]
    mix = [0.9, 0.06, 0.03, 0.009, 0.001]
    png = mix_pictures.rebalancing_bars(before, after, mix, mix, EDGES, title="t")
    assert png != mix_pictures.rebalancing_bars(after, before, mix, mix, EDGES, title="t")
    assert len(png) < 40_000


def test_the_band_mix_leaves_out_what_was_not_observed() -> None:
    seen = COLUMNS.fractions.copy()
    seen[: SIDE * SIDE * 5] = np.nan
    png = mix_pictures.band_mix_over_time({"observed": seen}, COLUMNS.valid_time, EDGES, title="t")
    assert size(png)[0] > 600
    two = mix_pictures.band_mix_over_time(
        {"observed": seen, "network": COLUMNS.fractions}, COLUMNS.valid_time, EDGES, title="t"
    )
    assert size(two)[1] > size(png)[1] + 100


def test_the_band_mix_draws_nothing_across_a_gap_in_time() -> None:
    """Rain before and after a day without data: the middle of the picture stays empty."""
    wet = np.tile(np.float32([0, 0, 0, 0, 1]), (3 * 24, 1))
    hours = np.concatenate([np.arange(24), 48 + np.arange(48)])
    times = np.datetime64("2020-01-01", "s") + hours * np.timedelta64(3600, "s")
    png = mix_pictures.band_mix_over_time({"observed": wet}, times, EDGES, title="t")
    middle = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)[150]
    dark = middle.sum(axis=1) < 150
    ends = np.flatnonzero(np.diff(dark.astype(int), prepend=0, append=0))
    light = ends[2::2] - ends[1:-1:2]
    # 25 of 95 hours, in a picture whose panel is 720 pixels wide.
    assert light.max() == pytest.approx(720 * 25 / 95, abs=6)
