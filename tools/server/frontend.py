"""Releases of ComfyUI's interface for the browser tests; `--front-end-root` makes ComfyUI use one.

`python -m tools.server.frontend` fetches the releases that `make test` needs, `... latest` fetches the newest release
of all, and `... oldest` fetches OLDEST.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tools.server.folder import FETCHED

OLDEST = "1.45.14"
"""The oldest release in which the pack's widgets must work."""
NEWEST = "1.58.1"
"""The newest release in which they were tested; `make test-frontends` tests the newest release of the day."""
FRONTENDS = FETCHED.parent / "frontends"
PACKAGE = "comfyui-frontend-package"
INSIDE = "comfyui_frontend_package/static/"
LATEST = "latest"
NAMED = {"oldest": OLDEST, "newest": NEWEST}


class NoFrontendError(Exception):
    """A release was not fetched, or could not be fetched."""


def frontend_folder(version: str) -> Path:
    """The folder of a fetched release.

    Raises:
        NoFrontendError: the release was not fetched.
    """
    folder = FRONTENDS / version
    if not (folder / "index.html").is_file():
        raise NoFrontendError(f"No frontend {version} in {FRONTENDS}: run `python -m tools.server.frontend {version}`.")
    return folder


def fetch(version: str) -> str:
    """Download a release, or LATEST, unless it is there already; return its version.

    Raises:
        NoFrontendError: the download failed.
    """
    if (FRONTENDS / version / "index.html").is_file():
        return version
    partial = FRONTENDS / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    wheel = _download(version, partial)
    found = wheel.name.split("-")[1]
    if not (FRONTENDS / found / "index.html").is_file():
        unpack(wheel, partial / found)
        shutil.rmtree(FRONTENDS / found, ignore_errors=True)
        (partial / found).rename(FRONTENDS / found)
    shutil.rmtree(partial)
    return found


def _download(version: str, into: Path) -> Path:
    requirement = PACKAGE if version == LATEST else f"{PACKAGE}=={version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={into}", requirement]
    finished = subprocess.run(command, check=False)
    wheels = list(into.glob("*.whl"))
    if finished.returncode or len(wheels) != 1:
        raise NoFrontendError(f"`{' '.join(command)}` failed; is the package index reachable? Then run it again.")
    return wheels[0]


def unpack(wheel: Path, folder: Path) -> None:
    """Write only the interface's files into `folder`."""
    with zipfile.ZipFile(wheel) as members:
        for member in members.infolist():
            if member.is_dir() or not member.filename.startswith(INSIDE):
                continue
            target = folder / member.filename.removeprefix(INSIDE)
            if folder.resolve() not in target.resolve().parents:
                raise NoFrontendError(
                    f"{wheel.name} would write {member.filename}, outside its folder. It is not used."
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(members.read(member))


def main(versions: list[str]) -> None:
    """Fetch these releases and print the version of each."""
    for version in versions or (OLDEST, NEWEST):
        print(fetch(NAMED.get(version, version)), flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except NoFrontendError as error:
        sys.exit(str(error))
