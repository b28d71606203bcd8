"""Weights: apportionment, the pool's CRPS as a quadratic form, the optimum on the simplex, training on backtests."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from views_dagster.ensembles.weights import apportion, minimise_on_simplex, normalised, pool_gram, trained
from views_dagster.errors import ForecastError
from views_dagster.evaluation.backtest import BACKTEST_SCHEMA


def backtest_rows(draws: np.ndarray, observed: list[float], *, model: str = "a_model", units: int = 0) -> pl.DataFrame:
    """Backtest rows of one origin and step, one unit a case."""
    cases = len(observed)
    return pl.DataFrame(
        {
            "month_id": [500] * cases,
            "model": [model] * cases,
            "level": ["cm"] * cases,
            "unit_id": list(range(units, units + cases)),
            "step": [1] * cases,
            "target": ["y"] * cases,
            "target_month": [501] * cases,
            "mean": draws.mean(axis=1).tolist(),
            "draws": draws.tolist(),
            "observed": observed,
        },
        schema=BACKTEST_SCHEMA,
    )


def brute_force_crps(values: np.ndarray, weights: np.ndarray, observed: float) -> float:
    """CRPS of `values` with probabilities `weights`: E|X - y| - E|X - X'| / 2, all pairs."""
    apart = np.abs(values[:, None] - values[None, :])
    return float(weights @ np.abs(values - observed) - weights @ apart @ weights / 2)


@pytest.mark.parametrize(
    ("shares", "total", "expected"),
    [
        ([1 / 3, 1 / 3, 1 / 3], 256, [86, 85, 85]),
        ([0.5, 0.3, 0.2], 10, [5, 3, 2]),
        ([0.6, 0.0, 0.4], 4, [2, 0, 2]),
        ([0.45, 0.45, 0.1], 5, [2, 2, 1]),
        ([1.0], 7, [7]),
    ],
)
def test_apportion_gives_largest_remainders(shares: list[float], total: int, expected: list[int]) -> None:
    assert apportion(np.array(shares), total).tolist() == expected


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)), st.integers(1, 3000))
def test_apportion_sums_to_the_total_and_is_within_one_of_the_quota(raw: np.ndarray, total: int) -> None:
    shares = (raw + 1e-3) / (raw + 1e-3).sum()
    counts = apportion(shares, total)
    assert counts.sum() == total
    assert (np.abs(counts - shares * total) < 1 + 1e-6).all()
    assert (counts >= 0).all()


def test_normalised_weights_are_in_order_of_names_and_sum_to_one() -> None:
    assert normalised({"b": 3, "a": 1}, ["b", "a"]) == {"a": 0.25, "b": 0.75}
    assert list(normalised(None, ["b", "a"])) == ["a", "b"]


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}])
def test_weights_for_other_names_than_the_members_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ForecastError, match="the members are a, b"):
        normalised(weights, ["a", "b"])


def test_gram_of_two_points_by_hand() -> None:
    # y = 0; one member says 1 (CRPS 1), the other 3 (CRPS 3); an even pool: 2 - |3 - 1| / 4 = 1.5.
    gram = pool_gram([np.array([[1]], np.float32), np.array([[3]], np.float32)], np.array([0], np.float32))
    np.testing.assert_allclose(gram, [[1, 1], [1, 3]])
    assert np.array([0.5, 0.5]) @ gram @ np.array([0.5, 0.5]) == pytest.approx(1.5)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_quadratic_form_is_the_crps_of_the_pooled_sample(data: st.DataObject) -> None:
    cases = data.draw(st.integers(1, 4))
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    values = st.one_of(st.just(0.0), st.integers(0, 5).map(float), st.floats(0, 1000, width=32))
    draws = [data.draw(arrays(np.float32, (cases, size), elements=values)) for size in sizes]
    observed = data.draw(arrays(np.float32, cases, elements=values))
    weights = data.draw(arrays(np.float64, len(sizes), elements=st.floats(0.01, 1)))
    weights /= weights.sum()

    each_draw = np.concatenate([np.full(size, w / size) for size, w in zip(sizes, weights, strict=True)])
    expected = np.mean(
        [
            brute_force_crps(np.concatenate([d[case] for d in draws]).astype(float), each_draw, float(observed[case]))
            for case in range(cases)
        ]
    )
    assert weights @ pool_gram(draws, observed) @ weights == pytest.approx(expected, rel=1e-6, abs=1e-4)


def test_gram_does_not_depend_on_how_cases_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    draws = [rng.gamma(1, 5, size=(30, size)).astype(np.float32) for size in (4, 9)]
    observed = rng.gamma(1, 5, size=30).astype(np.float32)
    whole = pool_gram(draws, observed)
    monkeypatch.setattr("views_dagster.ensembles.weights._CHUNK", 200)
    np.testing.assert_allclose(pool_gram(draws, observed), whole, rtol=1e-12)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 8).flatmap(
        lambda m: arrays(np.float64, (m, 5), elements=st.floats(-3, 3).map(lambda x: round(x, 2)))
    )
)
def test_optimum_satisfies_the_optimality_conditions(rows: np.ndarray) -> None:
    gram = rows @ rows.T
    weights = minimise_on_simplex(gram)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    # Convex: optimal exactly when no vertex of the simplex lies downhill.
    slope = gram @ weights
    assert slope.min() >= weights @ slope - 1e-6 * max(1.0, float(np.diag(gram).max()))


def test_optimum_agrees_with_a_general_solver() -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(7)
    for _ in range(10):
        rows = rng.normal(size=(6, 9)) + 1
        gram = rows @ rows.T
        reference = minimize(
            lambda w, gram=gram: w @ gram @ w,
            np.full(6, 1 / 6),
            jac=lambda w, gram=gram: 2 * gram @ w,
            bounds=[(0, 1)] * 6,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(minimise_on_simplex(gram), reference.x, atol=1e-5)


def test_identical_members_share_alike() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(2, 5))
    weights = minimise_on_simplex(rows[[0, 0, 1, 0]] @ rows[[0, 0, 1, 0]].T)
    assert weights[0] == pytest.approx(weights[1], abs=1e-6)
    assert weights[0] == pytest.approx(weights[3], abs=1e-6)


def test_perfect_members_share_alike() -> None:
    assert minimise_on_simplex(np.zeros((4, 4))).tolist() == [0.25] * 4


def test_a_dominated_member_gets_nothing_and_shrinkage_gives_it_its_share() -> None:
    observed = [0.0, 2.0, 10.0]
    near = np.array([[0, 1], [1, 3], [8, 12]], dtype=float)
    far = near + 500
    backtests = {"near": backtest_rows(near, observed), "far": backtest_rows(far, observed)}
    assert trained(backtests, loss="crps", shrinkage=0) == {"far": 0, "near": 1}
    assert trained(backtests, loss="crps", shrinkage=0.5) == {"far": 0.25, "near": 0.75}


def test_complementary_members_are_weighed_by_how_often_each_is_right() -> None:
    # Each says 0 or 1. CRPS of probability p for 1 is (p - y)^2, so the best p is the observed frequency, 3 of 4.
    observed = [1.0, 1.0, 1.0, 0.0]
    backtests = {
        "never": backtest_rows(np.zeros((4, 1)), observed),
        "always": backtest_rows(np.ones((4, 1)), observed),
    }
    assert trained(backtests, loss="crps", shrinkage=0) == pytest.approx({"always": 0.75, "never": 0.25})


def test_log_loss_is_not_decided_by_the_largest_series() -> None:
    # One member is right about nine small series, the other about the one that is large.
    observed = [3.0] * 9 + [10_000.0]
    small = np.array([[3.0]] * 9 + [[5_000.0]])
    large = np.array([[9.0]] * 9 + [[10_000.0]])
    backtests = {"small": backtest_rows(small, observed), "large": backtest_rows(large, observed)}
    assert trained(backtests, loss="crps", shrinkage=0)["large"] > 0.9
    assert trained(backtests, loss="crps_log1p", shrinkage=0)["small"] > 0.9


def test_only_cases_that_all_members_share_count() -> None:
    shared = backtest_rows(np.array([[0.0], [5.0]]), [0.0, 5.0])
    # Where both have cases (unit 1) the second is as right; elsewhere it is far off.
    other = backtest_rows(np.array([[5.0], [900.0]]), [5.0, 0.0], units=1)
    assert trained({"a": shared, "b": other}, loss="crps", shrinkage=0) == {"a": 0.5, "b": 0.5}


def test_rows_in_another_order_change_nothing() -> None:
    rng = np.random.default_rng(5)
    observed = rng.gamma(1, 5, size=20).tolist()
    backtests = {name: backtest_rows(rng.gamma(1, 5, size=(20, 8)), observed) for name in "abc"}
    shuffled = {name: backtests[name].sample(fraction=1, shuffle=True, seed=2) for name in "cab"}
    assert trained(backtests, loss="crps", shrinkage=0.1) == trained(shuffled, loss="crps", shrinkage=0.1)


def test_backtests_without_a_shared_case_are_refused() -> None:
    a = backtest_rows(np.zeros((2, 1)), [0.0, 0.0])
    b = backtest_rows(np.zeros((2, 1)), [0.0, 0.0], units=10)
    with pytest.raises(ForecastError, match=r"share no case.*a \(2 cases\), b \(2 cases\)"):
        trained({"a": a, "b": b}, loss="crps", shrinkage=0)


def test_backtests_against_other_observations_are_refused() -> None:
    a = backtest_rows(np.zeros((2, 1)), [0.0, 1.0])
    b = backtest_rows(np.zeros((2, 1)), [0.0, 2.0])
    with pytest.raises(ForecastError, match="b was backtested against other observations than a in 1 of 2 cases"):
        trained({"a": a, "b": b}, loss="crps", shrinkage=0)
