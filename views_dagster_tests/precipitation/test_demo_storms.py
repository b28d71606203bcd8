import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from views_dagster.calendar import first_day, from_key
from views_dagster.precipitation.demo_storms import (
    APART,
    DAY,
    QUIET,
    QUIET_STEPS,
    SIDE,
    STORMS,
    draw_sequence,
    draw_tracks,
    moving_noise,
    warmth,
)


def test_noise_has_unit_variance_and_is_smooth_over_its_scale() -> None:
    fresh = np.ones(200, dtype=bool)
    noise = moving_noise(np.random.default_rng(0), fresh, np.zeros((200, 2)), fields=1, size=32, scale=2.0, memory=0.0)[
        :, 0
    ]
    assert noise.shape == (200, 32, 32)
    np.testing.assert_allclose(noise.mean(), 0, atol=0.03)
    np.testing.assert_allclose(noise.std(), 1, atol=0.03)
    # White noise seen through exp(-k^2 s^2 / 2) has the correlation exp(-d^2 / (4 s^2)) at distance d.
    for axis in (1, 2):
        for apart in (1, 3):
            similar = (noise * np.roll(noise, apart, axis)).mean()
            np.testing.assert_allclose(similar, np.exp(-(apart**2) / 16), atol=0.04)


def test_noise_that_forgets_nothing_only_moves_until_it_begins_anew() -> None:
    fresh = np.array([True, False, False, True])
    drift = np.array([[0, 0], [1, 0], [2, -3], [1, 1]], dtype=float)
    noise = moving_noise(np.random.default_rng(1), fresh, drift, fields=2, size=16, scale=2.5, memory=1.0)
    np.testing.assert_allclose(noise[1], np.roll(noise[0], 1, axis=1), atol=1e-4)
    np.testing.assert_allclose(noise[2], np.roll(noise[1], (2, -3), axis=(1, 2)), atol=1e-4)
    assert np.abs(noise[3] - np.roll(noise[2], (1, 1), axis=(1, 2))).mean() > 0.5


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), month_id=st.integers(from_key("2022-01"), from_key("2035-12")))
def test_runs_lie_a_day_apart_and_inside_their_month(seed: int, month_id: int) -> None:
    times = draw_sequence(np.random.default_rng(seed), month_id)
    steps = (first_day(month_id + 1) - first_day(month_id)).days * DAY
    assert times.step[0] > APART
    assert times.step[-1] <= steps - APART
    jumps = np.diff(times.step)
    np.testing.assert_array_equal(jumps[~times.fresh[1:]], 1)
    assert (jumps[times.fresh[1:]] > APART).all()
    np.testing.assert_array_equal(np.bincount(times.run), times.steps)
    assert 2 <= np.count_nonzero(times.kind != QUIET) <= 5
    assert (times.steps[times.kind == QUIET] == QUIET_STEPS).all()
    assert 1 <= np.count_nonzero(times.kind == QUIET) <= 2
    assert 24 <= len(times.step) <= 47


def test_rain_cells_come_in_summer_and_layered_rain_in_winter() -> None:
    def count(key: str) -> dict[str, int]:
        rng = np.random.default_rng(0)
        kinds = np.concatenate([draw_sequence(rng, from_key(key)).kind for _ in range(200)])
        return dict(zip(STORMS, np.bincount(kinds, minlength=len(STORMS)).tolist(), strict=True))

    january, july = count("2024-01"), count("2024-07")
    assert july["cluster"] > 5 * january["cluster"]
    assert january["stratiform"] > 2 * july["stratiform"]
    assert january["front"] > july["front"]


def test_summer_is_in_july() -> None:
    assert warmth(from_key("2024-01")) == 0
    assert warmth(from_key("2024-07")) == 1
    np.testing.assert_allclose(warmth(from_key("2024-04")), 0.5)


def test_storms_grow_decay_and_move_with_their_drift_and_quiet_spells_have_none() -> None:
    rng = np.random.default_rng(3)
    shifts, grown, faded = [], [], []
    for _ in range(30):
        times = draw_sequence(rng, from_key("2024-01"))
        presence, drift, _ = draw_tracks(rng, times)
        assert presence.shape == (len(times.step), SIDE, SIDE)
        assert presence.min() >= 0
        assert presence.max() <= 1
        assert not presence[times.kind[times.run] == QUIET].any()
        column = np.arange(SIDE)
        for run in np.flatnonzero(times.kind != QUIET):
            of_run = np.flatnonzero(times.run == run)
            total = presence[of_run].sum(axis=(1, 2))
            grown.append(total.max() / total[0])
            faded.append(total.max() / total[-1])
            centre = (presence[of_run] * column).sum(axis=(1, 2)) / total
            shifts.append((np.diff(centre).mean(), drift[of_run[0], 1]))
    assert np.median(grown) > 1.5
    assert np.median(faded) > 1.2
    assert np.corrcoef(np.array(shifts).T)[0, 1] > 0.3
