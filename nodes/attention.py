"""Attention for training, with the fastest kernels that the GPU has for both the forward and the backward pass."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

HOPPER = (9, 0)
"""Lowest compute capability at which cuDNN's kernels are much faster than FlashAttention 2, ComfyUI's first choice."""
CUDNN_FIRST = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
WIDEST_HEAD = 128
"""Largest width of a head for which cuDNN has a backward pass on all of these GPUs."""
CAN_CHOOSE = "set_priority" in signature(sdpa_kernel).parameters


def differentiable_attention(
    _attention: object, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **options: Any
) -> Tensor:
    """Use PyTorch's attention instead of the server's, which may have no backward pass."""
    if not args and _suits_cudnn(q, k, v, heads, options):
        return _attention_by_cudnn(q, k, v, heads, options.get("scale"))
    return attention_pytorch(q, k, v, heads, *args, **options)


def _suits_cudnn(q_BND: Tensor, k_BND: Tensor, v_BND: Tensor, heads: int, options: Mapping[str, object]) -> bool:
    """Whether cuDNN supports both passes of this call and is the fastest choice on this GPU."""
    is_half = q_BND.dtype in (torch.bfloat16, torch.float16)
    if not (CAN_CHOOSE and q_BND.is_cuda and torch.version.cuda and is_half):
        return False
    if torch.cuda.get_device_capability(q_BND.device) < HOPPER:
        return False
    return _is_usual(q_BND, k_BND, v_BND, heads, options)


def _is_usual(q_BND: Tensor, k_BND: Tensor, v_BND: Tensor, heads: int, options: Mapping[str, object]) -> bool:
    unusual = ("mask", "skip_reshape", "skip_output_reshape", "enable_gqa")
    if any(options.get(name) not in (None, False) for name in unusual):
        return False
    width = q_BND.shape[-1] // heads
    same_heads = q_BND.shape[-1] == k_BND.shape[-1] == v_BND.shape[-1]
    return q_BND.ndim == 3 and same_heads and width <= WIDEST_HEAD and width % 8 == 0


def _attention_by_cudnn(q_BND: Tensor, k_BND: Tensor, v_BND: Tensor, heads: int, scale: float | None) -> Tensor:
    q, k, v = (value.unflatten(-1, (heads, -1)).transpose(1, 2) for value in (q_BND, k_BND, v_BND))
    with sdpa_kernel(CUDNN_FIRST, set_priority=True):
        output = scaled_dot_product_attention(q, k, v, scale=scale)
    return output.transpose(1, 2).flatten(2)
