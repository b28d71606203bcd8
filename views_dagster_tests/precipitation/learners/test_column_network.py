"""The column network: what it learns, what it refuses, and that its bytes follow from its arguments alone."""

import os
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from views_dagster.errors import ArtifactError, PanelError
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import Report
from views_dagster.precipitation.learners.column_network import ColumnNetwork, FittedColumnNetwork
from views_dagster.precipitation.learners.inputs import ranked_score
from views_dagster_tests.precipitation.columns_worlds import columns_world

WORLD = columns_world(5120, seed=1)
TRAIN, VALIDATION, TEST = (WORLD.take(slice(*ends)) for ends in ((0, 3072), (3072, 4096), (4096, 5120)))
SMALL = ColumnNetwork(depth=1, width=8, hidden=16, epochs=6, batch_size=512, learning_rate=1e-2, device="cpu")


@pytest.fixture(scope="module")
def fitted() -> FittedColumnNetwork:
    return SMALL.fit(TRAIN, VALIDATION, seed=1)


class Memory:
    """A checkpoint in memory."""

    def __init__(self) -> None:
        self.states: list[bytes] = []
        self.rounds = 0

    def load(self) -> bytes | None:
        return self.states[-1] if self.states else None

    def save(self, state: bytes) -> None:
        self.states.append(state)

    def resumed(self, rounds: int) -> None:
        self.rounds = rounds


class KilledError(Exception):
    """The training was killed."""


def kill_after(epoch: int) -> Report:
    def report(number: int, score: float) -> None:
        if number == epoch:
            raise KilledError

    return report


def score(model: FittedColumnNetwork, columns: Columns) -> float:
    return ranked_score(model.predict(columns).fractions, columns.fractions)


def climatology_score(columns: Columns) -> float:
    mean = TRAIN.fractions.mean(axis=0, dtype=np.float64)
    return ranked_score(np.broadcast_to(mean, columns.fractions.shape), columns.fractions)


def test_it_learns_what_climatology_does_not_know(fitted: FittedColumnNetwork) -> None:
    assert score(fitted, TEST) < 0.3 * climatology_score(TEST)
    told = fitted.predict(TEST).rain_mean
    assert np.mean((told - TEST.rain_mean) ** 2) < 0.4 * TEST.rain_mean.var()


def test_the_ordered_loss_learns_too() -> None:
    assert score(
        SMALL.model_copy(update={"loss": "rps"}).fit(TRAIN, VALIDATION, seed=1), TEST
    ) < 0.3 * climatology_score(TEST)


def test_it_tells_levels_apart() -> None:
    # The same bump of one variable, low down in rainy columns and high up in dry ones: an average over levels is blind.
    draw = np.random.default_rng(0)
    wet = draw.random(2048) < 0.5
    profiles = draw.normal(0, 0.1, (2048, 1, 12)).astype(np.float32)
    profiles[np.arange(2048), 0, np.where(wet, 2, 9)] += 1
    fractions = np.where(wet[:, None], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0]).astype(np.float32)
    columns = replace(
        WORLD.take(slice(0, 2048)),
        profiles=profiles,
        profile_names=("humidity",),
        surface=np.zeros((2048, 0), np.float32),
        surface_names=(),
        fractions=fractions,
        rain_mean=np.where(wet, 1, 0).astype(np.float32),
    )
    model = SMALL.fit(columns.take(slice(0, 1536)), columns.take(slice(1536, 1792)), seed=0)
    told = model.predict(columns.take(slice(1792, None))).fractions
    assert (told.argmax(axis=1) == fractions[1792:].argmax(axis=1)).all()


def test_equal_arguments_give_equal_bytes_whatever_the_cores(
    fitted: FittedColumnNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    alone = SMALL.fit(TRAIN, VALIDATION, seed=1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    crowd = SMALL.fit(TRAIN, VALIDATION, seed=1)
    assert alone.to_files() == crowd.to_files() == fitted.to_files()
    assert SMALL.fit(TRAIN, VALIDATION, seed=2).to_files() != fitted.to_files()


def test_training_leaves_torch_as_it_was(fitted: FittedColumnNetwork) -> None:
    import torch

    state, threads = torch.get_rng_state(), torch.get_num_threads()
    SMALL.model_copy(update={"dropout": 0.2, "epochs": 1}).fit(TRAIN, VALIDATION, seed=1)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("killed_after", [0, 2])
def test_a_killed_training_resumes_to_the_same_bytes(killed_after: int) -> None:
    learner = SMALL.model_copy(update={"dropout": 0.1, "epochs": 4})
    learner = ColumnNetwork(**learner.model_dump() | {"rebalance": {"kind": "resample"}})
    whole: list[tuple[int, float]] = []
    expected = learner.fit(TRAIN, VALIDATION, seed=1, report=lambda *told: whole.append(told)).to_files()
    checkpoint = Memory()
    with pytest.raises(KilledError):
        learner.fit(TRAIN, VALIDATION, seed=1, report=kill_after(killed_after), checkpoint=checkpoint)
    assert len(checkpoint.states) == killed_after + 1
    resumed: list[tuple[int, float]] = []
    found = learner.fit(TRAIN, VALIDATION, seed=1, report=lambda *told: resumed.append(told), checkpoint=checkpoint)
    assert found.to_files() == expected
    assert resumed == whole
    assert len(checkpoint.states) == 4, "no epoch was done twice"
    assert checkpoint.rounds == killed_after + 1


def test_a_checkpoint_of_another_training_is_passed_over(fitted: FittedColumnNetwork) -> None:
    checkpoint = Memory()
    with pytest.raises(KilledError):
        SMALL.fit(TRAIN, VALIDATION, seed=2, report=kill_after(1), checkpoint=checkpoint)
    assert SMALL.fit(TRAIN, VALIDATION, seed=1, checkpoint=checkpoint).to_files() == fitted.to_files()


def test_a_damaged_checkpoint_is_named() -> None:
    checkpoint = Memory()
    checkpoint.save(b"not a checkpoint")
    with pytest.raises(ArtifactError, match=r"checkpoint .* is damaged"):
        SMALL.fit(TRAIN, VALIDATION, seed=1, checkpoint=checkpoint)


def test_it_keeps_the_best_epoch_and_stops_when_patience_ends() -> None:
    told: list[float] = []
    learner = SMALL.model_copy(update={"epochs": 40, "patience": 2, "learning_rate": 0.03})
    model = learner.fit(TRAIN.take(slice(0, 600)), VALIDATION, seed=1, report=lambda _, value: told.append(value))
    assert len(told) < 40
    assert list(model.stored.scores) == told
    assert len(told) - 1 - int(np.argmin(told)) == 2
    assert score(model, VALIDATION) == pytest.approx(min(told), rel=1e-5)


def test_files_round_trip(fitted: FittedColumnNetwork) -> None:
    again = FittedColumnNetwork.from_files(fitted.to_files())
    assert sorted(fitted.to_files()) == ["model.json", "network.safetensors"]
    assert again.to_files() == fitted.to_files()
    assert again.predict(TEST).fractions.tobytes() == fitted.predict(TEST).fractions.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.json": b"{}"}, "model.json cannot be read"),
        ({"network.safetensors": b"junk"}, "network.safetensors cannot be read"),
        ({"network.safetensors": None}, "has no network.safetensors"),
    ],
)
def test_damaged_files_are_refused(fitted: FittedColumnNetwork, change: dict[str, bytes | None], message: str) -> None:
    files = {name: value for name, value in (fitted.to_files() | change).items() if value is not None}
    with pytest.raises(ArtifactError, match=message):
        FittedColumnNetwork.from_files(files)


def test_weights_of_another_shape_are_refused(fitted: FittedColumnNetwork) -> None:
    other = SMALL.model_copy(update={"width": 4, "epochs": 1}).fit(TRAIN, VALIDATION, seed=1).to_files()
    with pytest.raises(ArtifactError, match="train the model again"):
        FittedColumnNetwork.from_files(fitted.to_files() | {"network.safetensors": other["network.safetensors"]})


def test_fractions_sum_to_1_even_where_scores_are_far_apart(fitted: FittedColumnNetwork) -> None:
    far = replace(TEST, profiles=TEST.profiles * 50)
    sums = fitted.predict(far).fractions.sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(sums, 1, atol=1e-6)


def test_the_rain_of_the_columns_is_not_looked_at(fitted: FittedColumnNetwork) -> None:
    hidden = replace(
        TEST,
        fractions=np.full_like(TEST.fractions, np.nan),
        rain_mean=np.full_like(TEST.rain_mean, np.nan),
        rain_max=np.full_like(TEST.rain_max, np.nan),
    )
    assert fitted.predict(hidden).fractions.tobytes() == fitted.predict(TEST).fractions.tobytes()


def test_gaps_and_other_variables_are_refused(fitted: FittedColumnNetwork) -> None:
    profiles = TEST.profiles.copy()
    profiles[5, 1, 2] = np.nan
    with pytest.raises(PanelError, match="relative_humidity"):
        fitted.predict(replace(TEST, profiles=profiles))
    with pytest.raises(PanelError, match="relative_humidity"):
        SMALL.fit(replace(TEST, profiles=profiles), VALIDATION, seed=1)
    with pytest.raises(PanelError, match="surface"):
        fitted.predict(replace(TEST, surface_names=("pressure", "orography")))
    with pytest.raises(PanelError, match="levels"):
        fitted.predict(columns_world(100, levels=11))
    with pytest.raises(PanelError, match="edges"):
        fitted.predict(columns_world(100, edges=(0.1, 1.0)))


def test_rows_that_are_too_few_or_unobserved_are_refused() -> None:
    with pytest.raises(PanelError, match="too few"):
        SMALL.fit(TRAIN.take(slice(0, 5)), VALIDATION, seed=1)
    with pytest.raises(PanelError, match="needs validation rows"):
        SMALL.fit(TRAIN, VALIDATION.take(slice(0, 0)), seed=1)
    with pytest.raises(PanelError, match="no observed rain"):
        SMALL.fit(columns_world(500, unobserved=0.1), VALIDATION, seed=1)


@pytest.mark.parametrize("kind", ["resample", "weights"])
def test_a_rebalanced_network_is_calibrated_to_the_rows_as_they_were(kind: str) -> None:
    learner = ColumnNetwork(**SMALL.model_dump() | {"rebalance": {"kind": kind, "distribution": "uniform"}})
    model = learner.fit(TRAIN, VALIDATION, seed=1)
    mean = TRAIN.fractions.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(model.predict(TRAIN).fractions.mean(axis=0, dtype=np.float64), mean, atol=1e-4)
    np.testing.assert_allclose(model.rebalance.fractions_before, mean)
    assert model.rebalance.fractions_after[-1] > 2 * mean[-1]
    assert score(model, TEST) < 0.4 * climatology_score(TEST)


def test_validation_rows_are_scored_as_they_are() -> None:
    learner = ColumnNetwork(**SMALL.model_dump() | {"rebalance": {"kind": "resample", "distribution": "uniform"}})
    model = learner.fit(TRAIN, VALIDATION, seed=1)
    assert score(model, VALIDATION) == pytest.approx(min(model.stored.scores), rel=1e-5)
    assert sum(model.rebalance.rows_before) == len(TRAIN)


def test_calibration_matches_the_mean_fractions_of_the_validation_rows(fitted: FittedColumnNetwork) -> None:
    model = SMALL.model_copy(update={"calibrate": True}).fit(TRAIN, VALIDATION, seed=1)
    told = model.predict(VALIDATION).fractions.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(told, VALIDATION.fractions.mean(axis=0, dtype=np.float64), atol=1e-4)
    assert model.parameters["stem.weight"].tobytes() == fitted.parameters["stem.weight"].tobytes()


def test_columns_on_one_level_and_without_blocks_are_learned() -> None:
    flat = columns_world(600, levels=1)
    model = SMALL.model_copy(update={"depth": 0, "epochs": 1}).fit(flat, flat, seed=0)
    assert model.predict(flat).fractions.shape == (600, 5)


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ValidationError, match="use an odd number"):
        ColumnNetwork(kernel=4)
    with pytest.raises(ValidationError, match="extra"):
        ColumnNetwork.model_validate({"kind": "column_network", "deepness": 3})
