"""Small catalogues for tests: projects of their own in a temporary folder, with entries that load in a moment."""

import itertools
from pathlib import Path

import dagster as dg
import pytest

from views_dagster.components.loading import load_catalogue
from views_dagster.definitions import default_resources

_numbers = itertools.count()

SOURCES = {
    "countries": "{kind: demo_countries}",
    "ucdp_ged": "{kind: demo_events}",
}
QUERYSET = """\
type: views_dagster.components.Queryset
attributes:
  level: cm
  targets:
    sb_best: {from: ucdp_ged.sb_best, transforms: [replace_na(0)]}
    ns_best: {from: ucdp_ged.ns_best, transforms: [replace_na(0)]}
  columns:
    ln_sb: {from: ucdp_ged.sb_best, transforms: [replace_na(0), ln]}
    ln_ns:
      from: ucdp_ged.ns_best
      transforms:
        - replace_na(0)
        - tlag(1)
  drift: {ks_distance_warning: 0.4}
"""
MODEL = """\
type: views_dagster.components.ForecastModel
attributes:
  features: cm_small
  target: sb_best
  columns:
    - ln_sb
    - ln_ns
  learner:
    kind: hurdle
    classifier: {lightgbm: {n_estimators: 10}}
    regressor:
      sklearn:
        estimator: Ridge
        alpha: 1.0
    draws_from: {kind: residuals}
  draws: 16
  maturity: deployed
"""
OTHER_MODEL = """\
type: views_dagster.components.ForecastModel
attributes:
  features: cm_small
  target: sb_best
  learner: {kind: average, window: 12}
"""
ENSEMBLE = """\
type: views_dagster.components.Ensemble
attributes:
  members:
    - purple_alien
    - quiet_echo
  method: {kind: mixture}
"""
SOURCE = """\
type: views_dagster.components.Source
attributes:
  reader: {kind: demo_covariates, table: vdem, seed: 1}
"""


class Catalogue:
    """A project whose catalogue is a package with a name of its own.

    Attributes:
        project: the project's folder.
        folder: the catalogue's folder, which a project of its own calls `assets`.
    """

    def __init__(self, project: Path) -> None:
        self.project = project
        self.folder = project / f"catalogue_{next(_numbers)}"
        self.folder.mkdir()
        (self.folder / "__init__.py").touch()
        (project / "pyproject.toml").write_text(
            '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\n'
            f'root_module = "{self.folder.name}"\ndefs_module = "{self.folder.name}"\n'
            'registry_modules = ["views_dagster.components"]\n'
        )
        for name, reader in SOURCES.items():
            source = f"type: views_dagster.components.Source\nattributes:\n  reader: {reader}\n"
            self.write(f"conflict/sources/{name}", source)
        self.write("conflict/sources/vdem", SOURCE)
        self.write("conflict/features/cm_small", QUERYSET)
        self.write("conflict/models/purple_alien", MODEL)
        self.write("conflict/models/quiet_echo", OTHER_MODEL)
        self.write("conflict/ensembles/green_horse", ENSEMBLE)

    def write(self, entry: str, text: str) -> None:
        """Write the `defs.yaml` of an entry."""
        (self.folder / entry).mkdir(parents=True, exist_ok=True)
        (self.folder / entry / "defs.yaml").write_text(text)

    def change(self, entry: str, old: str, new: str) -> None:
        """Change the one place in an entry that reads `old`."""
        file = self.folder / entry / "defs.yaml"
        text = file.read_text()
        assert text.count(old) == 1, (old, text)
        file.write_text(text.replace(old, new))

    def load(self) -> dg.Definitions:
        """Load it as the project's definitions do."""
        return dg.Definitions.merge(load_catalogue(self.project), dg.Definitions(resources=default_resources()))

    def assets(self) -> set[str]:
        """Keys of all its assets."""
        return {spec.key.to_user_string() for spec in self.load().resolve_all_asset_specs()}


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """A sound catalogue, which a test then spoils."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("VIEWS_SOURCES", raising=False)
    return Catalogue(tmp_path)
