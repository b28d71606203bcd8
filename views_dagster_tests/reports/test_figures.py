"""Pictures: valid PNGs within their size, drawn from what is there, the same bytes each time."""

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from views_dagster.forecasts import Forecast
from views_dagster.reports.figures import fan_chart, hardest_hit, short_label

ORIGIN = 529


def forecast(units: int = 8, steps: int = 36) -> Forecast:
    rng = np.random.default_rng(0)
    means = 10.0 ** np.arange(units)[:, None, None]
    draws = rng.poisson(rng.gamma(0.5, 2, size=(units, steps, 100)) * means)
    return Forecast(
        origin=ORIGIN,
        units=np.arange(10, 10 + units),
        steps=np.arange(1, steps + 1),
        draws=draws.astype(np.float32),
    )


def history(last: int = ORIGIN, units: int = 8) -> pl.DataFrame:
    """70 months that end with `last`; unit 10 + i counts i in each month."""
    months = np.arange(last - 69, last + 1)
    return pl.DataFrame(
        {
            "month_id": np.tile(months, units).astype(np.int32),
            "unit_id": np.repeat(np.arange(10, 10 + units), 70),
            "count": np.repeat(np.arange(units), 70),
        }
    )


def chart(**settings: object) -> bytes:
    arguments: dict[str, object] = {"value": "count", "measure": "events a month", "title": "a title", **settings}
    return fan_chart(forecast(), history(), **arguments)  # type: ignore[arg-type]


def size(png: bytes) -> tuple[int, int]:
    image = Image.open(io.BytesIO(png))
    image.verify()
    return image.size


def test_hardest_hit_are_those_with_most_in_the_last_year() -> None:
    assert hardest_hit(forecast(), history(), value="count", count=3) == [17, 16, 15]


def test_what_comes_after_the_origin_does_not_decide_who_is_shown() -> None:
    later = history().with_columns(
        month_id=pl.col("month_id") + 12, count=pl.when(pl.col("unit_id") == 10).then(10**6).otherwise(0)
    )
    both = pl.concat([history(), later.filter(pl.col("month_id") > ORIGIN)], how="vertical_relaxed")
    assert hardest_hit(forecast(), both, value="count", count=2) == [17, 16]


def test_units_without_history_rank_by_their_forecast() -> None:
    assert hardest_hit(forecast(), history().clear(), value="count", count=2) == [17, 16]


def test_a_fan_chart_is_a_small_png_and_the_same_each_time() -> None:
    png = chart()
    width, height = size(png)
    assert width > height > 300
    assert len(png) < 120_000
    assert chart(units=[17]) == chart(units=[17])
    assert chart(units=[17]) != chart(units=[17], names={17: "Unit of seven"})


def test_panels_grow_with_the_units() -> None:
    one, four = size(chart(units=[12])), size(chart(units=[12, 13, 14, 15]))
    assert one[0] < four[0]
    assert one[1] < four[1]


@pytest.mark.parametrize(("units", "steps"), [(1, 1), (2, 3), (1, 36)])
def test_few_units_and_steps_are_drawn_too(units: int, steps: int) -> None:
    png = fan_chart(
        forecast(units, steps), history(ORIGIN + 5, units), value="count", measure="events a month", title="a title"
    )
    assert size(png)[0] > 300


def test_observations_after_the_origin_are_drawn() -> None:
    shown = fan_chart(forecast(), history(ORIGIN + 10), value="count", measure="m", title="t", units=[15])
    hidden = fan_chart(
        forecast(),
        history(ORIGIN + 10).filter(pl.col("month_id") <= ORIGIN),
        value="count",
        measure="m",
        title="t",
        units=[15],
    )
    assert shown != hidden


def test_a_long_history_of_many_units_is_drawn_as_that_of_the_few_shown() -> None:
    """What is far back, or of other units, is left out before anything is sorted or drawn."""
    old = history(ORIGIN - 100)
    others = history().with_columns(pl.col("unit_id") + 1000)
    shown = fan_chart(forecast(), history(), value="count", measure="m", title="t", units=[12])
    much = pl.concat([others, history(), old])
    assert fan_chart(forecast(), much, value="count", measure="m", title="t", units=[12]) == shown


def test_an_empty_history_and_a_forecast_of_zero_are_drawn() -> None:
    zero = Forecast(origin=ORIGIN, units=np.array([1]), steps=np.arange(1, 4), draws=np.zeros((1, 3, 5), np.float32))
    assert size(fan_chart(zero, history().clear(), value="count", measure="m", title="t"))[0] > 300


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.314, "0.31"), (7.46, "7.5"), (320.4, "320"), (1234, "1.23k"), (45_000, "45k"), (3.1e6, "3.1M")],
)
def test_numbers_areshort_label(number: float, text: str) -> None:
    assert short_label(number) == text
