"""Reference Pictures: lists and batches of pictures, and a training that learns the look from them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]


def photos(count: int, height: int, width: int) -> Tensor:
    return torch.rand(count, height, width, 4, generator=torch.Generator().manual_seed(count))


@pytest.fixture
def fit(pack: Pack, load_wan: Call, run: Call) -> Call:
    """Runs the node as ComfyUI does, which gives it a list for every input."""
    core = pack("setandseq_core.clips.clip")
    words = core.Words(static_prompt="a [w] ball", motion_prompt="a [w] ball [u] hopping", identity_token="[w]")
    clip = core.Clip(frames_FHWC=photos(5, 32, 32)[..., :3], fps=16.0, choice="random")

    def execute(pictures: dict[str, list[Tensor]], *, look_of_clip: bool = False) -> Any:
        return run(
            "ReferencePictures",
            model=[load_wan()],
            reference=[core.Reference(clip=clip, words=words)],
            pictures=pictures,
            static_prompt=["a [v] blob"],
            look_of_clip=[look_of_clip],
        )

    return execute


def test_single_pictures_batches_and_lists_are_taken(fit: Call) -> None:
    output = fit({"picture_0": [photos(2, 32, 48)], "picture_1": [photos(1, 64, 64), photos(1, 2000, 3000)]})
    (reference,) = output.result
    assert [tuple(each.clip.frames_FHWC.shape) for each in reference.pictures] == [
        (2, 32, 48, 3),
        (2, 32, 48, 3),
        (1, 64, 64, 3),
        (1, 512, 768, 3),
    ]
    assert reference.look.identity_token == "[v]" and reference.words.identity_token == "[w]"
    assert output.ui.as_dict()["text"][0] == "Using 4 pictures: 2 of 48x32, 1 of 64x64, 1 of 768x512."


def test_few_pictures_are_said_and_the_clip_can_be_seen_too(fit: Call) -> None:
    output = fit({"picture_0": [photos(1, 32, 32)]}, look_of_clip=True)
    assert [each.words.identity_token for each in output.result[0].pictures] == ["[v]", "[w]"]
    assert output.ui.as_dict()["text"][0].startswith("Using 1 picture: 1 of 32x32. More pictures")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"static_prompt": ["a blob"]}, "has no token"),
        ({"static_prompt": [" "]}, "look prompt is empty"),
        ({"static_prompt": None, "pictures": None}, ""),
        ({"static_prompt": ["a [v] blob"], "look_of_clip": [True]}, ""),
    ],
)
def test_prompts_without_a_token_are_refused_before_anything_runs(
    pack: Pack, values: dict[str, Any], complaint: str
) -> None:
    found = pack("nodes").ReferencePictures.validate_inputs(**values)
    assert complaint in found if complaint else found is True
