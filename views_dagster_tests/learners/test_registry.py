import json
from collections.abc import Sequence

import pytest
from pydantic import TypeAdapter, ValidationError

from views_dagster.errors import ArtifactError
from views_dagster.learners import registry
from views_dagster.learners.base import FittedModel, Learner
from views_dagster.learners.baselines import Average, Zero
from views_dagster.learners.registry import RECORD_FILE, AnyLearner, load_artifact, read_record, save_artifact
from views_dagster_tests.learners.panels import FIRST_MONTH, world

PANEL = world(months=10)


def saved(seed: int = 4) -> dict[str, bytes]:
    learner = Average(window=6)
    fitted = learner.fit(PANEL, steps=[1, 2], seed=seed)
    return save_artifact(learner, fitted, panel=PANEL, steps=[1, 2], seed=seed, inputs={"b": "2", "a": "1"})


def load(
    files: dict[str, bytes],
    *,
    learner: Learner | None = None,
    feature_names: Sequence[str] = ("x0", "x1", "x2"),
    target: str = "y",
    origin: int = PANEL.origin,
) -> FittedModel:
    return load_artifact(
        files, learner=learner or Average(window=6), feature_names=feature_names, target=target, origin=origin
    )


def test_a_learner_is_picked_by_its_kind() -> None:
    assert TypeAdapter(AnyLearner).validate_python({"kind": "average", "window": 3}) == Average(window=3)
    with pytest.raises(ValidationError, match="kind"):
        TypeAdapter(AnyLearner).validate_python({"kind": "mean"})


def test_the_record_says_what_was_trained() -> None:
    record = read_record(saved())
    assert record.learner == {"kind": "average", "window": 6}
    assert record.feature_names == ("x0", "x1", "x2")
    assert (record.target, record.seed, record.steps) == ("y", 4, (1, 2))
    assert (record.first_month, record.origin) == (FIRST_MONTH, FIRST_MONTH + 9)
    assert record.inputs == {"a": "1", "b": "2"}
    assert set(record.libraries) > {"python", "numpy", "lightgbm"}
    assert set(record.files) == {"model.json"}


def test_equal_training_gives_equal_bytes() -> None:
    assert saved() == saved()


def test_an_artifact_that_fits_is_loaded() -> None:
    assert load(saved()).predict(PANEL, draws=2, seed=0).origin == PANEL.origin


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"learner": Average(window=7)}, r"learner settings \{'window': 6\}, wanted \{'window': 7\}"),
        ({"learner": Zero()}, "'kind': 'average'"),
        ({"feature_names": ("x0", "x1")}, "features"),
        ({"feature_names": ("x1", "x0", "x2")}, "features"),
        ({"target": "z"}, "target y, wanted z"),
        ({"origin": PANEL.origin + 1}, "last month 1990-10, wanted 1990-11"),
    ],
)
def test_an_artifact_of_something_else_is_refused(wanted: dict[str, object], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        load(saved(), **wanted)  # type: ignore[arg-type]  # a table of different arguments


def test_changed_missing_and_added_files_are_refused() -> None:
    files = saved()
    with pytest.raises(ArtifactError, match=r"model\.json changed since training"):
        load({**files, "model.json": files["model.json"] + b" "})
    with pytest.raises(ArtifactError, match=r"lists \['model\.json'\]"):
        load({RECORD_FILE: files[RECORD_FILE]})
    with pytest.raises(ArtifactError, match="extra"):
        load({**files, "extra": b""})
    with pytest.raises(ArtifactError, match=r"no artifact\.json"):
        load({"model.json": files["model.json"]})


def test_a_record_that_is_not_one_is_refused() -> None:
    files = saved()
    with pytest.raises(ArtifactError, match="cannot be read"):
        load({**files, RECORD_FILE: b"not json"})
    later = json.loads(files[RECORD_FILE]) | {"format": 2}
    with pytest.raises(ArtifactError, match="format 2, wanted 1"):
        load({**files, RECORD_FILE: json.dumps(later).encode()})


def test_an_artifact_of_other_library_versions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files = saved()
    monkeypatch.setattr(registry, "version", lambda name: "99.0")
    with pytest.raises(ArtifactError, match=r"library versions .*wanted \{.*'numpy': '99\.0'"):
        load(files)
