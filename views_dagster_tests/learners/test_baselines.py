import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from views_dagster.errors import ArtifactError, PanelError
from views_dagster.forecasts import Forecast
from views_dagster.learners.baselines import Average, Baseline, Conflictology, FittedBaseline, Locf, Zero
from views_dagster.panel import Panel
from views_dagster_tests.learners.panels import panel_of, world

NAN = np.nan


def forecast(learner: Baseline, panel: Panel, *, draws: int = 6, seed: int = 0) -> Forecast:
    return learner.fit(panel, steps=[1, 2], seed=seed).predict(panel, draws=draws, seed=seed)


def test_zero_is_zero() -> None:
    assert_array_equal(forecast(Zero(), panel_of([[5, 6]])).draws, np.zeros((2, 2, 6)))


def test_locf_carries_the_last_month_forward() -> None:
    result = forecast(Locf(), panel_of([[1, 2], [3, 4]]))
    assert_array_equal(result.units, [1, 2])
    assert_array_equal(result.draws[0], np.full((2, 6), 3))
    assert_array_equal(result.draws[1], np.full((2, 6), 4))


def test_average_is_over_the_months_of_the_window_in_which_the_unit_existed() -> None:
    panel = panel_of([[100, 100, NAN], [1, NAN, NAN], [2, 6, NAN], [6, 8, 5]])
    assert_allclose(forecast(Average(window=3), panel).mean[:, 0], [3, 7, 5])
    assert_allclose(forecast(Average(window=99), panel).mean[:, 0], [109 / 4, 114 / 3, 5])


def test_conflictology_draws_each_month_of_the_window_equally_often() -> None:
    panel = panel_of([[99], [1], [2], [3]])
    draws = forecast(Conflictology(window=3), panel, draws=6).draws
    assert_array_equal(np.sort(draws[0, 0]), [1, 1, 2, 2, 3, 3])
    assert_array_equal(draws[0, 0], draws[0, 1])


def test_conflictology_fills_up_with_different_months() -> None:
    panel = panel_of([[1], [2], [3], [4]])
    firsts = set()
    for seed in range(20):
        values, times = np.unique(
            forecast(Conflictology(window=4), panel, draws=6, seed=seed).draws[0, 0], return_counts=True
        )
        assert_array_equal(values, [1, 2, 3, 4])
        assert sorted(times) == [1, 1, 2, 2]
        firsts.add(tuple(times))
    assert len(firsts) > 1


def test_conflictology_takes_the_same_month_for_all_units() -> None:
    months = np.arange(12.0)
    draws = forecast(
        Conflictology(window=12), panel_of(np.stack([months, 100 + months, 50 - months], axis=1)), draws=30
    ).draws
    assert_array_equal(draws[1], draws[0] + 100)
    assert_array_equal(draws[2], 50 - draws[0])


def test_conflictology_of_a_unit_with_gaps_uses_its_own_months_and_keeps_shared_ones_together() -> None:
    # Unit 2 appeared two months ago, unit 3 this month, unit 4 was away in between.
    panel = panel_of([[0, NAN, NAN, 40], [1, NAN, NAN, NAN], [2, 12, NAN, NAN], [3, 13, 23, 43]])
    draws = forecast(Conflictology(window=4), panel, draws=8).draws[:, 0]
    assert_array_equal(np.sort(draws[1]), [12, 12, 12, 12, 13, 13, 13, 13])
    assert_array_equal(draws[2], np.full(8, 23))
    assert_array_equal(np.sort(draws[3]), [40, 40, 40, 40, 43, 43, 43, 43])
    shared = draws[0] >= 2
    assert_array_equal(draws[1, shared], draws[0, shared] + 10)


def test_a_history_shorter_than_the_window_is_the_window() -> None:
    draws = forecast(Conflictology(window=12), panel_of([[4], [5]]), draws=4).draws
    assert_array_equal(np.sort(draws[0, 0]), [4, 4, 5, 5])


def test_a_model_trained_earlier_forecasts_from_the_panel_it_is_given() -> None:
    panel = panel_of([[1], [2], [7]])
    fitted = Locf().fit(panel.until(int(panel.months[0])), steps=[1], seed=0)
    result = fitted.predict(panel, draws=1, seed=0)
    assert result.origin == panel.origin
    assert result.draws.item() == 7


def test_a_model_does_not_forecast_from_before_its_training() -> None:
    panel = panel_of([[1], [2]])
    fitted = Locf().fit(panel, steps=[1], seed=0)
    with pytest.raises(PanelError, match="1990-02"):
        fitted.predict(panel.until(panel.origin - 1), draws=1, seed=0)


def test_bad_targets_are_named() -> None:
    for bad in (-1.0, np.inf):
        with pytest.raises(PanelError, match="1990-02 for unit 2"):
            Zero().fit(panel_of([[1, 2], [3, bad]]), steps=[1], seed=0)


@pytest.mark.parametrize("learner", [Average, Conflictology])
def test_windows_have_at_least_a_month(learner: type[Average] | type[Conflictology]) -> None:
    with pytest.raises(ValidationError):
        learner(window=0)


@pytest.mark.parametrize("files", [{}, {"model.json": b"{}"}, {"model.json": b"\x80\x04"}, {"other.json": b"{}"}])
def test_files_of_something_else_are_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(ArtifactError, match="train the model again"):
        FittedBaseline.from_files(files)


def test_zero_panels_give_zero_draws() -> None:
    panel = panel_of(np.zeros((20, 3)))
    for learner in (Zero(), Locf(), Average(), Conflictology()):
        assert not forecast(learner, panel).draws.any()


def test_only_current_units_are_forecast() -> None:
    panel = world()
    for learner in (Zero(), Locf(), Average(), Conflictology()):
        assert_array_equal(forecast(learner, panel).units, [1, 2, 3, 4, 5, 6, 8])
