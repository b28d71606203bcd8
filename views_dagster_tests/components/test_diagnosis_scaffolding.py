"""`dg scaffold defs` of what learns from columns: new entries load at once, and what would not is refused."""

import json
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml
from dagster.components.component_scaffolding import scaffold_object

from views_dagster.components.blocks import CHOICES, resolved
from views_dagster.components.loading import rooms
from views_dagster_tests.homes import open_home, table_names, write_catalogue
from views_dagster_tests.skies import SKY

KINDS = {kind.__name__: kind for kinds in rooms().values() for kind in kinds.values()}
SCHEMA = KINDS["DiagnosisModel"].attributes_type.model_json_schema()
LEARNERS = sorted(resolved(SCHEMA["properties"]["learner"], SCHEMA)[CHOICES])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small catalogue of the invented atmosphere, to which a test adds."""
    made = write_catalogue(tmp_path, SKY)
    monkeypatch.delenv("VIEWS_SOURCES", raising=False)
    return made


def scaffold(project: Path, component: str, entry: str, **parameters: Any) -> Path:
    """What `dg scaffold defs` does, in this process."""
    folder = project / project.name / entry
    scaffold_object(
        path=folder,
        typename=f"views_dagster.components.{component}",
        json_params=json.dumps(parameters),
        scaffold_format="yaml",
        project_root=project,
    )
    return folder


def attributes(folder: Path) -> dict[str, Any]:
    """The settings in an entry's file."""
    found: dict[str, Any] = yaml.safe_load((folder / "defs.yaml").read_text())["attributes"]
    return found


def tables(project: Path) -> list[str]:
    """Keys of the assets that the catalogue has now."""
    return table_names(open_home(project.parent, project).defs)


@pytest.mark.parametrize("reader", ["column_files", "rain_files", "member_files"])
def test_a_source_of_weather_files_loads_at_once(project: Path, reader: str) -> None:
    folder = scaffold(project, "Source", "precipitation/sources/my_weather", reader=reader)
    made = attributes(folder)
    assert made["reader"]["kind"] == reader
    jsonschema.validate(made, KINDS["Source"].attributes_type.model_json_schema())
    assert "raw/my_weather" in tables(project)


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_model_of_any_learner_loads_at_once(project: Path, learner: str) -> None:
    folder = scaffold(project, "DiagnosisModel", "precipitation/models/blue_moon", learner=learner)
    made = attributes(folder)
    assert (made["features"], made["maturity"]) == ("storm_columns", "candidate")
    assert made["learner"]["kind"] == learner
    assert {"artifacts/blue_moon", "forecasts/blue_moon", "evaluations/blue_moon"} <= set(tables(project))


@pytest.mark.parametrize("method", ["linear_pool", "trained_pool", "median_pool"])
def test_an_ensemble_of_two_models_loads_at_once(project: Path, method: str) -> None:
    made = attributes(scaffold(project, "DiagnosisEnsemble", "precipitation/ensembles/red_fox", method=method))
    assert made["members"] == ["deep_column", "level_line"]
    assert made["method"] == {"kind": method}
    assert "ensembles/red_fox" in tables(project)


def test_a_column_set_like_another_loads_at_once(project: Path) -> None:
    made = attributes(scaffold(project, "ColumnSet", "precipitation/features/dry_columns", like="storm_columns"))
    like = attributes(project / project.name / "precipitation/features/storm_columns")
    assert {key: made[key] for key in like} == like
    assert "features/dry_columns" in tables(project)


def test_a_column_set_takes_over_the_bands_of_another(project: Path) -> None:
    """Its rain source has those bands and no others."""
    file = project / project.name / "precipitation/features/storm_columns/defs.yaml"
    document = yaml.safe_load(file.read_text())
    document["attributes"]["edges"] = [0.01, 0.5, 4.0, 10.0]
    file.write_text(yaml.safe_dump(document))
    made = attributes(scaffold(project, "ColumnSet", "precipitation/features/dry_columns"))
    assert made["edges"] == [0.01, 0.5, 4.0, 10.0]


@pytest.mark.parametrize(
    ("component", "room", "parts"),
    [
        ("DiagnosisModel", "models", ["## Features", "## Learner"]),
        ("DiagnosisEnsemble", "ensembles", ["## Members", "## Method"]),
    ],
)
def test_models_and_ensembles_get_a_readme(project: Path, component: str, room: str, parts: list[str]) -> None:
    text = (scaffold(project, component, f"precipitation/{room}/blue_moon") / "README.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == ["# blue_moon", "## Why", *parts, "## How it did"]


@pytest.mark.parametrize(
    ("component", "entry", "parameters", "message"),
    [
        ("DiagnosisModel", "precipitation/models/alien", {}, "'alien' is not adjective_noun"),
        ("DiagnosisModel", "precipitation/models/blue_moon", {"features": "storm_colums"}, "did you mean storm_column"),
        ("DiagnosisModel", "precipitation/models/blue_moon", {"learner": "logistik"}, "did you mean logistic"),
        ("DiagnosisModel", "new/models/blue_moon", {}, "the system has no column set yet"),
        ("DiagnosisEnsemble", "precipitation/ensembles/red_fox", {"members": ["level_lin"]}, "did you mean level_line"),
        ("DiagnosisEnsemble", "precipitation/ensembles/red_fox", {"members": ["level_line"]}, "needs two models"),
        ("DiagnosisEnsemble", "precipitation/ensembles/level_line", {}, "has this name already"),
        ("ColumnSet", "precipitation/features/dry_columns", {"like": "storm_colums"}, "did you mean storm_columns"),
        ("ColumnSet", "new/features/dry_columns", {}, "the system has no column set yet"),
    ],
)
def test_what_would_not_load_is_refused_and_leaves_nothing(
    project: Path, component: str, entry: str, parameters: dict[str, Any], message: str
) -> None:
    before = sorted(project.rglob("*"))
    with pytest.raises(click.ClickException) as raised:
        scaffold(project, component, entry, **parameters)
    assert message in raised.value.message
    assert sorted(project.rglob("*")) == before
