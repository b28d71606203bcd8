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
    assert "features/storm_columns and what learns from it are left out" in caplog.text
    assert "atmosphere has no field cloud_fraction" in caplog.text


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
    ):
        rainy.assets()


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
