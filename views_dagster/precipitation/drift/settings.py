"""Every threshold of the drift checks of columns, rain, diagnoses and scores, as they are written in YAML.

A check with two thresholds warns beyond the first and is an error beyond the second.
"""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from views_dagster.drift.settings import HistorySettings, Positive, Share

Bounds = tuple[float, float]

PHYSICAL_BOUNDS: Final[Mapping[str, Bounds]] = {
    "cloud_fraction": (-0.001, 1.001),
    # Per cent or a fraction, as the source has it; a change from one to the other moves the mean.
    "relative_humidity": (-5.0, 200.0),
    "specific_humidity": (-1e-6, 0.06),
    "temperature": (150.0, 340.0),
    "temperature_2m": (180.0, 335.0),
    "dewpoint_temperature": (120.0, 310.0),
    "dewpoint_temperature_2m": (150.0, 310.0),
    "eastward_wind": (-200.0, 200.0),
    "northward_wind": (-200.0, 200.0),
    "wind_speed": (0.0, 200.0),
    "surface_eastward_wind": (-100.0, 100.0),
    "surface_northward_wind": (-100.0, 100.0),
    "surface_wind_speed": (0.0, 100.0),
    "vertical_velocity": (-50.0, 50.0),
    "pressure": (0.1, 1100.0),
    "surface_pressure": (450.0, 1100.0),
    "mean_sea_level_pressure": (850.0, 1100.0),
    "geopotential_height": (-1000.0, 60_000.0),
    "orography": (-500.0, 9000.0),
    "land_fraction": (-0.001, 1.001),
}
"""What a variable of this name can be, in the unit that sources convert it to: fractions 0..1 (and a little
beyond, from interpolation), K, m/s, hPa (vertical velocity Pa/s), m."""

MonthsOfHistory = Annotated[int, Field(ge=1)]


class _History(HistorySettings):
    """A year of history at the least: with less, every season is news."""

    history_months: MonthsOfHistory = Field(24, description="how many months before the tested one are its history")
    min_history_months: MonthsOfHistory = Field(
        12,
        description="with fewer months of history, checks of distributions pass with a note: with less than a year "
        "every season is news",
    )


class ColumnDriftSettings(_History):
    """Thresholds of the checks of a month of columns and rain against the months before it."""

    missing_times_warning: Share = Field(
        0.02, description="how much the share of absent valid times may rise above that of any month of history"
    )
    missing_times_error: Share = Field(0.3, description="the same rise beyond which the month is wrong")
    missing_rows_warning: Share = Field(
        0.02, description="how much the share of absent rows (boxes x times that are there) may rise in the same way"
    )
    missing_rows_error: Share = Field(0.3, description="the same rise beyond which the month is wrong")
    missing_boxes_warning: Share = Field(0.0, description="share of last month's boxes that may be absent")
    missing_boxes_error: Share = Field(0.1, description="the same share beyond which the lattice has changed")
    new_boxes_warning: Share = Field(0.0, description="share of boxes that may appear which last month did not have")
    new_boxes_error: Share = Field(0.1, description="the same share beyond which the lattice has changed")
    repeated_times_warning: Share = Field(
        0.0, description="share of valid times whose profiles may all equal those of the time before"
    )
    repeated_times_error: Share = Field(0.3, description="the same share beyond which the feed is stuck")

    bounds: Mapping[str, Bounds] = Field(
        default_factory=dict,
        description="lowest and highest possible value of variables, in the unit that their source converts them to; "
        "in place of the built-in ones, or for variables that have none",
    )
    beyond_bounds_warning: Share = Field(
        0.0, description="share of values of a variable at a level that may lie beyond its bounds"
    )
    beyond_bounds_error: Share = Field(0.001, description="the same share beyond which the variable is wrong")
    mean_shift_warning: Positive = Field(
        0.5,
        description="how far a mean may lie beyond all monthly means of history, in standard deviations of history",
    )
    mean_shift_error: Positive = Field(5.0, description="the same distance beyond which it is wrong: another unit, say")
    spread_shift_warning: float = Field(
        2.0, gt=1, description="factor by which a standard deviation may be beyond all monthly ones of history"
    )
    spread_shift_error: float = Field(
        20.0, gt=1, description="the same factor beyond which it is wrong; a field that no longer varies always is"
    )
    ks_distance_warning: Share = Field(
        0.2,
        description="Kolmogorov-Smirnov distance from history, where no month of history lay as far from the others",
    )
    psi_warning: Positive = Field(0.25, description="population stability index against history, in the same way")

    rain_missing_warning: Share = Field(
        0.1, description="how much the share of area without rain data may rise above that of any month of history"
    )
    rain_missing_error: Share = Field(
        0.5,
        description="the same rise beyond which the month is wrong; 1 where months are diagnosed whose rain is not "
        "known yet",
    )
    wet_share_warning: Positive = Field(
        0.3,
        description="Cohen's h between the share of area at or above the lowest edge and its range in history; an "
        "all-dry month is possible, and warns where no month was as dry",
    )
    rain_rate_warning: Positive = Field(250.0, description="mm/h over the interval that a fine pixel may reach")
    rain_rate_error: Positive = Field(600.0, description="the same rate beyond which it is wrong")
    inconsistent_rain_error: Share = Field(
        0.001, description="share of boxes whose mean may contradict their fractions or maximum"
    )

    def bounds_of(self, variable: str) -> Bounds | None:
        """Lowest and highest possible value, None where nothing is known of the variable."""
        return self.bounds.get(variable) or PHYSICAL_BOUNDS.get(variable)


class DiagnosisDriftSettings(_History):
    """Thresholds of the checks of a month's diagnosis."""

    sum_tolerance: Positive = Field(1e-5, description="how far from 1 the fractions of a stored row may sum")
    rain_mean_error: Positive = Field(200.0, description="highest box mean, mm/h")
    band_mix_warning: Positive = Field(
        0.4,
        description="Cohen's h between the share of area said to be at or above an edge and that of a reference "
        "(climatology, NWP) for the same boxes and times",
    )
    sharpness_warning: Share = Field(
        0.5, description="share of its lowest earlier monthly value to which the spread over boxes may fall"
    )


class PerformanceDriftSettings(_History):
    """Thresholds of the checks of a month's scores against those of the months before it."""

    history_months: MonthsOfHistory = Field(24, description="how many months before the tested one are its history")
    min_history_months: MonthsOfHistory = Field(
        6, description="with fewer months of history the checks pass with a note"
    )
    score_excess_warning: Positive = Field(
        4.0,
        description="how far a score may exceed history's median, in robust standard deviations (1.4826 median "
        "absolute deviations, a tenth of the median at least)",
    )
    score_excess_error: Positive = Field(15.0, description="the same distance beyond which something is broken")
    skill_fall_warning: Positive = Field(0.2, description="how far skill may fall below history's median")
