"""Real ComfyUI servers for the tests of this folder, which are skipped if ComfyUI is missing."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tools.server.folder import NoComfyUIError, comfyui_folder
from tools.server.server import Server

OTHER_PACK = Path(__file__).parent / "data" / "other_pack"


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The folder of ComfyUI."""
    try:
        return comfyui_folder()
    except NoComfyUIError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def server(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server shared by all tests that need no server of their own; they leave it running with an empty queue."""
    with Server(tmp_path_factory.mktemp("comfyui")) as server:
        yield server


@pytest.fixture
def start_server(comfyui: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test; takes what `Server` takes."""
    with ExitStack() as servers:
        yield lambda *args, **options: servers.enter_context(Server(*args, **options))


@pytest.fixture
def crowded_folder(tmp_path: Path) -> Path:
    """A base directory with another pack, which also has a folder `nodes`, and whose nodes look inside the server."""
    (tmp_path / "comfyui" / "custom_nodes").mkdir(parents=True)
    (tmp_path / "comfyui" / "custom_nodes" / "other_pack").symlink_to(OTHER_PACK, target_is_directory=True)
    return tmp_path / "comfyui"
