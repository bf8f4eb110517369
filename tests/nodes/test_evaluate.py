"""Evaluate Concept: on the embedded model's clips, and with real CLIP and DINO models in ComfyUI's own loaders."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Call = Callable[..., Any]
PROMPT = "a large [v] creature [u] wandering on a blue plain background"
SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
FIGURES = ["identity", "motion", "prompt adherence", "temporal coherence", "MSE"]


@pytest.fixture
def bee(pack: Call) -> torch.Tensor:
    return pack("setandseq_core.embedded.world.concepts").CONCEPTS["bee"].frames()


@pytest.fixture
def refer(pack: Call, bee: torch.Tensor) -> Call:
    """A reference like that of Reference Clip, with the bee's clip."""

    def make(prompt: str = PROMPT) -> Any:
        core = pack("setandseq_core.clips.clip")
        words = core.Words(static_prompt="a [v] bee", motion_prompt=prompt, identity_token="[v]", motion_token="[u]")
        return core.Reference(clip=core.Clip(frames_FHWC=bee, fps=16.0, choice=""), words=words)

    return make


@pytest.fixture
def evaluate(run: Call, refer: Call, bee: torch.Tensor) -> Call:
    """Runs the node on the reference itself unless told otherwise."""

    def execute(**changes: Any) -> Any:
        return run("EvaluateConcept", **{"reference": refer(), "images": bee, "prompt": "", **changes})

    return execute


@pytest.fixture(scope="module")
def vision(comfyui: Any) -> Any:
    """A random, tiny CLIP_VISION whose vectors have the same width as those of the text model."""
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    config = {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14, "num_channels": 3}
    clip = import_module("comfy.clip_vision").ClipVisionModel(
        {**config, **sizes, "hidden_act": "quick_gelu", "projection_dim": SIZES["hidden_size"]}
    )
    for weight in clip.model.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    return clip


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A random CLIP-L text model, tiny except for its vocabulary, and its file."""
    torch.manual_seed(0)
    model = CLIPTextModelWithProjection(CLIPTextConfig(**SIZES, projection_dim=64, eos_token_id=49407)).eval()
    file = tmp_path_factory.mktemp("clip") / "clip_l.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, file)
    return model, file


def load_clip(file: Path) -> Any:
    with torch.inference_mode():
        return import_module("comfy.sd").load_clip([str(file)], model_options={"model_config": dict(SIZES)})


def is_blocked(value: Any) -> bool:
    return type(value) is import_module("comfy_execution.graph_utils").ExecutionBlocker


def test_the_reference_itself_is_perfect_on_the_embedded_model(evaluate: Call) -> None:
    output = evaluate()
    report, identity, motion, adherence, coherence, mse = output.result
    assert identity > 0.98 and motion > 0.99 and adherence == 1 and 0 < coherence < 1 and mse == 0
    assert [line.partition(":")[0] for line in report.splitlines()] == FIGURES
    assert "probes of the embedded model" in report and output.ui.as_dict()["text"] == (report,)


def test_the_prompt_that_was_asked_for_counts(evaluate: Call) -> None:
    other = PROMPT.replace("blue plain", "pink striped")
    assert evaluate(prompt=other).result[3] == 0


def test_what_is_missing_blocks_its_wire_and_is_said(evaluate: Call, refer: Call) -> None:
    report, identity, motion, adherence, coherence, mse = evaluate(reference=refer("a [v] bee, [u] dancing")).result
    assert is_blocked(identity) and is_blocked(adherence) and "Load CLIP Vision" in identity.message
    assert motion == pytest.approx(1, abs=1e-3) and mse == 0 and coherence > 0
    assert report.startswith("identity: not computed. No model of images")


def test_a_clip_vision_tells_identity_and_coherence(
    evaluate: Call, refer: Call, vision: Any, bee: torch.Tensor
) -> None:
    inputs = {"reference": refer("a [v] bee, [u] dancing"), "images": bee.flip(2), "clip_vision": vision}
    report, identity, _, adherence, coherence, _ = evaluate(**inputs).result
    with torch.inference_mode():
        one, two = (functional.normalize(vision.encode_image(f)["image_embeds"], dim=1) for f in (bee, bee.flip(2)))
    assert identity == pytest.approx(float((two @ one.T).amax(dim=1).mean()), abs=1e-5)
    assert coherence == pytest.approx(float((two[1:] * two[:-1]).sum(dim=1).mean()), abs=1e-5)
    assert is_blocked(adherence) and "clip vision model, 28 pixels" in report


def test_a_dino_tells_identity(evaluate: Call, comfyui: Any) -> None:
    torch.manual_seed(0)
    sizes = {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "mlp_ratio": 4,
        "layer_norm_eps": 1e-6,
    }
    rest = {"use_swiglu_ffn": False, "image_size": 518, "patch_size": 14, "num_channels": 3, "model_type": "dinov2"}
    dino = import_module("comfy.clip_vision").ClipVisionModel({**sizes, **rest})
    for weight in dino.model.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    report, identity, *_ = evaluate(clip_vision=dino).result
    assert identity == pytest.approx(1, abs=1e-4) and "dinov2, 518 pixels" in report


def test_prompt_adherence_is_that_of_transformers_text_model(
    evaluate: Call, refer: Call, vision: Any, text_model: tuple[Any, Path], bee: torch.Tensor
) -> None:
    model, file = text_model
    clip = load_clip(file)
    inputs = {"reference": refer("a [v] bee, [u] dancing"), "clip_vision": vision, "clip": clip}
    _, identity, _, adherence, *_ = evaluate(**inputs).result
    ids = torch.tensor([[token for token, *_ in clip.tokenize("a bee, dancing")["l"][0]]])
    with torch.inference_mode():
        text = functional.normalize(model(input_ids=ids).text_embeds[0], dim=0)
        images = functional.normalize(vision.encode_image(bee)["image_embeds"], dim=1)
    assert adherence == pytest.approx(float((images @ text).mean()), abs=1e-4)
    assert identity == pytest.approx(1, abs=1e-4)


def test_a_clip_without_its_projection_is_refused_not_guessed(
    evaluate: Call, refer: Call, vision: Any, text_model: tuple[Any, Path], tmp_path: Path
) -> None:
    weights = {key: value for key, value in load_file(text_model[1]).items() if "text_projection" not in key}
    save_file(weights, tmp_path / "bare.safetensors")
    inputs = {"reference": refer("a [v] bee, [u] dancing"), "clip_vision": vision}
    adherence = evaluate(**inputs, clip=load_clip(tmp_path / "bare.safetensors")).result[3]
    assert is_blocked(adherence) and "(bare.safetensors) has no text projection" in adherence.message


def test_the_video_models_text_encoder_is_refused(pack: Call, evaluate: Call, refer: Call, vision: Any) -> None:
    clip = pack("nodes.embedded").embedded_clip()
    inputs = {"reference": refer("a [v] bee, [u] dancing"), "clip_vision": vision, "clip": clip}
    adherence = evaluate(**inputs).result[3]
    assert is_blocked(adherence) and "(EmbeddedEncoder) does not belong to a CLIP" in adherence.message
