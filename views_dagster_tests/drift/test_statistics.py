import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from views_dagster.drift.distributions import ks_distance, units_alike, usual_distance
from views_dagster.drift.settings import InputDriftSettings
from views_dagster.drift.statistics import Statistics, cohens_h, summarise
from views_dagster.drift.window import Window
from views_dagster.errors import PanelError

FEW = InputDriftSettings(history_months=8, min_history_months=2)


def window(frame: pl.DataFrame, month: int = 9, **kwargs: object) -> Window:
    return Window.from_frame(frame, month, history_months=8, **kwargs)  # type: ignore[arg-type]


def table(values: np.ndarray, first: int = 1) -> pl.DataFrame:
    """(T, U) values of one column `x` as rows, months from `first`, units from 1."""
    months, units = values.shape
    return pl.DataFrame(
        {
            "month_id": np.repeat(np.arange(first, first + months), units),
            "unit_id": np.tile(np.arange(1, units + 1), months),
            "x": values.ravel(),
        }
    )


def statistics(values: np.ndarray, settings: InputDriftSettings = FEW) -> Statistics:
    return summarise(window(table(values)), settings)


def test_window_keeps_the_history_before_the_month_and_nothing_later() -> None:
    frame = table(np.arange(24.0).reshape(12, 2))
    seen = Window.from_frame(frame, 6, history_months=3)
    assert seen.values[:, :, 0].tolist() == [[4, 5], [6, 7], [8, 9], [10, 11]]
    assert seen.history == 3


def test_window_counts_infinite_values_as_missing_and_reports_them() -> None:
    frame = table(np.array([[1.0, 2.0], [np.inf, np.nan]]), first=8)
    seen = window(frame)
    assert np.isnan(seen.values[-1]).all()
    assert seen.infinite.tolist() == [1]


def test_window_leaves_out_ignored_and_non_numeric_columns() -> None:
    frame = table(np.ones((2, 2)), first=8).with_columns(name=pl.lit("a"), y=pl.lit(1), b=pl.lit(True))
    assert window(frame, ignore=("y",)).columns == ("x", "b")


@pytest.mark.parametrize("frame", [pl.DataFrame({"x": [1.0]}), pl.DataFrame({"month_id": [1], "unit_id": [1]})])
def test_window_without_keys_or_columns_is_refused(frame: pl.DataFrame) -> None:
    with pytest.raises(PanelError, match="unit_id"):
        window(frame)


def test_cohens_h_of_known_shares() -> None:
    # 2 asin(sqrt(0.5)) = pi / 2 and 2 asin(sqrt(0.25)) = pi / 3.
    h = cohens_h(np.array([0.5, 0.25, 0.3, np.nan]), np.array([0.25, 0.5, 0.2, 0.1]), np.array([0.25, 0.6, 0.4, 0.2]))
    assert h[:3] == pytest.approx([np.pi / 6, -np.pi / 6, 0])
    assert np.isnan(h[3])


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, st.integers(1, 40), elements=st.integers(-5, 5).map(float)),
    hnp.arrays(np.float64, st.integers(1, 40), elements=st.integers(-5, 5).map(float)),
)
def test_ks_distance_agrees_with_scipy(values: np.ndarray, history: np.ndarray) -> None:
    from scipy.stats import ks_2samp

    theirs = ks_2samp(values, history, method="asymp").statistic
    assert ks_distance(values, np.sort(history)) == pytest.approx(theirs)


def test_missing_and_zero_shares_are_measured_from_the_typical_range() -> None:
    values = np.ones((9, 40))
    values[:8, :10] = 0
    values[8, :20] = 0
    values[8, 20:24] = np.nan
    column = statistics(values).columns.row(0, named=True)
    assert column["missing"] == pytest.approx(0.1)
    assert column["missing_rise"] == pytest.approx(0.1)
    assert (column["zeros_low"], column["zeros_high"]) == (0.25, 0.25)
    share = 20 / 36
    assert column["zeros"] == pytest.approx(share)
    assert column["zeros_effect"] == pytest.approx(2 * np.arcsin(np.sqrt(share)) - np.pi / 3)
    assert column["zeros_limit"] == pytest.approx(3 / np.sqrt(36))


def test_one_bad_month_of_history_does_not_hide_the_next() -> None:
    values = np.ones((9, 40))
    values[7] = np.nan
    values[8] = np.nan
    column = statistics(values, FEW.model_copy(update={"typical_share": 0.8})).columns.row(0, named=True)
    assert column["missing_rise"] == 1


def test_a_column_goes_silent_only_if_it_was_active() -> None:
    busy, rare = np.zeros((9, 40)), np.zeros((9, 40))
    busy[:8, :5] = 3
    rare[:8, :4] = 3
    assert statistics(busy).columns["silent"][0] == 1
    assert statistics(rare).columns["silent"][0] is None


def test_a_repeated_month_is_unchanged_only_in_columns_that_move() -> None:
    moving = np.arange(9.0)[:, None] + np.arange(10.0)
    moving[8] = moving[7]
    still = np.tile(np.arange(10.0), (9, 1))
    assert statistics(moving).columns["unchanged"][0] == 1
    assert statistics(moving).overall["unchanged_share"][0] == 1
    assert statistics(still).columns["unchanged"][0] is None
    moving[8, 0] += 1
    assert statistics(moving).columns["unchanged"][0] == 0


def test_reach_is_in_multiples_of_the_farthest_value_of_history() -> None:
    values = np.tile(np.arange(1.0, 12.0), (9, 1))
    values[8, 3] = 36
    # Median 6, farthest |6| from zero: (36 - 6) / 6.
    assert statistics(values).columns["reach"][0] == pytest.approx(5)


def test_new_negatives_count_only_where_history_was_positive() -> None:
    values = np.tile(np.arange(1.0, 12.0), (9, 1))
    values[8, :2] = -1
    assert statistics(values).columns["new_negatives"][0] == pytest.approx(2 / 11)
    values[3, 0] = -5
    assert statistics(values).columns["new_negatives"][0] == 0


def test_distributions_are_not_tested_in_columns_that_repeat_last_month() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(9, 50))
    assert statistics(values).columns["ks"][0] is not None
    values[8] = values[7]
    result = statistics(values)
    assert result.columns["ks"][0] is None
    assert result.columns["kl"][0] is None


def test_a_column_that_moves_by_nature_is_held_to_its_usual_distance() -> None:
    """Every unit decays alike, so each month lies below all before it: a distance of 1, every month."""
    decay = np.repeat(2.0 ** -np.arange(1, 10)[:, None], 60, axis=1) + np.random.default_rng(0).normal(0, 1e-4, (9, 60))
    moving = statistics(decay)
    assert moving.columns["ks"][0] == 1
    assert moving.columns["ks_limit"][0] == pytest.approx(1.25)
    assert moving.columns["kl"][0] is None
    steady = np.random.default_rng(0).normal(5, 1, (9, 60))
    steady[8] += 3
    jumped = statistics(steady)
    assert jumped.columns["ks"][0] > 0.8
    assert jumped.columns["ks_limit"][0] < 0.5
    assert jumped.columns["kl"][0] > 0.5


def test_noise_allowances_follow_their_formulas() -> None:
    values = np.random.default_rng(0).normal(size=(9, 25))
    column = statistics(values).columns.row(0, named=True)
    # sqrt(ln(2 / 1e-4) / 2 * (1 / 25 + 1 / 200)); chi-squared of 9 degrees at 1e-4 is 33.72.
    assert column["ks_limit"] == pytest.approx(np.sqrt(np.log(2e4) / 2 * (1 / 25 + 1 / 200)))
    assert column["kl_limit"] == pytest.approx(33.72 / 50, abs=1e-3)


def test_units_that_lose_their_columns_or_go_dead() -> None:
    frame = table(np.ones((9, 3))).with_columns(y=pl.lit(1.0), z=pl.lit(1.0))
    now = pl.col("month_id") == 9
    frame = frame.with_columns(
        pl.when(now & (pl.col("unit_id") == 1)).then(None).otherwise(pl.col("x")).alias("x"),
        pl.when(now & (pl.col("unit_id") == 2)).then(pl.col("y", "z") * 0).otherwise(pl.col("y", "z")),
    )
    units = summarise(window(frame), FEW).units
    assert units["missing_rise"].to_list() == pytest.approx([1 / 3, 0, 0])
    assert units["dead"].to_list() == pytest.approx([0, 2 / 3, 0])


def test_overall_counts_units_that_came_and_went() -> None:
    frame = table(np.ones((9, 4))).filter(~((pl.col("month_id") == 9) & (pl.col("unit_id") == 1)))
    frame = frame.filter(~((pl.col("month_id") < 9) & (pl.col("unit_id") >= 3)))
    row = summarise(window(frame), FEW).overall.row(0, named=True)
    assert (row["missing_units"], row["missing_units_share"]) == (1, 0.5)
    assert (row["new_units"], row["new_units_share"]) == (2, 1)
    # Three of the four units that either month has.
    assert row["missing_cells"] == pytest.approx(0.25)
    assert row["completeness_fall"] == pytest.approx(0.25)


def test_units_that_move_together_are_one_observation() -> None:
    paths = np.array([[1.0, 1, 1, 2, 3], [4.0, 4, 4, 4, 4]])
    # Groups of 3, 1 and 1: worth 25 / 11 equal observations, so 11 / 5 units for each.
    assert units_alike(paths) == pytest.approx(11 / 5)
    assert units_alike(np.arange(10.0).reshape(2, 5)) == 1
    assert units_alike(np.empty((2, 0))) == 1


def test_a_value_spread_from_parents_is_allowed_the_noise_of_the_parents() -> None:
    rng = np.random.default_rng(1)
    spread = statistics(np.repeat(rng.normal(5, 1, (9, 25)), 40, axis=1)).columns.row(0, named=True)
    alone = statistics(rng.normal(5, 1, (9, 1000))).columns.row(0, named=True)
    # 25 independent values now, and 8 months of 1000 before.
    assert spread["ks_limit"] == pytest.approx(np.sqrt(np.log(2e4) / 2 * (1 / 25 + 1 / 8000)))
    assert spread["kl_limit"] == pytest.approx(33.72 / 50, abs=1e-3)
    assert alone["ks_limit"] == FEW.ks_distance_warning


def test_a_fault_that_hits_units_alike_does_not_widen_its_own_limit() -> None:
    values = np.random.default_rng(2).normal(5, 1, (9, 500))
    values[8] = 9
    assert statistics(values).columns["ks_limit"][0] == FEW.ks_distance_warning


def test_the_usual_distance_is_the_median_distance_of_months_from_those_before() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(9, 30)) + np.arange(9)[:, None]
    distances = [ks_distance(values[at], np.sort(values[:at].ravel())) for at in (6, 7, 8)]
    some = np.ones(values.shape, dtype=bool)
    assert usual_distance(values, some, np.sort(values.ravel()), 3) == pytest.approx(np.median(distances))


def test_zeros_of_a_rarely_active_column_are_held_to_what_it_has_to_lose() -> None:
    values = np.zeros((9, 10_000))
    values[:, :100] = np.random.default_rng(4).uniform(1, 2, (9, 100))
    column = statistics(values).columns.row(0, named=True)
    # From 1 % of values to none, h is 2 asin(0.1).
    assert column["zeros_limit"] == pytest.approx(0.4 * 2 * np.arcsin(0.1))
    values[8, 30:] = 0
    lost = statistics(values).columns.row(0, named=True)
    assert lost["zeros_effect"] > lost["zeros_limit"]
