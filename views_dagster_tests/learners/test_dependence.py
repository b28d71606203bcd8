import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from views_dagster.learners.dependence import history_template, joint_draws, schaake_shuffle, template_origins
from views_dagster_tests.learners.panels import panel_of, world

NAN = np.nan


def float32(values: object) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def test_the_shuffle_gives_each_margin_the_ranks_of_its_template() -> None:
    margins = float32([[[10, 20, 30], [1, 2, 3]], [[7, 8, 9], [4, 5, 6]]])
    template = float32([[[0, 9, 5], [2, 1, 0]], [[1, 2, 3], [3, 1, 2]]])
    expected = float32([[[10, 30, 20], [3, 2, 1]], [[7, 8, 9], [6, 4, 5]]])
    assert_array_equal(schaake_shuffle(margins, template, seed=1), expected)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4), st.integers(1, 9))
def test_the_shuffle_keeps_every_margin_as_a_multiset(seed: int, units: int, steps: int, draws: int) -> None:
    rng = np.random.default_rng(seed)
    margins = rng.poisson(1, (units, steps, draws)).astype(np.float32)
    template = rng.poisson(0.5, (units, steps, draws)).astype(np.float32)
    template[rng.random(template.shape) < 0.2] = NAN
    shuffled = schaake_shuffle(margins, template, seed=seed)
    assert shuffled.dtype == np.float32
    assert_array_equal(np.sort(shuffled, axis=-1), np.sort(margins, axis=-1))


@given(st.integers(0, 10_000))
def test_higher_template_values_never_get_lower_draws(seed: int) -> None:
    rng = np.random.default_rng(seed)
    template = rng.poisson(1, (3, 2, 12)).astype(np.float32)
    shuffled = schaake_shuffle(rng.gamma(1, 10, (3, 2, 12)).astype(np.float32), template, seed=seed)
    higher = template[..., :, None] > template[..., None, :]
    assert (shuffled[..., :, None] > shuffled[..., None, :])[higher].all()


def test_ties_keep_their_rank_over_steps_and_differ_between_units() -> None:
    margins = np.broadcast_to(np.arange(64, dtype=np.float32), (2, 3, 64))
    shuffled = schaake_shuffle(margins, np.zeros((2, 3, 64), dtype=np.float32), seed=3)
    assert_array_equal(shuffled[:, 0], shuffled[:, 1])
    assert_array_equal(shuffled[:, 0], shuffled[:, 2])
    assert abs(np.corrcoef(shuffled[0, 0], shuffled[1, 0])[0, 1]) < 0.5
    assert not (shuffled[0, 0] == np.arange(64)).all()


def test_a_gap_in_the_template_is_ranked_among_the_units_other_values() -> None:
    # The unit is unknown in 50 of 100 draws and 0..49 in the others: gaps fall among them, not all low nor high.
    template = np.full((1, 1, 100), NAN, dtype=np.float32)
    template[0, 0, ::2] = np.arange(50)
    shuffled = schaake_shuffle(np.arange(100, dtype=np.float32)[None, None], template, seed=0)[0, 0]
    assert 35 < shuffled[1::2].mean() < 65
    assert (np.diff(shuffled[::2]) > 0).all()


def test_a_gap_keeps_its_rank_over_steps() -> None:
    template = np.full((1, 2, 40), NAN, dtype=np.float32)
    template[:, :, :20] = np.arange(20)
    shuffled = schaake_shuffle(np.tile(np.arange(40, dtype=np.float32), (1, 2, 1)), template, seed=0)
    assert_array_equal(shuffled[0, 0], shuffled[0, 1])


def test_a_unit_without_any_history_is_all_ties() -> None:
    margins = np.tile(np.arange(5, dtype=np.float32), (1, 2, 1))
    unknown = schaake_shuffle(margins, np.full((1, 2, 5), NAN, dtype=np.float32), seed=9)
    assert_array_equal(unknown, schaake_shuffle(margins, np.zeros((1, 2, 5), dtype=np.float32), seed=9))


def test_the_most_recent_whole_trajectories_are_the_template() -> None:
    panel = panel_of(np.zeros((10, 1)))
    # Ten months and three steps: positions 0..6 have a whole trajectory.
    assert sorted(template_origins(panel, steps=[1, 3], draws=4, seed=0)) == [3, 4, 5, 6]
    assert sorted(template_origins(panel, steps=[1, 3], draws=9, seed=0)) == [0, 1, 2, 3, 4, 5, 5, 6, 6]
    assert len(template_origins(panel, steps=[10], draws=9, seed=0)) == 0


def test_the_template_is_the_history_of_current_units() -> None:
    panel = panel_of([[0, 10, NAN], [1, 11, NAN], [2, 12, 22], [3, NAN, 23]])
    template = history_template(panel, np.array([1, 0]), steps=[1, 2])
    assert_array_equal(template, [[[2, 1], [3, 2]], [[22, NAN], [23, 22]]])


def test_units_that_suffered_together_are_high_together() -> None:
    # Unit 2 has always moved with unit 1, unit 3 against it; margins come in no order at all.
    wave = np.random.default_rng(0).permutation(40).astype(float)
    panel = panel_of(np.stack([wave, 2 * wave, -wave + 40], axis=1))
    margins = np.random.default_rng(1).permuted(np.tile(np.arange(30, dtype=np.float32), (3, 4, 1)), axis=-1)
    joint = joint_draws(margins, panel, steps=[1, 2, 3, 4], seed=5)
    assert_array_equal(joint[0], joint[1])
    assert_array_equal(joint[0], 29 - joint[2])


def test_a_short_history_still_gives_a_joint_structure() -> None:
    margins = np.tile(np.arange(6, dtype=np.float32), (2, 3, 1))
    joint = joint_draws(margins, panel_of([[1, 2]]), steps=[1, 2, 3], seed=0)
    assert_array_equal(np.sort(joint, axis=-1), margins)
    assert_array_equal(joint[:, 0], joint[:, 2])


def test_equal_seeds_give_equal_draws_and_others_do_not() -> None:
    panel = world()
    margins = np.random.default_rng(0).gamma(1, 5, (len(panel.current), 6, 32)).astype(np.float32)
    first, second, other = (joint_draws(margins, panel, steps=range(1, 7), seed=seed) for seed in (1, 1, 2))
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != other.tobytes()
