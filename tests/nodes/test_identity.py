"""Identity from LoRA: it has the same effect as the LoRA in a stock loader, and motion can be learned on it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]
SPELLINGS = {
    "native": ("diffusion_model.{}", ("lora_A", "lora_B")),
    "kohya": ("lora_unet_{}", ("lora_down", "lora_up")),
}


@pytest.fixture
def lora(pack: Pack, folders: Path) -> Call:
    """Saves a random LoRA of rank 3 for a MODEL in one of the spellings that ComfyUI loads."""

    def save(model: Any, spelling: str, **more: torch.Tensor) -> None:
        generator = torch.Generator().manual_seed(2)
        prefix, sides = SPELLINGS[spelling]
        tensors = dict(more)
        for layer, (num_out, num_in) in pack("nodes.models").model_fingerprint(model).layers.items():
            name = prefix.format(layer.replace(".", "_") if spelling == "kohya" else layer)
            for side, shape in zip(sides, ((3, num_in), (num_out, 3)), strict=True):
                tensors[f"{name}.{side}.weight"] = torch.randn(shape, generator=generator) / 8
            tensors[f"{name}.alpha"] = torch.tensor(1.5)
        (folders / "loras").mkdir(parents=True, exist_ok=True)
        save_file(tensors, folders / "loras" / "dancer.safetensors")

    return save


@pytest.fixture
def take(run: Call) -> Call:
    """Runs the node."""

    def execute(model: Any, **inputs: Any) -> Any:
        values: dict[str, Any] = {"static_prompt": "a ohwx dancer", "trigger_word": "ohwx", "rank": 0}
        values |= {"clip": None, "vae": None, "references": {}}
        return run("IdentityFromLoRA", **values | {"model": model, "lora": "dancer.safetensors"} | inputs)

    return execute


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_look_does_what_a_stock_loader_does(
    comfyui: ModuleType,
    pack: Pack,
    load_wan: Call,
    lora: Call,
    take: Call,
    velocity: Callable[[Any], torch.Tensor],
    spelling: str,
) -> None:
    model = load_wan()
    lora(model, spelling)
    output = take(model, leave_out=False)
    (look,) = output.result
    identity = look.concept
    assert identity.info.identity_token == "ohwx" and identity.rank == 3
    assert "rank 3 of 3, 100% of it kept" in output.ui.as_dict()["text"][0]
    with torch.inference_mode():
        loaded = comfyui.LoraLoaderModelOnly().load_lora_model_only(model, "dancer.safetensors", 1.0)[0]
    before, stock = velocity(model), velocity(loaded)
    ours = velocity(pack("nodes.apply").apply_concepts(model, [look]))
    assert (stock - before).abs().max() > 1e-2
    torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_said_on_the_node(load_wan: Call, lora: Call, take: Call) -> None:
    lora(load_wan(heads=2), "kohya")
    with pytest.raises(Exception, match="made for a model of another size") as caught:
        take(load_wan(), leave_out=False)
    assert type(caught.value).__name__ == "ConceptMismatchError"
    lora(load_wan(), "native", extra=torch.ones(1))
    with pytest.raises(Exception, match=r"1 of 61 tensors .* cannot be taken: 'extra'.*leave_out"):
        take(load_wan(), leave_out=False)
    assert "Left out: 1 tensors" in take(load_wan(), leave_out=True).ui.as_dict()["text"][0]


def test_a_clip_with_pictures_is_refused(pack: Pack, load_wan: Call, lora: Call, take: Call) -> None:
    lora(load_wan(), "native")
    core = pack("setandseq_core.clips.clip")
    words = core.Words(static_prompt="a [w] ball", motion_prompt="a [w] ball [u] hopping")
    clip = core.Reference(clip=core.Clip(frames_FHWC=torch.zeros(5, 32, 32, 3), fps=16.0, choice=""), words=words)
    with pytest.raises(Exception, match="look is taken from a LoRA") as caught:
        take(load_wan(), leave_out=False, references={"reference_0": replace(clip, pictures=(clip,))})
    assert type(caught.value).__name__ == "ConfigError"


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({"lora": "nobody.safetensors"}, "There is no LoRA 'nobody.safetensors'"),
        ({"static_prompt": "  "}, "look prompt"),
        ({"rank": 1000}, "rank is 1000"),
    ],
)
def test_wrong_inputs_are_refused_before_anything_runs(
    pack: Pack, folders: Path, inputs: dict[str, Any], complaint: str
) -> None:
    assert complaint in pack("nodes").IdentityFromLoRA.validate_inputs(**inputs)
