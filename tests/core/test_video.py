"""Reading videos: real files written by ffmpeg, some of them damaged by hand."""

import os
import re
import struct
import wave
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
import torch
from PIL import Image
from torch import Tensor

from setandseq_core.clips.clip import fit_clip
from setandseq_core.clips.size import fitted_size
from setandseq_core.clips.video import read_clip, read_info, write_video
from setandseq_core.errors import VideoError

# imageio-ffmpeg leaves the pipes of an ffmpeg that ended by itself to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

HEIGHT, WIDTH = 48, 64
GREEN, GREY_STEP = 255, 10
MP4_UPRIGHT = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
MP4_QUARTER_TURN = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)

FORMATS = {
    "h264.mp4": {"codec": "libx264"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt_out": "yuv422p10le"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "hevc_10bit.mkv": {
        "codec": "libx265",
        "pix_fmt_out": "yuv420p10le",
        "output_params": ["-x265-params", "log-level=none"],
    },
    "animated.gif": {"codec": "gif", "pix_fmt_out": "rgb8"},
}


def numbered_frames(length: int, height: int = HEIGHT, width: int = WIDTH, channels: int = 3) -> Tensor:
    """Frames in uint8: frame i is grey with level 10 i, and its top left quarter is green."""
    levels = torch.arange(length, dtype=torch.uint8) * GREY_STEP
    frames = levels.view(-1, 1, 1, 1).repeat(1, height, width, channels)
    frames[:, : height // 2, : width // 2, :3] = torch.tensor([0, GREEN, 0], dtype=torch.uint8)
    return frames


def make_file(path: Path, frames: Tensor, fps: Any = 16, **settings) -> Path:
    height, width, channels = frames.shape[1:]
    settings = {"quality": None, "pix_fmt_in": "rgba" if channels == 4 else "rgb24", **settings}
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, macro_block_size=1, ffmpeg_log_level="error", **settings
    )
    writer.send(None)
    for frame in frames:
        writer.send(frame.numpy().tobytes())
    writer.close()
    return path


def numbers(frames_FHWC: Tensor) -> list[int]:
    """The number of each frame, read off its grey at the bottom right."""
    height, width = frames_FHWC.shape[1:3]
    corner = frames_FHWC[:, height * 5 // 8 :, width * 5 // 8 :]
    return (corner.mean((1, 2, 3)) * 255 / GREY_STEP).round().int().tolist()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file of 20 frames at 16 fps in each format."""
    folder = tmp_path_factory.mktemp("videos")
    for name, settings in FORMATS.items():
        make_file(folder / name, numbered_frames(20), **settings)
    return folder


def copy_with(source: Path, target: Path, **replace: bytes) -> Path:
    data = source.read_bytes()
    found = data.index(replace["old"], data.index(replace["after"]))
    target.write_bytes(data[:found] + replace["new"] + data[found + len(replace["old"]) :])
    return target


# --- reading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_frame_by_frame(files: Path, name: str) -> None:
    clip = read_clip(files / name, fps=16)
    assert clip.frames_FHWC.shape == (17, HEIGHT, WIDTH, 3)
    assert clip.frames_FHWC.dtype == torch.float32
    assert clip.fps == 16
    tolerance = 3 if name.endswith(".gif") else 0  # the 8 colours of the test's gif are coarse
    assert all(abs(found - i) <= tolerance for i, found in enumerate(numbers(clip.frames_FHWC)))
    green = clip.frames_FHWC[:, 4:20, 4:28].mean((0, 1, 2))
    assert torch.allclose(green, torch.tensor([0.0, 1.0, 0.0]), atol=0.06)


def test_choice_says_what_was_found_and_chosen(files: Path) -> None:
    choice = read_clip(files / "h264.mp4", fps=8, size=(32, 32)).choice
    assert choice == (
        "read 1.2 s of 64x48 at 16 fps; using the first 9 frames at 8 fps (1.1 s), 32x32, from the central 48x48"
    )


def test_info_is_what_the_file_says(files: Path) -> None:
    info = read_info(files / "vp9.webm")
    assert (info.width, info.height, info.fps, info.codec) == (WIDTH, HEIGHT, 16, "vp9")
    assert info.seconds == pytest.approx(1.25, abs=0.05)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (8, [0, 2, 4, 6, 8, 10, 12, 14, 16]),
        (32, [i // 2 for i in range(37)]),
        (12, [0, 1, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16]),
    ],
)
def test_motion_keeps_its_speed_at_another_frame_rate(files: Path, fps: float, expected: list[int]) -> None:
    found = numbers(read_clip(files / "h264.mp4", fps=fps).frames_FHWC)
    assert len(found) == len(expected)
    assert all(abs(a - b) <= (fps == 12) for a, b in zip(found, expected, strict=True))


def test_variable_frame_rate_is_resampled_by_time(tmp_path: Path) -> None:
    times = "setpts='if(lt(N,8),N/16,0.5+(N-8)/4)/TB'"
    path = make_file(
        tmp_path / "vfr.mkv", numbered_frames(12), codec="libx264", output_params=["-vf", times, "-fps_mode", "vfr"]
    )
    found = numbers(read_clip(path, fps=16, frames=17).frames_FHWC)
    assert found == [*range(8), 8, 8, 8, 8, 9, 9, 9, 9, 10]


def test_video_that_starts_late_begins_with_its_first_frame(tmp_path: Path) -> None:
    path = make_file(
        tmp_path / "late.mkv", numbered_frames(12), codec="libx264", output_params=["-vf", "setpts=PTS+2/TB"]
    )
    assert numbers(read_clip(path, fps=16).frames_FHWC) == list(range(9))


def test_rotated_video_comes_out_upright(files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = files / "h264.mp4"
    path = copy_with(plain, tmp_path / "phone.mp4", after=b"tkhd", old=MP4_UPRIGHT, new=MP4_QUARTER_TURN)
    info = read_info(path)
    assert (info.width, info.height) == (HEIGHT, WIDTH)
    turned = torch.rot90(read_clip(plain, fps=16).frames_FHWC, -1, (1, 2))
    assert torch.equal(read_clip(path, fps=16).frames_FHWC, turned)
    assert not caplog.records


def test_pixels_that_are_not_square_are_made_square(tmp_path: Path) -> None:
    path = make_file(tmp_path / "wide.mp4", numbered_frames(6), codec="libx264", output_params=["-vf", "setsar=2"])
    assert read_clip(path, fps=16).frames_FHWC.shape == (5, HEIGHT, 2 * WIDTH, 3)


def test_odd_size_goes_to_the_nearest_multiple(tmp_path: Path) -> None:
    path = make_file(tmp_path / "odd.mkv", numbered_frames(6, 41, 55), codec="ffv1", pix_fmt_out="bgr0")
    assert read_clip(path, fps=16).frames_FHWC.shape == (5, 48, 48, 3)
    whole = read_clip(path, fps=16, multiple=1)
    assert torch.equal((whole.frames_FHWC * 255).round().to(torch.uint8), numbered_frames(6, 41, 55)[:5])


@pytest.mark.parametrize(
    ("source", "multiple", "wanted", "max_pixels", "expected"),
    [
        ((360, 640), 16, None, None, (352, 640)),  # 22.5 times 16, rounded down to enlarge nothing
        ((1080, 1928), 16, None, None, (1072, 1920)),
        ((1080, 1920), 16, None, 832 * 480, (480, 848)),
        ((360, 640), 16, None, 832 * 480, (352, 640)),
        ((360, 640), 32, None, 1280 * 704, (352, 640)),
        ((360, 640), 16, (176, None), 832 * 480, (176, 320)),
        ((360, 640), 16, (None, 320), 832 * 480, (176, 320)),
        ((360, 640), 16, (64, 64), None, (64, 64)),
        ((3, 640), 16, None, None, (16, 640)),
    ],
)
def test_size_follows_one_rule(
    source: tuple[int, int],
    multiple: int,
    wanted: tuple[int | None, int | None] | None,
    max_pixels: int | None,
    expected: tuple[int, int],
) -> None:
    assert fitted_size(source, multiple, wanted, max_pixels) == expected


def test_a_file_and_its_frames_get_the_same_size(tmp_path: Path) -> None:
    frames = numbered_frames(6, 360, 640)
    path = make_file(tmp_path / "source.mkv", frames, codec="ffv1", pix_fmt_out="bgr0")
    assert read_clip(path, fps=16).frames_FHWC.shape == (5, 352, 640, 3)
    assert fit_clip(frames.float() / 255, 16, fps=16).frames_FHWC.shape == (5, 352, 640, 3)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("alpha.mov", "prores_ks", "yuva444p10le"), ("alpha.webm", "libvpx-vp9", "yuva420p"), ("a.mkv", "ffv1", "bgra")],
)
def test_transparent_parts_are_put_on_black(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    frames = torch.full((6, HEIGHT, WIDTH, 4), 255, dtype=torch.uint8)
    frames[:, :, WIDTH // 2 :, 3] = 0
    clip = read_clip(make_file(tmp_path / name, frames, codec=codec, pix_fmt_out=pix_fmt), fps=16)
    assert clip.frames_FHWC[:, :, : WIDTH // 2 - 8].min() > 0.95
    assert clip.frames_FHWC[:, :, WIDTH // 2 + 8 :].max() < 0.05
    assert clip.choice.endswith("transparent parts on black")


def test_only_the_beginning_that_is_needed_is_used(files: Path) -> None:
    assert len(read_clip(files / "h264.mp4", fps=16, max_frames=12).frames_FHWC) == 9
    assert len(read_clip(files / "h264.mp4", fps=16, frames=5).frames_FHWC) == 5


def test_five_frames_are_enough(tmp_path: Path) -> None:
    path = make_file(tmp_path / "short.mp4", numbered_frames(5), codec="libx264")
    assert numbers(read_clip(path, fps=16).frames_FHWC) == [0, 1, 2, 3, 4]


def test_text_and_relative_paths_are_read(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    os.link("animated.gif", "-y %d.gif")
    assert len(read_clip("-y %d.gif", fps=16).frames_FHWC) == 17


# --- frames in memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [8, 12, 16, 24, 32])
def test_frames_in_memory_give_the_same_clip_as_their_file(tmp_path: Path, fps: float) -> None:
    frames = numbered_frames(20, 41, 55)
    path = make_file(tmp_path / "source.mkv", frames, codec="ffv1", pix_fmt_out="bgr0")
    from_file = read_clip(path, fps=fps)
    in_memory = fit_clip(frames.float() / 255, 16, fps=fps)
    assert in_memory.choice == from_file.choice
    # A decoder returns whole bytes.
    assert torch.allclose(in_memory.frames_FHWC, from_file.frames_FHWC, atol=1 / 255)


def test_frames_that_fit_are_left_as_they_are() -> None:
    frames = torch.rand(9, 32, 48, 3)
    assert torch.equal(fit_clip(frames, 16, fps=16).frames_FHWC, frames)


def test_centre_is_kept_without_distortion() -> None:
    frames = torch.zeros(5, 60, 200, 3)
    frames[:, 20:40, 90:110] = 1
    fitted = fit_clip(frames, 16, fps=16, size=(48, 48)).frames_FHWC
    lit = (fitted[0, :, :, 0] > 0.5).nonzero()
    assert lit.min(0).values.tolist() == [16, 16]
    assert lit.max(0).values.tolist() == [31, 31]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 0}, "frame rate is 0; it must be from 1 to 240 fps"),
        ({"fps": -8}, "frame rate is -8"),
        ({"fps": float("nan")}, "frame rate is nan"),
        ({"fps": float("inf")}, "frame rate is inf"),
        ({"fps": 16, "multiple": 0}, "multiple is 0"),
        ({"fps": 16, "max_frames": 4}, "max_frames is 4; it must be 5 or more"),
        ({"fps": 16, "frames": 12}, "frames is 12; it must be 4n+1 and at least 5. Ask for 9 frames."),
        ({"fps": 16, "frames": 1}, "frames is 1; .* Ask for 5 frames"),
        ({"fps": 16, "size": (40, 64)}, r"\(40, 64\); both must be multiples of 16. Ask for \(32, 64\)"),
        ({"fps": 16, "size": (0, 64)}, r"Ask for \(16, 64\)"),
        ({"fps": 16, "size": (4096, 8192)}, "41 frames of 8192x4096 need .* MiB .* Ask for a smaller size"),
        ({"fps": 16, "frames": 41}, "has 20 frames at 16 fps, but 41 were asked for.* ask for 17 frames"),
        ({"fps": 2}, "too short: 3 frames at 2 fps; at least 5"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(files: Path, settings: dict, message: str) -> None:
    pattern = message.replace("4n+1", r"4n\+1")
    settings = {"max_frames": 41, **settings}
    with pytest.raises(VideoError, match=pattern):
        fit_clip(torch.zeros(20, 64, 64, 3), 16, **settings)
    with pytest.raises(VideoError, match=pattern):
        read_clip(files / "h264.mp4", **settings)


BAD_FRAMES = [
    (torch.zeros(5, 3, 16, 16), r"shape \(5, 3, 16, 16\); \(frames, height, width, 3\) is needed"),
    (torch.zeros(16, 16, 3), r"shape \(16, 16, 3\)"),
    (torch.zeros(0, 16, 16, 3), r"nothing in the frames, their shape is \(0, 16, 16, 3\)"),
    (torch.zeros(5, 16, 16, 3, dtype=torch.uint8), "torch.uint8; floats .* Divide bytes by 255"),
    (torch.full((5, 16, 16, 3), float("nan")), "3840 values of the frames are not finite"),
    (torch.full((5, 16, 16, 3), 255.0), r"from 255 to 255; they must be in \[0, 1\]"),
    (torch.full((5, 16, 16, 3), -1.0), r"from -1 to -1"),
]


@pytest.mark.parametrize(("frames", "message"), BAD_FRAMES)
def test_frames_that_are_none_are_refused(tmp_path: Path, frames: Tensor, message: str) -> None:
    with pytest.raises(VideoError, match=message):
        fit_clip(frames, 16, fps=16)
    with pytest.raises(VideoError, match=message):
        write_video(tmp_path / "bad.mp4", frames, 16)
    assert not list(tmp_path.iterdir())


# --- bad files --------------------------------------------------------------------------------------------------


def refused(path: Path, message: str) -> None:
    with pytest.raises(VideoError, match=re.escape(str(path)) + ".*" + message):
        read_clip(path, fps=16)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "no.mp4", "does not exist.*Check the spelling")


def test_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder; the path of a video file is needed")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    refused(tmp_path / "pipe.mp4", "is not an ordinary file")


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    refused(tmp_path / "empty.mp4", r"is empty \(0 bytes\)")


def test_text_named_mp4_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("#EXTM3U\nhttp://localhost/other.ts\n")
    refused(path, "is not a video: it begins with b'#EXTM3U.*mp4, mov, webm, mkv or gif is needed")


def test_image_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "picture.png")
    refused(tmp_path / "picture.png", r"is not a video: it begins with b'\\x89PNG.*one image is not enough")


@pytest.mark.parametrize(("name", "codec"), [("one.gif", "gif"), ("one.mp4", "libx264")])
def test_one_frame_is_refused_at_any_frame_rate(tmp_path: Path, name: str, codec: str) -> None:
    pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
    path = make_file(tmp_path / name, numbered_frames(1), fps=1, codec=codec, pix_fmt_out=pix_fmt)
    refused(path, "holds one frame, so it is a picture; a video with motion is needed")


def test_too_short_is_refused(tmp_path: Path) -> None:
    path = make_file(tmp_path / "short.mp4", numbered_frames(8), fps=32, codec="libx264")
    refused(path, r"is too short: 4 frames at 16 fps; at least 5 \(0.31 s\) are needed")


def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    path = make_file(
        tmp_path / "sound.mp4",
        numbered_frames(2),
        codec="libx264",
        audio_path=str(tmp_path / "sound.wav"),
        output_params=["-vn", "-c:a", "aac"],
    )
    refused(path, "holds sound only; a video with pictures is needed")


@pytest.mark.parametrize("part", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("name", ["h264.mp4", "prores.mov", "vp9.webm", "hevc_10bit.mkv", "animated.gif"])
def test_cut_off_file_is_refused(files: Path, tmp_path: Path, name: str, part: float) -> None:
    data = (files / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * part)])
    refused(path, "is cut off: its end is missing after .* bytes. Copy or download it again")


def test_cut_off_file_for_the_web_is_refused(tmp_path: Path) -> None:
    """Such a file begins with its index, so ffmpeg plays the part that exists."""
    path = tmp_path / "web.mp4"
    write_video(path, numbered_frames(20).float() / 255, 16)
    path.write_bytes(path.read_bytes()[:-200])
    refused(path, "is cut off")


def test_damaged_index_is_refused(files: Path, tmp_path: Path) -> None:
    path = copy_with(files / "h264.mp4", tmp_path / "damaged.mp4", after=b"moov", old=b"stsd", new=b"xxxx")
    refused(path, r"is damaged, or not a video \(.*Export the video again")


def test_frames_above_the_limit_are_refused(tmp_path: Path) -> None:
    path = make_file(tmp_path / "wide.mkv", numbered_frames(2, 16, 8208), codec="ffv1", pix_fmt_out="bgr0")
    refused(path, "frames of 8208x16; at most 8192 pixels a side are read. Scale the video down")


@pytest.mark.parametrize("side", [16000, 65000])
def test_gif_that_would_fill_the_memory_is_refused(files: Path, tmp_path: Path, side: int) -> None:
    size, bomb = struct.pack("<HH", WIDTH, HEIGHT), struct.pack("<HH", side, side)
    path = copy_with(files / "animated.gif", tmp_path / "bomb.gif", after=b"GIF8", old=size, new=bomb)
    refused(path, f"frames of {side}x{side}; at most 8192")
