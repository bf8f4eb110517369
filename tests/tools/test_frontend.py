"""Frontends for the browser tests, unpacked from their package on PyPI."""

import zipfile
from pathlib import Path

import pytest

from tools.server import frontend
from tools.server.frontend import INSIDE, NoFrontendError, fetch, frontend_folder, unpack


def wheel_of(folder: Path, *names: str) -> Path:
    wheel = folder / "comfyui_frontend_package-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as members:
        for name in names:
            members.writestr(name, name)
    return wheel


def test_only_the_interface_is_unpacked(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, f"{INSIDE}index.html", f"{INSIDE}assets/app.js", "comfyui_frontend_package/__init__.py")
    unpack(wheel, tmp_path / "out")
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert files == ["assets/app.js", "index.html"]


def test_a_package_that_writes_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoFrontendError, match="outside its folder"):
        unpack(wheel_of(tmp_path, f"{INSIDE}../../../evil.js"), tmp_path / "out")
    assert not list(tmp_path.rglob("evil.js"))


def test_a_release_that_is_there_is_not_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontend, "FRONTENDS", tmp_path)
    with pytest.raises(NoFrontendError, match=r"No frontend 1\.2\.3"):
        frontend_folder("1.2.3")
    (tmp_path / "1.2.3").mkdir()
    (tmp_path / "1.2.3" / "index.html").write_text("<html>")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")  # nobody answers there
    assert fetch("1.2.3") == "1.2.3"
    assert frontend_folder("1.2.3") == tmp_path / "1.2.3"
