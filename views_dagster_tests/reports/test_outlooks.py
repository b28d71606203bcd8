"""What the maps of a forecast show, by hand, and that its change compares the same months."""

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from views_dagster.errors import GeographyError
from views_dagster.forecasts import Forecast
from views_dagster.reports.outlooks import Outlook, change_of, means_of, outlook_map

ORIGIN = 529
UNITS = np.array([149_001, 149_002, 149_721])
PARENTS = pl.DataFrame({"unit_id": UNITS, "parent_id": [1, 2, 1]})


def forecast(origin: int, steps: int = 36) -> Forecast:
    """Two draws, 0 and twice the mean; cell i expects i times the month's number after 529."""
    months = origin + np.arange(1, steps + 1)
    means = np.arange(3)[:, None] * (months - ORIGIN).clip(0)[None, :]
    draws = np.stack([np.zeros_like(means), 2 * means], axis=2).astype(np.float32)
    return Forecast(origin, UNITS, np.arange(1, steps + 1), draws)


def means(made: Forecast) -> pl.DataFrame:
    return made.to_frame(model="m", level="l", target="t").select("unit_id", "target_month", "mean")


def test_an_outlook_is_of_the_next_year() -> None:
    outlook = Outlook.of(forecast(ORIGIN))
    assert outlook.months.tolist() == list(range(530, 542))
    assert outlook.means.sum(axis=1).tolist() == [0, 78, 156]
    assert outlook.at_least_one.tolist() == [0, 0.5, 0.5]
    assert Outlook.of(forecast(ORIGIN, steps=3)).months.tolist() == [530, 531, 532]


def test_a_forecast_that_says_the_same_of_the_same_months_has_not_changed() -> None:
    layer = change_of(Outlook.of(forecast(ORIGIN)), means(forecast(ORIGIN - 1)), "m")
    assert layer.values.tolist() == [0, 0, 0]
    assert layer.title.endswith("2024-02 to 2025-01")
    assert not layer.note


def test_the_change_is_of_the_months_that_both_speak_of() -> None:
    """Twelve steps from the month before reach one month less: eleven months, one more a month for the third cell."""
    earlier = means(forecast(ORIGIN - 1, steps=12))
    earlier = earlier.with_columns(mean=pl.col("mean") - (pl.col("unit_id") == UNITS[2]).cast(pl.Float32))
    layer = change_of(Outlook.of(forecast(ORIGIN)), earlier, "m")
    assert layer.values.tolist() == [0, 0, 11]
    assert layer.title.endswith("2024-02 to 2024-12")


def test_a_cell_that_is_new_has_no_change() -> None:
    earlier = means(forecast(ORIGIN - 1)).filter(pl.col("unit_id") != UNITS[1])
    values = change_of(Outlook.of(forecast(ORIGIN)), earlier, "m").values
    assert np.isnan(values).tolist() == [False, True, False]


@pytest.mark.parametrize("earlier", [None, means(forecast(ORIGIN - 1)).clear(), means(forecast(ORIGIN - 40))])
def test_without_a_forecast_of_these_months_there_is_a_note(earlier: pl.DataFrame | None) -> None:
    assert change_of(Outlook.of(forecast(ORIGIN)), earlier, "m").note == "no earlier forecast to compare with"


def test_means_are_found_by_cell_and_month() -> None:
    rows = pl.DataFrame({"unit_id": [9, 4, 9, 7], "target_month": [31, 30, 33, 30], "mean": [1.5, 2.5, 3.5, 4.5]})
    found = means_of(rows, np.array([4, 9]), np.array([30, 31]))
    np.testing.assert_array_equal(found, [[2.5, np.nan], [np.nan, 1.5]])


def test_a_picture_of_four_maps_and_the_same_each_time() -> None:
    previous = means(forecast(ORIGIN - 1)).with_columns(mean=pl.col("mean") * 2)
    made = [
        outlook_map(
            Outlook.of(forecast(ORIGIN)),
            earlier,
            PARENTS.sample(fraction=1, shuffle=True, seed=seed),
            measure="m",
            title="t",
        )
        for earlier, seed in ((previous, 1), (previous, 2), (None, 1))
    ]
    assert made[0] == made[1] != made[2]
    width, height = Image.open(io.BytesIO(made[0])).size
    assert width > height > 500


def test_a_cell_without_a_parent_is_named() -> None:
    with pytest.raises(GeographyError, match=r"1 cells of t have no parent after 2024-01, first \[149002\]"):
        outlook_map(
            Outlook.of(forecast(ORIGIN)), None, PARENTS.filter(pl.col("parent_id") == 1), measure="m", title="t"
        )
