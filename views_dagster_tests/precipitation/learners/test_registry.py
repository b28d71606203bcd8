import json
from dataclasses import replace

import pytest
from pydantic import TypeAdapter, ValidationError

from views_dagster.errors import ArtifactError
from views_dagster.precipitation.learners import registry
from views_dagster.precipitation.learners.base import DiagnosisLearner, FittedDiagnosis
from views_dagster.precipitation.learners.climatology import Climatology
from views_dagster.precipitation.learners.hurdle import Hurdle
from views_dagster.precipitation.learners.logistic import Logistic
from views_dagster.precipitation.learners.nwp import Nwp
from views_dagster.precipitation.learners.registry import (
    RECORD_FILE,
    AnyDiagnosisLearner,
    load_artifact,
    read_record,
    save_artifact,
)
from views_dagster_tests.precipitation.columns_worlds import columns_world

WORLD = columns_world(256, members=2)


def saved(learner: DiagnosisLearner | None = None) -> dict[str, bytes]:
    learner = learner or Climatology()
    fitted = learner.fit(WORLD, WORLD, seed=4)
    return save_artifact(
        learner,
        fitted,
        columns=WORLD,
        first_month=481,
        last_month=490,
        split={"events": [1, 2]},
        seed=4,
        inputs={"b": "2", "a": "1"},
    )


def load(files: dict[str, bytes], **wanted: object) -> FittedDiagnosis:
    settings = {"learner": Climatology(), "columns": WORLD, "last_month": 490, "inputs": {"a": "1", "b": "2"}}
    return load_artifact(files, **settings | wanted)  # type: ignore[arg-type]  # a table of different arguments


def test_a_learner_is_picked_by_its_kind() -> None:
    adapter: TypeAdapter[DiagnosisLearner] = TypeAdapter(AnyDiagnosisLearner)
    assert adapter.validate_python({"kind": "climatology", "by": ["hour"]}) == Climatology(by=("hour",))
    with pytest.raises(ValidationError, match="kind"):
        adapter.validate_python({"kind": "persistence"})


def test_the_record_says_what_was_trained() -> None:
    record = read_record(saved())
    assert record.learner == Climatology().model_dump(mode="json")
    assert record.variables.profile_names == WORLD.profile_names
    assert record.variables.edges == WORLD.edges
    assert record.variables.members is None
    assert (record.first_month, record.last_month, record.seed) == (481, 490, 4)
    assert record.split == {"events": [1, 2]}
    assert record.inputs == {"a": "1", "b": "2"}
    assert set(record.libraries) == {"python", "numpy"}
    assert set(record.files) == {"model.json"}


def test_libraries_are_those_that_the_learner_uses() -> None:
    libraries = read_record(saved(Hurdle(wet=Logistic(), bands=Logistic()))).libraries
    assert set(libraries) == {"python", "numpy", "scipy"}
    assert "torch" in registry._libraries(Hurdle.model_validate({"bands": {"kind": "column_network"}}))


def test_equal_training_gives_equal_bytes() -> None:
    assert saved() == saved()


def test_an_artifact_that_fits_is_loaded() -> None:
    assert len(load(saved()).predict(WORLD).fractions) == len(WORLD)
    assert load_artifact(saved(), learner=Climatology()).to_files() == load(saved()).to_files()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"learner": Climatology(prior_days=2.0)},
            r"learner settings \{'prior_days': 10.0\}, wanted \{'prior_days': 2",
        ),
        ({"learner": Nwp()}, "'kind': 'climatology'"),
        (
            {"columns": replace(WORLD, level_unit="hPa")},
            r"variables \{'level_unit': 'm'\}, wanted \{'level_unit': 'hPa'",
        ),
        ({"columns": replace(WORLD, surface_names=("a", "b"))}, "surface_names"),
        ({"last_month": 491}, "last month 2020-10, wanted 2020-11"),
        ({"inputs": {"a": "1", "b": "3"}}, r"inputs \{'b': '2'\}, wanted \{'b': '3'\}"),
    ],
)
def test_an_artifact_of_something_else_is_refused(wanted: dict[str, object], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        load(saved(), **wanted)


def test_changed_and_missing_files_are_refused() -> None:
    files = saved()
    with pytest.raises(ArtifactError, match=r"model\.json changed since training"):
        load({**files, "model.json": files["model.json"] + b" "})
    with pytest.raises(ArtifactError, match=r"lists \['model\.json'\]"):
        load({RECORD_FILE: files[RECORD_FILE]})
    with pytest.raises(ArtifactError, match=r"no artifact\.json"):
        load({"model.json": files["model.json"]})


def test_a_record_of_another_format_is_refused() -> None:
    files = saved()
    later = json.loads(files[RECORD_FILE]) | {"format": 2}
    with pytest.raises(ArtifactError, match="format 2, wanted 1"):
        load({**files, RECORD_FILE: json.dumps(later).encode()})


def test_an_artifact_of_other_library_versions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files = saved()
    monkeypatch.setattr(registry, "version", lambda name: "99.0")
    with pytest.raises(ArtifactError, match=r"library versions .*wanted \{'numpy': '99\.0'\}"):
        load(files)
