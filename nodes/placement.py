"""Frozen layers that train right wherever ComfyUI keeps their weights.

ComfyUI may hold a weight in main memory, packed, or in a buffer that the next layers use again. Autograd would keep a
reference to such a buffer as the layer's weight, and find another layer's weight in it when the backward pass comes
there: wrong gradients without an error. So a frozen layer keeps no weight; its backward asks ComfyUI for it again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import comfy.ops
import torch
from comfy.quant_ops import QuantizedTensor
from torch import Tensor, nn
from torch.nn import functional

Forward = Callable[..., Tensor]
OPS = "comfy.ops"
"""The module whose layers hand out their weights by `cast_bias_weight`."""


class _FrozenLinear(torch.autograd.Function):
    """x W^T + b, with W asked for in both passes; keeps neither x nor W.

    The layer's own forward is not run, because some compute with a rounded input, and one of them rounds it in place.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any, _run: Forward) -> Tensor:
        ctx.layer = layer
        if _is_ready(layer, x):
            return functional.linear(x.detach(), layer.weight, layer.bias)
        with brought_in(layer, x) as (weight_OI, bias_O):
            return functional.linear(x.detach(), weight_OI, bias_O)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if _is_ready(ctx.layer, grad_outputs[0]):
            return grad_outputs[0] @ ctx.layer.weight, None, None
        with brought_in(ctx.layer, grad_outputs[0]) as (weight_OI, _):
            return grad_outputs[0] @ weight_OI, None, None


class _Frozen(torch.autograd.Function):
    """Any other frozen layer; keeps x and runs the layer a second time in the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any, run: Forward) -> Tensor:
        ctx.layer, ctx.run = layer, run
        ctx.save_for_backward(x)
        return run(x.detach())

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            output = _again(ctx.layer, ctx.run, x)
            (grad_x,) = torch.autograd.grad(output, x, grad_outputs[0])
        return grad_x, None, None


def _is_ready(layer: Any, like: Tensor) -> bool:
    """Whether a layer's weights can be used as they lie: asking ComfyUI costs more than a small product.

    Layers with `_v` belong to dynamic VRAM, which may take their memory at any time.
    """
    if layer.weight_function or layer.bias_function or hasattr(layer, "_v"):
        return False
    held = (layer.weight, layer.bias)
    return all(
        type(value) is nn.Parameter and value.device == like.device and value.dtype == like.dtype
        for value in held
        if value is not None
    )


@contextmanager
def brought_in(layer: Any, like: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """A layer's unpacked weight and its bias, on the device and in the type of `like`; valid only inside."""
    weight, bias, stream = comfy.ops.cast_bias_weight(layer, like, offloadable=True)
    try:
        is_packed = isinstance(weight, QuantizedTensor)
        yield weight.dequantize().to(like.dtype) if is_packed else weight, bias
    finally:
        comfy.ops.uncast_bias_weight(layer, weight, bias, stream)


def _again(layer: Any, run: Forward, x: Tensor) -> Tensor:
    """The layer's answer with gradients, on copies of its weights, which ComfyUI may have made in inference mode."""
    normalises = isinstance(layer, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm)
    if not normalises or layer.weight is None or not _is_comfyui_s(layer):
        return run(x)
    with brought_in(layer, x) as (weight, bias):
        weight = weight.clone()
        bias = None if bias is None else bias.clone()
    if isinstance(layer, nn.RMSNorm):
        return functional.rms_norm(x, layer.normalized_shape, weight, layer.eps)
    if isinstance(layer, nn.LayerNorm):
        return functional.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    return functional.group_norm(x, layer.num_groups, weight, bias, layer.eps)


def _is_comfyui_s(layer: Any) -> bool:
    """Whether ComfyUI's own function knows the layer's weight: no other pack's class, no forward put over it."""
    return type(layer).forward_comfy_cast_weights.__module__ == OPS and "forward" not in vars(layer)


def _function(layer: Any) -> type[torch.autograd.Function]:
    is_linear = hasattr(layer, "in_features") and hasattr(layer, "out_features")
    plain = is_linear and _is_comfyui_s(layer) and getattr(layer, "pre_quant_scale", None) is None
    return _FrozenLinear if plain else _Frozen


def _run(layer: Any, run: Forward, function: type[torch.autograd.Function], x: Tensor, **options: Any) -> Tensor:
    if not (torch.is_grad_enabled() and x.requires_grad):
        return run(x, **options)
    return function.apply(x, layer, partial(run, **options))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass the frozen layers of `module` under every placement of their weights."""
    layers: list[Any] = [part for part in module.modules() if isinstance(part, comfy.ops.CastWeightBiasOp)]
    before = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        layer.forward = partial(_run, layer, layer.forward, _function(layer))
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward
