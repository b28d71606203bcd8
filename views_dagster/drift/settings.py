"""Every threshold of the drift and validity checks, as they are written in YAML.

The defaults were calibrated on real panels (docs/drift.md). A check with two thresholds warns beyond the
first and is an error beyond the second.
"""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class Thresholds(BaseModel):
    """Settings whose warnings come before their errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="after")
    def _warnings_come_first(self) -> Self:
        for name, value in self:
            error = getattr(self, name.removesuffix("_warning") + "_error", None)
            if name.endswith("_warning") and error is not None and value > error:
                raise ValueError(f"{name} is {value}, beyond {name.removesuffix('_warning')}_error, {error}: swap them")
        return self


class HistorySettings(Thresholds):
    """Settings of checks against earlier months."""

    history_months: int = Field(ge=1, description="how many months before the tested one are its history")
    min_history_months: int = Field(
        ge=1, description="with fewer months of history, checks against history pass with a note"
    )

    @model_validator(mode="after")
    def _history_suffices(self) -> Self:
        if self.min_history_months > self.history_months:
            raise ValueError(
                f"min_history_months is {self.min_history_months}, more than history_months, {self.history_months}: "
                "no check against history would ever run"
            )
        return self


class InputDriftSettings(HistorySettings):
    """Thresholds of the input checks.

    Errors: structure, infinite_values. Warnings: new_units, zeros, zeros_by_unit, kl_divergence, ks_distance.
    Warnings that become errors further out: missing_units, completeness, missing_by_column, missing_by_unit,
    zeros_by_column (a column that goes silent), unchanged_month, extremes, new_negatives.
    """

    history_months: int = Field(30, ge=1, description="how many months before the tested one are its history")
    min_history_months: int = Field(
        6, ge=2, description="with fewer months of history, checks against history pass with a note"
    )
    typical_share: float = Field(
        0.9,
        gt=0.5,
        le=1,
        description="a share is typical of history between its quantiles 1 - this and this over the months; changes "
        "are measured from that range, so that a lasting step stops warning and one bad month hides nothing",
    )
    noise_level: float = Field(
        1e-4,
        gt=0,
        lt=0.1,
        description="no change of a column's distribution counts that chance alone would exceed with this probability, "
        "given how many values it has",
    )
    ignore: tuple[str, ...] = Field((), description="columns that are not tested")

    missing_units_warning: Share = Field(0.0, description="share of last month's units that may be absent")
    missing_units_error: Share = Field(
        0.03, description="share of last month's units beyond which their absence is wrong"
    )
    new_units_warning: Share = Field(0.02, description="share of units that may appear which last month did not have")

    completeness_warning: Share = Field(
        0.05, description="how much the share of present cells (units x columns) may fall below its typical range"
    )
    completeness_error: Share = Field(0.3, description="the same fall beyond which the month is wrong")
    missing_cells_error: Share = Field(
        0.99, description="share of missing cells beyond which a month is wrong, history or not"
    )
    missing_by_column_warning: Share = Field(
        0.1, description="how much a column's share of missing values may rise above its typical range"
    )
    missing_by_column_error: Share = Field(
        0.5, description="the same rise beyond which it is wrong; a column that loses all its values always is"
    )
    missing_by_unit_rise: Share = Field(
        0.5, description="a unit is hit when its share of missing columns rises this far above its typical range"
    )
    missing_by_unit_warning: Share = Field(0.0, description="share of units that may be hit")
    missing_by_unit_error: Share = Field(0.1, description="share of hit units beyond which the month is wrong")

    zeros_warning: Positive = Field(
        0.1, description="Cohen's h between the share of zeros of the whole month and its typical range"
    )
    zeros_by_column_warning: Positive = Field(
        0.2, description="Cohen's h between a column's share of zeros and its typical range"
    )
    zeros_of_active: Share = Field(
        0.4,
        description="both thresholds of h are never more than this share of the h from the typical range to all zeros: "
        "0.4 is a fall of a rarely non-zero column to 0.36 of its non-zero values, or a rise to twice as many",
    )
    min_active_units: int = Field(
        5,
        ge=1,
        description="a column that is typically non-zero (or changes) in this many units and now in none is silent "
        "(or unchanged)",
    )
    zeros_by_unit_share: Share = Field(
        0.5, description="a unit is hit when more than this share of its never-zero columns are zero"
    )
    zeros_by_unit_columns: int = Field(
        3, ge=1, description="units with fewer never-zero columns are not tested for zeros"
    )
    zeros_by_unit_warning: Share = Field(
        0.0003, description="share of units that may be hit: none of 200, three of 13,110"
    )
    unchanged_month_warning: Share = Field(
        0.0, description="share of the columns that move every month which may repeat last month in every unit"
    )
    unchanged_month_error: Share = Field(
        0.5, description="the same share beyond which the month is a copy of the last one"
    )

    extremes_warning: Positive = Field(
        5.0, description="distance of a value from the column's median, in multiples of the farthest value of history"
    )
    extremes_error: Positive = Field(200.0, description="the same distance beyond which a value is wrong")
    outliers_error: Share = Field(
        0.5, description="share of a column's non-zero values that may lie beyond its robust quantile range"
    )
    outlier_reach: Positive = Field(
        3.0,
        description="the robust range is the 1 % to 99 % quantiles of history, widened by this many times their "
        "distance (or the median, where that is larger)",
    )
    new_negatives_warning: Share = Field(
        0.0, description="share of a column's non-zero values that may be negative when none was in history"
    )
    new_negatives_error: Share = Field(0.05, description="the same share beyond which the column is wrong")
    news_share: Share = Field(
        0.05,
        description="distributions are tested only in columns where at least this share of the non-zero values differs "
        "from last month's, so that a yearly column is tested when its year comes in",
    )
    kl_divergence_warning: Positive = Field(
        0.5, description="Kullback-Leibler divergence, in nats, of a column's non-zero values from history's"
    )
    kl_bins: int = Field(10, ge=2, description="how many bins, cut at the quantiles of history")
    kl_holdout: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="smoothing: weight given to empty inner bins together, and to the two tails beyond history "
        "together",
    )
    ks_distance_warning: Share = Field(
        0.3, description="Kolmogorov-Smirnov distance of a column's non-zero values from history's"
    )
    usual_months: int = Field(
        6,
        ge=1,
        description="a column whose last so many months were, in the median, beyond the distance above from the months "
        "before them moves by nature (a decay since an event): up to a quarter more than usual is no news, and its "
        "divergence is not tested",
    )


class OutputValiditySettings(BaseModel):
    """Thresholds of the validity checks of one forecast. All of them are errors, but for high_means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean_tolerance: Positive = Field(
        1e-4, description="largest difference between a row's mean and the mean of its draws, relative to 1 + that mean"
    )
    bound_multiple: Positive = Field(
        10.0, description="draws may reach this many times the largest value ever observed in any unit"
    )
    bound_floor: Positive = Field(
        100.0, description="the bound counts the largest value observed as at least this, in the target's unit"
    )
    high_means_multiple: Positive = Field(
        1.0, description="means may reach this many times the largest value ever observed in any unit"
    )

    def bound(self, largest: float) -> float:
        """The largest draw allowed where `largest` is the largest value ever observed in any unit."""
        return self.bound_multiple * max(largest, self.bound_floor)


class OutputDriftSettings(BaseModel):
    """Thresholds of the comparison with last month's forecast of the same target months. All are warnings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    overall_change_warning: Positive = Field(
        0.2, description="change of the mean over units and months of log(1 + forecast mean)"
    )
    overall_change_share: Share = Field(
        0.25,
        description="the same change as a share of the larger of the two levels, which is the limit where most units "
        "are forecast about zero",
    )
    min_changed_units: int = Field(
        5, ge=1, description="the overall limit is never less than what so many changed units make of it"
    )
    unit_change: Positive = Field(
        0.7,
        description="a unit has changed when its mean of log(1 + forecast mean) moved this far; 0.7 is about double "
        "or half",
    )
    changed_units_warning: Share = Field(0.15, description="share of units that may have changed")
    changed_active_units_warning: Share = Field(
        0.8,
        description="the same share of the units that could have: those forecast at least that level in either month; "
        "not tested for fewer than twenty of them",
    )
    high_level: Positive = Field(25.0, description="a unit is high when the mean forecast over its months reaches this")
    new_high_factor: float = Field(
        2.0, ge=1, description="a unit that crosses the high level counts as newly high when it grew by this factor"
    )
    new_high_units_warning: Count = Field(6, description="how many units may be newly high")
