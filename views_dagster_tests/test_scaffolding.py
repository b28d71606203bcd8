"""`dg scaffold defs` makes entries that load at once; every setting says what it means, there and in the docs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from dagster.components.component_scaffolding import scaffold_object

from views_dagster.components.blocks import CHOICES, resolved
from views_dagster.components.loading import rooms
from views_dagster.components.reference import learner_reference
from views_dagster.components.scaffolding import example, setting_lines
from views_dagster.definitions import PROJECT_ROOT
from views_dagster_tests.catalogues import Catalogue, catalogue

__all__ = ["catalogue"]

KINDS = {kind.__name__: kind for kinds in rooms().values() for kind in kinds.values()}
SCHEMAS = {name: kind.attributes_type.model_json_schema() for name, kind in KINDS.items()}
MODEL = SCHEMAS["ForecastModel"]
LEARNERS = sorted(resolved(MODEL["properties"]["learner"], MODEL)[CHOICES])


def scaffold(catalogue: Catalogue, component: str, entry: str, **parameters: Any) -> Path:
    """What `dg scaffold defs` does, in this process."""
    folder = catalogue.folder / entry
    scaffold_object(
        path=folder,
        typename=f"views_dagster.components.{component}",
        json_params=json.dumps(parameters),
        scaffold_format="yaml",
        project_root=catalogue.project,
    )
    return folder


def attributes(folder: Path) -> dict[str, Any]:
    """The settings in an entry's file."""
    found: dict[str, Any] = yaml.safe_load((folder / "defs.yaml").read_text())["attributes"]
    return found


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_model_of_any_learner_loads_at_once(catalogue: Catalogue, learner: str) -> None:
    folder = scaffold(catalogue, "ForecastModel", "conflict/models/blue_moon", learner=learner, target="ns_best")
    made = attributes(folder)
    assert (made["features"], made["target"], made["maturity"]) == ("cm_small", "ns_best", "candidate")
    assert made["learner"]["kind"] == learner
    assert {"artifacts/blue_moon", "forecasts/blue_moon"} <= catalogue.assets()


def test_a_model_takes_the_first_queryset_and_target(catalogue: Catalogue) -> None:
    made = attributes(scaffold(catalogue, "ForecastModel", "conflict/models/blue_moon"))
    assert (made["features"], made["target"]) == ("cm_small", "sb_best")
    assert made["learner"] == {"kind": "step_shift", "regressor": {"lightgbm": {}}}


@pytest.mark.parametrize("method", ["mixture", "vincentization", "trained_weights"])
def test_an_ensemble_of_two_models_of_a_target_loads_at_once(catalogue: Catalogue, method: str) -> None:
    made = attributes(scaffold(catalogue, "Ensemble", "conflict/ensembles/red_fox", method=method))
    assert made["members"] == ["purple_alien", "quiet_echo"]
    assert made["method"] == {"kind": method}
    assert "ensembles/red_fox" in catalogue.assets()


def test_an_ensemble_passes_over_a_model_of_another_level(catalogue: Catalogue) -> None:
    catalogue.write(
        "conflict/sources/prio_grid",
        "type: views_dagster.components.Source\nattributes: {reader: {kind: demo_cells}, level: pgm}\n",
    )
    queryset = (catalogue.folder / "conflict/features/cm_small/defs.yaml").read_text()
    catalogue.write("conflict/features/cells", queryset.replace("level: cm", "level: pgm\n  units: prio_grid"))
    scaffold(catalogue, "ForecastModel", "conflict/models/amber_field", features="cells", learner="conflictology")
    made = attributes(scaffold(catalogue, "Ensemble", "conflict/ensembles/red_fox"))
    assert made["members"] == ["purple_alien", "quiet_echo"]
    assert "ensembles/red_fox" in catalogue.assets()


def test_a_queryset_with_the_targets_of_another_loads_at_once(catalogue: Catalogue) -> None:
    made = attributes(scaffold(catalogue, "Queryset", "conflict/features/cm_mine", like="cm_small"))
    assert made["level"] == "cm"
    assert made["targets"] == attributes(catalogue.folder / "conflict/features/cm_small")["targets"]
    assert made["columns"]["ln_ns_best"] == {"from": "ucdp_ged.ns_best", "transforms": ["replace_na(0)", "ln"]}
    assert "features/cm_mine" in catalogue.assets()


def test_a_forecast_from_elsewhere_loads_at_once(catalogue: Catalogue) -> None:
    made = attributes(scaffold(catalogue, "ExternalForecast", "conflict/models/far_shore", target="ns_best"))
    assert made["path"] == "data/forecasts/far_shore/{month}.parquet"
    assert (made["features"], made["target"], made["maturity"]) == ("cm_small", "ns_best", "candidate")
    assert "forecasts/far_shore" in catalogue.assets()
    assert "artifacts/far_shore" not in catalogue.assets()


def test_a_reconciliation_of_cells_loads_at_once(catalogue: Catalogue) -> None:
    catalogue.write(
        "conflict/sources/prio_grid",
        "type: views_dagster.components.Source\nattributes: {reader: {kind: demo_cells}, level: pgm}\n",
    )
    queryset = (catalogue.folder / "conflict/features/cm_small/defs.yaml").read_text()
    catalogue.write("conflict/features/cells", queryset.replace("level: cm", "level: pgm\n  units: prio_grid"))
    scaffold(catalogue, "ForecastModel", "conflict/models/stony_field", features="cells", learner="conflictology")
    folder = scaffold(
        catalogue, "Reconciliation", "conflict/ensembles/blue_river", cells="stony_field", parents="green_horse"
    )
    made = attributes(folder)
    assert (made["cells"], made["parents"], made["draws"]) == ("stony_field", "green_horse", 256)
    assert "ensembles/blue_river" in catalogue.assets()


@pytest.mark.parametrize("reader", ["month_table", "year_table"])
def test_a_source_that_reads_a_table_loads_at_once(catalogue: Catalogue, reader: str) -> None:
    made = attributes(scaffold(catalogue, "Source", "conflict/sources/my_table", reader=reader, path="x/y.parquet"))
    assert made["reader"]["kind"] == reader
    assert made["reader"]["path"] == "x/y.parquet"
    assert "raw/my_table" in catalogue.assets()


@pytest.mark.parametrize(("component", "room"), [("ForecastModel", "models"), ("Ensemble", "ensembles")])
def test_models_and_ensembles_get_a_readme(catalogue: Catalogue, component: str, room: str) -> None:
    text = (scaffold(catalogue, component, f"conflict/{room}/blue_moon") / "README.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    parts = {"models": ["## Features", "## Learner"], "ensembles": ["## Members", "## Method"]}[room]
    assert headings == ["# blue_moon", "## Why", *parts, "## How it did"]


def test_every_setting_left_out_is_there_as_a_comment_with_its_default(catalogue: Catalogue) -> None:
    """Uncommenting them all gives a file that loads: the comments are YAML of the right form and place."""
    file = scaffold(catalogue, "ForecastModel", "conflict/models/blue_moon") / "defs.yaml"
    text = file.read_text()
    for setting in ("draws: 256", "maturity", "columns: null", "validity: {}", "sampling", "compute: {}"):
        assert setting in text
    lines = text.splitlines()
    known = {name for schema in _models(MODEL) for name in schema["properties"]}
    uncommented = [
        line.replace("# ", "", 1)
        if line.strip().startswith("# ") and line.strip()[2:].partition(":")[0] in known
        else line
        for line in lines
    ]
    file.write_text("\n".join(uncommented))
    assert set(attributes(file.parent)) == set(MODEL["properties"])
    assert "forecasts/blue_moon" in catalogue.assets()


@pytest.mark.parametrize(
    ("component", "entry", "parameters", "message"),
    [
        ("ForecastModel", "conflict/models/alien", {}, "'alien' is not adjective_noun"),
        ("Ensemble", "conflict/ensembles/Red_Fox", {}, "'Red_Fox' is not adjective_noun"),
        ("Source", "conflict/sources/My", {}, "'My' is not a name"),
        ("ForecastModel", "models/blue_moon", {}, "name the entry <system>/models/<name>"),
        ("ForecastModel", "conflict/ensembles/blue_moon", {}, "name the entry <system>/models/<name>"),
        ("Ensemble", "conflict/ensembles/quiet_echo", {}, "conflict/models/quiet_echo has this name already"),
        ("ForecastModel", "conflict/models/blue_moon", {"features": "cm_smal"}, "did you mean cm_small"),
        ("ForecastModel", "conflict/models/blue_moon", {"target": "sb_bst"}, "no target sb_bst; did you mean sb_best"),
        ("ForecastModel", "conflict/models/blue_moon", {"learner": "hurdel"}, "did you mean hurdle"),
        ("ForecastModel", "new/models/blue_moon", {}, "the system has no queryset yet"),
        ("Ensemble", "conflict/ensembles/red_fox", {"members": ["quiet_eco"]}, "did you mean quiet_echo"),
        ("Ensemble", "conflict/ensembles/red_fox", {"members": ["quiet_echo"]}, "needs two models"),
        ("Queryset", "conflict/features/cm_mine", {"like": "cm_smal"}, "did you mean cm_small"),
    ],
)
def test_what_would_not_load_is_refused_and_leaves_nothing(
    catalogue: Catalogue, component: str, entry: str, parameters: dict[str, Any], message: str
) -> None:
    before = sorted(catalogue.folder.rglob("*"))
    with pytest.raises(click.ClickException) as raised:
        scaffold(catalogue, component, entry, **parameters)
    assert message in raised.value.message
    assert sorted(catalogue.folder.rglob("*")) == before


def test_examples_fill_in_what_is_needed() -> None:
    block = {
        "type": "object",
        "properties": {"b": {"type": "integer", "minimum": 3}, "c": {"enum": ["x", "y"]}, "d": {"type": "number"}},
        "required": ["b", "c"],
    }
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/B"}}, "required": ["a"], "$defs": {"B": block}}
    assert example(schema, schema) == {"a": {"b": 3, "c": "x"}}


def test_settings_are_written_before_comments() -> None:
    schema = {
        "properties": {
            "first": {"type": "integer", "default": 1, "description": "What it means."},
            "second": {"type": "integer", "description": "Needed."},
        },
        "required": ["second"],
    }
    assert list(setting_lines(schema, schema, {"second": 7})) == ["  second: 7", "  # What it means.", "  # first: 1"]


def _models(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schema and all that it refers to, where they have properties."""
    yield from (part for part in (schema, *schema.get("$defs", {}).values()) if "properties" in part)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_setting_of_every_block_has_a_description(kind: str) -> None:
    without = [
        f"{block['title']}.{name}"
        for block in _models(SCHEMAS[kind])
        for name, field in block["properties"].items()
        if not field.get("description") and "const" not in field
    ]
    assert without == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_and_block_says_what_it_is(kind: str) -> None:
    assert KINDS[kind].get_description()


@pytest.mark.parametrize(
    ("file", "component"), [("models.md", "ForecastModel"), ("precipitation.md", "DiagnosisModel")]
)
def test_the_table_of_learners_in_the_docs_is_in_step_with_the_schemas(file: str, component: str) -> None:
    text = (PROJECT_ROOT / "docs" / file).read_text()
    command = f"python -m views_dagster.components.reference {component}"
    assert learner_reference(component) in text, f"paste what `{command}` prints"


@pytest.mark.slow
def test_dg_scaffolds_checks_and_lists(catalogue: Catalogue) -> None:
    def dg(*words: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("dg"), *words],
            cwd=catalogue.project,
            env={**os.environ, "PYTHONPATH": str(catalogue.project), "DAGSTER_DISABLE_TELEMETRY": "yes"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    kind = "views_dagster.components"
    dg("scaffold", "defs", f"{kind}.ForecastModel", "conflict/models/blue_moon", "--learner", "hurdle")
    dg(
        "scaffold",
        "defs",
        f"{kind}.Ensemble",
        "conflict/ensembles/red_fox",
        "--members",
        "blue_moon",
        "--members",
        "quiet_echo",
    )
    checked = dg(
        "check",
        "yaml",
        *(str(catalogue.folder / entry) for entry in ("conflict/models/blue_moon", "conflict/ensembles/red_fox")),
    )
    assert "validated successfully" in checked
    assert {"forecasts/blue_moon", "ensembles/red_fox"} <= catalogue.assets()
    listed = {entry["key"]: entry["summary"] for entry in json.loads(dg("list", "components", "--json"))["items"]}
    ours = {key.rpartition(".")[2]: summary for key, summary in listed.items() if key.startswith(kind)}
    assert set(ours) == set(KINDS)
    assert all(ours.values())
