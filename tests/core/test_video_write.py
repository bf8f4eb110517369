"""Writing videos, which are then read by ffmpeg and by our own reader."""

from pathlib import Path

import imageio_ffmpeg
import pytest
import torch

from setandseq_core.clips.video import read_clip, read_info, write_video
from setandseq_core.errors import StorageError, VideoError

# imageio-ffmpeg leaves the pipes of an ffmpeg that ended by itself to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.mark.parametrize(("suffix", "atol"), [(".mp4", 0.02), (".webm", 0.02), (".gif", 0.02)])
def test_written_file_reads_back_the_same(tmp_path: Path, suffix: str, atol: float) -> None:
    path = tmp_path / "new folder" / f"clip{suffix}"
    frames = torch.full((17, 32, 48, 3), 0.1)
    for i in range(17):
        frames[i, 8:24, 2 * i : 2 * i + 16] = torch.tensor([0.9, 0.2, 0.4])
    write_video(path, frames, 16)
    clip = read_clip(path, fps=16)
    assert clip.frames_FHWC.shape == frames.shape
    flat = (torch.stack([frames.roll((dy, dx), (1, 2)) for dy in (-2, 2) for dx in (-2, 2)]) == frames).all(0)
    assert (clip.frames_FHWC - frames)[flat].abs().max() < atol + 0.03
    assert (clip.frames_FHWC - frames)[flat].abs().mean() < atol
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_written_mp4_is_what_every_player_shows(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, torch.rand(5, 31, 45, 3), 29.97)
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    reader.close()
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p(tv, bt709")
    assert meta["size"] == (46, 32)
    assert meta["fps"] == 29.97
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_one_tiny_frame_is_written(tmp_path: Path, suffix: str) -> None:
    write_video(tmp_path / f"one{suffix}", torch.rand(1, 1, 1, 3), 16)
    assert (tmp_path / f"one{suffix}").stat().st_size > 0


def test_fast_gif_keeps_its_length(tmp_path: Path) -> None:
    write_video(tmp_path / "fast.gif", torch.rand(20, 48, 64, 3), 100)
    info = read_info(tmp_path / "fast.gif")
    assert info.fps == 50
    assert info.seconds == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize(("name", "message"), [("a.avi", "ends in '.avi'; .mp4, .webm, .gif can"), ("a", "no suffix")])
def test_unknown_suffix_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(VideoError, match=message):
        write_video(tmp_path / name, torch.zeros(5, 16, 16, 3), 16)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_frame_rate_that_is_none_is_not_written(tmp_path: Path, fps: float) -> None:
    with pytest.raises(VideoError, match="frame rate"):
        write_video(tmp_path / "a.mp4", torch.zeros(5, 16, 16, 3), fps)


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, torch.zeros(5, 16, 16, 3), 16)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="clip.mp4 cannot be written .*Check the folder"):
        write_video(path, torch.ones(5, 20_000, 16, 3), 16)  # more rows than h264 takes
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        write_video(tmp_path / "file" / "clip.mp4", torch.zeros(5, 16, 16, 3), 16)
