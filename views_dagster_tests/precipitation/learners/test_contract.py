"""What every learner of the union promises, whatever its algorithm. A new kind needs an example here, nothing else."""

from dataclasses import fields, replace
from pathlib import PurePath
from typing import get_args

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pydantic import TypeAdapter, ValidationError

from views_dagster.errors import PanelError
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import DiagnosisLearner, FittedDiagnosis
from views_dagster.precipitation.learners.inputs import ranked_score
from views_dagster.precipitation.learners.registry import AnyDiagnosisLearner, load_artifact, save_artifact
from views_dagster_tests.precipitation.columns_worlds import columns_world

TREES = {"n_estimators": 12, "min_child_samples": 20, "learning_rate": 0.3}
NETWORK = {"kind": "column_network", "depth": 1, "width": 8, "hidden": 8, "epochs": 3, "learning_rate": 1e-2}
RESAMPLE = {"kind": "resample", "distribution": "uniform"}
SETTINGS: dict[str, dict[str, object]] = {
    "climatology": {"kind": "climatology"},
    "climatology_in_detail": {"kind": "climatology", "by": ["month", "hour", "area"], "area_degrees": 0.5},
    "nwp": {"kind": "nwp"},
    "calibrated_nwp": {"kind": "calibrated_nwp"},
    "logistic": {"kind": "logistic"},
    "logistic_rebalanced": {"kind": "logistic", "predictors": {"profiles": "layers"}, "rebalance": RESAMPLE},
    "extended_logistic": {"kind": "extended_logistic"},
    "boosted": {"kind": "boosted", "lightgbm": TREES},
    "boosted_weighted": {"kind": "boosted", "lightgbm": {**TREES, "subsample": 0.5}, "rebalance": {"kind": "weights"}},
    "boosted_with_members": {"kind": "boosted", "lightgbm": TREES, "predictors": {"members": True}},
    "hurdle": {
        "kind": "hurdle",
        "wet": {"kind": "logistic"},
        "bands": {"kind": "boosted", "lightgbm": TREES, "rebalance": RESAMPLE},
    },
    "hurdle_of_network": {"kind": "hurdle", "wet": {"kind": "boosted", "lightgbm": TREES}, "bands": NETWORK},
    "box_mean": {"kind": "box_mean", "regressor": {"kind": "boosted", "lightgbm": TREES}},
    "box_mean_ridge": {"kind": "box_mean", "regressor": {"kind": "ridge"}},
    "column_network": NETWORK,
    "column_network_rebalanced": {**NETWORK, "rebalance": {"kind": "weights"}},
}
EXAMPLES: dict[str, DiagnosisLearner] = {
    name: TypeAdapter(AnyDiagnosisLearner).validate_python(settings) for name, settings in SETTINGS.items()
}
LOOKS_AT_NO_COLUMN = {"climatology", "nwp", "calibrated_nwp"}
NOTHING_TO_FIT = {"nwp"}
NEEDS_VALIDATION = {"column_network", "column_network_rebalanced", "hurdle_of_network"}
SEED = 3


def kind_of(learner: DiagnosisLearner) -> str:
    return str(learner.model_dump()["kind"])


@pytest.fixture(scope="module")
def train() -> Columns:
    return columns_world(3072, 0, levels=8, members=5)


@pytest.fixture(scope="module")
def validation() -> Columns:
    return columns_world(1536, 1, levels=8, members=5)


@pytest.fixture(scope="module")
def unseen() -> Columns:
    return columns_world(3072, 2, levels=8, members=5)


@pytest.fixture(params=EXAMPLES, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def learner(name: str) -> DiagnosisLearner:
    return EXAMPLES[name]


@pytest.fixture(scope="module")
def fitted(learner: DiagnosisLearner, train: Columns, validation: Columns) -> FittedDiagnosis:
    return learner.fit(train, validation, seed=SEED)


def without_rain(columns: Columns) -> Columns:
    hidden = {field: np.full_like(getattr(columns, field), np.nan) for field in ("fractions", "rain_mean", "rain_max")}
    return replace(columns, **hidden, missing=np.ones_like(columns.missing))


def test_every_kind_has_an_example() -> None:
    union, _ = get_args(AnyDiagnosisLearner)
    kinds = {get_args(member.model_fields["kind"].annotation)[0] for member in get_args(union)}
    assert {kind_of(example) for example in EXAMPLES.values()} == kinds


def test_fractions_are_those_of_bands_and_the_mean_is_not_negative(fitted: FittedDiagnosis, unseen: Columns) -> None:
    said = fitted.predict(unseen)
    assert said.fractions.shape == unseen.fractions.shape
    assert said.fractions.dtype == said.rain_mean.dtype == np.float32
    assert said.rain_mean.shape == (len(unseen),)


def test_rain_is_not_looked_at(fitted: FittedDiagnosis, unseen: Columns) -> None:
    blind, seeing = fitted.predict(without_rain(unseen)), fitted.predict(unseen)
    assert blind.fractions.tobytes() == seeing.fractions.tobytes()
    assert blind.rain_mean.tobytes() == seeing.rain_mean.tobytes()


def test_a_row_is_diagnosed_by_itself(fitted: FittedDiagnosis, unseen: Columns) -> None:
    rows = np.arange(0, len(unseen), 7)[::-1]
    some, all_ = fitted.predict(unseen.take(rows)), fitted.predict(unseen)
    np.testing.assert_allclose(some.fractions, all_.fractions[rows], atol=1e-6)
    np.testing.assert_allclose(some.rain_mean, all_.rain_mean[rows], rtol=1e-5, atol=1e-6)


def test_equal_arguments_give_equal_bytes(
    learner: DiagnosisLearner, fitted: FittedDiagnosis, train: Columns, validation: Columns, unseen: Columns
) -> None:
    again = learner.fit(train, validation, seed=SEED)
    assert again.to_files() == fitted.to_files()
    assert again.predict(unseen).fractions.tobytes() == fitted.predict(unseen).fractions.tobytes()


def test_training_leaves_its_columns_alone(learner: DiagnosisLearner, train: Columns, validation: Columns) -> None:
    before = [getattr(columns, field.name) for columns in (train, validation) for field in fields(columns)]
    copies = [value.copy() if isinstance(value, np.ndarray) else value for value in before]
    learner.fit(train, validation, seed=SEED)
    for value, copy in zip(before, copies, strict=True):
        assert_array_equal(value, copy)


def test_a_stored_model_diagnoses_what_it_did_before(
    learner: DiagnosisLearner, fitted: FittedDiagnosis, train: Columns, unseen: Columns
) -> None:
    files = save_artifact(
        learner, fitted, columns=train, first_month=481, last_month=482, split={}, seed=SEED, inputs={"rain": "1"}
    )
    assert {PurePath(path).suffix for path in files} <= {".json", ".txt", ".safetensors"}
    loaded = load_artifact(files, learner=learner, columns=unseen, last_month=482, inputs={"rain": "1"})
    assert loaded.to_files() == fitted.to_files()
    assert loaded.predict(unseen).fractions.tobytes() == fitted.predict(unseen).fractions.tobytes()
    assert loaded.predict(unseen).rain_mean.tobytes() == fitted.predict(unseen).rain_mean.tobytes()


def test_it_is_better_than_climatology_on_unseen_storms(
    name: str, fitted: FittedDiagnosis, train: Columns, unseen: Columns
) -> None:
    overall = np.broadcast_to(train.fractions.mean(axis=0), unseen.fractions.shape)
    ratio = ranked_score(fitted.predict(unseen).fractions, unseen.fractions) / ranked_score(overall, unseen.fractions)
    # The world's climate is one month, and its NWP drizzles everywhere.
    expected = {"climatology": 1.05, "climatology_in_detail": 1.05, "nwp": np.inf}.get(name, 0.6)
    assert ratio < expected


def test_the_report_is_told_each_round_and_may_stop_the_training(
    learner: DiagnosisLearner, train: Columns, validation: Columns
) -> None:
    told: list[tuple[int, float]] = []
    learner.fit(train, validation, seed=SEED, report=lambda number, score: told.append((number, score)))
    assert [number for number, _ in told] == list(range(len(told)))
    assert told
    assert np.isfinite([score for _, score in told]).all()

    class Pruned(Exception):
        pass

    def stop(number: int, score: float) -> None:
        raise Pruned

    with pytest.raises(Pruned):
        learner.fit(train, validation, seed=SEED, report=stop)


def test_a_nan_is_refused(learner: DiagnosisLearner, fitted: FittedDiagnosis, train: Columns, unseen: Columns) -> None:
    profiles, surface = unseen.profiles.copy(), unseen.surface.copy()
    profiles[5, 2, 1] = np.nan
    surface[6, 1] = np.inf
    with pytest.raises(
        PanelError, match=r"1 of 3072 columns are not finite in temperature, first at 2020.* \(boxes 5\)"
    ):
        fitted.predict(replace(unseen, profiles=profiles))
    with pytest.raises(PanelError, match="mean_sea_level_pressure"):
        fitted.predict(replace(unseen, surface=surface))
    with pytest.raises(PanelError, match="temperature"):
        learner.fit(replace(unseen, profiles=profiles), train, seed=SEED)


def test_other_columns_are_refused(fitted: FittedDiagnosis, unseen: Columns) -> None:
    fewer = columns_world(256, 2, levels=6, members=5)
    with pytest.raises(PanelError, match="levels"):
        fitted.predict(fewer)
    with pytest.raises(PanelError, match="profile names"):
        fitted.predict(replace(unseen, profile_names=tuple(reversed(unseen.profile_names))))
    with pytest.raises(PanelError, match="surface names"):
        fitted.predict(replace(unseen, surface_names=("orography", "tcwv")))
    with pytest.raises(PanelError, match="edges"):
        fitted.predict(replace(unseen, edges=(0.01, 0.5, 4.0, 12.0)))
    with pytest.raises(PanelError, match="level unit"):
        fitted.predict(replace(unseen, level_unit="hPa"))


def test_members_that_it_needs_must_be_there(
    learner: DiagnosisLearner, fitted: FittedDiagnosis, train: Columns, validation: Columns, unseen: Columns
) -> None:
    none = [replace(columns, members=columns.members[:, :0]) for columns in (train, validation, unseen)]
    if not learner.needs_members:
        again = learner.fit(none[0], none[1], seed=SEED)
        assert again.predict(none[2]).fractions.tobytes() == fitted.predict(unseen).fractions.tobytes()
        return
    with pytest.raises(PanelError, match="members"):
        learner.fit(none[0], none[1], seed=SEED)
    with pytest.raises(PanelError, match="members"):
        fitted.predict(none[2])
    holed = unseen.members.copy()
    holed[3, 1] = np.nan
    with pytest.raises(PanelError, match="1 of 3072 columns have a NWP member"):
        fitted.predict(replace(unseen, members=holed))


def test_rows_without_rain_and_too_few_rows_are_refused(
    learner: DiagnosisLearner, train: Columns, validation: Columns
) -> None:
    hidden = without_rain(train.take(slice(0, 3)))
    some = replace(train, fractions=train.fractions.copy())
    some.fractions[:3] = hidden.fractions
    with pytest.raises(PanelError, match="3 of the 3072 training columns have no observed rain"):
        learner.fit(some, validation, seed=SEED)
    with pytest.raises(PanelError, match="validation columns have no observed rain"):
        learner.fit(train, some, seed=SEED)
    with pytest.raises(PanelError, match="too few"):
        learner.fit(train.take(np.arange(3)), validation, seed=SEED)


def test_validation_rows_may_be_absent_where_nothing_stops_by_them(
    name: str, learner: DiagnosisLearner, train: Columns, validation: Columns, unseen: Columns
) -> None:
    nothing = validation.take(np.arange(0))
    if name in NEEDS_VALIDATION:
        with pytest.raises(PanelError, match="validation"):
            learner.fit(train, nothing, seed=SEED)
    else:
        assert len(learner.fit(train, nothing, seed=SEED).predict(unseen).fractions) == len(unseen)


def test_dry_months_train_a_dry_model_or_are_refused(
    name: str, learner: DiagnosisLearner, train: Columns, validation: Columns, unseen: Columns
) -> None:
    def dried(columns: Columns) -> Columns:
        zero = np.zeros_like(columns.rain_mean)
        fractions = np.eye(1, columns.fractions.shape[1], dtype=np.float32).repeat(len(columns), axis=0)
        return replace(columns, fractions=fractions, rain_mean=zero, rain_max=zero)

    if kind_of(learner) == "hurdle":
        with pytest.raises(PanelError, match="only 0 of 3072 training columns are wet"):
            learner.fit(dried(train), dried(validation), seed=SEED)
        return
    said = learner.fit(dried(train), dried(validation), seed=SEED).predict(unseen)
    if name not in NOTHING_TO_FIT:
        assert (said.fractions[:, 0] > 0.95).all()


def test_one_surface_field_and_one_level_are_enough(
    learner: DiagnosisLearner, train: Columns, validation: Columns, unseen: Columns
) -> None:
    def bare(columns: Columns) -> Columns:
        return replace(
            columns,
            profiles=columns.profiles[:, :, :1],
            levels=columns.levels[:1],
            surface=columns.surface[:, :0],
            surface_names=(),
        )

    said = learner.fit(bare(train), bare(validation), seed=SEED).predict(bare(unseen))
    assert len(said.fractions) == len(unseen)


def test_unknown_settings_are_refused(learner: DiagnosisLearner) -> None:
    with pytest.raises(ValidationError, match="extra"):
        TypeAdapter(AnyDiagnosisLearner).validate_python({**learner.model_dump(), "depht": 3})


def test_settings_survive_json(learner: DiagnosisLearner) -> None:
    assert TypeAdapter(AnyDiagnosisLearner).validate_python(learner.model_dump(mode="json")) == learner
