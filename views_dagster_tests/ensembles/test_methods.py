"""Ensemble methods: what survives combining, what is refused, and what settings may say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from views_dagster.ensembles.methods import (
    AnyMethod,
    Mixture,
    TrainedWeights,
    Vincentization,
    mixture,
    vincentization,
)
from views_dagster.errors import ForecastError
from views_dagster.forecasts import Forecast
from views_dagster_tests.ensembles.test_weights import backtest_rows


def forecast(draws: np.ndarray, *, origin: int = 529, units: list[int] | None = None) -> Forecast:
    """A forecast with the given (U, K, S) draws."""
    return Forecast(
        origin=origin,
        units=np.array(units if units is not None else range(draws.shape[0]), dtype=np.int64),
        steps=np.arange(1, draws.shape[1] + 1),
        draws=np.asarray(draws, dtype=np.float32),
    )


def numbered(member: int, *, draws: int, units: int = 3, steps: int = 2) -> Forecast:
    """Every value tells its member, draw, unit and step: member * 1000 + draw + unit / 10 + step / 100."""
    unit, step, draw = np.meshgrid(np.arange(units), np.arange(steps), np.arange(draws), indexing="ij")
    return forecast(member * 1000 + draw + unit / 10 + step / 100)


def random_forecast(seed: int, *, draws: int, units: int = 4, steps: int = 3) -> Forecast:
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.5, 20, size=(units, steps, draws)) * (rng.random((units, steps, draws)) < 0.6)
    return forecast(np.floor(values))


def test_each_draw_of_a_mixture_is_one_whole_draw_of_one_member() -> None:
    members = {"a": numbered(1, draws=20), "b": numbered(2, draws=7)}
    pooled = mixture(members, {"a": 0.5, "b": 0.5}, draws=12, seed=1)
    source = pooled.draws[0, 0]
    expected = source + (np.arange(3) / 10)[:, None, None] + (np.arange(2) / 100)[None, :, None]
    np.testing.assert_allclose(pooled.draws, expected, rtol=1e-6)


def test_members_give_draws_in_exact_proportion_without_repeats() -> None:
    members = {"a": numbered(1, draws=100), "b": numbered(2, draws=100), "c": numbered(3, draws=100)}
    pooled = mixture(members, {"a": 0.5, "b": 0.3, "c": 0.2}, draws=50, seed=4)
    source = pooled.draws[0, 0].astype(int)
    assert np.bincount(source // 1000).tolist() == [0, 25, 15, 10]
    assert len(np.unique(source)) == 50


def test_a_member_with_few_draws_repeats_them_evenly() -> None:
    pooled = mixture({"a": numbered(1, draws=5)}, {"a": 1}, draws=12, seed=0)
    _, times = np.unique(pooled.draws[0, 0], return_counts=True)
    assert sorted(times.tolist()) == [2, 2, 2, 3, 3]


def test_a_mixture_of_one_member_with_as_many_draws_is_that_member_reordered() -> None:
    member = random_forecast(1, draws=16)
    pooled = mixture({"a": member}, {"a": 1}, draws=16, seed=2)
    np.testing.assert_array_equal(np.sort(pooled.draws), np.sort(member.draws))


def test_draws_of_different_members_are_not_in_blocks() -> None:
    pooled = mixture({"a": numbered(1, draws=64), "b": numbered(2, draws=64)}, {"a": 1, "b": 1}, draws=64, seed=0)
    first_half = pooled.draws[0, 0, :32] // 1000
    assert 8 < (first_half == 1).sum() < 24


@pytest.mark.parametrize("method", [Mixture(), Vincentization()])
def test_equal_seeds_give_equal_bytes_in_any_order_of_members(method: Mixture | Vincentization) -> None:
    a, b = random_forecast(1, draws=30), random_forecast(2, draws=12)
    weights = method.weigh(["b", "a"], {})
    one = method.combine({"a": a, "b": b}, weights, draws=25, seed=9)
    same = method.combine({"b": b, "a": a}, weights, draws=25, seed=9)
    other = method.combine({"a": a, "b": b}, weights, draws=25, seed=10)
    assert one.draws.tobytes() == same.draws.tobytes()
    assert one.draws.tobytes() != other.draws.tobytes()


def test_vincentization_averages_sorted_draws() -> None:
    a = forecast(np.array([[[4, 0, 2, 8]]]))
    b = forecast(np.array([[[10, 40, 20, 30]]]))
    even = vincentization({"a": a, "b": b}, {"a": 1, "b": 1}, draws=4, seed=0)
    assert np.sort(even.draws[0, 0]).tolist() == [5, 11, 17, 24]
    uneven = vincentization({"a": a, "b": b}, {"a": 3, "b": 1}, draws=4, seed=0)
    assert np.sort(uneven.draws[0, 0]).tolist() == [2.5, 6.5, 10.5, 16]


def test_vincentization_resamples_members_with_other_numbers_of_draws() -> None:
    # Hazen quantiles of {0, 4} at 1/8, 3/8, 5/8, 7/8 are 0, 1, 3, 4.
    few = forecast(np.array([[[4, 0]]]))
    many = forecast(np.array([[[0, 0, 0, 0]]]))
    both = vincentization({"few": few, "many": many}, {"few": 1, "many": 1}, draws=4, seed=0)
    assert np.sort(both.draws[0, 0]).tolist() == [0, 0.5, 1.5, 2]
    np.testing.assert_allclose(
        np.sort(vincentization({"few": few}, {"few": 1}, draws=4, seed=0).draws[0, 0]),
        np.quantile([0, 4], (np.arange(4) + 0.5) / 4, method="hazen"),
    )


def test_vincentization_keeps_the_ranks_of_the_mixture() -> None:
    rng = np.random.default_rng(0)
    members = {name: forecast(rng.gamma(1, 9, size=(4, 3, 40))) for name in "ab"}
    weights = {"a": 0.5, "b": 0.5}
    pooled = mixture(members, weights, draws=40, seed=3)
    averaged = vincentization(members, weights, draws=40, seed=3)
    np.testing.assert_array_equal(np.argsort(averaged.draws), np.argsort(pooled.draws))


def test_ties_in_the_mixture_create_no_dependence_between_units() -> None:
    # All draws of one member are zero: its half of the ranks is a tie in every unit, and must not line units up.
    rng = np.random.default_rng(0)
    members = {"zero": forecast(np.zeros((2, 1, 2000))), "some": forecast(rng.gamma(1, 9, size=(2, 1, 2000)))}
    averaged = vincentization(members, {"zero": 0.5, "some": 0.5}, draws=2000, seed=3)
    tied = mixture(members, {"zero": 0.5, "some": 0.5}, draws=2000, seed=3).draws[0, 0] == 0
    first, second = averaged.draws[:, 0, tied]
    assert tied.sum() == 1000
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.12


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    draws=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_sizes_combine_within_the_range_of_the_members(sizes: list[int], draws: int, seed: int) -> None:
    members = {f"m{i}": random_forecast(i, draws=size) for i, size in enumerate(sizes)}
    weights = {name: i + 1 for i, name in enumerate(members)}
    low = np.min([member.draws.min(axis=2) for member in members.values()], axis=0)
    high = np.max([member.draws.max(axis=2) for member in members.values()], axis=0)
    for combined in (
        mixture(members, weights, draws=draws, seed=seed),
        vincentization(members, weights, draws=draws, seed=seed),
    ):
        assert combined.draws.shape == (4, 3, draws)
        assert (combined.draws.min(axis=2) >= low).all()
        assert (combined.draws.max(axis=2) <= high * (1 + 1e-6)).all()


def test_vincentization_does_not_depend_on_how_units_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    members = {name: random_forecast(i, draws=16, units=7) for i, name in enumerate("ab")}
    whole = vincentization(members, {"a": 1, "b": 1}, draws=16, seed=3)
    monkeypatch.setattr("views_dagster.ensembles.methods._CHUNK", 3 * 16 * 2)
    chunked = vincentization(members, {"a": 1, "b": 1}, draws=16, seed=3)
    assert whole.draws.tobytes() == chunked.draws.tobytes()


def test_trained_weights_ignore_the_member_that_is_always_worse() -> None:
    observed = [0.0, 4.0, 9.0]
    backtests = {
        "near": backtest_rows(np.array([[0, 1], [3, 5], [8, 11]], dtype=float), observed),
        "far": backtest_rows(np.full((3, 2), 4000.0), observed),
    }
    method = TrainedWeights(shrinkage=0)
    weights = method.weigh(["near", "far"], backtests)
    assert weights == {"far": 0, "near": 1}
    members = {"near": numbered(1, draws=8), "far": numbered(2, draws=8)}
    assert (method.combine(members, weights, draws=8, seed=0).draws < 2000).all()


def test_trained_weights_need_a_backtest_of_every_member() -> None:
    rows = backtest_rows(np.zeros((1, 1)), [0.0])
    with pytest.raises(ForecastError, match="no backtest of b"):
        TrainedWeights().weigh(["a", "b"], {"a": rows})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (forecast(np.zeros((2, 1, 3)), origin=528), "member b is from 2023-12, a from 2024-01"),
        (forecast(np.zeros((1, 1, 3))), "different units: b lacks 1 and alone has none"),
        (forecast(np.zeros((2, 1, 3)), units=[0, 9]), "different units: b lacks 1 and alone has 9"),
        (forecast(np.zeros((2, 2, 3))), "different steps: b lacks none and alone has 2"),
    ],
)
@pytest.mark.parametrize("combine", [mixture, vincentization])
def test_members_that_differ_are_refused_by_name(combine: object, other: Forecast, message: str) -> None:
    assert callable(combine)
    with pytest.raises(ForecastError, match=message):
        combine({"a": forecast(np.zeros((2, 1, 3))), "b": other}, {"a": 1, "b": 1}, draws=4, seed=0)


def test_an_ensemble_needs_members() -> None:
    with pytest.raises(ForecastError, match="at least one member"):
        Mixture().weigh([], {})
    with pytest.raises(ForecastError, match="at least one member"):
        mixture({}, {}, draws=4, seed=0)


METHODS: TypeAdapter[Mixture | Vincentization | TrainedWeights] = TypeAdapter(AnyMethod)


def test_kind_picks_the_method() -> None:
    assert METHODS.validate_python({"kind": "mixture", "weights": {"a": 2}}) == Mixture(weights={"a": 2})
    assert METHODS.validate_python({"kind": "vincentization"}) == Vincentization()
    assert METHODS.validate_python({"kind": "trained_weights", "loss": "crps"}) == TrainedWeights(loss="crps")


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "median"},
        {"kind": "mixture", "weight": {"a": 1}},
        {"kind": "mixture", "weights": {"a": 0}},
        {"kind": "vincentization", "weights": {"a": float("nan")}},
        {"kind": "trained_weights", "shrinkage": 1.5},
        {"kind": "trained_weights", "loss": "mse"},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        METHODS.validate_python(settings)


def test_equal_weights_unless_given() -> None:
    assert Mixture().weigh(["b", "a"], {}) == {"a": 0.5, "b": 0.5}
    assert Vincentization(weights={"a": 3, "b": 1}).weigh(["a", "b"], {}) == {"a": 0.75, "b": 0.25}
