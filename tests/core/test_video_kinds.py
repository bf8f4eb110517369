"""Videos like those of phones, screen recorders and cameras, and one that is far larger than the memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from setandseq_core.clips.stretch import Stretch
from setandseq_core.clips.video import read_clip, read_info, read_times
from setandseq_core.errors import VideoError
from tools.videos import MAKERS, SECONDS, TICKS, WIDTH, even_ticks, hour, screen_ticks

FPS = 16
TRAVEL = WIDTH - WIDTH // 8
CASES = {
    "screen.mp4": (screen_ticks(), (96, 160)),
    "fast.mp4": (even_ticks(240), (96, 160)),
    "anamorphic.mp4": (even_ticks(24), (96, 320)),
    "phone.mov": (even_ticks(30), (160, 96)),
    "trimmed.mp4": ([tick - SECONDS * TICKS // 4 for tick in even_ticks(24)], (96, 160)),
}
"""For each file, the times at which its frames begin, in ticks, and its height and width."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("kinds")
    for name in CASES:
        MAKERS[name](where / name)
    return where


def block_shares(frames_FHWC: Tensor, along: int) -> Tensor:
    """The position of the block in each frame: 0 at the left edge, 1 at the right."""
    bright = frames_FHWC.mean(-1)
    bright = (bright - (bright.amin() + bright.amax()) / 2).clamp_min(0)
    line = bright.sum(3 - along)
    length = line.shape[1]
    centre = (line * torch.arange(length)).sum(1) / line.sum(1) + 0.5
    return (centre / length * WIDTH - WIDTH / 16) / TRAVEL


@pytest.mark.parametrize("start", [0.0, 0.7])
@pytest.mark.parametrize("name", CASES)
def test_what_moves_evenly_is_seen_where_it_was_at_that_time(folder: Path, name: str, start: float) -> None:
    ticks, size = CASES[name]
    clip = read_clip(folder / name, fps=FPS, multiple=8, stretch=Stretch(start=start))
    assert clip.frames_FHWC.shape[1:3] == size
    shares = block_shares(clip.frames_FHWC, along=1 if name == "phone.mov" else 2)
    hidden = (even_ticks(24)[0] - ticks[0]) / TICKS
    for number, share in enumerate(shares.tolist()):
        middle = (start + (number + 0.5) / FPS) * TICKS
        seen = max(tick for tick in ticks if tick <= middle + 0.3)
        assert share == pytest.approx((seen / TICKS + hidden) / SECONDS, abs=0.012), number


def test_the_length_is_kept(folder: Path) -> None:
    clip = read_clip(folder / "fast.mp4", fps=FPS, multiple=8, stretch=Stretch(start=0.5, length=0.6))
    assert len(clip.frames_FHWC) == 9 and "9 frames from 0.5 s on" in clip.choice
    with pytest.raises(VideoError, match=r"too short: 3 frames .* Start earlier, take a longer part"):
        read_clip(folder / "fast.mp4", fps=FPS, multiple=8, stretch=Stretch(start=1.8))
    with pytest.raises(VideoError, match=r"too short: 0 frames"):
        read_clip(folder / "fast.mp4", fps=FPS, multiple=8, stretch=Stretch(start=9))


def test_times_are_those_of_the_file(folder: Path) -> None:
    times = read_times(folder / "screen.mp4", Stretch(), 1000)
    assert times[:-1] == pytest.approx([tick / TICKS for tick in screen_ticks()])
    assert len(read_times(folder / "screen.mp4", Stretch(), 5)) == 6


def test_a_file_says_how_it_stores_its_pixels(folder: Path) -> None:
    info = read_info(folder / "anamorphic.mp4")
    assert (info.height, info.width) == (96, 320) and info.stored == (96, 160)


READ_THE_HOUR = """
import resource, sys
import av, torch
from setandseq_core.clips.stretch import Stretch
from setandseq_core.clips.video import read_clip
torch.set_num_threads(1)
path, frames = sys.argv[1], int(sys.argv[2])
kept = frames * 480 * 832 * 3 * 4
with open("/proc/self/status") as status:
    used = next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 3 * kept,) * 2)
clip = read_clip(path, fps=16, size=(480, 832), max_frames=frames, stretch=Stretch(start=3000.0))
assert clip.frames_FHWC.shape == (frames, 480, 832, 3)
print(clip.choice)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of memory")
def test_an_hour_of_4k_takes_at_most_three_times_the_memory_of_the_clip(tmp_path: Path) -> None:
    path = hour(tmp_path / "hour.mp4")
    arguments = [sys.executable, "-c", READ_THE_HOUR, str(path), "49"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "read 3600.0 s of 3840x2160 at 25 fps; using 49 frames from 3000 s on" in done.stdout
