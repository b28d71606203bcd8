"""What a person sees: the webserver's pages of a materialised month, in a real browser."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from views_dagster_tests.homes import ROOT, SMALL, open_home, write_catalogue

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

FIRST, MONTH = "1990-01", "1990-12"
PATIENCE = 30_000
"""Milliseconds that a page may take to show something, on a busy machine."""

NO_MEAN_IS_LOW_ENOUGH = {"validity": {"high_means_multiple": 1e-6}}
ENTRIES: Mapping[str, Mapping[str, Any]] = {
    **SMALL,
    "models/still_water": {**SMALL["models/still_water"], **NO_MEAN_IS_LOW_ENOUGH},
}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CODE_LOCATION = """
from pathlib import Path
from views_dagster_tests.homes import open_home

defs = open_home(Path({folder!r}), Path({project!r})).defs
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    """The installed browser; playwright's own is not downloaded."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    return found


@pytest.fixture(scope="module")
def address(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A webserver on the small catalogue, one month of it materialised."""
    folder = tmp_path_factory.mktemp("home")
    instance_folder = folder / "dagster"
    instance_folder.mkdir()
    shutil.copy(ROOT / "resources" / "dagster.yaml", instance_folder)
    variables = {"VIEWS_EVENT_LOG": str(instance_folder / "runs"), "DAGSTER_HOME": str(instance_folder)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(instance_folder)) as instance:
            home = replace(open_home(folder, write_catalogue(folder, ENTRIES)), instance=instance)
            home.history(MONTH, first=FIRST)
            home.release(MONTH)
    script = folder / "location.py"
    script.write_text(CODE_LOCATION.format(folder=str(folder), project=str(home.project)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGSTER_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "dagster_webserver", "-f", str(script), "-h", "127.0.0.1", "-p", str(port)],
        cwd=ROOT,
        env={**environment, **variables, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if "Serving dagster-webserver" in line:
                break
        else:
            pytest.fail("the webserver did not start:\n" + "".join(said))
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 9)
        server.wait()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator["Browser"]:
    """One browser for all tests of the module."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    """An empty page with a state of its own."""
    opened = browser.new_page(base_url=address, viewport={"width": 1500, "height": 1000})
    opened.set_default_timeout(PATIENCE)
    yield opened
    opened.close()


def test_the_lineage_shows_every_asset(page: "Page") -> None:
    from playwright.sync_api import expect

    page.goto("/asset-groups")
    for group in ("raw_data", "processed_features", "trained_artifacts", "forecasts", "ensembles"):
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    page.keyboard.press("Alt+e")
    for asset in ("ucdp_ged", "countries", "little", "quiet_echo", "still_water", "white_mustang"):
        expect(page.locator("svg").get_by_text(asset, exact=True).first).to_be_visible()


@pytest.mark.parametrize("asset", ["forecasts/quiet_echo", "ensembles/white_mustang", "forecasts"])
def test_a_forecast_shows_its_plot_and_the_worst_hit(page: "Page", asset: str) -> None:
    from playwright.sync_api import expect

    page.goto(f"/assets/{asset}")
    expect(page.get_by_role("cell", name="worst_hit", exact=True)).to_be_visible()
    expect(page.get_by_text("next_12_months", exact=True).first).to_be_visible()
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name="plot", exact=True))
    row.get_by_text("[Show Markdown]").click()
    picture = page.get_by_role("dialog").get_by_role("img", name=re.compile("history and forecast"))
    expect(picture).to_be_visible()
    width, shown = picture.evaluate("async image => { await image.decode(); return [image.naturalWidth, image.width] }")
    assert width > 900
    assert shown > 0.8 * width


def test_raw_data_shows_its_rows_and_its_columns(page: "Page") -> None:
    from playwright.sync_api import expect

    page.goto("/assets/raw/ucdp_ged")
    expect(page.get_by_text("dagster/partition_row_count").first).to_be_visible()
    expect(page.get_by_text("type_of_violence").first).to_be_visible()
    page.get_by_role("button", name="Plots").click()
    # By partition, Dagster draws the last ten years alone.
    page.get_by_role("button", name="Events").click()
    expect(page.locator("canvas").first).to_be_visible()


@pytest.mark.parametrize(("model", "verdict"), [("quiet_echo", "Passed"), ("still_water", "Failed")])
def test_a_check_shows_its_verdict_figures_and_thresholds(page: "Page", model: str, verdict: str) -> None:
    from playwright.sync_api import expect

    page.goto(f"/assets/forecasts/{model}?view=checks&checkDetail=validity_high_means")
    expect(page.get_by_text(verdict, exact=True).first).to_be_visible()
    expect(page.get_by_text(re.compile(r"highest_mean [\d.,]+; thresholds: high_means "))).to_be_visible()
    expect(page.get_by_text("threshold high_means_multiple")).to_be_visible()
