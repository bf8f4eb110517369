"""Reference Clip: what it makes of a video, and what it refuses."""

from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own
Call = Callable[..., Any]
INPUTS: dict[str, Any] = {
    "static_prompt": "a [v] dancer in a red dress",
    "motion_prompt": "a [v] dancer in a red dress [u] spinning",
    "frames": 81,
    "width": 0,
    "height": 0,
    "image_fps": 32.0,
}


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
    """640x360 became 640x352 here and 640x368 there."""
    fitted_size = pack("setandseq_core.clips.clip").fitted_size
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
        (torch.ones(3, 60, 100), "3 pictures of 100x60, but the clip has 40"),
        (torch.ones(1, 8, 8), "1 pictures of 8x8"),
        (torch.zeros(1, 60, 100), "The mask is black"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(refer: Call, mask: torch.Tensor, message: str) -> None:
    with pytest.raises(Exception, match=message):
        refer(mask=mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"static_prompt": " "}, "static prompt is empty"),
        ({"motion_prompt": "a dancer"}, "does not hold it"),
        ({"video": torch.rand(1, 64, 64, 3)}, "is a single picture"),
        ({"video": torch.rand(4, 64, 64, 3)}, "too short"),
        ({"video": torch.rand(0, 64, 64, 3)}, "nothing in the frames"),
        ({"width": 50, "height": 50}, "must be multiples of 16"),
    ],
)
def test_a_mistake_is_refused(refer: Call, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        refer(**changes)


def test_models_that_cannot_learn_a_concept_are_refused(refer: Call, image_model: Any, vace_model: Any) -> None:
    for model in (image_model, vace_model):
        with pytest.raises(Exception, match="Concepts need a Wan text-to-video model"):
            refer(model=model)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"static_prompt": "a dancer", "motion_prompt": "a dancer spinning"}, "The static prompt has no token"),
        ({"motion_prompt": "a [v] dancer spinning"}, "no token of its own"),
        ({"motion_prompt": INPUTS["static_prompt"]}, "Both prompts are the same"),
        ({"video": torch.rand(100, 32, 32, 3), "image_fps": 16.0, "frames": 101}, "at most 81 frames"),
    ],
)
def test_what_may_disappoint_is_said(refer: Call, changes: dict[str, Any], note: str) -> None:
    assert note in refer(**changes).ui.value
