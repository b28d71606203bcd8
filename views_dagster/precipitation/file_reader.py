"""What readers of weather files share: the lattice, the first month, and how they appear to the platform."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from views_dagster.calendar import FIRST_MONTH, describe_months, from_key
from views_dagster.errors import SourceError
from views_dagster.precipitation.boxes import BoxGrid, hours_long, month_of_times, times_of_months
from views_dagster.precipitation.file_variables import FileVariable
from views_dagster.precipitation.weather_files import newest_time
from views_dagster.sources.base import Reader

Item = TypeVar("Item")
_HOURS: Final = {"min": 1 / 60, "h": 1.0, "d": 24.0}


def _month_id(written: Any) -> Any:
    return from_key(written) if isinstance(written, str) else written


def _hours(written: Any) -> Any:
    if not isinstance(written, str):
        return written
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(min|h|d)", written.strip())
    if match is None:
        raise ValueError(f"{written!r} is not a length of time; write for example 30min, 6h or 1d")
    return float(match[1]) * _HOURS[match[2]]


MonthId = Annotated[int, BeforeValidator(_month_id, json_schema_input_type=int | str), Field(ge=FIRST_MONTH)]
"""A month id, in YAML written `2018-05`."""

Hours = Annotated[float, BeforeValidator(_hours, json_schema_input_type=float | str), Field(gt=0, le=31 * 24)]
"""A length of time in hours, in YAML written `30min`, `6h` or `1d`."""


def read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each fetched while the one before it is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = reader.submit(next, items, None)
            yield item


class WeatherFileReader(Reader, ABC):
    """Rows of boxes and valid times from files."""

    grid: BoxGrid = Field(description="The lattice of boxes, the same for columns, rain and members.")
    first_month: MonthId | None = Field(
        default=None, description="First month the files have, `2018-05`; by default the platform's first."
    )

    @property
    def row_keys(self) -> Sequence[str]:
        return ("month_id", "valid_time", "box_id")

    @property
    def begins(self) -> int | None:
        return self.first_month

    @abstractmethod
    def _variables(self) -> Sequence[tuple[FileVariable, str | None]]:
        """The variables with times, each with its dimension of levels or members."""

    def latest_month(self) -> int | None:
        """The newest month that the last files, by name, reach the end of; None where they do not reach one.

        Raises:
            SourceError: there are no files, or they cannot be read.
        """
        newest = min(newest_time(variable, extra) for variable, extra in self._variables())
        # The last valid time of a month is often the first of the next file: a month is whole without it.
        following = newest + hours_long(self._hours_between) + np.timedelta64(1, "us")
        month_id = int(month_of_times(following)) - 1
        return month_id if month_id >= (self.first_month or FIRST_MONTH) else None

    @property
    @abstractmethod
    def _hours_between(self) -> float:
        """Hours from one valid time to the next."""

    def _check_months(self, times: NDArray[np.datetime64], first: int, last: int, what: str) -> int:
        """How many of the valid times that the months should have are absent; SourceError where a month has none."""
        if absent := set(range(first, last + 1)) - set(month_of_times(times).tolist()):
            raise SourceError(
                f"there is no complete time of {what} in {describe_months(absent)}; fetch the files of these months, "
                "or set first_month if the source begins later"
            )
        return len(np.setdiff1d(times_of_months(first, last, self._hours_between), times))
