"""The embedded model in ComfyUI's own nodes: text encoder, transformer, VAE, and the example clip."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from setandseq_core.embedded.files import TRANSFORMER_FILE, VAE_FILE
from setandseq_core.embedded.text import encode_prompt

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]
PROMPT = "a sks small red Circle, zub bouncing; it's a [v] cat's-eye"


@pytest.fixture
def clip(run: Call) -> Any:
    """The output of the node."""
    return run("EmbeddedTextEncoder").result[0]


@pytest.fixture
def encode(comfyui: ModuleType, clip: Any) -> Callable[[str], torch.Tensor]:
    """The tokens that the stock node makes from a prompt."""

    def tokens(prompt: str) -> torch.Tensor:
        with torch.inference_mode():
            ((found, extra),) = comfyui.CLIPTextEncode().encode(clip, prompt)[0]
        assert extra == {"pooled_output": None}  # as Wan's own text encoder
        return found

    return tokens


@pytest.mark.parametrize("prompt", [PROMPT, "", " , ", "circle", " ".join(f"word{index}" for index in range(48))])
def test_stock_node_encodes_as_the_core_does(encode: Callable[[str], torch.Tensor], prompt: str) -> None:
    found = encode(prompt)
    assert found.shape == (1, 48, 4096)
    assert torch.equal(found[0], encode_prompt(prompt))


def test_weights_scale_words(encode: Callable[[str], torch.Tensor]) -> None:
    plain = encode_prompt("a red circle bouncing")
    expected = plain * torch.tensor([1, 1.5, 1.1, 1.1 * 1.1] + [1] * 44).unsqueeze(1)
    torch.testing.assert_close(encode("a (red:1.5) (circle (bouncing))")[0], expected, rtol=1e-6, atol=0)


def test_escaped_brackets_are_no_weights(encode: Callable[[str], torch.Tensor]) -> None:
    assert torch.equal(encode("a \\(red\\) circle")[0], encode_prompt("a red circle"))


def test_too_long_a_prompt_is_an_error(pack: Pack, encode: Callable[[str], torch.Tensor]) -> None:
    with pytest.raises(
        pack("setandseq_core.errors").PromptError, match="has 49 words; .* takes 48. Shorten it: 'on on"
    ):
        encode(" ".join(["on"] * 49))


def test_clip_is_one_of_comfyui(comfyui: ModuleType, clip: Any) -> None:
    assert type(clip) is comfyui.comfy.sd.CLIP
    assert clip.clone().tokenize("a (b:2)", return_word_ids=True) == {"setandseq": [[("a", 1.0, 1), ("b", 2.0, 2)]]}
    stopped = comfyui.CLIPSetLastLayer().set_last_layer(clip, -2)[0]
    assert torch.equal(stopped.encode_from_tokens(stopped.tokenize(PROMPT))[0], encode_prompt(PROMPT))
    assert clip.get_sd() == {}


def test_negative_prompts_can_be_zeroed_and_joined(comfyui: ModuleType, clip: Any) -> None:
    with torch.inference_mode():
        first = comfyui.CLIPTextEncode().encode(clip, "red circle")[0]
        zeroed = comfyui.ConditioningZeroOut().zero_out(first)[0]
        joined = comfyui.ConditioningConcat().concat(first, zeroed)[0]
    assert not zeroed[0][0].any()
    assert joined[0][0].shape == (1, 96, 4096)


def test_stock_loaders_load_the_embedded_files(comfyui: ModuleType, pack: Pack, folders: Path) -> None:
    with torch.inference_mode():
        model = comfyui.UNETLoader().load_unet(TRANSFORMER_FILE.name, "default")[0]
        vae = comfyui.VAELoader().load_vae(VAE_FILE.name)[0]
    pack("nodes.models").check_video_model(model)
    assert pack("nodes.models").model_name(model) == "the embedded model of Set-and-Sequence (256 wide, 10 blocks)"
    assert vae.latent_channels == 16


def test_example_clip_opens(run: Call) -> None:
    video = run("ExampleClip").result[0]
    images = video.get_components().images
    assert images.shape[1:] == (64, 64, 3) or images.shape[3] == 3
    assert len(images) >= 17
