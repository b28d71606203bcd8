"""The calendar against dates that anybody can look up."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from views_dagster import calendar

MONTH_IDS = st.integers(min_value=1, max_value=12 * 200)


@pytest.mark.parametrize(
    ("key", "month_id"),
    [("1980-01", 1), ("1980-12", 12), ("1981-01", 13), ("1990-01", 121), ("2024-01", 529), ("2023-12", 528)],
)
def test_known_months(key: str, month_id: int) -> None:
    year, month = map(int, key.split("-"))
    assert calendar.from_key(key) == month_id
    assert calendar.to_key(month_id) == key
    assert calendar.month_id_of(year, month) == month_id
    assert calendar.year_month(month_id) == (year, month)
    assert calendar.first_day(month_id) == date(year, month, 1)
    assert calendar.from_date(date(year, month, 28)) == month_id


def test_partitions_start_at_month_121() -> None:
    assert calendar.FIRST_MONTH == 121


def test_steps_are_three_years() -> None:
    assert calendar.STEPS[0] == 1
    assert calendar.STEPS[-1] == len(calendar.STEPS) == 36


@given(MONTH_IDS)
def test_keys_and_dates_round_trip(month_id: int) -> None:
    assert calendar.from_key(calendar.to_key(month_id)) == month_id
    assert calendar.from_date(calendar.first_day(month_id)) == month_id


@given(MONTH_IDS)
def test_keys_sort_as_months_do(month_id: int) -> None:
    assert calendar.to_key(month_id) < calendar.to_key(month_id + 1)


@pytest.mark.parametrize("text", ["2024", "2024-1", "2024-13", "2024-00", "2024-01-01", " 2024-01", "24-01", ""])
def test_what_is_not_a_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="YYYY-MM"):
        calendar.from_key(text)


@pytest.mark.parametrize("month", [0, 13, -1])
def test_month_of_the_year_is_bounded(month: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.12"):
        calendar.month_id_of(2024, month)


@pytest.mark.parametrize(
    ("month_ids", "text"),
    [
        ([], ""),
        ([529], "2024-01"),
        ([529, 528], "2023-12..2024-01"),
        ([527, 528, 529, 530, 533, 533], "2023-11..2024-02, 2024-05"),
    ],
)
def test_months_are_described_by_runs(month_ids: list[int], text: str) -> None:
    assert calendar.describe_months(month_ids) == text


@given(st.sets(MONTH_IDS, max_size=20))
def test_description_names_exactly_the_months(month_ids: set[int]) -> None:
    named: set[int] = set()
    for run in filter(None, calendar.describe_months(month_ids).split(", ")):
        ends = [calendar.from_key(key) for key in run.split("..")]
        named |= set(range(ends[0], ends[-1] + 1))
    assert named == month_ids


def test_evaluation_windows_train_before_they_test() -> None:
    assert {name: calendar.to_key(window.test_first) for name, window in calendar.EVALUATION_WINDOWS.items()} == {
        "calibration": "2018-01",
        "validation": "2022-01",
    }
    for window in calendar.EVALUATION_WINDOWS.values():
        assert window.train_first < window.train_last < window.test_first < window.test_last
        assert window.test_last - window.test_first + 1 == 48
