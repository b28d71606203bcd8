"""The network's parts against loops in numpy, and formulas at points that can be worked out by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from views_dagster.precipitation.learners.inputs import ranked_score
from views_dagster.precipitation.learners.network_calibration import calibration
from views_dagster.precipitation.learners.network_parts import (
    Shape,
    dropout,
    initial_parameters,
    learning_rate,
    logits,
    reproducible,
    row_losses,
)

SHAPE = Shape(variables=2, levels=4, surface=1, bands=3, depth=1, width=3, kernel=3, hidden=5)
RNG = np.random.default_rng(0)


def convolved(
    values: NDArray[np.float64], weight: NDArray[np.float64], bias: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(C, L) to (F, L), with zeros beyond the ends."""
    out = np.zeros((len(weight), values.shape[1]))
    half = weight.shape[2] // 2
    for f in range(len(weight)):
        for level in range(values.shape[1]):
            out[f, level] = bias[f]
            for tap in range(weight.shape[2]):
                if 0 <= level + tap - half < values.shape[1]:
                    out[f, level] += weight[f, :, tap] @ values[:, level + tap - half]
    return out


def test_the_network_is_what_its_layers_say() -> None:
    parameters = {name: torch.from_numpy(RNG.normal(size=size)) for name, size in SHAPE.parameters().items()}
    plain = {name: value.numpy() for name, value in parameters.items()}
    profiles, surface = RNG.normal(size=(2, 4, 2)), RNG.normal(size=(2, 1))
    found = logits(parameters, torch.from_numpy(profiles), torch.from_numpy(surface)).numpy()
    for row in range(2):
        layer = {
            name: (plain[f"{name}.weight"][:, :, 0], plain[f"{name}.bias"])
            for name in ("stem", "block0.in", "block0.out")
        }
        values = np.maximum(convolved(profiles[row].T, *layer["stem"]), 0)
        inner = np.maximum(convolved(values, *layer["block0.in"]), 0)
        values = np.maximum(values + convolved(inner, *layer["block0.out"]), 0)
        joined = np.concatenate([values.T.ravel(), surface[row]])
        hidden = np.maximum(plain["join.weight"] @ joined + plain["join.bias"], 0)
        np.testing.assert_allclose(found[row], plain["head.weight"] @ hidden + plain["head.bias"])


def test_a_new_network_starts_near_climatology_and_its_blocks_as_identity() -> None:
    shares = np.array([0.9, 0.09, 0.01])
    parameters = initial_parameters(SHAPE, seed=1, shares=shares)
    assert (parameters["block0.out.weight"] == 0).all()
    profiles = torch.from_numpy(RNG.normal(size=(500, 4, 2)).astype(np.float32))
    fractions = logits(parameters, profiles, torch.zeros(500, 1)).softmax(dim=1).numpy()
    np.testing.assert_allclose(fractions.mean(axis=0), shares, rtol=0.3)
    assert torch.equal(initial_parameters(SHAPE, seed=1)["stem.weight"], parameters["stem.weight"])
    assert not torch.equal(initial_parameters(SHAPE, seed=2)["stem.weight"], parameters["stem.weight"])


def test_the_losses() -> None:
    scores, target = torch.from_numpy(RNG.normal(size=(20, 4))), torch.from_numpy(RNG.dirichlet([1.0] * 4, 20))
    predicted = scores.softmax(dim=1).numpy()
    assert row_losses("rps", scores, target).mean().item() == pytest.approx(ranked_score(predicted, target.numpy()))
    divergence = (target.numpy() * np.log(target.numpy() / predicted)).sum(axis=1)
    entropy = -(target.numpy() * np.log(target.numpy())).sum(axis=1)
    np.testing.assert_allclose(row_losses("kl", scores, target).numpy() - entropy, divergence)


def test_the_learning_rate_climbs_and_falls() -> None:
    assert learning_rate("one_cycle", 2.0, 0.0) == pytest.approx(0.08)
    assert learning_rate("one_cycle", 2.0, 0.25) == pytest.approx(2.0)
    assert learning_rate("one_cycle", 2.0, 0.625) == pytest.approx(1.001)
    assert learning_rate("cosine", 2.0, 0.0) == pytest.approx(2.0)
    assert learning_rate("cosine", 2.0, 1.0) == pytest.approx(0.002)


def test_dropout_keeps_the_mean_and_follows_its_generator() -> None:
    assert dropout(0.0, torch.Generator()) is None
    values = torch.ones(10_000)
    drop, again = (dropout(0.25, torch.Generator().manual_seed(3)) for _ in range(2))
    assert drop is not None
    assert again is not None
    found = drop(values)
    assert torch.equal(found, again(values))
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert found.mean().item() == pytest.approx(1, abs=0.02)


def test_pieces_come_back_in_order() -> None:
    with reproducible("cpu") as workers:
        assert torch.get_num_threads() == 1
        assert workers.map(lambda piece: piece**2, range(50)) == [piece**2 for piece in range(50)]


def test_calibration_finds_the_temperature_and_bias_that_spoilt_the_scores() -> None:
    true = RNG.normal(size=(400, 3)) * 2
    observed = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    spoilt = (true - np.array([0.5, -0.2, 0.1])) * 1.6
    scale, offset = calibration(spoilt, observed, np.zeros(3), temperature=True)
    assert scale == pytest.approx(1 / 1.6, abs=1e-4)
    np.testing.assert_allclose(offset - offset.mean(), np.array([0.5, -0.2, 0.1]) - 0.4 / 3, atol=1e-4)


def test_bias_alone_matches_mean_fractions_and_leaves_a_band_never_seen() -> None:
    scores = RNG.normal(size=(300, 4))
    observed = np.concatenate([RNG.dirichlet([2, 1, 0.5], 300), np.zeros((300, 1))], axis=1)
    scale, offset = calibration(scores, observed, np.array([0, 0, 0, -30.0]), temperature=False)
    told = np.exp(scores + offset)
    told /= told.sum(axis=1, keepdims=True)
    assert scale == 1
    assert offset[3] == -30
    np.testing.assert_allclose(told.mean(axis=0), observed.mean(axis=0), atol=1e-6)
