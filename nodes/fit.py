"""Tell the interface, before anything runs, which clip a video will become."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folder_paths
from aiohttp import web
from server import PromptServer

from ..setandseq_core.clips.clip import ClipTarget
from ..setandseq_core.clips.size import Size
from ..setandseq_core.clips.stretch import Stretch
from ..setandseq_core.clips.video import read_fit
from ..setandseq_core.errors import BackboneError, VideoError, shown_json
from .embedded import CLIP_FILE
from .model_files import file_format, model_path
from .reference import target_for

ROUTE = "/setandseq/fit"
EXAMPLE = "SetSeq_ExampleClip"
"""In the place of a file: the clip that Example Clip gives."""


def register_fit() -> None:
    """Answer `GET /setandseq/fit?model=...&video=...` with `fit_of` those files.

    `start` and `length` in seconds, `frames`, `width` and `height` may be added; see Reference Clip.
    """

    @PromptServer.instance.routes.get(ROUTE)
    async def fit(request: web.Request) -> web.Response:
        try:
            found = await asyncio.to_thread(fit_of, request.query)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return web.json_response(shown_json(found))


def fit_of(asked: Mapping[str, str]) -> dict[str, Any]:
    """The clip that a train node makes of a video, in JSON values; no entry for what the files do not tell.

    Args:
        asked: "model" and "video" are names in ComfyUI's lists, the others numbers. Without "frames", it is what
            Train Concept takes.
    Raises:
        ValueError: a number is none.
    """
    target = None
    try:
        target = _target(asked)
        video = _video_path(asked.get("video", ""))
        stretch = Stretch(start=float(asked.get("start", 0)), length=float(asked.get("length", 0)) or None)
        if target is None:
            return {}
        most = {"most_seconds": target.most_frames / target.fps}
        return most if video is None else most | _fit(video, target, stretch)
    except (BackboneError, VideoError) as error:
        return {"error": str(error)} | ({} if target is None else {"most_seconds": target.most_frames / target.fps})


def _fit(video: Path, target: ClipTarget, stretch: Stretch) -> dict[str, Any]:
    fit = read_fit(video, target, stretch)
    sizes = {"source": fit.source, "crop": fit.crop, "size": fit.size}
    return {name: _width_first(size) for name, size in sizes.items()} | {"frames": fit.num_frames, "fps": fit.fps}


def _width_first(size: Size) -> tuple[int, int]:
    return size[1], size[0]


def _target(asked: Mapping[str, str]) -> ClipTarget | None:
    path = model_path(asked.get("model", ""))
    wanted = None if path is None else file_format(path)
    if wanted is None:
        return None
    frames, width, height = (int(asked.get(name, 0)) for name in ("frames", "width", "height"))
    return target_for(wanted, frames or None, width, height)


def _video_path(name: str) -> Path | None:
    """A file in ComfyUI's folders by its name there, such as "bee.mp4 [input]"; None if there is none."""
    if name == EXAMPLE:
        return CLIP_FILE
    if not name:
        return None
    bare, folder = folder_paths.annotated_filepath(name)
    folder = os.path.abspath(folder or folder_paths.get_input_directory())
    path = Path(os.path.abspath(os.path.join(folder, bare)))  # links are followed: they are the user's own
    return path if path.is_relative_to(folder) and path.is_file() else None
