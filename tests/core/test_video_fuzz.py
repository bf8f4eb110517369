"""Damaged video files: each is read or refused with a message, in little time and memory.

The seed is fixed, so that a fault can be repeated. `make fuzz` tries more files. Decoding runs in native code, where a
fault can end the process and Python does not count the memory, so every batch runs in its own process, under a limit.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.videos import MAKERS

CASES = int(os.environ.get("SETANDSEQ_FUZZ_VIDEOS", "60"))
SOURCES = ("phone.mov", "screen.mp4", "anamorphic.mp4", "trimmed.mp4", "small.webm", "small.gif")
BATCH = 30
NUMBERS = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x40\0\0\0", b"\0\0\0\0")
SECONDS, MEBIBYTES = 10, 512
"""Limits of one case; the files have a few kilobytes."""


def flip_bits(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 30)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def repeat_a_piece(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    place = chance.randrange(len(content))
    content[place:place] = content[start : start + chance.randint(1, 400)] * chance.randint(1, 10)


def put_large_numbers(content: bytearray, chance: random.Random) -> None:
    """Overwrite sizes, times and lengths with large numbers, wherever they are."""
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(content))
        content[place : place + 4] = chance.choice(
            [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x40\0\0\0"]
        )


def shuffle_a_piece(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    piece = list(content[start : start + 64])
    chance.shuffle(piece)
    content[start : start + 64] = bytes(piece)


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    cut,
    repeat_a_piece,
    put_large_numbers,
    shuffle_a_piece,
)


def mutated(content: bytes, number: int) -> bytes:
    """A video with one to three faults."""
    chance = random.Random(number)
    damaged = bytearray(content)
    for mutate in chance.choices(MUTATIONS, k=chance.randint(1, 3)):
        if damaged:
            mutate(damaged, chance)
    return bytes(damaged)


READ_ALL = """
import logging, resource, sys, time
from pathlib import Path
import av, torch
from setandseq_core.clips.stretch import Stretch
from setandseq_core.clips.video import read_clip
from setandseq_core.errors import SetAndSequenceError
torch.set_num_threads(1)
seconds, mebibytes = int(sys.argv[2]), int(sys.argv[3])
with open("/proc/self/status") as status:
    used = next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + mebibytes * 2**20,) * 2)
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, flush=True)  # the last one is the case that ended the process
    began = time.monotonic()
    try:
        clip = read_clip(path, fps=16, size=(64, 64), max_frames=17, stretch=Stretch(start=0.1))
        assert clip.frames_FHWC.isfinite().all()
        print("read")
    except SetAndSequenceError as error:
        assert len(str(error).encode("utf-8")) < 1500
        print("refused")
    assert time.monotonic() - began < seconds
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sources")
    return {name: MAKERS[name](folder / name).read_bytes() for name in SOURCES}


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of memory")
def test_damaged_videos_are_read_or_refused_in_words(sources: dict[str, bytes], tmp_path: Path) -> None:
    found = ""
    for first in range(0, CASES, BATCH):
        folder = tmp_path / str(first)
        folder.mkdir()
        for number in range(first, min(first + BATCH, CASES)):
            name = SOURCES[number % len(SOURCES)]
            (folder / f"{number:05}_{name}").write_bytes(mutated(sources[name], number))
        arguments = [sys.executable, "-c", READ_ALL, str(folder), str(SECONDS), str(MEBIBYTES)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=SECONDS * BATCH)
        assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]}: {done.stderr[-1500:]}"
        found += done.stdout
    assert found.count("\nrefused") + found.count("\nread") == CASES
    assert found.count("\nrefused") > CASES / 5 and found.count("\nread") > CASES / 20
