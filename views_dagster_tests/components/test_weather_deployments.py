"""A deployment's own weather: the column sets and models of docs/examples take the place of the invented atmosphere's."""

import shutil
from pathlib import Path

import pytest

from views_dagster.components.blocks import CatalogueError
from views_dagster_tests.catalogues import Catalogue, catalogue

__all__ = ["catalogue"]

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLES = PROJECT / "docs" / "examples"
DEMO = {"features/storm_columns", "forecasts/deep_column", "evaluations/deep_column"}
METEONET = {"features/meteonet_columns", "artifacts/northern_slope", "evaluations/southern_slope"}


@pytest.fixture
def rainy(catalogue: Catalogue) -> Catalogue:
    """A catalogue with the invented atmosphere, a column set and a model of it."""
    for entry in ("sources/atmosphere", "sources/rain", "sources/nwp", "features/storm_columns", "models/deep_column"):
        shutil.copytree(PROJECT / "assets" / "precipitation" / entry, catalogue.folder / "precipitation" / entry)
    return catalogue


def add(catalogue: Catalogue, example: str) -> None:
    shutil.copytree(EXAMPLES / example, catalogue.folder / "precipitation", dirs_exist_ok=True)


def test_what_fits_the_deployments_sources_is_there_and_the_demo_s_is_not(
    rainy: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert rainy.assets() >= DEMO
    monkeypatch.setenv("VIEWS_SOURCES", str(EXAMPLES / "meteonet.yaml"))
    add(rainy, "meteonet")
    assert rainy.assets() >= METEONET | {"raw/atmosphere", "raw/rain", "raw/nwp"}
    assert not rainy.assets() & DEMO
    assert "features/storm_columns was made for the catalogue's own sources; of these, profiles" in caplog.text
    assert "atmosphere has no field cloud_fraction" in caplog.text
    assert caplog.messages[-1].endswith(
        "meteonet.yaml (VIEWS_SOURCES) leaves out what is of the demo worlds: sources countries, ucdp_ged, vdem; "
        "features cm_small, storm_columns; and the 3 models and 1 ensemble that need them"
    )


def test_a_deployment_that_leaves_nothing_out_says_nothing(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue.load()
    sources = catalogue.project / "sources.yaml"
    sources.write_text("ucdp_ged: {kind: demo_events, seed: 3}\n")
    monkeypatch.setenv("VIEWS_SOURCES", str(sources))
    catalogue.change("conflict/models/quiet_echo", "  target: sb_best\n", "  target: sb_best\n  maturity: retired\n")
    catalogue.change("conflict/ensembles/green_horse", "mixture}", "mixture}\n  maturity: retired")
    assert "forecasts/purple_alien" in catalogue.assets()
    assert not caplog.messages


def test_a_deployment_without_members_has_no_nwp(rainy: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIEWS_SOURCES", str(EXAMPLES / "reanalysis.yaml"))
    add(rainy, "reanalysis")
    assets = rainy.assets()
    assert assets >= {"features/daily_columns", "artifacts/daily_network", "evaluations/daily_season"}
    assert not assets & (DEMO | {"raw/nwp"})


def test_a_column_set_of_absent_sources_is_a_mistake(rainy: Catalogue) -> None:
    add(rainy, "meteonet")
    with pytest.raises(
        CatalogueError, match=r"meteonet_columns/defs\.yaml:\d+: profiles: atmosphere has no field pressure"
    ):
        rainy.assets()
    with pytest.raises(CatalogueError, match="VIEWS_SOURCES is not set: these are the catalogue's own sources"):
        rainy.assets()


def test_a_misspelt_field_is_a_mistake_in_any_deployment(rainy: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIEWS_SOURCES", str(EXAMPLES / "meteonet.yaml"))
    add(rainy, "meteonet")
    rainy.change("precipitation/features/meteonet_columns", "temperature_2m", "temperature_3m")
    with pytest.raises(
        CatalogueError, match="surface: atmosphere has no field temperature_3m; did you mean temperature_2m"
    ) as raised:
        rainy.assets()
    assert str(raised.value).endswith(
        "(the sources in force are those of " + str(EXAMPLES / "meteonet.yaml") + " (VIEWS_SOURCES))"
    )


def test_a_queryset_for_other_sources_says_which_are_in_force(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.change("conflict/features/cm_small", "from: ucdp_ged.ns_best\n", "from: ucdp_ged.sb_located\n")
    with pytest.raises(CatalogueError, match=r"no column sb_located at level cm.*VIEWS_SOURCES is not set"):
        catalogue.load()
    monkeypatch.setenv("VIEWS_SOURCES", str(EXAMPLES / "ucdp_country_month.yaml"))
    (catalogue.folder / "conflict" / "sources" / "world_bank").mkdir()
    catalogue.write(
        "conflict/sources/world_bank",
        "type: views_dagster.components.Source\nattributes:\n  reader: {kind: demo_covariates, table: world_bank}\n",
    )
    with pytest.raises(CatalogueError, match=r"no column sb_located.*in force are those of .*ucdp_country_month.yaml"):
        catalogue.load()


def test_a_model_begins_with_the_months_that_it_needs_beside_the_test(
    rainy: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begins(key: str) -> str:
        specs = {spec.key.to_user_string(): spec for spec in rainy.load().resolve_all_asset_specs()}
        return str(specs[key].metadata["begins"])

    # Twelve months to train on, and the month itself as the test.
    assert begins("artifacts/deep_column") == "2023-01"
    monkeypatch.setenv("VIEWS_SOURCES", str(EXAMPLES / "meteonet.yaml"))
    add(rainy, "meteonet")
    # Regions are the test, so the month itself trains.
    assert begins("artifacts/northern_slope") == "2018-05"
    monkeypatch.setenv("VIEWS_SOURCES", str(EXAMPLES / "reanalysis.yaml"))
    add(rainy, "reanalysis")
    shutil.rmtree(rainy.folder / "precipitation" / "features" / "meteonet_columns")
    for model in ("northern_slope", "southern_slope"):
        shutil.rmtree(rainy.folder / "precipitation" / "models" / model)
    assert begins("artifacts/daily_tree") == "1991-12"
