"""Proposals: a diff that `patch` applies, that changes the named values and nothing else, in any way YAML is written."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from views_dagster.errors import QuerysetError
from views_dagster.learners.registry import AnyLearner
from views_dagster.tuning.proposal import edited, propose
from views_dagster.tuning.space import StartingPoint
from views_dagster_tests.homes import ROOT

LEARNERS: TypeAdapter[Any] = TypeAdapter(AnyLearner)
FILE = "assets/conflict/models/purple_alien/defs.yaml"
TEXT = """\
# what comes first
type: views_dagster.components.ForecastModel
attributes:
  description: >-
    Trees: many of them.
  learner:  # the algorithm
    kind: step_shift
    anchor:
    transform: log1p   # the scale

    trained_steps:
      - 1
      - 2  # soon

    # trees
    regressor:
      lightgbm: {n_estimators: 60, "learning_rate": 0.08}  # few
    own_history:
      share: 0.5
      # a year
      months: 12

  # what comes last
  draws: 256
"""


def start_of(text: str) -> StartingPoint:
    return StartingPoint.of(LEARNERS.validate_python(yaml.safe_load(text)["attributes"]["learner"]))


def applied(text: str, values: dict[str, Any], tmp_path: Path) -> str:
    """The file after `patch -p1`."""
    file = tmp_path / FILE
    file.parent.mkdir(parents=True)
    file.write_text(text, newline="")
    diff = propose(text, values, start_of(text), file=FILE)
    subprocess.run(["patch", "-p1", "--binary"], cwd=tmp_path, input=diff.encode(), check=True, capture_output=True)
    return file.read_bytes().decode()


def test_the_diff_is_what_a_person_would_write() -> None:
    values: dict[str, Any] = {
        "anchor": 6,
        "transform": "log1p",
        "trained_steps": [1, 3],
        "regressor.lightgbm.learning_rate": 1e-05,
        "regressor.lightgbm.num_leaves": 8,
        "own_history.share": 0.25,
        "sampling.share": 0.5,
        "draws_from.holdout": 0.3,
    }
    lines = propose(TEXT, values, start_of(TEXT), file=FILE).splitlines()
    assert lines[:3] == [f"--- a/{FILE}", f"+++ b/{FILE}", "@@ -5,20 +5,20 @@"]
    assert [line for line in lines[3:] if line[0] in "+-"] == [
        "-    anchor:",
        "+    anchor: 6",
        "-    trained_steps:",
        "-      - 1",
        "-      - 2  # soon",
        "+    trained_steps: [1, 3]  # soon",
        '-      lightgbm: {n_estimators: 60, "learning_rate": 0.08}  # few',
        '+      lightgbm: {n_estimators: 60, "learning_rate": 1.0e-05, num_leaves: 8}  # few',
        "-      share: 0.5",
        "+      share: 0.25",
        "+    sampling: {share: 0.5}",
        "+    draws_from: {kind: residuals, holdout: 0.3}",
    ]


VALUES: list[dict[str, Any]] = [
    {"anchor": 6},
    {"transform": "identity"},
    {"trained_steps": None},
    {"trained_steps": [1, 2, 3], "own_history.months": 6},
    {"regressor.lightgbm.learning_rate": 0.1, "regressor.lightgbm.extra_trees": True},
    {"regressor": {"sklearn": {"estimator": "Ridge", "alpha": 2.0}}},
    {"own_history": None},
    {"draws_from.holdout": 0.3, "draws_from.neighbours": 100},
    {"draws_from": {"kind": "counts"}},
]


@pytest.mark.parametrize("values", VALUES, ids=str)
@pytest.mark.parametrize(
    "text",
    [TEXT, TEXT.rstrip("\n"), TEXT.replace("\n", "\r\n"), TEXT[: TEXT.index("\n\n  # what comes last")]],
    ids=["as it is", "no newline at the end", "Windows", "learner last"],
)
def test_the_patched_file_has_exactly_the_values(text: str, values: dict[str, Any], tmp_path: Path) -> None:
    patched = applied(text, values, tmp_path)
    before, after = yaml.safe_load(text), yaml.safe_load(patched)
    assert after["attributes"].pop("learner") == StartingPoint(
        before["attributes"]["learner"], start_of(text).complete
    ).changed(values)
    before["attributes"].pop("learner")
    assert after == before
    made = StartingPoint.of(LEARNERS.validate_python(yaml.safe_load(patched)["attributes"]["learner"]))
    for path, value in values.items():
        found = made.value(path)
        assert value.items() <= found.items() if isinstance(value, dict) and isinstance(found, dict) else found == value
    comments = re.findall("#.*", text)
    assert re.findall("#.*", patched) == [
        comment for comment in comments if not ("own_history" in values and comment.startswith("# a year"))
    ]


def test_present_values_are_no_change() -> None:
    values: dict[str, Any] = {"transform": "log1p", "trained_steps": [1, 2], "own_history.months": 12}
    assert propose(TEXT, values, start_of(TEXT), file=FILE) == ""


@pytest.mark.parametrize(
    "file", sorted((ROOT / "assets/conflict/models").glob("*/defs.yaml")), ids=lambda f: f.parent.name
)
def test_every_model_of_the_catalogue_can_be_edited(file: Path, tmp_path: Path) -> None:
    text = file.read_text()
    start = start_of(text)
    numbers = {
        path: value + 1
        for path in start.paths()
        if type(value := start.value(path)) is int and not path.endswith("depth")
    }
    patched = applied(text, {**numbers}, tmp_path)
    learner = yaml.safe_load(patched)["attributes"]["learner"]
    assert learner == StartingPoint(yaml.safe_load(text)["attributes"]["learner"], start.complete).changed(numbers)
    assert [line for line in patched.splitlines() if "#" in line] == [line for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("attributes: {learner: [1]}", r"attributes\.learner is \[1\], not a block"),
        ("attributes: {model: 1}", r"no attributes\.learner"),
        ("attributes:", r"no attributes\.learner"),
        ("a: 1\n---\nb: 2\n", "not one YAML document"),
        ("a: {", "not one YAML document"),
        ("attributes: {learner: {kind: zero, a: &one 1, b: *one}}", "repeats values by alias"),
    ],
)
def test_files_that_cannot_be_edited(text: str, said: str) -> None:
    with pytest.raises(QuerysetError, match=said):
        edited(text, {"a": 2}, StartingPoint({}, {}))


def test_what_would_not_read_back_is_refused() -> None:
    # A key without a colon has no place for a value.
    with pytest.raises(QuerysetError, match="written in a way that cannot be edited"):
        edited("attributes: {learner: {a, b: 1}}", {"a": 2}, StartingPoint({}, {}))


def test_a_value_that_is_the_default_is_not_written(tmp_path: Path) -> None:
    values = {"transform": "identity", "regressor.lightgbm.num_leaves": 31, "regressor.lightgbm.max_depth": 5}
    changed = yaml.safe_load(applied(TEXT, values, tmp_path))["attributes"]["learner"]
    assert changed["transform"] == "identity"
    assert changed["regressor"]["lightgbm"] == {"n_estimators": 60, "learning_rate": 0.08, "max_depth": 5}
    assert propose(TEXT, {"regressor.lightgbm.num_leaves": 31}, start_of(TEXT), file=FILE) == ""


def test_defaults_of_another_kind_of_block_are_written(tmp_path: Path) -> None:
    """The share that counts hold out is not for the residuals' default to say."""
    changed = applied(TEXT, {"draws_from.kind": "counts", "draws_from.holdout": 0.6}, tmp_path)
    assert yaml.safe_load(changed)["attributes"]["learner"]["draws_from"] == {"kind": "counts", "holdout": 0.6}
