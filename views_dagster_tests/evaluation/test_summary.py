"""Summaries of draws against values worked out by hand and against numpy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from views_dagster.evaluation.summary import summarise_draws


def test_by_hand() -> None:
    draws = np.array([[0, 10, 0, 20, 1, 0, 0, 100, 0, 3]], dtype=np.float32)
    summary = summarise_draws(draws, quantiles=[0, 0.5, 0.9, 1], hdi_mass=0.8, thresholds=[1, 10, 1000])
    assert summary.mean.tolist() == [np.float32(13.4)]
    # Sorted: 0 0 0 0 0 1 3 10 20 100; the median lies between the 5th and the 6th, 0.9 a tenth from 20 to 100.
    np.testing.assert_allclose(summary.quantiles, [[0, 0.5, 28, 100]])
    # The shortest 8 of 10 neighbouring values: 0..10.
    assert summary.hdi.tolist() == [[0, 10]]
    np.testing.assert_allclose(summary.at_least, [[0.5, 0.3, 0]])


@settings(deadline=None, max_examples=50)
@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(0, 1e6, width=32)))
def test_agrees_with_numpy_and_is_ordered(draws: np.ndarray) -> None:
    levels = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]
    summary = summarise_draws(draws, quantiles=levels, hdi_mass=0.9, thresholds=[1, 25])
    np.testing.assert_allclose(summary.quantiles.T, np.quantile(draws.astype(float), levels, axis=1), 1e-5, 1e-30)
    assert (np.diff(summary.quantiles, axis=1) >= 0).all()
    assert (np.diff(summary.at_least, axis=1) <= 0).all()
    inside = (draws >= summary.hdi[:, :1]) & (draws <= summary.hdi[:, 1:])
    assert (inside.mean(axis=1) >= 0.9 - 1e-9).all()
