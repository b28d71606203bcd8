"""Who may import what, and which words may stand where."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from views_dagster_tests.homes import ROOT

PACKAGE = ROOT / "views_dagster"
ADAPTORS = ("views_dagster/components/", "views_dagster/definitions.py", "resources/", "assets/")
HEAVY = (
    "captum",
    "cfgrib",
    "dagster_k8s",
    "dagster_mlflow",
    "eccodes",
    "great_expectations",
    "h5netcdf",
    "httpx",
    "imblearn",
    "kubernetes",
    "lightgbm",
    "matplotlib",
    "mlflow",
    "netCDF4",
    "optuna",
    "pandas",
    "safetensors",
    "scipy",
    "sklearn",
    "skops",
    "torch",
    "xarray",
    "zarr",
)
SHARED_ROOMS = ("sources", "features", "learners", "ensembles", "evaluation", "drift", "reports", "storage", "tuning")
CONFLICT_WORDS = re.compile(r"countr(y|ies)|fatalit|ucdp|deaths|battle|violence|(?<![a-z])[sno][bs]_best")
PRECIPITATION_WORDS = re.compile(r"precipitation|rainfall|(?<![a-z])rain(?![a-z])|weather")
ALLOWED = {
    # Names that a person writes in YAML: VIEWS calls the transform this, and the level's units.
    ("views_dagster/features/transforms.py", "countrylag"),
    ("views_dagster/features/querysets.py", "countries"),
    # What a reader may stand for.
    ("views_dagster/sources/base.py", "ucdp, weather files"),
    ("views_dagster/panel.py", "deaths, ..."),
}


def modules() -> list[Path]:
    found = [path for folder in ("views_dagster", "resources", "assets") for path in (ROOT / folder).rglob("*.py")]
    assert len(found) > 40
    return sorted(found)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import"
            assert node.module is not None
            yield node.module


def test_only_the_adaptors_know_dagster() -> None:
    wrong = {
        name_of(path): module
        for path in modules()
        if not name_of(path).startswith(ADAPTORS)
        for module in imported(path)
        if module.split(".")[0].startswith("dagster")
    }
    assert not wrong


def test_science_does_not_import_its_adaptors() -> None:
    wrong = {
        name_of(path): module
        for path in modules()
        if not name_of(path).startswith(ADAPTORS)
        for module in imported(path)
        if module.startswith(("views_dagster.components", "views_dagster.definitions", "resources", "assets"))
    }
    assert not wrong


def test_shared_rooms_do_not_import_a_system() -> None:
    wrong = {
        name_of(path): module
        for room in SHARED_ROOMS
        for path in (PACKAGE / room).rglob("*.py")
        for module in imported(path)
        if module.startswith(("views_dagster.conflict", "views_dagster.precipitation"))
    }
    assert not wrong


def test_nothing_reads_pickles() -> None:
    wrong = {
        name_of(path): module
        for path in modules()
        for module in imported(path)
        if module.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
    }
    assert not wrong


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in memory after a statement, in a fresh process."""
    command = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_loading_the_catalogue_imports_nothing_heavy() -> None:
    loaded = loaded_by("from views_dagster.definitions import build_defs; build_defs()")
    assert "dagster" in loaded
    assert not loaded & set(HEAVY)


def test_importing_the_science_needs_neither_dagster_nor_anything_heavy() -> None:
    science = [
        name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in modules()
        if not name_of(path).startswith(ADAPTORS)
    ]
    loaded = loaded_by("; ".join(f"import {module}" for module in science))
    assert "polars" in loaded
    assert not loaded & {*HEAVY, "dagster"}


def words_in(path: Path) -> Iterator[tuple[int, str]]:
    """Line and lower-case text of every name, string and comment of a file."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.NAME, tokenize.STRING, tokenize.COMMENT):
            yield token.start[0], token.string.lower()


def uses(path: Path, *words: re.Pattern[str]) -> Iterator[str]:
    for line, text in words_in(path):
        for place, allowed in ALLOWED:
            if place == name_of(path):
                text = text.replace(allowed, "")
        for pattern in words:
            yield from (f"{name_of(path)}:{line}: {found[0]}" for found in pattern.finditer(text))


SHARED_FILES = sorted(
    [path for room in SHARED_ROOMS for path in (PACKAGE / room).rglob("*.py")] + list(PACKAGE.glob("*.py"))
)


@pytest.mark.parametrize("path", SHARED_FILES, ids=name_of)
def test_shared_machinery_speaks_of_no_system(path: Path) -> None:
    assert not list(uses(path, CONFLICT_WORDS, PRECIPITATION_WORDS))


@pytest.mark.parametrize(
    ("system", "others"), [("conflict", PRECIPITATION_WORDS), ("precipitation", CONFLICT_WORDS)], ids=str
)
def test_a_system_does_not_speak_of_the_other(system: str, others: re.Pattern[str]) -> None:
    files = [path for top in (PACKAGE, ROOT / "assets") for path in (top / system).rglob("*.py")]
    assert files or not (ROOT / "assets" / system).exists()
    assert not [use for path in files for use in uses(path, others)]


def test_every_module_says_what_belongs_in_it() -> None:
    silent = [
        name_of(path)
        for path in modules()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_exceptions_to_the_words_are_still_needed() -> None:
    for place, allowed in ALLOWED:
        assert allowed in (ROOT / place).read_text().lower(), f"{place} no longer says {allowed!r}; drop the exception"
