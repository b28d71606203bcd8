"""Fixtures that every room's tests share."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from views_dagster_tests import skies
from views_dagster_tests.deployment import postgres
from views_dagster_tests.homes import SMALL, Home, open_home, write_catalogue

_numbers = itertools.count()
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real UCDP and weather data; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def small_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A small catalogue on the demo world with raw data and features of 1990-01..1992-12; read it, or copy it first."""
    folder = tmp_path_factory.mktemp("small")
    home = open_home(folder, write_catalogue(folder, SMALL))
    home.history("1992-12", checks=False)
    return home


@pytest.fixture
def small_copy(small_home: Home, tmp_path: Path) -> Home:
    """A home of one's own, in which the newest month, 1992-12, has been materialised and recorded."""
    home = small_home.copy(tmp_path)
    home.history("1992-12", first="1992-12", checks=False)
    return home


@pytest.fixture(scope="session")
def sky_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Raw data and features of the invented atmosphere up to 2022-07; read it, or copy it first."""
    folder = tmp_path_factory.mktemp("sky")
    home = open_home(folder, write_catalogue(folder, skies.SKY))
    home.history(skies.MONTH, first=skies.BEGINS, checks=False)
    return home


@pytest.fixture
def sky_copy(sky_home: Home, tmp_path: Path) -> Home:
    """A home of one's own, in which the newest month, 2022-07, has been materialised and recorded."""
    home = sky_home.copy(tmp_path)
    home.history(skies.MONTH, first=skies.MONTH, checks=False)
    return home


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a server of the tests' own."""
    programs = postgres.binaries()
    if programs is None:
        pytest.skip(f"no PostgreSQL server in {postgres.BINARIES}: apt-get install postgresql")
    with postgres.running(programs) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """URL, with its password, of an empty database on a real server."""
    return postgres.add_database(postgres_server, f"test_{next(_numbers)}")
