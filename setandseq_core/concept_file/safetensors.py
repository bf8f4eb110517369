"""Read .safetensors files from strangers: every number in the header is checked before any tensor is read."""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..atomic import save_atomically
from ..errors import ConceptFileError, Json

MAX_HEADER_BYTES = 4 * 2**20
MAX_DATA_BYTES = 16 * 2**30
MAX_TENSORS = 5_000
MAX_VALUES = 100_000
"""Maximum values in a JSON text, counted before parsing: each can take a hundred times its size in memory."""
FLOAT_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(kw_only=True, slots=True, frozen=True)
class Header:
    """The parsed header of a safetensors file."""

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]


@dataclass(kw_only=True, slots=True, frozen=True)
class FileContent:
    """Content of a file before it is written."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the file so that `path` holds either its old content or all of the new.

        Raises:
            StorageError: the file cannot be written; the message names it and the space it needs.
        """
        save_atomically(self.tensors, path, self.metadata)


def strict_json(text: str | bytes, what: str) -> Json:
    """Parse JSON; duplicate keys, NaN, Infinity and endless nesting are errors.

    Raises:
        ConceptFileError: the text is not valid; the message names `what` and the fault.
    """

    def refuse_constant(name: str) -> float:
        raise ValueError(f"{name} is not a number")

    def refuse_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        unique = dict(pairs)
        if len(unique) != len(pairs):
            raise ValueError("a key is there twice")
        return unique

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")  # json.loads would also accept UTF-16 and UTF-32
        if sum(map(text.count, ",[{")) > MAX_VALUES:
            raise ValueError(f"over {MAX_VALUES} values")
        return json.loads(text, parse_constant=refuse_constant, object_pairs_hook=refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise ConceptFileError(f"{what} is not valid JSON ({str(error)[:100]}).") from error


def read_header(path: Path) -> Header:
    """Read and check the header of a .safetensors file; tensors are not read.

    Raises:
        ConceptFileError: the file is missing, not safetensors, cut short or too large, or its header contradicts
            itself.
    """
    if not path.is_file():
        raise ConceptFileError(
            f"There is no file {str(path)!r}.",
            hint="Check the path.",
        )
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8:
            raise ConceptFileError(f"{path.name} is empty or cut short ({size} bytes).")
        (header_bytes,) = struct.unpack("<Q", head)
        if header_bytes > min(MAX_HEADER_BYTES, size - 8):
            raise ConceptFileError(
                f"{path.name} is not a .safetensors file, or is cut short: it announces {header_bytes} bytes of header "
                f"in a file of {size} (at most {MAX_HEADER_BYTES} allowed).",
                hint="Choose a .safetensors file, or get this one again.",
            )
        header = strict_json(file.read(header_bytes), f"The header of {path.name}")
    if not isinstance(header, dict):
        raise ConceptFileError(f"The header of {path.name} is a {type(header).__name__}, an object is needed.")
    metadata = header.pop("__metadata__", {})
    if not _are_texts(metadata):
        raise ConceptFileError(f"The metadata of {path.name} must be an object of texts.")
    return Header(metadata=metadata, shapes=_checked_layout(header, size - 8 - header_bytes))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors as float32; call `read_header` first.

    Raises:
        ConceptFileError: the safetensors library refuses the file.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConceptFileError(f"{path.name} cannot be read ({str(error)[:200]}).") from error
    # Copied, because load_file maps the file, and Windows cannot replace a mapped file.
    return {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}


def data_sha256(tensors: dict[str, Tensor]) -> str:
    """SHA-256, in hex, of the bytes after the header in a file with these tensors."""
    content = memoryview(save(tensors))
    return hashlib.sha256(content[8 + struct.unpack("<Q", content[:8])[0] :]).hexdigest()


def check_data(path: Path, announced: str | None) -> None:
    """Compare the bytes after the header with a hash such as "0x12ab..."; None skips the check.

    Raises:
        ConceptFileError: the bytes are not the ones that were saved.
    """
    if announced is None:
        return
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(struct.unpack("<Q", file.read(8))[0], 1)
        while block := file.read(2**20):
            digest.update(block)
    if f"0x{digest.hexdigest()}" != announced:
        raise ConceptFileError(f"{path.name} is damaged: its tensors do not match the hash in it.")


def _checked_layout(entries: Mapping[str, Json], data_bytes: int) -> dict[str, tuple[int, ...]]:
    if len(entries) > MAX_TENSORS or data_bytes > MAX_DATA_BYTES:
        raise ConceptFileError(
            f"{len(entries)} tensors, {data_bytes} bytes: too large for a concept.", hint="Choose a concept file."
        )
    tensors = sorted(_checked_entry(name, entry) for name, entry in entries.items())
    end = 0
    for tensor in tensors:
        if tensor.start != end:
            name = f"{tensor.name!r:.200}"
            raise ConceptFileError(f"Tensor {name} starts at byte {tensor.start}, {end} expected: overlap or hole.")
        end = tensor.stop
    if end != data_bytes:
        raise ConceptFileError(
            f"The header describes {end} bytes of tensors, the file holds {data_bytes}: "
            "it is cut short, or its header is wrong."
        )
    return {tensor.name: tensor.shape for tensor in tensors}


class _Entry(NamedTuple):
    """A tensor's position in the file, in bytes after the header, by which entries are sorted."""

    start: int
    stop: int
    name: str
    shape: tuple[int, ...]


def _checked_entry(name: str, entry: Json) -> _Entry:
    what = f"Tensor {name!r:.200}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ConceptFileError(f"{what} needs exactly dtype, shape and data_offsets.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in FLOAT_BYTES:
        raise ConceptFileError(f"{what} has dtype {dtype!r:.50}, one of {list(FLOAT_BYTES)} is needed.")
    if not (_are_sizes(shape) and len(shape) <= 4 and _are_sizes(offsets) and len(offsets) == 2):
        raise ConceptFileError(f"{what}: shape {shape!r:.100} or data_offsets {offsets!r:.100} is not a list of sizes.")
    start, stop = offsets
    if stop - start != math.prod(shape) * FLOAT_BYTES[dtype]:
        raise ConceptFileError(f"{what} of shape {shape} cannot lie in {stop - start} bytes.")
    return _Entry(start, stop, name, tuple(shape))


def _are_texts(value: Json) -> TypeGuard[dict[str, str]]:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _are_sizes(value: Json) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**48 for item in value)
