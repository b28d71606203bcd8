"""Cells scaled to their countries: by hand, as invariants, against a slow version, and against VIEWS' own."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from views_dagster.conflict.interchange import to_prediction_frame
from views_dagster.conflict.reconciliation import choose_draws, reconcile, scale_draws
from views_dagster.errors import ForecastError
from views_dagster.forecasts import Forecast

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
HELD_BY = pl.DataFrame({"unit_id": [11, 12, 13, 14], "parent_id": [7, 9, 7, 9]})


def forecast(units: list[int], draws: Any, *, origin: int = 529, first_step: int = 1) -> Forecast:
    values = np.asarray(draws, dtype=np.float32)
    steps = np.arange(first_step, first_step + values.shape[1])
    return Forecast(origin=origin, units=np.array(units), steps=steps, draws=values)


def four_cells() -> Forecast:
    """Cells 11..14, one step, three draws; country 7 holds 11 and 13, country 9 the others."""
    return forecast([11, 12, 13, 14], [[[1, 0, 4]], [[2, 5, 0]], [[3, 0, 0]], [[2, 0, 0]]])


def two_countries() -> Forecast:
    return forecast([7, 9], [[[8, 6, 2]], [[1, 10, 0]]])


class TestByHand:
    def test_positive_cells_are_scaled_to_the_country_and_zeros_stay(self) -> None:
        reconciled, _ = reconcile(four_cells(), two_countries(), HELD_BY)
        assert reconciled.draws[:, 0].tolist() == [[2, 0, 2], [0.5, 10, 0], [6, 0, 0], [0.5, 0, 0]]
        assert (reconciled.origin, reconciled.units.tolist(), reconciled.steps.tolist()) == (529, [11, 12, 13, 14], [1])

    def test_the_report_says_what_could_not_be_placed(self) -> None:
        _, report = reconcile(four_cells(), two_countries(), HELD_BY)
        # Country 7 expects 6 in draw 1, where both of its cells are zero: 2 a draw on average.
        assert report.to_frame().rows() == [(7, 1, 2.0, 2.0), (9, 0, 0.0, 2.0)]
        assert report.cells == 4
        assert report.without_cells.tolist() == []

    def test_a_draw_of_zeros_may_be_spread_as_the_means_of_the_cells(self) -> None:
        reconciled, report = reconcile(four_cells(), two_countries(), HELD_BY, spread_zero_draws=True)
        # Means over draws are 5/3 and 1, so the cells of country 7 get 5/8 and 3/8 of its 6.
        assert reconciled.draws[[0, 2], 0, 1].tolist() == [3.75, 2.25]
        assert reconciled.draws[[0, 2], 0, 0].tolist() == [2, 6]
        assert report.to_frame().row(0) == (7, 1, 2.0, 2.0)

    def test_a_country_whose_cells_never_have_anything_is_spread_evenly(self) -> None:
        cells = forecast([11, 13], np.zeros((2, 2, 2)))
        countries = forecast([7], [[[3, 0], [0, 8]]])
        left, report = reconcile(cells, countries, HELD_BY)
        assert not left.draws.any()
        assert report.to_frame().rows() == [(7, 2, 5.5, 0.0)]
        spread, _ = reconcile(cells, countries, HELD_BY, spread_zero_draws=True)
        assert spread.draws.tolist() == [[[1.5, 0], [0, 4]]] * 2

    def test_a_total_of_zero_sets_its_cells_to_zero(self) -> None:
        reconciled, report = reconcile(four_cells(), forecast([7, 9], np.zeros((2, 1, 3))), HELD_BY)
        assert not reconciled.draws.any()
        assert report.to_frame()["all_zero_draws"].to_list() == [0, 0]

    def test_one_draw_of_a_country_holds_in_every_draw(self) -> None:
        reconciled, report = reconcile(four_cells(), forecast([7, 9], [[[4]], [[10]]]), HELD_BY)
        assert reconciled.draws[:, 0].tolist() == [[1, 0, 4], [5, 10, 0], [3, 0, 0], [5, 0, 0]]
        assert report.all_zero.tolist() == [1, 1]
        assert report.unplaced.tolist() == pytest.approx([4 / 3, 10 / 3])

    def test_countries_without_cells_are_left_alone_and_named(self) -> None:
        countries = forecast([5, 7, 8, 9], [[[1, 1, 1]], [[8, 6, 2]], [[3, 3, 3]], [[1, 10, 0]]])
        reconciled, report = reconcile(four_cells(), countries, HELD_BY)
        assert report.without_cells.tolist() == [5, 8]
        np.testing.assert_array_equal(reconciled.draws, reconcile(four_cells(), two_countries(), HELD_BY)[0].draws)

    def test_the_table_of_cells_may_hold_more_than_the_forecast_in_any_order(self) -> None:
        more = pl.concat([HELD_BY, pl.DataFrame({"unit_id": [1, 1], "parent_id": [None, 3]})]).reverse()
        np.testing.assert_array_equal(
            reconcile(four_cells(), two_countries(), more)[0].draws,
            reconcile(four_cells(), two_countries(), HELD_BY)[0].draws,
        )

    def test_nothing_that_is_given_is_changed(self) -> None:
        cells, countries = four_cells(), two_countries()
        before = cells.draws.copy(), countries.draws.copy()
        reconcile(cells, countries, HELD_BY, spread_zero_draws=True)
        np.testing.assert_array_equal(cells.draws, before[0])
        np.testing.assert_array_equal(countries.draws, before[1])


class TestExtremes:
    @pytest.mark.parametrize(
        ("cell", "total"), [(SMALLEST, LARGEST), (LARGEST, LARGEST), (LARGEST, 1e-30), (1e-38, 1e5), (1e30, 1e-7)]
    )
    def test_no_ratio_overflows_or_loses_the_total(self, cell: float, total: float) -> None:
        cells = np.full((3, 1, 1), cell, dtype=np.float32)
        totals = np.full((1, 1, 1), total, dtype=np.float32)
        scaled = scale_draws(cells, totals, np.zeros(3, dtype=np.int64))
        assert np.isfinite(scaled.draws).all()
        assert scaled.draws.sum(dtype=np.float64) == pytest.approx(float(totals.sum(dtype=np.float64)), rel=1e-6)

    def test_many_cells_far_apart_keep_the_total(self) -> None:
        rng = np.random.default_rng(3)
        cells = (10 ** rng.uniform(-30, 30, (20_000, 2, 3))).astype(np.float32)
        totals = np.full((1, 2, 3), 12_345.678, dtype=np.float32)
        scaled = scale_draws(cells, totals, np.zeros(20_000, dtype=np.int64))
        np.testing.assert_allclose(scaled.draws.sum(axis=0, dtype=np.float64), totals[0], rtol=1e-6)

    def test_float32_sums_would_not_do(self) -> None:
        """100,000 cells of 1 and one of 2^24: summed in float32, in order, the ones would vanish."""
        cells = np.concatenate([np.full(1, 2**24), np.ones(100_000)]).astype(np.float32).reshape(-1, 1, 1)
        totals = np.full((1, 1, 1), 2**24 + 100_000, dtype=np.float32)
        scaled = scale_draws(cells, totals, np.zeros(len(cells), dtype=np.int64))
        np.testing.assert_array_equal(scaled.draws, cells)


class TestRefused:
    def test_other_months_steps_and_draws(self) -> None:
        with pytest.raises(ForecastError, match="from 2024-01, the countries from 2024-02"):
            reconcile(four_cells(), forecast([7, 9], np.ones((2, 1, 3)), origin=530), HELD_BY)
        with pytest.raises(ForecastError, match=r"predicts 2024-03 \(steps 2\)"):
            reconcile(four_cells(), forecast([7, 9], np.ones((2, 2, 3))), HELD_BY)
        with pytest.raises(ForecastError, match=r"predicts 2024-02..2024-03 \(steps 1, 2\)"):
            reconcile(four_cells(), forecast([7, 9], np.ones((2, 1, 3)), first_step=2), HELD_BY)
        with pytest.raises(ForecastError, match="the cells have 3 draws, the countries 2"):
            reconcile(four_cells(), forecast([7, 9], np.ones((2, 1, 2))), HELD_BY)
        with pytest.raises(ForecastError, match="the cells have 1 draws, the countries 2"):
            reconcile(forecast([11], [[[1]]]), forecast([7], [[[1, 2]]]), HELD_BY)

    def test_cells_without_a_country_are_named(self) -> None:
        with pytest.raises(ForecastError, match="cells 12, 14 have no country"):
            reconcile(four_cells(), two_countries(), HELD_BY.filter(pl.col("parent_id") == 7))
        unknown = HELD_BY.with_columns(pl.when(pl.col("unit_id") != 13).then("parent_id").alias("parent_id"))
        with pytest.raises(ForecastError, match="cells 13 have no country"):
            reconcile(four_cells(), two_countries(), unknown)

    def test_cells_with_several_countries_are_named(self) -> None:
        with pytest.raises(ForecastError, match="cells 11, 14 have several countries"):
            reconcile(four_cells(), two_countries(), pl.concat([HELD_BY, HELD_BY[::3]]))

    def test_countries_without_a_forecast_are_named(self) -> None:
        with pytest.raises(ForecastError, match="lacks 9, which hold 2 of the cells"):
            reconcile(four_cells(), forecast([7], np.ones((1, 1, 3))), HELD_BY)

    @pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("where", ["cells", "totals"])
    def test_arrays_with_values_that_are_none(self, value: float, where: str) -> None:
        arrays = {"cells": np.ones((3, 2, 4), np.float32), "totals": np.ones((2, 2, 4), np.float32)}
        arrays[where][1, 1, 2] = value
        problem = "negative" if value == -1 else "not finite"
        with pytest.raises(ForecastError, match=f"1 values of the {where} are {problem}, first .* in row 1, .* draw 2"):
            scale_draws(arrays["cells"], arrays["totals"], np.array([0, 1, 1]))

    def test_arrays_that_do_not_fit(self) -> None:
        cells, totals = np.ones((3, 2, 4), np.float32), np.ones((2, 2, 4), np.float32)
        with pytest.raises(ForecastError, match="do not fit"):
            scale_draws(cells, totals[:, :1], np.array([0, 1, 1]))
        with pytest.raises(ForecastError, match="do not fit"):
            scale_draws(cells, totals, np.array([0, 1]))
        with pytest.raises(ForecastError, match="from 0 to 1, got 0, 1, 2"):
            scale_draws(cells, totals, np.array([0, 1, 2]))
        with pytest.raises(ForecastError, match="from 0 to 1, got -1, 0"):
            scale_draws(cells, totals, np.array([0, -1, 0]))


# Zero, and values so close together that no share of one underflows.
VALUES = st.one_of(st.just(0.0), st.floats(2.0**-32, 2.0**32, width=32))


@st.composite
def problems(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Cells, totals and the country of each cell; some countries may hold none."""
    cells, countries, steps, draws = (draw(st.integers(1, most)) for most in (8, 3, 2, 3))

    def values(*shape: int) -> NDArray[np.float32]:
        size = int(np.prod(shape))
        return np.array(draw(st.lists(VALUES, min_size=size, max_size=size)), dtype=np.float32).reshape(shape)

    country = draw(st.lists(st.integers(0, countries - 1), min_size=cells, max_size=cells))
    totals = values(countries, steps, draw(st.sampled_from([1, draws])))
    return values(cells, steps, draws), totals, np.array(country, dtype=np.int64)


def sums(values: NDArray[np.float32], country: NDArray[np.int64], countries: int) -> NDArray[np.float64]:
    found = np.zeros((countries, *values.shape[1:]))
    np.add.at(found, country, values.astype(np.float64))
    return found


@settings(max_examples=150, deadline=None)
@given(problems())
def test_totals_are_kept_wherever_there_is_a_cell_to_take_them(problem: Any) -> None:
    cells, totals, country = problem
    before = sums(cells, country, len(totals))
    scaled = scale_draws(cells, totals, country)
    after = sums(scaled.draws, country, len(totals))
    np.testing.assert_allclose(after, np.where(before > 0, totals, 0), rtol=1e-6)
    assert ((cells > 0) | (scaled.draws == 0)).all()
    held = np.isin(np.arange(len(totals)), country)[:, None, None]
    lost = np.where(held & (before == 0), totals, 0).astype(np.float64)
    assert scaled.all_zero.tolist() == (lost > 0).sum(axis=(1, 2)).tolist()
    np.testing.assert_allclose(scaled.unplaced, lost.sum(axis=(1, 2)) / cells.shape[2])
    spread = scale_draws(cells, totals, country, spread_zero_draws=True)
    expected = np.broadcast_to(np.where(held, totals, 0), before.shape)
    np.testing.assert_allclose(sums(spread.draws, country, len(totals)), expected, rtol=1e-6)


@settings(max_examples=100, deadline=None)
@given(problems())
def test_reconciling_again_changes_nothing(problem: Any) -> None:
    cells, totals, country = problem
    once = scale_draws(cells, totals, country).draws
    np.testing.assert_allclose(scale_draws(once, totals, country).draws, once, rtol=1e-6)


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(-8, 8))
def test_only_shares_of_the_cells_count_and_totals_scale_the_result(problem: Any, exponent: int) -> None:
    cells, totals, country = problem
    base = scale_draws(cells, totals, country).draws
    factor = np.float32(2.0**exponent)
    np.testing.assert_array_equal(scale_draws(cells * factor, totals, country).draws, base)
    np.testing.assert_array_equal(scale_draws(cells, totals * factor, country).draws, base * factor)


@settings(max_examples=100, deadline=None)
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_cells_is_irrelevant(problem: Any, random: Any) -> None:
    cells, totals, country = problem
    order = list(range(len(cells)))
    random.shuffle(order)
    for spread in (False, True):
        base = scale_draws(cells, totals, country, spread_zero_draws=spread).draws
        shuffled = scale_draws(cells[order], totals, country[order], spread_zero_draws=spread).draws
        np.testing.assert_allclose(shuffled, base[order], rtol=1e-6)


def random_problem(cells: int, countries: int, steps: int, draws: int) -> tuple[Forecast, Forecast, pl.DataFrame]:
    rng = np.random.default_rng(0)
    values = rng.gamma(0.2, 10, (cells, steps, draws)).astype(np.float32)
    values[rng.random(values.shape) < 0.8] = 0
    held_by = pl.DataFrame(
        {
            "unit_id": np.arange(1, cells + 1),
            "parent_id": np.append(np.arange(1, countries + 1), rng.integers(1, countries + 1, cells - countries)),
        }
    )
    totals = rng.gamma(0.5, 100, (countries, steps, draws)).astype(np.float32)
    return forecast(held_by["unit_id"].to_list(), values), forecast(list(range(1, countries + 1)), totals), held_by


def test_agreement_with_a_loop_over_everything() -> None:
    cells, countries, held_by = random_problem(40, 5, 3, 4)
    holder = dict(held_by.iter_rows())
    expected = np.zeros(cells.draws.shape)
    for step in range(3):
        for draw in range(4):
            for position, country in enumerate(countries.units.tolist()):
                inside = [row for row, unit in enumerate(cells.units.tolist()) if holder[unit] == country]
                total = sum(float(cells.draws[row, step, draw]) for row in inside)
                for row in inside:
                    if total > 0:
                        share = float(cells.draws[row, step, draw]) / total
                        expected[row, step, draw] = share * float(countries.draws[position, step, draw])
    np.testing.assert_allclose(reconcile(cells, countries, held_by)[0].draws, expected, rtol=1e-6)


@pytest.mark.parametrize("country_draws", [1, 8])
def test_agreement_with_the_reconciler_of_views(country_draws: int) -> None:
    """views-frames rounds sums and factors to float32, so the two agree to a few units of its last digit."""
    theirs = pytest.importorskip("views_frames_reconcile", reason="views-frames is not installed")
    cells, countries, held_by = random_problem(600, 12, 3, 8)
    countries = forecast(countries.units.tolist(), countries.draws[:, :, :country_draws])
    keys = [(530 + step, unit) for step in range(3) for unit in held_by["unit_id"]]
    module = theirs.ReconciliationModule(np.array(keys), np.tile(held_by["parent_id"].to_numpy(), 3))
    frame = module.reconcile(
        to_prediction_frame(countries, model="countries", level="cm"),
        to_prediction_frame(cells, model="cells", level="pgm"),
    )
    ours = to_prediction_frame(reconcile(cells, countries, held_by)[0], model="cells", level="pgm")
    np.testing.assert_array_equal(frame.index.unit, ours.index.unit)
    np.testing.assert_allclose(ours.values, frame.values, rtol=5e-6)


class TestChosenDraws:
    def test_as_many_as_there_are_come_back_as_they_are(self) -> None:
        countries = two_countries()
        assert choose_draws(countries, 3, seed=1) is countries

    def test_whole_draws_one_of_each_part_of_the_range(self) -> None:
        """Draw s of 12 is s times the first, in a shuffled order: a third of them is one of each three neighbours."""
        severity = np.random.default_rng(5).permutation(12)
        pattern = np.arange(1, 7).reshape(3, 2, 1)
        chosen = choose_draws(forecast([1, 2, 3], pattern * severity), 4, seed=8).draws
        ranks = chosen[0, 0].astype(int)
        assert sorted(rank // 3 for rank in ranks) == [0, 1, 2, 3]
        np.testing.assert_array_equal(chosen, pattern * ranks)
        places = [severity.tolist().index(rank) for rank in ranks]
        assert places == sorted(places)

    @pytest.mark.parametrize(("available", "draws"), [(12, 4), (10, 4), (3, 7)])
    def test_every_draw_is_equally_likely(self, available: int, draws: int) -> None:
        one = forecast([1], np.arange(available).reshape(1, 1, -1))
        counts = [
            np.bincount(choose_draws(one, draws, seed=seed).draws[0, 0].astype(int), minlength=available)
            for seed in range(600)
        ]
        assert np.ptp(np.array(counts), axis=1).max() <= 2
        assert {len(found) for found in counts} == {available}
        # Five standard errors of a share of 600 seeds.
        np.testing.assert_allclose(np.mean(counts, axis=0), draws / available, atol=5 * 0.5 / np.sqrt(600))

    def test_equal_seeds_choose_alike(self) -> None:
        one = forecast([1], np.random.default_rng(0).random((1, 2, 256)))
        first, again, other = (choose_draws(one, 64, seed=seed).draws for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_the_mean_stays_closer_than_by_a_plain_choice(self) -> None:
        draws = np.random.default_rng(1).lognormal(0, 1, (1, 1, 256)).astype(np.float32)
        one = forecast([1], draws)
        mean = draws.mean()
        misses = [abs(choose_draws(one, 64, seed=seed).draws.mean() / mean - 1) for seed in range(50)]
        plain = [
            abs(np.random.default_rng(seed).choice(draws[0, 0], 64, replace=False).mean() / mean - 1)
            for seed in range(50)
        ]
        assert np.mean(misses) < np.mean(plain) / 2
