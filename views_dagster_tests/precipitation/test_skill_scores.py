"""Scores worked out by hand, and against slow and independent implementations."""

import numpy as np
import pytest

from views_dagster.precipitation.learners.base import Diagnosis
from views_dagster.precipitation.skill_scores import (
    KL_FLOOR,
    Sums,
    edge_scores,
    event_sums,
    kl_divergence,
    overall_scores,
)

ONE = np.zeros(2, dtype=np.intp)


def diagnosis(fractions: list[list[float]], means: list[float] | None = None) -> Diagnosis:
    rows = np.array(fractions, dtype=np.float32)
    return Diagnosis(rows, np.array(means or [0.0] * len(rows), dtype=np.float32))


def sums(said: list[list[float]], seen: list[list[float]], *, means: tuple[list[float], list[float]]) -> Sums:
    observed = np.array(means[1], dtype=np.float32)
    event = np.zeros(len(seen), dtype=np.intp)
    return event_sums(
        diagnosis(said, means[0]), np.array(seen, dtype=np.float32), observed, event, 1, centre=0.5
    ).total()


# Two boxes, three bands: exceedance fractions are (.5, .25) and (0, 0) predicted, (.75, 0) and (.25, 0) observed.
SAID = [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]
SEEN = [[0.25, 0.75, 0.0], [0.75, 0.25, 0.0]]
HAND = sums(SAID, SEEN, means=([1.0, 0.0], [2.0, 1.0]))


def test_scores_by_threshold_by_hand() -> None:
    scores = edge_scores(HAND)
    # (.25^2 + .25^2) / (.5^2 + .75^2 + .25^2), and .25^2 / .25^2
    np.testing.assert_allclose(scores["fss"], [1 - 0.125 / 0.875, 0.0])
    np.testing.assert_allclose(scores["brier"], [0.125 / 2, 0.0625 / 2])
    np.testing.assert_allclose(scores["brier_any"], [(0.25 + 1) / 2, 0.0625 / 2])
    np.testing.assert_allclose(scores["frequency_bias"][0], 0.5)


def test_what_never_occurs_has_no_frequency_bias_and_what_is_not_even_predicted_no_skill_score() -> None:
    assert np.isnan(edge_scores(HAND)["frequency_bias"][1])
    dry = sums([[1.0, 0.0]], [[1.0, 0.0]], means=([0.0], [0.0]))
    assert np.isnan(edge_scores(dry)["fss"][0])
    assert edge_scores(dry)["brier"][0] == 0


def test_scores_of_whole_rows_by_hand() -> None:
    scores = overall_scores(HAND)
    np.testing.assert_allclose(scores["rps"], (0.125 + 0.0625) / 2)
    np.testing.assert_allclose(scores["mae"], 1.0)
    np.testing.assert_allclose(scores["crps"], 1.0)
    np.testing.assert_allclose(scores["r2"], 1 - 2 / 0.5)


def test_the_ranked_probability_score_is_the_same_cumulated_over_all_bands_from_below() -> None:
    rng = np.random.default_rng(1)
    said, seen = rng.dirichlet(np.ones(5), size=(2, 50)).astype(np.float32)
    zeros = np.zeros(50, dtype=np.float32)
    found = overall_scores(
        event_sums(Diagnosis(said, zeros), seen, zeros, np.zeros(50, dtype=np.intp), 1, centre=0.0).total()
    )["rps"]
    below = said.astype(np.float64).cumsum(axis=1) - seen.astype(np.float64).cumsum(axis=1)
    np.testing.assert_allclose(found, (below**2).sum(axis=1).mean(), atol=1e-9)


def test_equal_observations_have_no_r2() -> None:
    assert np.isnan(overall_scores(sums(SAID, SEEN, means=([1.0, 0.0], [0.3, 0.3])))["r2"])


def test_r2_of_means_far_from_the_centre_keeps_its_digits() -> None:
    rng = np.random.default_rng(2)
    seen = (1e4 + rng.random(200)).astype(np.float32)
    said = (seen + rng.normal(0, 0.1, 200)).astype(np.float32)
    rows = Diagnosis(np.tile(np.float32([1, 0]), (200, 1)), said)
    one = np.zeros(200, dtype=np.intp)
    centre = float(seen.mean(dtype=np.float64))
    found = overall_scores(event_sums(rows, rows.fractions, seen, one, 1, centre=centre).total())["r2"]
    truth, guess = seen.astype(np.float64), said.astype(np.float64)
    np.testing.assert_allclose(found, 1 - ((guess - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def test_crps_of_members_is_that_of_properly_written_pairs() -> None:
    rng = np.random.default_rng(3)
    members, seen = rng.gamma(1, 1, (2, 4)).astype(np.float32), np.array([0.2, 3.0], dtype=np.float32)
    rows = diagnosis(SAID, [0.0, 0.0])
    found = overall_scores(
        event_sums(rows, np.array(SEEN, dtype=np.float32), seen, ONE, 1, centre=0.0, members=members).total()
    )["crps"]
    by_hand = [
        np.mean([abs(float(x) - float(y)) for x in row])
        - np.mean([abs(float(x) - float(z)) for x in row for z in row]) / 2
        for row, y in zip(members, seen, strict=True)
    ]
    np.testing.assert_allclose(found, np.mean(by_hand))


def test_kl_divergence_by_hand_and_finite_for_the_impossible() -> None:
    seen = np.array([[0.5, 0.5], [0.0, 1.0]], dtype=np.float32)
    said = np.array([[0.25, 0.75], [1.0, 0.0]], dtype=np.float32)
    p = (1 - 2 * KL_FLOOR) * said.astype(np.float64) + KL_FLOOR
    expected = [0.5 * np.log(0.5 / p[0, 0]) + 0.5 * np.log(0.5 / p[0, 1]), -np.log(KL_FLOOR)]
    np.testing.assert_allclose(kl_divergence(said, seen), expected)
    assert kl_divergence(seen, seen).max() < 3 * KL_FLOOR


def test_sums_of_events_add_up_to_the_pooled_ones_and_weights_count_events() -> None:
    rng = np.random.default_rng(4)
    said, seen = rng.dirichlet(np.ones(5), size=(2, 60)).astype(np.float32)
    means, truth = rng.gamma(1, 1, (2, 60)).astype(np.float32)
    event = rng.integers(0, 3, 60)
    each = event_sums(Diagnosis(said, means), seen, truth, event, 3, centre=1.0)
    twice = np.concatenate([np.flatnonzero(event == 0), np.flatnonzero(event == 2), np.flatnonzero(event == 2)])
    again = event_sums(
        Diagnosis(said[twice], means[twice]),
        seen[twice],
        truth[twice],
        np.zeros(len(twice), dtype=np.intp),
        1,
        centre=1,
    )
    weighted = each.weighted(np.array([[1.0, 0.0, 2.0]]))
    for name in ("rows", "means", "edges"):
        np.testing.assert_allclose(getattr(weighted, name)[0], getattr(again, name)[0], rtol=1e-12)
    assert overall_scores(each)["r2"].shape == (3,)


@pytest.mark.parametrize("band", range(5))
def test_a_perfect_prediction_has_perfect_scores(band: int) -> None:
    rows = np.eye(5, dtype=np.float32)[[band, 0]]
    means = np.array([3.0, 0.0], dtype=np.float32)
    total = event_sums(Diagnosis(rows, means), rows, means, ONE, 1, centre=1.0).total()
    assert overall_scores(total)["rps"] == overall_scores(total)["mae"] == 0
    assert overall_scores(total)["r2"] == 1
    np.testing.assert_array_equal(edge_scores(total)["fss"][:band], 1.0)
    assert np.isnan(edge_scores(total)["fss"][band:]).all()
