"""Plain LoRAs in the only spelling that diffusers also reads: stock ComfyUI finds every layer."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tools.tiny_models import load_tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings


@pytest.mark.parametrize(("name", "layers"), [("hunyuan_video", 20), ("kandinsky5", 26), ("ltxv", 20)])
def test_comfyui_finds_every_layer(
    comfyui: ModuleType, pack: Callable[[str], Any], tmp_path: Path, name: str, layers: int
) -> None:
    model = load_tiny(name, tmp_path).model
    names = [
        name
        for name, layer in model.diffusion_model.named_modules()
        if isinstance(layer, torch.nn.Linear) and name.split(".")[0].endswith("blocks") and "mod" not in name
    ]
    assert len(names) == layers
    portable_name = pack("setandseq_core.concept_file.lora_names").portable_name
    lora = {}
    for name in names:
        lora[f"{portable_name(name)}.lora_A.weight"] = torch.ones(1, 2)
        lora[f"{portable_name(name)}.lora_B.weight"] = torch.ones(2, 1)
    stock = import_module("comfy.lora")
    found = stock.load_lora(lora, stock.model_lora_keys_unet(model, {}), log_missing=False)
    assert found.keys() == {f"diffusion_model.{name}.weight" for name in names}
