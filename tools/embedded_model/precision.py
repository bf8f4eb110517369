"""The number type of a training's products: bfloat16 where the machine computes in it, otherwise float32."""

import torch


def fast_type(device: torch.device | str) -> torch.dtype:
    """bfloat16 if the device has instructions for it; a processor without them takes minutes for a step in bfloat16."""
    if torch.device(device).type != "cpu":
        return torch.bfloat16
    can = torch.cpu.get_capabilities()
    return torch.bfloat16 if can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16") else torch.float32


def mixed_precision(device: str) -> torch.autocast:
    """A context in which layers compute in the device's fast type."""
    return torch.autocast(device, torch.bfloat16, enabled=fast_type(device) == torch.bfloat16)
