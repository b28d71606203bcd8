"""The one calendar: month ids, partition keys, forecast steps and evaluation windows.

A `month_id` is the VIEWS month id, an integer that counts months with 1 = January 1980:
`(year - 1980) * 12 + month`. A partition key is the same month written `YYYY-MM`. Nothing outside this
module does the arithmetic.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

FIRST_YEAR: Final = 1980
FIRST_KEY: Final = "1990-01"
STEPS: Final = tuple(range(1, 37))
_KEY = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


def month_id_of(year: int, month: int) -> int:
    """VIEWS month id of a calendar month; `month` is 1..12."""
    if not 1 <= month <= 12:
        raise ValueError(f"month must be 1..12, got {month}")
    return (year - FIRST_YEAR) * 12 + month


def year_month(month_id: int) -> tuple[int, int]:
    """(year, month 1..12) of a VIEWS month id."""
    years, months = divmod(month_id - 1, 12)
    return FIRST_YEAR + years, months + 1


def from_key(key: str) -> int:
    """Month id of a partition key such as `2024-01`; ValueError where it is not one."""
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValueError(f"{key!r} is not a month; write it as YYYY-MM, for example 2024-01")
    return month_id_of(int(match[1]), int(match[2]))


def to_key(month_id: int) -> str:
    """Partition key `YYYY-MM` of a month id."""
    year, month = year_month(month_id)
    return f"{year:04d}-{month:02d}"


def from_date(day: date) -> int:
    """Month id of the month that holds `day`."""
    return month_id_of(day.year, day.month)


def first_day(month_id: int) -> date:
    """First day of the month."""
    return date(*year_month(month_id), 1)


def describe_months(month_ids: Iterable[int]) -> str:
    """Months as short text for messages: runs of consecutive months are joined, `2023-11..2024-02, 2024-05`."""
    runs: list[list[int]] = []
    for month_id in sorted(set(month_ids)):
        if runs and month_id == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], month_id]
        else:
            runs.append([month_id])
    return ", ".join("..".join(to_key(month_id) for month_id in run) for run in runs)


FIRST_MONTH: Final = from_key(FIRST_KEY)


@dataclass(frozen=True)
class EvaluationWindow:
    """A train and a test period, both inclusive, in month ids."""

    train_first: int
    train_last: int
    test_first: int
    test_last: int


EVALUATION_WINDOWS: Final = {
    "calibration": EvaluationWindow(121, 456, 457, 504),
    "validation": EvaluationWindow(121, 504, 505, 552),
}
