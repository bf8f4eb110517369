"""Makes the gradients of frozen layers right wherever ComfyUI keeps their weights.

ComfyUI may hold a weight in main memory, packed, or in a buffer that later layers reuse. Autograd would keep such a
buffer as the layer's weight. By the time of the backward pass, the buffer would hold another layer's weight, and the
gradients would be wrong without an error. So a frozen layer keeps no weight, and its backward pass asks ComfyUI for the
weight again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, cast

import comfy.model_management as memory
import comfy.ops
import torch
from comfy.model_base import BaseModel
from comfy.quant_ops import QuantizedTensor
from comfy.weight_adapter.base import WeightAdapterBase
from comfy.weight_adapter.bypass import BypassForwardHook
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

Forward = Callable[..., Tensor]
CASTS = "comfy_cast_weights"
"""The attribute of ComfyUI's layers that makes them cast their weights to the dtype of their input."""
OPS = "comfy.ops"
"""The module whose layers give out their weights through `cast_bias_weight`."""


class Layer(Protocol):
    """A layer of ComfyUI, or of a pack with its own format of weights."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    weight_function: Sequence[object]
    bias_function: Sequence[object]
    forward: Forward


class _Kept(FunctionCtx):
    """Holds everything that a frozen layer keeps for its backward pass."""

    layer: Layer
    run: Forward
    saved_tensors: tuple[Tensor, ...]


class _FrozenLinear(torch.autograd.Function):
    """Computes x W^T + b. It asks for W in both passes and keeps neither x nor W.

    The layer's own forward is not run, because some layers round their input, and one kind rounds it in place.
    """

    @staticmethod
    def forward(ctx: _Kept, x: Tensor, layer: Layer, _run: Forward) -> Tensor:
        ctx.layer = layer
        if _is_ready(layer, x):
            return _no_view(functional.linear(x.detach(), layer.weight, layer.bias))
        with brought_in(layer, x) as (weight_OI, bias_O):
            return _no_view(functional.linear(x.detach(), weight_OI, bias_O))

    @staticmethod
    def backward(ctx: _Kept, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if _is_ready(ctx.layer, grad_outputs[0]):
            return grad_outputs[0] @ ctx.layer.weight, None, None
        with brought_in(ctx.layer, grad_outputs[0]) as (weight_OI, _):
            return grad_outputs[0] @ weight_OI, None, None


class _Frozen(torch.autograd.Function):
    """Runs any other frozen layer: keeps x and runs the layer again in the backward pass."""

    @staticmethod
    def forward(ctx: _Kept, x: Tensor, layer: Layer, run: Forward) -> Tensor:
        ctx.layer, ctx.run = layer, run
        ctx.save_for_backward(x)
        return run(x.detach())

    @staticmethod
    def backward(ctx: _Kept, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            (grad_x,) = torch.autograd.grad(ctx.run(x), x, grad_outputs[0])
        return grad_x, None, None


class _FrozenNorm(_Frozen):
    """Runs a frozen norm. Its backward pass copies the weights, which ComfyUI may have made in inference mode."""

    @staticmethod
    def forward(ctx: _Kept, x: Tensor, layer: Layer, run: Forward) -> Tensor:
        output = _Frozen.forward(ctx, x, layer, run)
        ctx.run = partial(_normalised, layer)
        return output


def _no_view(output: Tensor) -> Tensor:
    """Return the same memory as a tensor that autograd does not treat as a view; adapters are added to it in place."""
    return torch.ops.aten._unsafe_view(output, output.shape)


def _is_ready(layer: Layer, like: Tensor) -> bool:
    """Whether a layer's weights can be used where they are, without asking ComfyUI for them.

    Asking takes longer than a small product. Layers with `_v` belong to dynamic VRAM, which may take away their memory
    at any time.
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
def brought_in(layer: Layer, like: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """A layer's unpacked weight and its bias, on the device and in the type of `like`; valid only inside the context.

    Packs with their own format of weights, such as GGUF, give their layers a method `cast_bias_weight`, which also adds
    the LoRAs on the wire.
    """
    unpack = getattr(layer, "cast_bias_weight", None)
    if unpack is not None:
        weight, bias = unpack(like)
        yield weight, bias
        return
    weight, bias, stream = comfy.ops.cast_bias_weight(layer, like, offloadable=True)
    try:
        is_packed = isinstance(weight, QuantizedTensor)
        yield weight.dequantize().to(like.dtype) if is_packed else weight, bias
    finally:
        comfy.ops.uncast_bias_weight(layer, weight, bias, stream)


def _normalised(layer: Layer, x: Tensor) -> Tensor:
    """Compute a norm so that gradients can pass."""
    with brought_in(layer, x) as (weight, bias):
        weight = _plain_copy(weight)
        bias = None if bias is None else _plain_copy(bias)
    if isinstance(layer, nn.RMSNorm):
        return functional.rms_norm(x, layer.normalized_shape, weight, layer.eps)
    if isinstance(layer, nn.LayerNorm):
        return functional.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    assert isinstance(layer, nn.GroupNorm)
    return functional.group_norm(x, layer.num_groups, weight, bias, layer.eps)


def _plain_copy(weight: Tensor) -> Tensor:
    """A copy that autograd may keep. GGUF's tensor class needs the conversion, because its `clone` returns itself."""
    return weight.as_subclass(Tensor).clone()


def _hands_out(layer: Layer) -> bool:
    """Whether a layer can be asked for its weight: true for ComfyUI's and GGUF's layers, unless another forward
    replaces theirs."""
    forward: object = getattr(type(layer), "forward_comfy_cast_weights", None)
    known = forward.__module__ == OPS or hasattr(layer, "cast_bias_weight")
    return known and "forward" not in vars(layer)


def _function(layer: Layer) -> type[torch.autograd.Function]:
    if not _hands_out(layer):
        return _Frozen
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm):
        return _Frozen if layer.weight is None else _FrozenNorm
    is_linear = hasattr(layer, "in_features") and hasattr(layer, "out_features")
    plain = is_linear and getattr(layer, "pre_quant_scale", None) is None
    return _FrozenLinear if plain else _Frozen


def _run(layer: Layer, run: Forward, function: type[torch.autograd.Function], x: Tensor, **options: object) -> Tensor:
    if not (torch.is_grad_enabled() and x.requires_grad):
        return run(x, **options)
    return function.apply(x, layer, partial(run, **options))


@contextmanager
def _plain_adapters(layers: Iterable[Layer]) -> Iterator[None]:
    """Replace a bypass LoRA's factors, which were made in inference mode, by copies that autograd may keep."""
    adapters: dict[int, WeightAdapterBase] = {}
    for layer in layers:
        hook = getattr(vars(layer).get("forward"), "__self__", None)
        if isinstance(hook, BypassForwardHook) and isinstance(hook.adapter, WeightAdapterBase):
            adapters[id(hook.adapter)] = hook.adapter
    before = [adapter.weights for adapter in adapters.values()]
    for adapter in adapters.values():
        adapter.weights = [_plain_copy(part) if isinstance(part, Tensor) else part for part in adapter.weights]
    try:
        yield
    finally:
        for adapter, weights in zip(adapters.values(), before, strict=True):
            adapter.weights = weights


def _layers(module: nn.Module) -> list[Layer]:
    return [cast(Layer, part) for part in module.modules() if isinstance(part, comfy.ops.CastWeightBiasOp)]


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through the frozen layers of `module`, wherever their weights are."""
    layers = _layers(module)
    before = [vars(layer).get("forward") for layer in layers]
    try:
        with _plain_adapters(layers):
            for layer in layers:
                layer.forward = partial(_run, layer, layer.forward, _function(layer))
            yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


@contextmanager
def in_bfloat16(model: BaseModel, device: torch.device) -> Iterator[None]:
    """Compute in bfloat16 where ComfyUI would compute in float16, as it does with Wan on most cards.

    The loss of a clip is a mean over a million latents, so its gradients are too small for float16: most of their
    digits are lost, and many become zero. Layers cast their weights when they run, as they do for any other dtype.
    """
    if model.get_dtype_inference() != torch.float16 or not _has_bfloat16(device):
        yield
        return
    layers = _layers(model.diffusion_model)
    before = [vars(layer).get(CASTS) for layer in layers]
    compute_type = model.manual_cast_dtype
    model.manual_cast_dtype = torch.bfloat16
    for layer in layers:
        setattr(layer, CASTS, True)
    try:
        yield
    finally:
        model.manual_cast_dtype = compute_type
        for layer, casts in zip(layers, before, strict=True):
            if casts is None:
                delattr(layer, CASTS)
            else:
                setattr(layer, CASTS, casts)


def _has_bfloat16(device: torch.device) -> bool:
    """Whether the device can compute in bfloat16, even if sampling is faster in another type there."""
    return memory.is_device_cpu(device) or bool(memory.should_use_bf16(device, prioritize_performance=False))
