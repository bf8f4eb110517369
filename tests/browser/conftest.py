"""A real browser on a real ComfyUI; the tests are skipped if Chromium or ComfyUI is missing.

All tests in a frontend share one server, all tests share one browser, and each file has one page. Tests run in the
newest frontend that is known to work; those marked `every_frontend` also run in the oldest. `--frontend VERSION` runs
all of them in that version.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect, sync_playwright

from tools.pictures.interface import RENDERERS, Ui, write_settings
from tools.server.folder import NoComfyUIError, comfyui_folder
from tools.server.frontend import NEWEST, OLDEST, NoFrontendError, frontend_folder
from tools.server.server import Server

expect.set_options(timeout=60_000)  # milliseconds; two browsers and two servers may share two cores


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the command line choose the frontends."""
    parser.addoption("--frontend", action="append", metavar="VERSION", help="run all browser tests in this frontend")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test in its frontends."""
    if "frontend" not in metafunc.fixturenames:
        return
    in_every = metafunc.definition.get_closest_marker("every_frontend") is not None
    versions = metafunc.config.getoption("frontend", None) or ([OLDEST, NEWEST] if in_every else [NEWEST])
    metafunc.parametrize("frontend", versions, indirect=True, scope="session")


@pytest.fixture(scope="session")
def frontend(request: pytest.FixtureRequest) -> Path:
    """The folder of a frontend."""
    try:
        return frontend_folder(request.param)
    except NoFrontendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Server]]:
    """A function that gives the server of a frontend's folder; all of them run until the last test has ended."""
    with ExitStack() as running:

        @cache
        def of_frontend(frontend: Path) -> Server:
            folder = tmp_path_factory.mktemp("browser")
            write_settings(folder)
            return running.enter_context(Server(folder, options=["--front-end-root", str(frontend)]))

        yield of_frontend


@pytest.fixture(scope="session")
def server(frontend: Path, servers: Callable[[Path], Server]) -> Server:
    """The server of all browser tests in a frontend; they leave its queue empty."""
    try:
        comfyui_folder()
    except NoComfyUIError as error:
        pytest.skip(str(error))
    return servers(frontend)


@pytest.fixture(scope="session")
def context() -> Iterator[BrowserContext]:
    """The browser of all tests; what it has loaded of a frontend, it has at hand for the next file."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium: apt install chromium, or another package named so")
    with (
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]) as browser,
    ):
        context = browser.new_context(viewport={"width": 1500, "height": 1000})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield context


@pytest.fixture(scope="module")
def page_of_server(server: Server, context: BrowserContext) -> Iterator[Ui]:
    """A page that shows ComfyUI."""
    with context.new_page() as page:
        ui = Ui(page, server)
        ui.open()
        yield ui


@pytest.fixture(params=RENDERERS)
def ui(page_of_server: Ui, request: pytest.FixtureRequest) -> Iterator[Ui]:
    """That page in each renderer, with an empty graph; after the test, its console must hold no error."""
    page_of_server.render(request.param)
    page_of_server.load({"version": 0.4, "nodes": [], "links": []})
    page_of_server.errors.clear()
    yield page_of_server
    page_of_server.server.clear()
    assert page_of_server.errors == []


@pytest.fixture
def canvas(page_of_server: Ui) -> Iterator[Ui]:
    """That page in the classic renderer, for tests that do not depend on the renderer."""
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
