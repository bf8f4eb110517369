"""The concept card: a GET route that describes a concept file before it is loaded."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from server import PromptServer

from ..setandseq_core.concept import ONE_MODEL, ConceptInfo, noise_range, times_in_words
from ..setandseq_core.concept_file.info import parse_metadata
from ..setandseq_core.concept_file.safetensors import read_header
from ..setandseq_core.errors import ConceptFileError, ConceptMismatchError, shown_json
from ..setandseq_core.fingerprint import check_base
from .folders import find_concept
from .model_files import file_fingerprint, model_path
from .reference import TOKEN

ROUTE = "/setandseq/concept"
FILE_ROUTE = "/setandseq/concept/file"


def register_card() -> None:
    """Answer `GET /setandseq/concept?file=...&model=...` with a `card`; `model` may be left out.

    `GET /setandseq/concept/file?file=...` answers with the file itself, for programs on other machines.
    """

    @PromptServer.instance.routes.get(ROUTE)
    async def concept(request: web.Request) -> web.Response:
        query = request.query
        found = await asyncio.to_thread(card, query.get("file", ""), query.get("model", ""))
        return web.json_response(shown_json(found))

    @PromptServer.instance.routes.get(FILE_ROUTE)
    async def concept_file(request: web.Request) -> web.StreamResponse:
        try:
            path = await asyncio.to_thread(find_concept, request.query.get("file", ""))
        except ConceptFileError as error:
            return web.json_response(shown_json({"error": str(error)}), status=404)
        return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})


def card(file: str, model: str = "") -> dict[str, Any]:
    """Describe a concept file in JSON values; {"error": reason} if the file cannot be used.

    Args:
        file: a name in the list of concepts.
        model: a name in the list of diffusion models or of checkpoints. If given, "misfit" in the result says why the
            concept does not fit it. It is "" if the concept fits, and None if the model's file does not show it.
    """
    try:
        path = find_concept(file)
        header = read_header(path)
        infos = parse_metadata(header.metadata)
    except ConceptFileError as error:
        return {"error": str(error)}
    info = next(iter(infos.values()))
    ranks = [shape[0] for name, shape in header.shapes.items() if name.endswith(".coefficients") and shape]
    found = {
        "name": info.name,
        "static_prompt": info.static_prompt,
        "motion_prompt": info.motion_prompt,
        "tokens": _tokens(info),
        "base_name": info.base_name,
        "experts": [_expert(name, each) for name, each in infos.items() if name != ONE_MODEL],
        "author": info.author,
        "tags": info.tags,
        "rank": ranks[0] if ranks else None,
        "bytes": path.stat().st_size,
        "training": _training(info.training),
        "thumbnail": _data_uri(info.thumbnail),
    }
    return found | ({"misfit": misfit(infos, model)} if model else {})


def _tokens(info: ConceptInfo) -> list[str]:
    """The tokens that a concept knows: of the look, of the motion, then those of the subjects of other clips."""
    others = [
        prompts for name in ("static_prompts", "motion_prompts") if isinstance(prompts := info.training.get(name), list)
    ]
    prompts = [prompt for each in others for prompt in each if isinstance(prompt, str)]
    found = [info.identity_token, info.motion_token, *TOKEN.findall(" ".join(prompts))]
    return [token for token in dict.fromkeys(found) if token]


def _expert(name: str, info: ConceptInfo) -> dict[str, Any]:
    """Describe one expert of a concept by the entries in which experts differ."""
    return {
        "name": name,
        "noise": times_in_words(noise_range(info)),
        "base_name": info.base_name,
        "training": _training(info.training),
    }


def misfit(infos: Mapping[str, ConceptInfo], model: str) -> str | None:
    """The reason why a concept does not fit a model's file; "" if it fits, None if the file does not show it.

    A concept for two experts fits if one of its two parts fits.
    """
    found = [_misfit(info, model) for info in infos.values()]
    return next((reason for reason in found if not reason), found[0])


def _misfit(info: ConceptInfo, model: str) -> str | None:
    path = model_path(model)
    base = None if path is None else file_fingerprint(path, info.base)
    if base is None:
        return None
    try:
        check_base(info.base, base)
    except ConceptMismatchError as error:
        return str(error)
    return ""


def _training(record: dict[str, Any]) -> dict[str, Any]:
    """Pick the known fields of the right type from a training record, which may hold anything."""
    kinds = {"date": str, "resolution": str, "clip": str, "frames": int, "fps": (int, float), "finished": bool}
    found = {name: record[name] for name, kind in kinds.items() if isinstance(record.get(name), kind)}
    for stage in ("set", "sequence"):
        entry = record.get(stage)
        if isinstance(entry, dict) and type(entry.get("steps")) is int:
            seconds = entry.get("seconds")
            found[stage] = {"steps": entry["steps"], "seconds": seconds if isinstance(seconds, int | float) else None}
    return found


def _data_uri(picture: bytes | None) -> str | None:
    """A data URI of a thumbnail that `parse_metadata` has checked."""
    if picture is None:
        return None
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
