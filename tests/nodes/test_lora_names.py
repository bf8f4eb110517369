"""Plain LoRAs in the one spelling that diffusers takes too: stock ComfyUI finds every layer of it."""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own
HUNYUAN_VIDEO = {
    "image_model": "hunyuan_video",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "vec_in_dim": 768,
    "context_in_dim": 64,
    "hidden_size": 128,
    "mlp_ratio": 4.0,
    "num_heads": 1,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [16, 56, 56],
    "theta": 256,
    "qkv_bias": True,
    "guidance_embed": True,
    "byt5": False,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
}
KANDINSKY = {
    "image_model": "kandinsky5",
    "model_dim": 128,
    "ff_dim": 64,
    "time_dim": 64,
    "num_visual_blocks": 1,
    "num_text_blocks": 1,
    "visual_embed_dim": 132,
}
LTX_VIDEO = {"image_model": "ltxv", "num_layers": 1, "attention_head_dim": 8, "cross_attention_dim": 256}


@pytest.mark.parametrize(
    ("family", "config", "layers"),
    [("HunyuanVideo", HUNYUAN_VIDEO, 10), ("Kandinsky5", KANDINSKY, 16), ("LTXV", LTX_VIDEO, 10)],
)
def test_comfyui_finds_every_layer(
    comfyui: ModuleType, pack: Callable[[str], Any], family: str, config: dict[str, Any], layers: int
) -> None:
    chosen = getattr(import_module("comfy.supported_models"), family)(dict(config))
    chosen.set_inference_dtype(torch.float32, None)
    model = chosen.get_model({})
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
