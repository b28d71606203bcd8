from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from views_dagster.calendar import month_id_of
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.climatology import Climatology, FittedClimatology
from views_dagster_tests.precipitation.columns_worlds import columns_world


def at(columns: Columns, times: list[str]) -> Columns:
    """The columns with these valid times, in turn."""
    hours = np.resize(np.array(times, dtype="datetime64[s]"), len(columns))
    months = hours.astype("datetime64[M]").astype(int) + month_id_of(1980, 1) - (1980 - 1970) * 12
    return replace(columns, valid_time=hours, month_id=months.astype(np.int32))


def two_months() -> Columns:
    """January rows of 2 days that are dry, and rows of one June day that are in the second band."""
    world = columns_world(300)
    columns = at(world, ["2020-01-05T03:00", "2020-01-06T03:00", "2021-06-07T15:00"])
    june = columns.month_id == month_id_of(2021, 6)
    fractions = np.eye(5, dtype=np.float32)[june.astype(int)]
    return replace(columns, fractions=fractions, rain_mean=june.astype(np.float32))


def fitted(**settings: object) -> FittedClimatology:
    columns = two_months()
    return Climatology.model_validate(settings).fit(columns, columns.take(slice(0, 0)), seed=0)


def second_band(model: FittedClimatology, time: str) -> float:
    said = model.predict(at(columns_world(8), [time]))
    assert_allclose(said.fractions[:, 1], said.fractions[0, 1])
    assert_allclose(said.rain_mean, said.fractions[:, 1], rtol=1e-5)
    return float(said.fractions[0, 1])


def test_a_month_is_drawn_towards_all_rows_by_its_days() -> None:
    model = fitted(prior_days=3)
    overall = 1 / 3
    assert second_band(model, "2030-06-01T00:00") == pytest.approx((1 * 1 + 3 * overall) / 4)
    assert second_band(model, "2030-01-31T00:00") == pytest.approx((2 * 0 + 3 * overall) / 5)


def test_a_month_never_seen_has_the_overall_mean() -> None:
    assert second_band(fitted(), "2030-03-01T00:00") == pytest.approx(1 / 3)


def test_without_groups_everything_is_the_mean() -> None:
    assert second_band(fitted(by=()), "2030-06-01T00:00") == pytest.approx(1 / 3)


def test_a_narrower_group_falls_back_to_the_one_around_it() -> None:
    model = fitted(by=("month", "hour"), prior_days=1)
    june = (1 + 1 / 3) / 2
    assert second_band(model, "2030-06-01T00:00") == pytest.approx(june)
    assert second_band(model, "2030-06-01T15:00") == pytest.approx((1 + june) / 2)


def test_areas_tell_boxes_apart() -> None:
    columns = two_months()
    north = columns.latitude >= 46
    columns = replace(columns, fractions=np.eye(5, dtype=np.float32)[2 * north.astype(int)])
    model = Climatology(by=("area",), area_degrees=1.0, prior_days=0).fit(columns, columns, seed=0)
    assert_allclose(model.predict(columns).fractions[:, 2], north)
