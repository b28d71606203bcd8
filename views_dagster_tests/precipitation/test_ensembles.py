from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pydantic import TypeAdapter

from views_dagster.errors import ForecastError
from views_dagster.precipitation.ensembles import AnyPool, LinearPool, MedianPool, PoolMethod, TrainedPool
from views_dagster.precipitation.learners.base import Diagnosis
from views_dagster.precipitation.learners.inputs import ranked_score


def diagnoses(count: int = 3, rows: int = 40, seed: int = 0) -> dict[str, Diagnosis]:
    draw = np.random.default_rng(seed)
    return {
        f"model_{number}": Diagnosis(
            draw.dirichlet(np.full(5, 0.3), rows).astype(np.float32), draw.exponential(1, rows).astype(np.float32)
        )
        for number in range(count)
    }


def one(fractions: list[float], mean: float = 1.0) -> Diagnosis:
    return Diagnosis(np.array([fractions], np.float32), np.array([mean], np.float32))


@pytest.mark.parametrize("method", [LinearPool(), TrainedPool(), MedianPool()])
@settings(deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_pool_lies_within_its_members_and_their_order_changes_nothing(method: PoolMethod, seed: int) -> None:
    members = diagnoses(seed=seed)
    observed = diagnoses(1, seed=seed + 1)["model_0"].fractions
    weights = method.weigh(list(members), members, observed)
    pooled = method.combine(members, weights)
    assert sum(weights.values()) == pytest.approx(1)
    assert min(weights.values()) >= 0
    means = np.stack([member.rain_mean for member in members.values()])
    assert ((pooled.rain_mean >= means.min(axis=0) - 1e-5) & (pooled.rain_mean <= means.max(axis=0) + 1e-5)).all()
    turned = dict(reversed(members.items()))
    again = method.combine(turned, method.weigh(list(turned), turned, observed))
    assert again.fractions.tobytes() == pooled.fractions.tobytes()


def test_a_linear_pool_by_hand() -> None:
    members = {"a": one([1, 0, 0], 4.0), "b": one([0, 0.5, 0.5], 0.0)}
    method = LinearPool(weights={"a": 3, "b": 1})
    pooled = method.combine(members, method.weigh(["b", "a"]))
    assert_allclose(pooled.fractions, [[0.75, 0.125, 0.125]])
    assert_allclose(pooled.rain_mean, [3.0])


def test_a_median_ignores_one_bad_member() -> None:
    members = {"a": one([0.5, 0.3, 0.2], 1.0), "b": one([0.5, 0.3, 0.2], 1.0), "c": one([0, 0, 1], 50.0)}
    pooled = MedianPool().combine(members, MedianPool().weigh(list(members)))
    assert_allclose(pooled.fractions, [[0.5, 0.3, 0.2]], atol=1e-7)
    assert_allclose(pooled.rain_mean, [1.0])


def test_trained_weights_minimise_the_ranked_score() -> None:
    truth = diagnoses(1, rows=400, seed=9)["model_0"].fractions
    noise = diagnoses(2, rows=400, seed=1)
    mixed = 0.7 * truth + 0.3 * noise["model_1"].fractions
    members = {"good": Diagnosis(mixed, noise["model_0"].rain_mean), "bad": noise["model_0"]}
    weights = TrainedPool(shrinkage=0).weigh(["good", "bad"], members, truth)

    def score(good: float) -> float:
        share: Mapping[str, float] = {"good": good, "bad": 1 - good}
        return ranked_score(TrainedPool().combine(members, share).fractions, truth)

    best = min(np.linspace(0, 1, 101), key=score)
    assert weights["good"] == pytest.approx(best, abs=0.011)
    assert TrainedPool(shrinkage=1).weigh(["good", "bad"], members, truth) == {"bad": 0.5, "good": 0.5}


def test_members_that_do_not_belong_together_are_refused() -> None:
    members = {"a": one([1, 0, 0]), "b": one([1, 0, 0, 0])}
    with pytest.raises(ForecastError, match=r"a has \(1, 3\) rows and bands, b has \(1, 4\)"):
        LinearPool().combine(members, {"a": 0.5, "b": 0.5})
    with pytest.raises(ForecastError, match="weights of a, and diagnoses of a, b"):
        LinearPool().combine(members | {"b": one([1, 0, 0])}, {"a": 1.0})
    with pytest.raises(ForecastError, match="at least one member"):
        LinearPool().combine({}, {})
    with pytest.raises(ForecastError, match="weights are given for a"):
        LinearPool(weights={"a": 1}).weigh(["a", "b"])


def test_a_trained_pool_needs_each_member_on_the_observed_rows() -> None:
    members = diagnoses(2)
    truth = diagnoses(1)["model_0"].fractions
    with pytest.raises(ForecastError, match=r"validation diagnoses of model_0, model_1, and has those of none"):
        TrainedPool().weigh(list(members))
    with pytest.raises(ForecastError, match="has those of model_0; train"):
        TrainedPool().weigh(list(members), {"model_0": members["model_0"]}, truth)
    with pytest.raises(ForecastError, match="give all members the same observed rows"):
        TrainedPool().weigh(list(members), members, truth[:3])
    with pytest.raises(ForecastError, match="not finite"):
        TrainedPool().weigh(list(members), members, np.full_like(truth, np.nan))


def test_methods_are_picked_by_kind() -> None:
    adapter: TypeAdapter[PoolMethod] = TypeAdapter(AnyPool)
    assert adapter.validate_python({"kind": "trained_pool", "shrinkage": 0.2}) == TrainedPool(shrinkage=0.2)
    assert TrainedPool.needs_validation
    assert not LinearPool.needs_validation
