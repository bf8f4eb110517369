"""Runs the same step with ComfyUI's own TrainLoraNode and with plain PEFT on diffusers."""

from importlib import import_module
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from torch import Tensor

from benchmarks.gpu.inside import card
from benchmarks.gpu.steps import Steps, watched_steps
from benchmarks.gpu.wan import TEXT_TOKENS, TEXT_WIDTH, Clip, Shape

LEARNING_RATE = 1e-4
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ffn.net.0.proj", "ffn.net.2")


def train_lora_node(model: Any, clip: Clip, *, steps: int, rank: int) -> Steps:
    """Train a LoRA of all layers with ComfyUI's node, with checkpointing by block and otherwise default settings."""
    node = import_module("comfy_extras.nodes_train").TrainLoraNode
    text = torch.randn(1, TEXT_TOKENS, TEXT_WIDTH)
    settings = {
        "batch_size": 1,
        "steps": steps,
        "grad_accumulation_steps": 1,
        "learning_rate": LEARNING_RATE,
        "rank": rank,
        "optimizer": "AdamW",
        "loss_function": "MSE",
        "seed": 0,
        "training_dtype": "bf16",
        "lora_dtype": "bf16",
        "quantized_backward": False,
        "algorithm": "LoRA",
        "gradient_checkpointing": True,
        "checkpoint_depth": 2,
        "offloading": False,
        "existing_lora": "[None]",
        "bucket_mode": False,
        "bypass_mode": False,
    }
    inputs = {name: [value] for name, value in settings.items()}
    with watched_steps() as found, torch.inference_mode():
        node.execute(model=[model], latents=[{"samples": clip.latents()}], positive=[[[text, {}]]], **inputs)
    return found


def peft_on_diffusers(shape: Shape, clip: Clip, *, steps: int, rank: int) -> Steps:
    """Train a LoRA of all layers with PEFT on diffusers' Wan: float32 under autocast, checkpointing by block."""
    transformer = _diffusers_wan(shape)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=[*ATTENTION, *FEED_FORWARD])
    LoraModel(transformer, config, "lora")
    transformer.enable_gradient_checkpointing()
    trained = [value for value in transformer.parameters() if value.requires_grad]
    for value in trained:
        value.data = value.data.float()
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    clean = clip.latents().to(card())
    text = torch.randn(1, TEXT_TOKENS, TEXT_WIDTH, device=card(), dtype=torch.bfloat16)
    with watched_steps() as found:
        for _ in range(steps):
            loss = _flow_loss(transformer, clean, text)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
    return found


def _flow_loss(transformer: Any, clean: Tensor, text: Tensor) -> Tensor:
    noise = torch.randn_like(clean)
    time = torch.rand(1, device=clean.device)
    noisy = torch.lerp(clean, noise, time.view(-1, 1, 1, 1, 1))
    with torch.autocast(clean.device.type, dtype=torch.bfloat16):
        velocity = transformer(noisy.to(torch.bfloat16), 1000 * time, text, return_dict=False)[0]
    return (velocity.float() - (noise - clean)).square().mean()


def _diffusers_wan(shape: Shape) -> Any:
    with torch.device(card()):
        transformer: Any = WanTransformer3DModel(
            num_attention_heads=shape.heads,
            attention_head_dim=shape.width // shape.heads,
            ffn_dim=shape.feed_forward,
            num_layers=shape.blocks,
        )
    for weight in transformer.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    with torch.no_grad():
        for weight in transformer.parameters():
            weight.normal_(std=0.02)
    return transformer.requires_grad_(False).train()
