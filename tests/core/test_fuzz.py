"""Hundreds of damaged concept files: each is read or refused with a message, in little time and memory.

The seed is fixed, so that a fault can be repeated. `make fuzz` tries more files.
"""

import json
import os
import random
import struct
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from setandseq_core.concept_file.file import load_concept
from setandseq_core.concept_file.safetensors import MAX_HEADER_BYTES, MAX_TENSORS, read_header
from setandseq_core.errors import SetAndSequenceError

GOLDEN = [(Path(__file__).parent / "data" / f"concept_v{version}.safetensors").read_bytes() for version in (1, 3)]
"""One golden file for one model, and one for two experts."""
CASES = int(os.environ.get("SETANDSEQ_FUZZ_CONCEPTS", "400"))
SECONDS, MEBIBYTES = 5.0, 32
"""Limits of one case; the file itself has a few kilobytes."""
TOKENS = (b'"', b"{", b"}", b"[", b"]", b",", b":", b"-1", b"NaN", b"1e999", b"\\ud800", b"\xff", b"\x00", b"9" * 40)


def flip_bits(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def repeat_a_piece(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    place = chance.randrange(len(content))
    content[place:place] = content[start : start + chance.randint(1, 200)] * chance.randint(1, 20)


def put_tokens(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 5)):
        place = chance.randrange(8, max(9, len(content) * 3 // 4))
        content[place : place + chance.randint(0, 4)] = chance.choice(TOKENS)


def change_the_length(content: bytearray, chance: random.Random) -> None:
    content[:8] = struct.pack("<Q", chance.choice([0, 1, len(content) // 2, len(content), 2**32, 2**63, 2**64 - 1]))


MUTATIONS = (flip_bits, cut, repeat_a_piece, put_tokens, change_the_length)


def mutated(number: int) -> bytes:
    """The golden concept with one to three faults; in half of the cases, the length of its header is corrected."""
    chance = random.Random(number)
    golden = GOLDEN[number % len(GOLDEN)]
    content = bytearray(golden)
    for mutate in chance.choices(MUTATIONS, k=chance.randint(1, 3)):
        if content:
            mutate(content, chance)
    if len(content) > 8 and chance.random() < 0.5:
        grown = len(content) - len(golden)
        (header_bytes,) = struct.unpack("<Q", golden[:8])
        content[:8] = struct.pack("<Q", max(0, header_bytes + grown))
    return bytes(content)


def test_damaged_concepts_are_read_or_refused_in_words(tmp_path: Path) -> None:
    path, refused = tmp_path / "stranger.safetensors", 0
    tracemalloc.start()
    try:
        for number in range(CASES):
            path.write_bytes(mutated(number))
            tracemalloc.reset_peak()
            began = time.monotonic()
            try:
                load_concept(path)
            except SetAndSequenceError as error:
                refused += 1
                str(error).encode("utf-8")
                assert len(str(error)) < 1500, number
            assert time.monotonic() - began < SECONDS, number
            assert tracemalloc.get_traced_memory()[1] < MEBIBYTES * 2**20, number
    finally:
        tracemalloc.stop()
    assert refused > CASES / 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such measure")
@pytest.mark.parametrize("kind", ["texts", "values", "tensors", "nested info"])
def test_the_largest_headers_take_little_memory(tmp_path: Path, kind: str) -> None:
    """Memory is limited while the header is read, because lists and numbers take many times their bytes in the file."""
    info = "[" + ",".join(["{}"] * 49_000) + "]"
    headers = {
        "texts": {"__metadata__": {str(number): "x" * 1000 for number in range(4000)}},
        "values": {"__metadata__": [[]] * 90_000},
        "tensors": {
            f"blocks.{number}.ffn.0.coefficients": {"dtype": "F32", "shape": [0, 4], "data_offsets": [0, 0]}
            for number in range(MAX_TENSORS)
        },
        "nested info": {"__metadata__": {"setandseq.version": "1", "setandseq.info": info}},
    }
    raw = json.dumps(headers[kind], separators=(",", ":")).encode()
    assert len(raw) <= MAX_HEADER_BYTES
    path = tmp_path / "large.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)
    tracemalloc.start()
    try:
        with pytest.raises(SetAndSequenceError):
            load_concept(path) if kind != "tensors" else _always_raise(path)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def _always_raise(path: Path) -> None:
    assert len(read_header(path).shapes) == MAX_TENSORS
    raise SetAndSequenceError("read")
