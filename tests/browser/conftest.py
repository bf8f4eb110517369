"""A real browser on a real ComfyUI; skipped where there is no Chromium, no Playwright or no ComfyUI.

One server for all tests of this folder, one browser and one page for each file.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.pictures.interface import RENDERERS, Ui, write_settings
from tools.server.folder import NoComfyUIError, comfyui_folder
from tools.server.server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of all browser tests; they leave its queue empty."""
    try:
        comfyui_folder()
    except NoComfyUIError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("browser")
    write_settings(folder)
    with Server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def page_of_server(server: Server) -> Iterator[Ui]:
    """A page that shows ComfyUI."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium: apt install chromium, or another package named so")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with (
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]) as browser,
    ):
        context = browser.new_context(viewport={"width": 1500, "height": 1000})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        ui = Ui(context.new_page(), server)
        ui.open()
        yield ui


@pytest.fixture(params=RENDERERS)
def ui(page_of_server: Ui, request: pytest.FixtureRequest) -> Iterator[Ui]:
    """That page in each renderer, its graph empty; afterwards there must be no error in its console."""
    page_of_server.render(request.param)
    page_of_server.load({"version": 0.4, "nodes": [], "links": []})
    page_of_server.errors.clear()
    yield page_of_server
    page_of_server.server.clear()
    assert page_of_server.errors == []


@pytest.fixture
def canvas(page_of_server: Ui) -> Iterator[Ui]:
    """That page in the classic renderer, for what does not depend on it."""
    page_of_server.render("canvas")
    page_of_server.load({"version": 0.4, "nodes": [], "links": []})
    page_of_server.errors.clear()
    yield page_of_server
    page_of_server.server.clear()
    assert page_of_server.errors == []


@pytest.fixture
def concepts(server: Server) -> Path:
    """The concepts' folder, emptied."""
    folder = server.folder / "models" / "dynamic_concepts"
    for file in folder.glob("*"):
        file.unlink()
    return folder
