import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import check_grad
from scipy.special import softmax

from views_dagster.precipitation.learners.softmax import Softmax, SoftmaxProblem, best_fit


def sample(rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    table = (draw.normal(size=(rows, 3)) * [1, 10, 0.1] + [0, 100, 5]).astype(np.float32)
    scores = (table - [0, 100, 5]) / [1, 10, 0.1] @ draw.normal(size=(3, 4)) + [2, 0, -1, -2]
    counts = np.stack([draw.multinomial(20, chance) for chance in softmax(scores, axis=1)])
    return table, (counts / 20).astype(np.float32)


def solve(table: np.ndarray, fractions: np.ndarray, penalty: float, weight: np.ndarray | None = None) -> Softmax:
    (fit,) = SoftmaxProblem.of(table, fractions, weight).solve([penalty])
    return fit


def test_it_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    table, fractions = sample()
    rows, bands = fractions.shape
    weight = np.random.default_rng(1).uniform(0.5, 2, rows).astype(np.float32)
    # Scaling as the problem has it: by rows, not by their weights.
    standard = StandardScaler().fit_transform(table.astype(np.float64))
    repeated = np.concatenate([np.repeat(standard, bands, axis=0), np.zeros((bands, 3))])
    labels = np.concatenate([np.tile(np.arange(bands), rows), np.arange(bands)])
    shares = np.concatenate([(fractions * (weight / weight.sum())[:, None]).ravel(), np.full(bands, 0.5 / rows)])
    # scikit-learn minimises C times the summed loss plus half the squared weights.
    other = LogisticRegression(C=1 / 0.01, tol=1e-10, max_iter=2000).fit(repeated, labels, shares)
    assert_allclose(solve(table, fractions, 0.01, weight).fractions(table), other.predict_proba(standard), atol=2e-3)


def test_the_gradient_is_that_of_the_loss() -> None:
    table, fractions = sample(50)
    problem = SoftmaxProblem.of(table, fractions)
    size = (table.shape[1] + 1) * fractions.shape[1]
    at = np.random.default_rng(2).normal(size=size)
    error = check_grad(
        lambda theta: problem._loss(theta.reshape(-1, 4), 0.1)[0],
        lambda theta: problem._loss(theta.reshape(-1, 4), 0.1)[1].ravel(),
        at,
        epsilon=1e-3,
    )
    assert error < 1e-3


def test_a_strong_penalty_leaves_the_mean_fractions() -> None:
    table, fractions = sample()
    found = solve(table, fractions, 1e6).fractions(table)
    with_half_a_row_of_each_band = (fractions.sum(axis=0) + 0.5) / (len(fractions) + 2)
    assert_allclose(found, np.broadcast_to(with_half_a_row_of_each_band, found.shape), atol=1e-4)


def test_mean_fractions_are_kept() -> None:
    table, fractions = sample()
    assert_allclose(solve(table, fractions, 1e-3).fractions(table).mean(axis=0), fractions.mean(axis=0), atol=4e-3)


def test_a_band_that_never_occurs_is_rare_not_impossible() -> None:
    table, fractions = sample()
    fractions = np.column_stack([fractions, np.zeros(len(fractions), np.float32)])
    last = solve(table, fractions, 1e-2).fractions(table)[:, -1]
    assert (last > 0).all()
    assert last.mean() < 0.01


def test_a_predictor_that_does_not_vary_has_no_weight() -> None:
    table, fractions = sample()
    table[:, 1] = 273.15
    fit = solve(table, fractions, 1e-3)
    assert fit.weights[1] == (0.0,) * 4
    table[:, 1] = 300.0
    assert_allclose(fit.fractions(table).sum(axis=1), 1)


def test_the_validation_rows_choose_penalty_and_correction() -> None:
    table, fractions = sample()
    unseen, truth = sample(seed=0)
    told: list[tuple[int, float]] = []
    fit = best_fit(
        SoftmaxProblem.of(table, fractions),
        [1e-3, 1e3],
        unseen,
        truth,
        correction=np.zeros(4),
        report=lambda number, score: told.append((number, score)),
    )
    assert [number for number, _ in told] == [0, 1]
    assert told[1][1] < told[0][1]
    assert_allclose(fit.fractions(unseen), solve(table, fractions, 1e-3).fractions(unseen), atol=5e-3)
    # A correction that the validation rows do not bear out is not made.
    wrong = best_fit(
        SoftmaxProblem.of(table, fractions), [1e-3], unseen, truth, correction=np.array([3.0, 0, 0, 0]), report=None
    )
    assert wrong.fractions(unseen)[:, 0].mean() == pytest.approx(truth[:, 0].mean(), abs=0.01)
