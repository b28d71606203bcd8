"""Each mistake that a person can make in the catalogue stops the definitions from loading, and says what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from views_dagster.components.blocks import CatalogueError
from views_dagster.components.loading import check_catalogue
from views_dagster.definitions import PROJECT_ROOT
from views_dagster.features.registry import TRANSFORMS
from views_dagster_tests.catalogues import ENSEMBLE, MODEL, Catalogue, catalogue

__all__ = ["catalogue"]

MODELS, ENSEMBLES, FEATURES, SOURCES = (f"conflict/{room}" for room in ("models", "ensembles", "features", "sources"))
ALIEN, HORSE, SMALL, VDEM = (
    f"{MODELS}/purple_alien",
    f"{ENSEMBLES}/green_horse",
    f"{FEATURES}/cm_small",
    f"{SOURCES}/vdem",
)

MISTAKES = {
    # what: (entry, what is replaced, by what, line, all that the message must hold)
    "misspelt attribute": (ALIEN, "  draws:", "  drows:", 16, ["drows", "did you mean draws?", "maturity"]),
    "missing attribute": (ALIEN, "  target: sb_best\n", "", 2, ["target", "missing", "one of the queryset's targets"]),
    "wrong type": (ALIEN, "draws: 16", "draws: many", 16, ["draws", "valid integer", "'many'", "Number of draws"]),
    "a number as text": (ALIEN, "draws: 16", "draws: '16'", 16, ["draws", "valid integer", "'16'"]),
    "a truth as a number": (ALIEN, "draws: 16", "draws: yes", 16, ["draws", "valid integer", "True"]),
    "out of range": (ALIEN, "draws: 16", "draws: 0", 16, ["draws", "greater than or equal to 1", "0"]),
    "a whole number without bound": (
        ALIEN,
        "n_estimators: 10",
        "n_estimators: 99999999999999999999",
        10,
        ["learner.classifier.lightgbm.n_estimators", "at most 2147483647", "not 99999999999999999999"],
    ),
    "too many trees": (
        ALIEN,
        "n_estimators: 10",
        "n_estimators: 2000000000",
        10,
        ["less than or equal to 100000", "not 2000000000", "number of trees"],
    ),
    "an infinite number": (ALIEN, "alpha: 1.0", "alpha: .inf", 14, ["sklearn.alpha: should be a finite number"]),
    "no number at all": (SMALL, "0.4", ".nan", 14, ["drift.ks_distance_warning", "finite number, not nan"]),
    "too many GPUs": (
        ALIEN,
        "draws: 16",
        "compute: {gpu: 65}",
        16,
        ["compute.gpu", "less than or equal to 64", "Number of GPUs"],
    ),
    "unknown maturity": (ALIEN, "deployed", "deploy", 17, ["'candidate', 'deployed' or 'retired'", "'deploy'"]),
    "unknown learner": (
        ALIEN,
        "hurdle",
        "hurdel",
        9,
        ["learner.kind", "did you mean hurdle?", "conflictology", "zero"],
    ),
    "learner without kind": (
        ALIEN,
        "    kind: hurdle\n",
        "",
        8,
        ["learner", "kind is missing", "hurdle", "step_shift"],
    ),
    "unknown library": (ALIEN, "lightgbm", "lightgmb", 10, ["learner.classifier", "lightgbm", "sklearn"]),
    "misspelt hyperparameter": (
        ALIEN,
        "n_estimators",
        "n_estimater",
        10,
        ["learner.classifier.lightgbm.n_estimater", "did you mean n_estimators?", "learning_rate"],
    ),
    "misspelt hyperparameter of scikit-learn": (
        ALIEN,
        "alpha",
        "alfa",
        14,
        ["learner.regressor.sklearn.alfa", "did you mean alpha?", "There are: alpha, estimator"],
    ),
    "unknown estimator": (ALIEN, "Ridge", "Rigde", 13, ["sklearn.estimator", "did you mean Ridge?", "ElasticNet"]),
    "unknown choice in a learner": (
        ALIEN,
        "residuals",
        "residual",
        15,
        ["draws_from.kind", "mean residuals?", "quantiles"],
    ),
    "settings that do not fit together": (
        ALIEN,
        "    kind: hurdle\n",
        "    kind: hurdle\n    anchor: 12\n    transform: identity\n",
        8,
        ["learner", "anchor", "log1p"],
    ),
    "unknown queryset": (
        ALIEN,
        "cm_small",
        "cm_smal",
        3,
        ["features", "no queryset cm_smal", "did you mean cm_small?"],
    ),
    "unknown target": (ALIEN, "target: sb_best", "target: sb_bst", 4, ["no target sb_bst", "mean sb_best?", "ns_best"]),
    "unknown column": (ALIEN, "- ln_ns", "- ln_sn", 7, ["no column ln_sn", "did you mean", "There are: ln_ns, ln_sb"]),
    "column named twice": (ALIEN, "- ln_ns", "- ln_sb", 7, ["ln_sb is named twice"]),
    "unknown member": (HORSE, "quiet_echo", "quiet_eco", 5, ["no model quiet_eco", "did you mean quiet_echo?"]),
    "member named twice": (HORSE, "quiet_echo", "purple_alien", 5, ["purple_alien is named twice"]),
    "one member": (HORSE, "    - quiet_echo\n", "", 3, ["members", "at least 2"]),
    "unknown method": (HORSE, "mixture", "mixtur", 6, ["method.kind", "did you mean mixture?", "trained_weights"]),
    "weights of others": (
        HORSE,
        "kind: mixture",
        "kind: mixture, weights: {purple_alien: 1.0}",
        6,
        ["method.weights", "the members are purple_alien, quiet_echo"],
    ),
    "unknown transform": (
        SMALL,
        "tlag(1)",
        "tlagg(1)",
        13,
        ["transforms.1", "did you mean tlag?", *sorted(TRANSFORMS)],
    ),
    "too many arguments": (SMALL, "tlag(1)", "tlag(1, 2)", 13, ["does not take 2 arguments", "write tlag(k)"]),
    "too few arguments": (SMALL, "tlag(1)", "tlag", 13, ["does not take 0 arguments", "write tlag(k)"]),
    "argument out of range": (SMALL, "tlag(1)", "tlag(0)", 13, ["k is 0", "write tlag(k), k a whole number of months"]),
    "no transform at all": (SMALL, "tlag(1)", "tlag 1", 13, ["'tlag 1' is not a transform", "name(argument, ...)"]),
    "unknown source": (
        SMALL,
        "from: ucdp_ged.ns_best\n",
        "from: ucdp_gde.x\n",
        10,
        ["mean ucdp_ged?", "countries, ucdp_ged"],
    ),
    "unknown source column": (
        SMALL,
        "from: ucdp_ged.ns_best\n",
        "from: ucdp_ged.ns_bset\n",
        10,
        ["no column ns_bset", "did you mean ns_best?", "os_best"],
    ),
    "no source column": (SMALL, "from: ucdp_ged.ns_best\n", "from: ns_best\n", 10, ["'ns_best'", "<source>.<column>"]),
    "unknown level": (SMALL, "level: cm", "level: pgn", 5, ["at level cm and pgm, not pgn"]),
    "misspelt threshold": (SMALL, "distance_warning", "distance_waring", 14, ["did you mean ks_distance_warning?"]),
    "unknown reader": (
        VDEM,
        "demo_covariates",
        "demo_covariate",
        3,
        ["reader.kind", "mean demo_covariates?", "ucdp_files"],
    ),
    "misspelt reader setting": (VDEM, "seed", "sead", 3, ["reader.sead", "did you mean seed?", "publication_lag"]),
    "a tab": (ALIEN, "  features", "\tfeatures", 3, ["not YAML", "never tabs"]),
    "bad indent": (ALIEN, "  target", "   target", 4, ["not YAML"]),
    "a brace too few": (ALIEN, "10}}", "10}", 11, ["not YAML", "'}'"]),
    "a key twice": (ALIEN, "  draws: 16", "  target: sb_best", 16, ["target is written twice", "line 4"]),
    "a nested key twice": (ALIEN, "n_estimators: 10", "max_bin: 7, max_bin: 9", 10, ["max_bin is written twice"]),
    "misspelt attributes": (ALIEN, "attributes:", "atributes:", 2, ["atributes", "did you mean attributes?"]),
    "unknown type": (
        ALIEN,
        "ForecastModel",
        "ForcastModel",
        1,
        ["type", "or views_dagster.components.ForecastModel, not", "Forcast"],
    ),
    "type of another room": (
        ALIEN,
        "ForecastModel",
        "Source",
        1,
        ["entries in models are of type", "components.Source'"],
    ),
}


@pytest.mark.parametrize(("entry", "old", "new", "line", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_names_its_line_and_what_is_allowed(
    catalogue: Catalogue, entry: str, old: str, new: str, line: int, expected: list[str]
) -> None:
    if old == "from: ucdp_ged.ns_best\n":
        catalogue.change(entry, f"      {old}", f"      {new}")
    else:
        catalogue.change(entry, old, new)
    with pytest.raises(CatalogueError) as raised:
        catalogue.load()
    at = f"{catalogue.folder.name}/{entry}/defs.yaml:{line}: "
    said = [text for text in str(raised.value).splitlines() if text.startswith(at)]
    assert said, f"no line starts with {at}: {raised.value}"
    assert all(word in said[0] for word in expected), said[0]
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_sound_catalogue_loads(catalogue: Catalogue) -> None:
    assert catalogue.assets() == {
        *("raw/countries", "raw/ucdp_ged", "raw/vdem", "features/cm_small"),
        *("artifacts/purple_alien", "artifacts/quiet_echo", "forecasts/purple_alien", "forecasts/quiet_echo"),
        "ensembles/green_horse",
    }


def test_all_mistakes_in_files_are_named_at_once(catalogue: Catalogue) -> None:
    catalogue.change(ALIEN, "target:", "taget:")
    catalogue.change(SMALL, "tlag(1)", "tlagg(1)")
    catalogue.change(VDEM, "seed", "sead")
    with pytest.raises(CatalogueError) as raised:
        catalogue.load()
    first, *others = str(raised.value).splitlines()
    assert first == "4 problems in the catalogue"
    assert [text.split("/")[2] for text in others] == ["features", "models", "models", "sources"]


def test_members_with_different_targets(catalogue: Catalogue) -> None:
    catalogue.change(f"{MODELS}/quiet_echo", "sb_best", "ns_best")
    with pytest.raises(CatalogueError) as raised:
        catalogue.load()
    assert str(raised.value) == (
        f"{catalogue.folder.name}/{HORSE}/defs.yaml:3: members: they forecast different things: "
        "purple_alien sb_best at level cm, quiet_echo ns_best at level cm"
    )


def test_a_retired_member(catalogue: Catalogue) -> None:
    catalogue.change(ALIEN, "deployed", "retired")
    with pytest.raises(CatalogueError, match=r"defs.yaml:4: members: purple_alien is retired; take it out"):
        catalogue.load()


@pytest.mark.parametrize(
    ("entry", "text", "where"),
    [
        ("conflict/ensembles/purple_alien", ENSEMBLE, "conflict/models/purple_alien/defs.yaml:1"),
        ("other/models/purple_alien", MODEL, "other/models/purple_alien/defs.yaml:1"),
        ("conflict/models/cm_small", MODEL, "conflict/models/cm_small/defs.yaml:1"),
    ],
)
def test_a_name_is_used_once(catalogue: Catalogue, entry: str, text: str, where: str) -> None:
    catalogue.write(entry, text)
    with pytest.raises(CatalogueError, match=f"{where}: .*has this name already; .*rename one"):
        catalogue.load()


@pytest.mark.parametrize("name", ["alien", "Purple_Alien", "purple_alien_two", "purple-alien", "purple_alien2"])
@pytest.mark.parametrize("room", ["models", "ensembles"])
def test_models_and_ensembles_are_named_adjective_noun(catalogue: Catalogue, room: str, name: str) -> None:
    catalogue.write(f"conflict/{room}/{name}", MODEL if room == "models" else ENSEMBLE)
    with pytest.raises(CatalogueError, match=f"{room}/{name}/defs.yaml:1: '{name}' is not adjective_noun"):
        catalogue.load()


@pytest.mark.parametrize("name", ["Countries", "a__b", "2_tables", "my-table"])
def test_other_entries_are_named_in_lower_case(catalogue: Catalogue, name: str) -> None:
    catalogue.write(f"conflict/sources/{name}", "type: views_dagster.components.Source\n")
    with pytest.raises(CatalogueError, match=f"'{name}' is not a name: use lower-case letters"):
        catalogue.load()


def test_a_folder_without_an_entry(catalogue: Catalogue) -> None:
    (catalogue.folder / "conflict/models/lone_wolf").mkdir()
    (catalogue.folder / "conflict/models/__pycache__").mkdir()
    with pytest.raises(CatalogueError) as raised:
        catalogue.load()
    where = f"{catalogue.folder.name}/conflict/models/lone_wolf"
    assert str(raised.value) == f"{where}: this folder has no defs.yaml; write one, or remove the folder"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("conflict/model/lone_wolf/defs.yaml", "there is no room model; did you mean models"),
        ("models/lone_wolf/defs.yaml", "an entry is a file .*<system>/<room>/<name>/defs.yaml; move or remove"),
        ("conflict/models/lone_wolf/deep/defs.yaml", "an entry is a file .*<system>/<room>/<name>/defs.yaml"),
        ("conflict/models/lone_wolf/defs.yml", "an entry's file is called defs.yaml; rename"),
    ],
)
def test_an_entry_in_the_wrong_place(catalogue: Catalogue, file: str, message: str) -> None:
    (catalogue.folder / file).parent.mkdir(parents=True)
    (catalogue.folder / file).write_text(MODEL)
    with pytest.raises(CatalogueError, match=f"{catalogue.folder.name}/{file}:1: {message}"):
        catalogue.load()


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[]\n"])
def test_an_empty_file(catalogue: Catalogue, text: str) -> None:
    catalogue.write(ALIEN, text)
    with pytest.raises(CatalogueError, match=r"purple_alien/defs.yaml:1: write a mapping with type and attributes"):
        catalogue.load()


def test_a_file_without_attributes(catalogue: Catalogue) -> None:
    catalogue.write(ALIEN, "type: views_dagster.components.ForecastModel\n")
    with pytest.raises(CatalogueError, match="attributes: write the entry's settings here"):
        catalogue.load()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ucdp_gde: {kind: demo_events}", ":1: ucdp_gde: there is no source ucdp_gde; did you mean ucdp_ged?"),
        ("\nucdp_ged: {kind: demo_evets}", ":2: ucdp_ged.kind: there is no kind demo_evets; did you mean demo_events?"),
        (
            "ucdp_ged:\n  kind: ucdp_files\n  anual: x",
            ":3: ucdp_ged.anual: there is no setting anual; did you mean annual?",
        ),
        ("ucdp_ged: [a", ":2: this is not YAML"),
        ("vdem: {kind: demo_events}\nvdem: {kind: demo_events}", ":2: vdem is written twice, first in line 1"),
        ("- vdem", ":1: the block: should be an object"),
    ],
)
def test_a_mistake_in_the_deployments_sources(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    file = tmp_path / "sources.yaml"
    file.write_text(text)
    monkeypatch.setenv("VIEWS_SOURCES", str(file))
    with pytest.raises(CatalogueError) as raised:
        catalogue.load()
    assert f"{file} (VIEWS_SOURCES){expected}" in str(raised.value)


def test_the_deployments_sources_are_missing(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIEWS_SOURCES", str(tmp_path / "nowhere.yaml"))
    with pytest.raises(CatalogueError, match=r"VIEWS_SOURCES names .*nowhere.yaml, which is not a file"):
        catalogue.load()


def test_sound_sources_of_a_deployment_load(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sources.yaml").write_text("ucdp_ged: {kind: demo_events, seed: 2}\n")
    monkeypatch.setenv("VIEWS_SOURCES", str(tmp_path / "sources.yaml"))
    raw = {spec.key.to_user_string(): spec for spec in catalogue.load().resolve_all_asset_specs()}["raw/ucdp_ged"]
    assert raw.metadata["reader"]["seed"] == 2


def test_the_projects_own_catalogue_has_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIEWS_SOURCES", raising=False)
    check_catalogue(PROJECT_ROOT / "assets")


@pytest.mark.slow
def test_dg_check_yaml_names_the_line_and_what_is_allowed(catalogue: Catalogue) -> None:
    catalogue.change(ALIEN, "n_estimators", "n_estimater")
    catalogue.change(SMALL, "tlag(1)", "tlagg(1)")
    catalogue.change(HORSE, "mixture", "mixtur")
    catalogue.change(ALIEN, "alpha: 1.0", "alpha: .inf")
    catalogue.change(VDEM, "seed: 1", "seed: 99999999999999999999")
    done = subprocess.run(
        [
            Path(sys.executable).with_name("dg"),
            "check",
            "yaml",
            *(catalogue.folder / entry for entry in (ALIEN, SMALL, HORSE, VDEM)),
        ],
        cwd=catalogue.project,
        env={
            **os.environ,
            "PYTHONPATH": f"{catalogue.project}{os.pathsep}{PROJECT_ROOT}",
            "DAGSTER_DISABLE_TELEMETRY": "yes",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if line.startswith(str(catalogue.folder))]

    def said(entry: str, line: int, *words: str) -> bool:
        start = f"{catalogue.folder}/{entry}/defs.yaml:{line} "
        return any(text.startswith(start) and all(word in text for word in words) for text in lines)

    assert said(ALIEN, 10, "learner.classifier.lightgbm.n_estimater", "'n_estimater' was unexpected")
    assert said(ALIEN, 10, "learner.classifier.lightgbm", "'n_estimater' is not one of", "'n_estimators'")
    assert said(ALIEN, 14, "sklearn.alpha", "inf is greater than the maximum")
    assert said(VDEM, 3, "reader.seed", "99999999999999999999 is greater than the maximum of 2147483647")
    assert said(SMALL, 13, "tlagg(1)", "|tlag")
    assert said(HORSE, 6, "'mixtur' is not one of ['mixture', 'trained_weights', 'vincentization']")
