"""Write a concept's info as text metadata of its file, and read it back strictly.

`setandseq.info` is authoritative; modelspec.* and ss_* repeat parts of it for LoRA managers and are not read back,
except the thumbnail and the hash of the data.
"""

import base64
import binascii
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import cast

from PIL import Image

from ..concept import EXPERTS, ONE_MODEL, ConceptInfo
from ..config import Values
from ..errors import ConceptFileError, Json
from ..fingerprint import BaseFingerprint
from ..prompts import MAX_CHARACTERS, is_control
from .base_label import base_label
from .safetensors import strict_json

WITH_TOKENS = "2"
WITH_EXPERTS = "3"
FORMAT_VERSION = WITH_EXPERTS


VERSIONS = ("1", WITH_TOKENS, WITH_EXPERTS)
"""Versions that can be read. A file gets the lowest version that can hold its content: 2 only with learned tokens, 3
only for a base of two experts."""


OF_EXPERT = ("base", "base_name", "config", "training")
"""Fields of a concept's info that each expert has separately."""


MAX_INFO_CHARACTERS = 2**20


MAX_DEPTH = 8


MAX_THUMBNAIL_BYTES = 2**20


MAX_THUMBNAIL_SIDE = 2048


HASH_KEY = "modelspec.hash_sha256"


THUMBNAIL_KEY = "modelspec.thumbnail"


def format_metadata(
    info: ConceptInfo, *, embeddings: bool = False, low_noise: ConceptInfo | None = None
) -> dict[str, str]:
    """Metadata that only a concept file has: the version of the format, and all of `info` except the thumbnail.

    Args:
        embeddings: whether the file holds learned tokens.
        low_noise: info of the second expert, if the base has two.
    Raises:
        ConceptFileError: `parse_metadata` would refuse a field, such as NaN in the training record.
    """
    content = _as_values(info)
    version = WITH_TOKENS if embeddings else "1"
    if low_noise is not None:
        version = WITH_EXPERTS
        other = _as_values(low_noise)
        experts = [{name: values[name] for name in OF_EXPERT} for values in (content, other)]
        content = {name: value for name, value in content.items() if name not in OF_EXPERT}
        content["experts"] = dict(zip(EXPERTS, experts, strict=True))
    try:
        text = json.dumps(content, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConceptFileError(
            f"Concept {info.name!r}: its info cannot be saved ({error}).",
            hint="Give only JSON values, and no NaN.",
        ) from error
    _parse_info(text, info.thumbnail, version)
    return {"setandseq.version": version, "setandseq.info": text}


def _as_values(info: ConceptInfo) -> Values:
    content = {item.name: getattr(info, item.name) for item in fields(info) if item.name != "thumbnail"}
    content["base"] = asdict(info.base)
    return content


def manager_metadata(info: ConceptInfo, rank: int, data_sha256: str, *, kind: str) -> dict[str, str]:
    """Metadata for LoRA managers and interfaces (modelspec 1.0.0 and the ss_ keys of kohya).

    Args:
        info: the concept's info.
        rank: the rank of its layers.
        data_sha256: hex digest of the file's bytes after the header.
        kind: "setandseq-concept" or "lora".
    """
    trigger = ", ".join(token for token in (info.identity_token, info.motion_token) if token)
    words = [word for word in (info.identity_token, info.motion_token, *info.tags) if word]
    metadata = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": info.name,
        "modelspec.architecture": f"{info.base.family}/{kind}",
        "modelspec.author": info.author,
        "modelspec.description": info.motion_prompt,
        "modelspec.date": str(info.training.get("date", "")),
        "modelspec.resolution": str(info.training.get("resolution", "")),
        "modelspec.usage_hint": f"Appearance: {info.static_prompt}. With motion: {info.motion_prompt}. Strength 1.",
        "modelspec.trigger_phrase": trigger,
        "modelspec.tags": ", ".join(info.tags),
        HASH_KEY: f"0x{data_sha256}",
        "ss_base_model_version": base_label(info),
        "ss_network_module": "networks.lora" if kind == "lora" else "setandseq",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
        "ss_tag_frequency": json.dumps({info.name: dict.fromkeys(words, 1)}),
        "ss_output_name": info.name,
        "sshs_model_hash": data_sha256,
    }
    if info.thumbnail is not None:
        mime = "image/png" if info.thumbnail.startswith(b"\x89PNG") else "image/jpeg"
        metadata[THUMBNAIL_KEY] = f"data:{mime};base64,{base64.b64encode(info.thumbnail).decode()}"
    return {key: value for key, value in metadata.items() if value}


def parse_metadata(metadata: Mapping[str, str]) -> dict[str, ConceptInfo]:
    """Read a concept's info strictly from the metadata of its file.

    Returns:
        The info of each expert by the expert's name, see `experts.EXPERTS`; without experts, one entry `ONE_MODEL`.
    Raises:
        ConceptFileError: a field is missing, of another type or out of bounds, or the version is unknown; names it.
    """
    version = metadata.get("setandseq.version")
    if version is None:
        raise ConceptFileError(
            "The file has no 'setandseq.version' in its metadata: not a concept, or stripped of its metadata.",
            hint="Choose a concept, or get the file again from where it was made.",
        )
    if version not in VERSIONS:
        newer = version.isdecimal() and version.isascii() and len(version) < 9 and int(version) > int(FORMAT_VERSION)
        raise ConceptFileError(
            f"Concept version {version!r:.50} is unknown, this reads 1 to {FORMAT_VERSION}.",
            hint="The file is from a newer version: update the pack." if newer else "",
        )
    if "setandseq.info" not in metadata:
        raise ConceptFileError("The file has no 'setandseq.info' in its metadata.")
    return _parse_info(metadata["setandseq.info"], _decode_thumbnail(metadata.get(THUMBNAIL_KEY)), version)


def _parse_info(text: str, thumbnail: bytes | None, version: str) -> dict[str, ConceptInfo]:
    if len(text) > MAX_INFO_CHARACTERS:
        raise ConceptFileError(f"'setandseq.info' has {len(text)} characters, the limit is {MAX_INFO_CHARACTERS}.")
    found = strict_json(text, "'setandseq.info'")
    _check_values(found, "setandseq.info", MAX_DEPTH)
    kinds: dict[str, type] = {item.name: str for item in fields(ConceptInfo) if item.name != "thumbnail"}
    kinds |= {"base": dict, "config": dict, "training": dict, "tags": list}
    if version != WITH_EXPERTS:
        return {ONE_MODEL: _checked_info(_checked_fields(found, kinds, "setandseq.info"), thumbnail)}
    shared = {name: kind for name, kind in kinds.items() if name not in OF_EXPERT}
    content = _checked_fields(found, shared | {"experts": dict}, "setandseq.info")
    where = "setandseq.info.experts"
    experts = _checked_fields(content.pop("experts"), dict.fromkeys(EXPERTS, dict), where)
    own = {name: kinds[name] for name in OF_EXPERT}
    infos = {
        name: _checked_info(content | _checked_fields(expert, own, f"{where}.{name}"), thumbnail, f"{where}.{name}")
        for name, expert in experts.items()
    }
    return {name: infos[name] for name in EXPERTS}


def _checked_info(content: Values, thumbnail: bytes | None, where: str = "setandseq.info") -> ConceptInfo:
    if not all(isinstance(tag, str) for tag in content["tags"]):
        raise ConceptFileError("'setandseq.info.tags' must be a list of texts.")
    _check_thumbnail(thumbnail)
    checked: Values = {**content, "base": _checked_base(content["base"], f"{where}.base")}
    return ConceptInfo(**checked, thumbnail=thumbnail)


def _checked_fields(content: Json, kinds: Mapping[str, type], where: str) -> Values:
    if not isinstance(content, dict):
        raise ConceptFileError(f"{where!r} is a {type(content).__name__}, an object is needed.")
    if content.keys() != kinds.keys():
        missing, extra = sorted(kinds.keys() - content.keys()), sorted(content.keys() - kinds.keys())
        raise ConceptFileError(f"{where!r} lacks {missing} and has unknown {extra[:5]!s:.200}.")
    for name, kind in kinds.items():
        if not isinstance(content[name], kind):
            raise ConceptFileError(f"'{where}.{name}' is a {_kind_of(content[name])}, {kind.__name__} is needed.")
    return content


def _kind_of(value: object) -> str:
    return type(value).__name__


def _check_values(value: Json, where: str, depth: int) -> None:
    if isinstance(value, str):
        if len(value) > MAX_CHARACTERS:
            raise ConceptFileError(
                f"{where!r:.200} has a text of {len(value)} characters, the limit is {MAX_CHARACTERS}."
            )
        if any(map(is_control, value)):
            raise ConceptFileError(f"{where!r:.200} has a control character in a text.")
    elif isinstance(value, dict | list):
        if depth == 0:
            raise ConceptFileError(f"{where!r:.200} is nested more than {MAX_DEPTH} deep.")
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_values(str(key), where, 0)
            _check_values(item, f"{where}.{key}", depth - 1)
    elif isinstance(value, int | float) and not abs(value) < 1e300:
        raise ConceptFileError(f"{where!r:.200} is out of range.")


def _checked_base(found: Json, where: str) -> BaseFingerprint:
    kinds: dict[str, type] = {"family": str, "layers": dict, "projections": dict}
    base = BaseFingerprint(**_checked_fields(found, kinds, where))
    _check_numbers(base.family, base.layers, base.projections)
    return base


def _check_numbers(family: str, layers: Mapping[str, object], projections: Mapping[str, object]) -> None:
    if not layers or layers.keys() != projections.keys():
        raise ConceptFileError(f"'base' of family {family!r:.50} needs the same layers in 'layers' and 'projections'.")
    for layer, shape in layers.items():
        if not _is_weight_shape(shape):
            raise ConceptFileError(f"'base.layers' gives layer {layer!r:.200} shape {shape!r:.100}, not two sizes.")
        projection = projections[layer]
        if isinstance(projection, bool) or not isinstance(projection, int | float) or abs(projection) > 64:
            raise ConceptFileError(f"'base.projections' of layer {layer!r:.200} must be a number from -64 to 64.")


def _is_weight_shape(value: object) -> bool:
    sizes = cast(list[object], value) if isinstance(value, list) else []
    return len(sizes) == 2 and all(type(size) is int and 0 < size < 2**24 for size in sizes)


def _decode_thumbnail(uri: str | None) -> bytes | None:
    if uri is None:
        return None
    start, comma, data = uri.partition(";base64,")
    if not comma or start not in ("data:image/png", "data:image/jpeg"):
        raise ConceptFileError(f"{THUMBNAIL_KEY!r} must be a PNG or JPEG data URI, it starts with {uri[:30]!r}.")
    if len(data) > 4 * (MAX_THUMBNAIL_BYTES // 3 + 1):
        raise ConceptFileError(f"The thumbnail has over {MAX_THUMBNAIL_BYTES} bytes.")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ConceptFileError(f"{THUMBNAIL_KEY!r} is not valid base64 ({error}).") from error


def _check_thumbnail(thumbnail: bytes | None) -> None:
    if thumbnail is None:
        return
    if len(thumbnail) > MAX_THUMBNAIL_BYTES:
        raise ConceptFileError(
            f"The thumbnail has over {MAX_THUMBNAIL_BYTES} bytes ({len(thumbnail)}).",
            hint="Give a smaller picture.",
        )
    try:
        with Image.open(io.BytesIO(thumbnail), formats=("PNG", "JPEG")) as image:
            if max(image.size) > MAX_THUMBNAIL_SIDE:
                raise ConceptFileError(f"The thumbnail has {image.size} pixels, at most {MAX_THUMBNAIL_SIDE} a side.")
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConceptFileError(f"The thumbnail is not a whole PNG or JPEG image ({str(error)[:100]}).") from error
