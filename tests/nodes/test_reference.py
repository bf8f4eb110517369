"""Reference Clip: the clips that it makes from videos, and the inputs that it refuses."""

from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch

from setandseq_core.cli.model import Model
from setandseq_core.cli.options import ClipOptions
from setandseq_core.cli.references import read_reference
from setandseq_core.clips.clip import Words
from setandseq_core.clips.stretch import Stretch
from setandseq_core.embedded.model import load_embedded
from tools.tiny_models import load_tiny
from tools.videos import MAKERS

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Call = Callable[..., Any]
INPUTS: dict[str, Any] = {
    "static_prompt": "a [v] dancer in a red dress",
    "motion_prompt": "a [v] dancer in a red dress [u] spinning",
    "frames": 81,
    "width": 0,
    "height": 0,
    "image_fps": 32.0,
    "start": 0.0,
    "length": 0.0,
}
KINDS = [name for name in MAKERS if name != "hour.mp4"]


@pytest.fixture
def refer(run: Call, load_wan: Call) -> Call:
    """Runs the node on a Wan with 40 frames of 100x60 unless told otherwise."""

    def execute(**changes: Any) -> Any:
        frames = torch.rand(40, 60, 100, 3, generator=torch.Generator().manual_seed(0))
        return run("ReferenceClip", **{"model": load_wan(), "video": frames, **INPUTS, **changes})

    return execute


def test_frames_are_what_the_model_takes_and_the_node_says_so(refer: Call) -> None:
    output = refer()
    reference, images = output.result
    assert images.shape == (17, 64, 96, 3) and reference.clip.fps == 16
    assert "read 1.2 s of 100x60 at 32 fps; using the first 17 frames at 16 fps" in output.ui.value
    assert (reference.words.identity_token, reference.words.motion_token) == ("[v]", "[u]")
    assert reference.mask_FHW is None


def test_a_video_knows_its_own_rate(refer: Call) -> None:
    api = import_module("comfy_api.latest")
    components = api.Types.VideoComponents(images=torch.rand(40, 64, 64, 3), frame_rate=Fraction(16))
    _, images = refer(video=api.InputImpl.VideoFromComponents(components), image_fps=99.0).result
    assert images.shape == (37, 64, 64, 3)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [((0, 0), (64, 96)), ((48, 0), (32, 48)), ((0, 32), (32, 48)), ((32, 80), (80, 32))],
)
def test_what_is_zero_follows_the_clip(refer: Call, asked: tuple[int, int], expected: tuple[int, int]) -> None:
    _, images = refer(width=asked[0], height=asked[1]).result
    assert images.shape[1:3] == expected


def test_a_large_clip_is_made_no_larger_than_the_model_was_trained_on(refer: Call) -> None:
    _, images = refer(video=torch.rand(5, 1080, 1920, 3), image_fps=16.0).result
    assert images.shape[1] * images.shape[2] <= 1.05 * 832 * 480
    assert images.shape[2] / images.shape[1] == pytest.approx(16 / 9, rel=0.03)


def test_the_size_is_that_of_the_command_line(refer: Call, pack: Call) -> None:
    """Earlier, 640x360 became 640x352 here and 640x368 there."""
    fitted_size = pack("setandseq_core.clips.size").fitted_size
    for height, width in [(360, 640), (72, 104), (1080, 1928)]:
        _, images = refer(video=torch.rand(5, height, width, 3), image_fps=16.0).result
        assert images.shape[1:3] == fitted_size((height, width), 16, None, 832 * 480)


@pytest.mark.parametrize("pictures", [1, 40])
def test_the_mask_is_fitted_as_the_clip_is(refer: Call, pictures: int) -> None:
    mask = torch.zeros(pictures, 60, 100)
    mask[:, :, :50] = 1
    reference, images = refer(mask=mask).result
    assert reference.mask_FHW.shape == images.shape[:3]
    assert reference.mask_FHW[:, :, :40].min() > 0.9 and reference.mask_FHW[:, :, 56:].max() < 0.1


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(3, 60, 100), "The mask has 3 pictures, but the video has more than 3 frames"),
        (torch.ones(1, 8, 8), "The mask is 8x8, but the video is 100x60"),
        (torch.zeros(1, 60, 100), "The mask is black"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(refer: Call, mask: torch.Tensor, message: str) -> None:
    with pytest.raises(Exception, match=message):
        refer(mask=mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"static_prompt": " "}, "look prompt is empty"),
        ({"motion_prompt": "a dancer"}, "does not hold it"),
        ({"static_prompt": "a dancer", "motion_prompt": "a dancer spinning"}, "has no token"),
        ({"motion_prompt": INPUTS["static_prompt"]}, "Both prompts are the same"),
        ({"video": torch.rand(1, 64, 64, 3)}, "is a single picture"),
        ({"video": torch.rand(4, 64, 64, 3)}, "too short"),
        ({"video": torch.rand(0, 64, 64, 3)}, "nothing in the frames"),
        ({"width": 50, "height": 50}, "must be multiples of 16"),
    ],
)
def test_a_mistake_is_refused(refer: Call, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        refer(**changes)


def test_models_that_cannot_learn_a_concept_are_refused(refer: Call, image_model: Any) -> None:
    with pytest.raises(Exception, match="It makes pictures, not videos"):
        refer(model=image_model)


@pytest.mark.parametrize(("name", "frames"), [("ltxv", 17), ("mochi", 19), ("unlisted", 17)])
def test_a_clip_makes_whole_latent_frames_of_any_model(refer: Call, tmp_path: Path, name: str, frames: int) -> None:
    clip = refer(model=load_tiny(name, tmp_path), video=torch.rand(23, 64, 64, 3), image_fps=24.0, frames=23)
    assert len(clip.result[0].clip.frames_FHWC) == frames
    assert ("is not in the list of models that are tested" in clip.ui.value) == (name == "unlisted")


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"motion_prompt": "a [v] dancer spinning"}, "no token of its own"),
        ({"video": torch.rand(100, 32, 32, 3), "image_fps": 16.0, "frames": 101}, "81 frames are usual"),
    ],
)
def test_what_may_disappoint_is_said(refer: Call, changes: dict[str, Any], note: str) -> None:
    assert note in refer(**changes).ui.value


# --- video files ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of each kind."""
    folder = tmp_path_factory.mktemp("videos")
    for name in KINDS:
        MAKERS[name](folder / name)
    return folder


@pytest.mark.parametrize("start", [0.0, 0.4])
@pytest.mark.parametrize("name", KINDS)
def test_a_file_gives_the_frames_that_the_command_line_reads(
    refer: Call, videos: Path, name: str, start: float
) -> None:
    video = import_module("comfy_api.latest").InputImpl.VideoFromFile(str(videos / name))
    output = refer(video=video, start=start, frames=17, width=64, height=64)
    model = Model(backbone=load_embedded(), frames=17, size=(64, 64))
    words = Words(static_prompt="a", motion_prompt="a")
    expected = read_reference(
        videos / name, None, words, Stretch(start=start), ClipOptions(frames=None, size=None), model
    )
    assert torch.equal(output.result[1], expected.clip.frames_FHWC)
    assert expected.clip.choice in output.ui.value


def test_only_the_stretch_that_was_trimmed_and_asked_for_is_used(refer: Call, videos: Path) -> None:
    """This also holds for a file in memory, as other nodes pass it on."""
    api = import_module("comfy_api.latest")
    sources = str(videos / "fast.mp4"), BytesIO((videos / "fast.mp4").read_bytes())
    found = [
        refer(video=api.InputImpl.VideoFromFile(file, start_time=0.5, duration=1.0), start=0.25).result[1]
        for file in sources
    ]
    whole = refer(video=api.InputImpl.VideoFromFile(sources[0]), start=0.75, length=0.75).result[1]
    assert len(whole) == 9 and all(torch.equal(whole, images) for images in found)


def test_frames_in_memory_are_cut_too(refer: Call) -> None:
    whole = refer(frames=5, start=0.5).result[1]
    frames = torch.rand(40, 60, 100, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole, refer(video=frames[16:], frames=5).result[1])
    with pytest.raises(Exception, match=r"too short: 3 frames .* Start earlier, take a longer part"):
        refer(length=0.2)


@pytest.mark.parametrize("start", [0.0, 0.4])
@pytest.mark.parametrize("name", KINDS)
def test_the_masks_of_a_file_keep_step_with_its_frames(refer: Call, videos: Path, name: str, start: float) -> None:
    """Each mask is white where the block is in that frame as ComfyUI decodes it."""
    video = import_module("comfy_api.latest").InputImpl.VideoFromFile(str(videos / name))
    bright = video.get_components().images.mean(-1)
    mask = (bright > (bright.amin() + bright.amax()) / 2).float()
    reference, images = refer(video=video, mask=mask, start=start).result
    shown = images.mean(-1)
    shown = (shown > (shown.amin() + shown.amax()) / 2).float()
    assert (reference.mask_FHW - shown).abs().mean() < 0.02


def test_a_video_that_another_node_crops_is_taken_as_it_is_cropped(refer: Call, videos: Path) -> None:
    api = import_module("comfy_api.latest")

    class Cropped(api.InputImpl.VideoFromFile):
        def get_dimensions(self) -> tuple[int, int]:
            return 80, 96

        def get_components(self) -> Any:
            whole = super().get_components()
            return api.Types.VideoComponents(images=whole.images[:, :, :80], frame_rate=whole.frame_rate)

    assert refer(video=Cropped(str(videos / "fast.mp4"))).result[1].shape[1:3] == (96, 80)


def test_a_file_that_is_no_video_is_refused(refer: Call, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("#EXTM3U")
    video = import_module("comfy_api.latest").InputImpl.VideoFromFile(str(tmp_path / "notes.mp4"))
    with pytest.raises(Exception, match=r"is not a video: .* Convert it"):
        refer(video=video)
