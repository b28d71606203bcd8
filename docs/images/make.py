"""Makes the README's pictures again from a materialised home: `source resources/local.env; python docs/images/make.py`.

Starts the webserver on the catalogue, opens Dagster's asset graph in the installed Chromium and keeps what it draws;
takes the plot and the map of the newest release from its page. Needs the development dependencies.
"""

import argparse
import base64
import io
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageChops
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
BACKGROUND = (255, 255, 255)
SHOWN = ("forecasts/brave_compass", "forecasts/salt_road", "forecasts/deep_column")
ENDS = ("ensembles/white_mustang", "ensembles/patient_river", "ensembles/pooled_storm", "forecasts")
"""Of each kind of model one, with all that it is made from: the graph of everything is too tall to read."""

LARGEST = 300_000


@contextmanager
def webserver() -> Iterator[str]:
    """Address of a webserver on the workspace, ended with its code server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "dagster_webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        said: list[str] = []
        for line in server.stdout:
            said.append(line)
            if "Serving dagster-webserver" in line:
                yield f"http://127.0.0.1:{port}"
                return
        raise RuntimeError("the webserver did not start:\n" + "".join(said))
    finally:
        os.killpg(server.pid, 9)
        server.wait()


def asset_graph(page: "Page") -> bytes:
    """What Dagster draws of a few models with all that they are made from, the leading ensembles and the release."""
    chosen = [f'+key:"{key}"' for key in SHOWN] + [f'key:"{key}"' for key in ENDS]
    page.goto("/asset-groups")
    expect(page.get_by_text("raw_data", exact=True).first).to_be_visible()
    page.locator(".CodeMirror").click()
    page.keyboard.insert_text(" or ".join(chosen))
    page.keyboard.press("Enter")
    expect(page.get_by_text("open_sky")).to_have_count(0)
    page.keyboard.press("Alt+e")
    graph = page.locator("svg[class*=AssetGraphExplorer_svgContainer]")
    expect(graph.get_by_text("ucdp_ged", exact=True)).to_be_visible()
    # The states of the assets, which colour them, come one batch after another; nothing on the page says which is last.
    page.wait_for_timeout(8000)
    canvas = graph.locator("xpath=ancestor::div[contains(@style, 'user-select')]")
    canvas.evaluate("canvas => { canvas.style.background = 'white' }")
    left, top, right, bottom = graph.evaluate(
        """svg => {
            const boxes = [...svg.querySelectorAll("foreignObject")].map(node => node.getBoundingClientRect())
            return [Math.min(...boxes.map(b => b.left)), Math.min(...boxes.map(b => b.top)),
                    Math.max(...boxes.map(b => b.right)), Math.max(...boxes.map(b => b.bottom))]
        }"""
    )
    return page.screenshot(clip={"x": left, "y": top, "width": right - left, "height": bottom - top})


def release_picture(page: "Page", name: str) -> bytes:
    """A picture on the page of the release, by the name it has there: `plot` or `map`."""
    page.goto("/assets/forecasts")
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True))
    row.get_by_text("[Show Markdown]").click()
    source = page.get_by_role("dialog").get_by_role("img").last.get_attribute("src")
    assert source is not None
    return base64.b64decode(source.split(",", 1)[1])


def save(png: bytes, path: Path, *, colours: int | None = 128) -> None:
    """Cut the empty margin off and save as a PNG of so many colours, or of all: on a map the rare ones matter."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    drawn = ImageChops.difference(picture, Image.new("RGB", picture.size, BACKGROUND)).point(lambda v: 255 * (v > 24))
    left, top, right, bottom = drawn.getbbox() or (0, 0, *picture.size)
    margin = 12
    cut = picture.crop(
        (
            max(left - margin, 0),
            max(top - margin, 0),
            min(right + margin, picture.width),
            min(bottom + margin, picture.height),
        )
    )
    if colours is not None:
        cut = cut.quantize(colours, dither=Image.Dither.NONE)
    cut.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {cut.width} x {cut.height}, {size // 1000} kB")
    if size > LARGEST:
        raise RuntimeError(f"{path.name} has {size} bytes; a README's picture may have {LARGEST}")


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description="Make the README's pictures from $VIEWS_HOME.")
    parser.add_argument("--width", type=int, default=2000, help="of the window, in pixels")
    parser.add_argument("--height", type=int, default=2200, help="of the window, in pixels")
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("no Chromium is installed")
    expect.set_options(timeout=60_000)
    with webserver() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(base_url=address, viewport={"width": options.width, "height": options.height})
        save(asset_graph(page), FOLDER / "asset_graph.png")
        save(release_picture(page, "plot"), FOLDER / "forecast.png")
        save(release_picture(page, "map"), FOLDER / "map.png", colours=None)
        browser.close()


if __name__ == "__main__":
    main()
