"""A concept exported as a plain LoRA has its full effect in diffusers, through diffusers' own loader and PEFT."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.lora_pipeline import HunyuanVideoLoraLoaderMixin, KandinskyLoraLoaderMixin
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel
from diffusers.models.transformers.transformer_kandinsky import Kandinsky5Transformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from peft.tuners.tuners_utils import BaseTunerLayer

from setandseq_core.concept import Concept, ConceptInfo, ConceptLayer, Strengths
from setandseq_core.concept_file.export import export_lora
from setandseq_core.concept_file.lora_names import portable_name
from setandseq_core.fingerprint import fingerprint

BLOCK_LAYERS = {
    **{f"self_attn.{name}": f"attn1.to_{name}" for name in "qkv"},
    **{f"cross_attn.{name}": f"attn2.to_{name}" for name in "qkv"},
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.o": "attn2.to_out.0",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
NATIVE_TO_DIFFUSERS = {
    f"blocks.{block}.{native}": f"blocks.{block}.{theirs}"
    for block in range(2)
    for native, theirs in BLOCK_LAYERS.items()
} | {"time_projection.1": "condition_embedder.time_proj"}
RANK = 3
ATTENTION = {"qkv": (3, 1), "proj": (1, 1)}
FEED_FORWARD = {"0": (4, 1), "2": (1, 4)}
"""Sizes of HunyuanVideo's layers as multiples of its width."""


def tiny_wan() -> WanTransformer3DModel:
    torch.manual_seed(0)
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    return model.eval()


def concept_for(model: WanTransformer3DModel) -> Concept:
    weights = {native: model.get_parameter(f"{name}.weight") for native, name in NATIVE_TO_DIFFUSERS.items()}
    layers = {
        native: ConceptLayer(
            identity_basis_OR=torch.randn(weight.shape[0], RANK) * 0.3,
            coefficients_RI=torch.randn(RANK, weight.shape[1]) * 0.3,
            motion_residual_RI=torch.randn(RANK, weight.shape[1]) * 0.3,
        )
        for native, weight in weights.items()
    }
    info = ConceptInfo(
        name="tiny",
        static_prompt="a sks thing",
        motion_prompt="a sks thing, mvx moving",
        identity_token="sks",
        motion_token="mvx",
        base=fingerprint("wan", weights),
        base_name="tiny",
        config={},
        training={},
    )
    return Concept(info=info, layers=layers)


@torch.no_grad()
def run(model: WanTransformer3DModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    latents_BCFHW = torch.randn(1, 16, 3, 8, 8, generator=generator)
    text_BND = torch.randn(1, 6, 32, generator=generator)
    return model(latents_BCFHW, torch.tensor([500]), text_BND, return_dict=False)[0]


@pytest.mark.parametrize("strengths", [(1.0, 1.0), (0.5, 2.0)])
def test_export_has_the_full_effect_in_diffusers(tmp_path: Path, strengths: tuple[float, float]) -> None:
    by_hand, by_loader = tiny_wan(), tiny_wan()
    base = run(by_hand)
    concept = concept_for(by_hand)
    path = tmp_path / "lora.safetensors"
    identity, motion = strengths
    export_lora(concept, path, Strengths(identity, motion))

    absent: dict[str, Any] = dict.fromkeys(("tokenizer", "text_encoder", "vae", "scheduler"))
    pipeline = WanPipeline(transformer=by_loader, **absent)
    pipeline.load_lora_weights(str(path), adapter_name="tiny")
    for native, name in NATIVE_TO_DIFFUSERS.items():
        value = concept.layers[native]
        down_RI = identity * value.coefficients_RI + motion * value.motion_residual_RI
        by_hand.get_parameter(f"{name}.weight").data += value.identity_basis_OR @ down_RI
        assert isinstance(by_loader.get_submodule(name), BaseTunerLayer), f"PEFT does not apply {native}"

    needed = run(by_hand)
    assert (needed - base).abs().max() > 0.1
    torch.testing.assert_close(run(by_loader), needed, rtol=1e-5, atol=1e-5)
    pipeline.disable_lora()
    torch.testing.assert_close(run(by_loader), base, rtol=0, atol=0)


def converted_layers(loader: Any, layers: dict[str, tuple[int, int]]) -> set[str]:
    """The names of diffusers' own layers for a plain LoRA of these layers, given as native name -> (out, in)."""
    tensors = {}
    for layer, (num_out, num_in) in layers.items():
        key = portable_name(layer)
        tensors[f"{key}.lora_A.weight"] = torch.ones(1, num_in)
        tensors[f"{key}.lora_B.weight"] = torch.ones(num_out, 1)
    found = loader.lora_state_dict(tensors)
    return {key.split(".lora_")[0].removeprefix("transformer.") for key in found}


def linear_layers(model: torch.nn.Module) -> set[str]:
    return {name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}


def test_diffusers_finds_every_layer_of_an_exported_hunyuan_video() -> None:
    width = 3072  # the only name that diffusers converts
    layers = {"single_blocks.0.linear1": (7, 1), "single_blocks.0.linear2": (1, 5)}
    for kind, found in (("attn", ATTENTION), ("mlp", FEED_FORWARD)):
        for side in ("img", "txt"):
            layers |= {f"double_blocks.0.{side}_{kind}.{name}": size for name, size in found.items()}
    sizes = {name: (width * num_out, width * num_in) for name, (num_out, num_in) in layers.items()}
    model = HunyuanVideoTransformer3DModel(
        num_attention_heads=1, attention_head_dim=128, num_layers=1, num_single_layers=1, num_refiner_layers=1
    )
    found = converted_layers(HunyuanVideoLoraLoaderMixin, sizes)
    assert len(found) == 17  # there, queries, keys and values are separate layers
    assert found <= linear_layers(model)


def test_diffusers_finds_every_layer_of_an_exported_kandinsky() -> None:
    model = Kandinsky5Transformer3DModel(num_text_blocks=1, num_visual_blocks=1, model_dim=128, ff_dim=64, time_dim=64)
    linear = linear_layers(model)
    in_blocks = {name for name in linear if "_transformer_blocks." in name and "modulation" not in name}
    assert len(in_blocks) == 16
    assert converted_layers(KandinskyLoraLoaderMixin, dict.fromkeys(in_blocks, (4, 4))) == in_blocks
