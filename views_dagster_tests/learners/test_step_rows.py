"""Which rows are sampled, with which weights: sums over the sample are right, exactly where something happened."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from views_dagster.errors import PanelError
from views_dagster.learners.step_rows import KEPT, NEAR, QUIET, Sampling, moving_sum, rows_of_step
from views_dagster.panel import Panel
from views_dagster_tests.learners.panels import panel_of


def sparse(months: int = 200, units: int = 60) -> Panel:
    """Rare events, and a column that is one where a neighbour on a line had one in the last year."""
    rng = np.random.default_rng(1)
    target = np.where(rng.random((months, units)) < 0.003, rng.geometric(0.1, (months, units)), 0).astype(float)
    recent = moving_sum(target > 0, 12) > 0
    beside = np.pad(recent, ((0, 0), (1, 1)))
    around = beside[:, 2:] | beside[:, :-2]
    return panel_of(target, np.stack([np.log1p(target), around], axis=2))


def test_tiers_are_own_events_surroundings_and_the_rest() -> None:
    target = np.zeros((15, 3))
    target[1, 0] = 4
    around = np.zeros((15, 3, 1))
    around[1:13, :2] = 0.5
    panel = panel_of(target, around)
    tiers = Sampling(near=("x0",)).tiers(panel)
    assert_array_equal(tiers[0], [QUIET, QUIET, QUIET])
    assert_array_equal(tiers[1], [KEPT, NEAR, QUIET])
    assert_array_equal(tiers[12], [KEPT, NEAR, QUIET])
    assert_array_equal(tiers[13], [QUIET, QUIET, QUIET])
    # The row two months before the event is far from any, but its outcome is positive.
    assert_array_equal(rows_of_step(panel, 1, tiers).tier[:3], [KEPT, QUIET, QUIET])


def test_weighted_sums_of_the_sample_are_those_of_all_rows() -> None:
    panel = sparse()
    sampling = Sampling(share=0.05, near=("x1",), near_share=0.4)
    rows = rows_of_step(panel, 3, sampling.tiers(panel))
    assert set(np.unique(rows.tier)) == {KEPT, NEAR, QUIET}
    values = np.random.default_rng(2).gamma(2.0, size=len(rows)) * (1 + rows.month)
    samples = [rows.thinned(sampling, seed=seed) for seed in range(300)]
    position = {row: place for place, row in enumerate(rows.rows)}
    sums = [(weight * values[[position[row] for row in kept.rows]]).sum() for kept, weight in samples]
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - values.sum()) < 4 * error
    assert error < 0.01 * values.sum()
    for kept, weight in samples[:20]:
        positive = kept.outcome > 0
        assert_array_equal(kept.rows[positive], rows.rows[rows.outcome > 0])
        assert_array_equal(weight[positive], 1)
        assert len(kept) < 0.4 * len(rows)


def test_weights_are_one_over_the_share_of_their_tier() -> None:
    panel = sparse()
    sampling = Sampling(share=0.05, near=("x1",), near_share=0.4)
    kept, weight = rows_of_step(panel, 3, sampling.tiers(panel)).thinned(sampling, seed=1)
    assert_allclose(weight, np.choose(kept.tier, [1, 2.5, 20]))


def test_a_shorter_history_keeps_the_same_rows() -> None:
    panel, sampling = sparse(), Sampling(share=0.2, near=("x1",), near_share=0.5)
    shorter = panel.until(panel.origin - 50)
    long, short = (
        rows_of_step(some, 2, sampling.tiers(some)).thinned(sampling, seed=4)[0].rows for some in (panel, shorter)
    )
    assert_array_equal(short, long[: len(short)])


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(PanelError, match=r"sampling near x2: .* there are: x0, x1"):
        Sampling(near=("x2",)).tiers(sparse())


def test_shares_are_probabilities() -> None:
    for setting in ("share", "near_share"):
        with pytest.raises(ValidationError, match=setting):
            Sampling.model_validate({setting: 0})


def test_units_that_do_not_exist_are_no_rows() -> None:
    panel = sparse()
    target = panel.target.copy()
    target[:100, 5] = np.nan
    later = replace(panel, target=target, exists=~np.isnan(target))
    rows = rows_of_step(later, 7, Sampling().tiers(later))
    assert len(rows) == (200 - 7) * 60 - 100
    assert np.isfinite(rows.outcome).all()
