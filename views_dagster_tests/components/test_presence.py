"""Which entries a deployment has: a real world's units leave the demo's other sources out, and what is made from them."""

from pathlib import Path

import pytest

from views_dagster.components.blocks import CatalogueError
from views_dagster_tests.catalogues import Catalogue, catalogue

__all__ = ["catalogue"]

COUNTRIES = "countries: {kind: countries, states: states.csv, adjacency: pairs.csv}\n"
EVENTS = "ucdp_ged: {kind: ucdp_files, annual: ged241.csv}\n"
WITH_VDEM = """\
type: views_dagster.components.Queryset
attributes:
  level: cm
  targets:
    sb_best: {from: ucdp_ged.sb_best, transforms: [replace_na(0)]}
  columns:
    democracy: {from: vdem.v2x_polyarchy, transforms: [fill, replace_na(0)]}
"""
MODEL = """\
type: views_dagster.components.ForecastModel
attributes:
  features: cm_governed
  target: sb_best
  learner: {kind: zero}
"""


@pytest.fixture
def governed(catalogue: Catalogue) -> Catalogue:
    catalogue.write("conflict/features/cm_governed", WITH_VDEM)
    catalogue.write("conflict/models/loud_echo", MODEL)
    return catalogue


def deploy(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sources.yaml").write_text(text)
    monkeypatch.setenv("VIEWS_SOURCES", str(folder / "sources.yaml"))


VDEM = {"raw/vdem", "features/cm_governed", "artifacts/loud_echo", "forecasts/loud_echo"}


def test_the_demo_world_has_everything(governed: Catalogue) -> None:
    assert governed.assets() >= VDEM


def test_real_countries_leave_out_what_would_speak_of_others(
    governed: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = governed.assets()
    deploy(COUNTRIES + EVENTS, tmp_path, monkeypatch)
    assert governed.assets() == everything - VDEM


def test_events_alone_are_read_in_terms_of_the_demo_world(
    governed: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(EVENTS, tmp_path, monkeypatch)
    assert governed.assets() >= VDEM


def test_the_demo_world_beside_real_countries_is_refused(
    governed: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(COUNTRIES + EVENTS + "vdem: {kind: demo_covariates, table: vdem}\n", tmp_path, monkeypatch)
    with pytest.raises(
        CatalogueError, match=r"sources\.yaml.*:3: vdem: the demo world's vdem cannot stand beside real"
    ):
        governed.assets()
