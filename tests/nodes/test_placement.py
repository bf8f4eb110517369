"""Gradients through frozen layers, wherever ComfyUI keeps their weights."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from setandseq_core.lora import _AddUp, trainable_concept

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
WIDTH = 16


@pytest.fixture
def frozen(pack: Pack) -> Callable[[nn.Module], AbstractContextManager[None]]:
    """The context that frozen layers train in."""
    return pack("nodes.placement").frozen


def network(operations: Any, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A network with every kind of layer that the blocks of video models have."""
    generator = torch.Generator().manual_seed(0)
    options = {"device": "cpu", "dtype": dtype}
    made = nn.Sequential(
        operations.Linear(WIDTH, WIDTH, **options),
        nn.GELU(),
        operations.RMSNorm(WIDTH, eps=1e-6, **options),
        operations.Linear(WIDTH, WIDTH, **options),
        operations.LayerNorm(WIDTH, **options),
        operations.Linear(WIDTH, WIDTH, **options),
        operations.GroupNorm(4, WIDTH, **options),
    )
    with torch.no_grad():
        for weight in made.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 4)
    return made.requires_grad_(False)


def bring_in_by_one_buffer(module: nn.Module) -> None:
    """Make ComfyUI's own cast return all weights of a shape in the same memory, as it does for offloaded weights."""
    buffers: dict[torch.Size, Tensor] = {}

    def into_buffer(weight: Tensor) -> Tensor:
        buffer = buffers.setdefault(weight.shape, torch.empty_like(weight))
        buffer.data.copy_(weight)  # unnoticed by autograd's own check, like a transfer to a GPU
        return buffer

    layer: Any
    for layer in module.modules():
        if hasattr(layer, "weight_function") and layer.weight is not None:
            layer.comfy_cast_weights = True
            layer.weight_function = [into_buffer]


def slopes(run: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """The output's derivative along a random direction: by autograd, and by central differences."""
    generator = torch.Generator().manual_seed(1)
    x, direction, weights = (torch.randn(5, WIDTH, generator=generator, dtype=torch.float64) for _ in range(3))
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((run(leaf) * weights).sum(), leaf)
    with torch.no_grad():
        ahead, behind = (float((run(x + step * direction) * weights).sum()) for step in (1e-5, -1e-5))
    return float((gradient * direction).sum()), (ahead - behind) / 2e-5


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_right_where_a_buffer_is_used_again(
    comfyui: ModuleType, frozen: Callable[[nn.Module], AbstractContextManager[None]], checkpointing: bool
) -> None:
    module = network(import_module("comfy.ops").manual_cast)
    bring_in_by_one_buffer(module)

    def run(x: Tensor) -> Tensor:
        again = checkpointing and x.requires_grad
        answer: Any = checkpoint(module, x, use_reentrant=False) if again else module(x)
        return answer

    wrong, differences = slopes(run)
    assert wrong != pytest.approx(differences, rel=1e-3)  # the fault that our code fixes must appear here
    with frozen(module):
        assert slopes(run) == pytest.approx((differences, differences), rel=1e-6)


def test_a_frozen_linear_layer_keeps_nothing(
    comfyui: ModuleType, frozen: Callable[[nn.Module], AbstractContextManager[None]]
) -> None:
    layer = nn.Sequential(import_module("comfy.ops").disable_weight_init.Linear(WIDTH, WIDTH)).requires_grad_(False)
    kept: list[Tensor] = []
    x = torch.randn(3, WIDTH, requires_grad=True)
    with (
        frozen(layer),
        torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda v: v),
    ):
        layer(x).sum()
    assert not kept


def test_the_low_rank_path_may_be_added_into_a_frozen_layers_output(
    comfyui: ModuleType, frozen: Callable[[nn.Module], AbstractContextManager[None]]
) -> None:
    """GPUs do this in half precision; autograd forbids it if the output is a view that one of our functions made."""
    layer = network(import_module("comfy.ops").manual_cast, torch.float32)[:1]
    x, z, basis = (torch.randn(*shape, requires_grad=True) for shape in ((2, 3, WIDTH), (2, 3, 4), (WIDTH, 4)))
    expected = torch.autograd.grad((layer(x) + z @ basis.t()).square().sum(), (x, z, basis))
    with frozen(layer):
        found = torch.autograd.grad(_AddUp.apply(layer(x), z, basis).square().sum(), (x, z, basis))
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(found, expected, strict=True))


def test_layers_are_themselves_afterwards(
    comfyui: ModuleType, frozen: Callable[[nn.Module], AbstractContextManager[None]]
) -> None:
    module: Any = network(import_module("comfy.ops").disable_weight_init)

    def other(x: Tensor) -> Tensor:
        return 2 * x

    module[3].forward = other  # ComfyUI's bypass LoRA also replaces the forward
    with frozen(module):
        pass
    assert vars(module[3])["forward"] is other and "forward" not in vars(module[0])


@pytest.mark.parametrize("kind", ["disable_weight_init", "manual_cast", "fp8_ops"])
@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float8_e4m3fn])
def test_a_concept_trains_on_another_device_than_the_weights(
    comfyui: ModuleType,
    frozen: Callable[[nn.Module], AbstractContextManager[None]],
    kind: str,
    weights: torch.dtype,
) -> None:
    """The other device is `meta`. Like a GPU, it refuses tensors of the CPU, and every machine has it."""
    other = torch.device("meta")
    linear = getattr(import_module("comfy.ops"), kind).Linear
    module = nn.Sequential(linear(WIDTH, WIDTH), nn.GELU(), linear(WIDTH, WIDTH)).requires_grad_(False)
    layer: Any
    for layer in (module[0], module[2]):
        layer.weight = nn.Parameter(torch.empty(WIDTH, WIDTH).to(weights), requires_grad=False)
        layer.comfy_cast_weights = True
    x = torch.empty(2, 3, WIDTH, device=other, dtype=torch.bfloat16, requires_grad=True)
    layers = {"a": "0", "b": "2"}
    with frozen(module), trainable_concept(module, layers, rank=4, seed=0) as concept:
        concept.begin_set_stage(0.5)
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            module(x).float().square().mean().backward()
    with frozen(module), trainable_concept(module, layers, rank=4, seed=0, device=other) as concept:
        for begin in (concept.begin_set_stage, concept.begin_sequence_stage):
            parameters = begin(0.5)
            with concept.dropped_out():
                module(x).float().square().mean().backward()
            assert all(value.grad is not None and value.grad.device == other for value in parameters.values())
    assert all(value.device.type == "cpu" for value in module.parameters())


QUANTISED = ("float8_e4m3fn", "float8_e5m2", "nvfp4", "mxfp8", "int8_tensorwise", "convrot_w4a4")


def test_every_kind_of_quantised_weights_is_known(comfyui: ModuleType) -> None:
    assert set(import_module("comfy.quant_ops").QUANT_ALGOS) == set(QUANTISED)


@pytest.mark.parametrize("kind", QUANTISED)
def test_a_concept_trains_on_quantised_weights(
    comfyui: ModuleType, frozen: Callable[[nn.Module], AbstractContextManager[None]], kind: str
) -> None:
    """Output and slope are those of the unpacked weights, on the device of the weights and on another."""
    quantised: Any = import_module("comfy.quant_ops")
    width, layout = 256, quantised.QUANT_ALGOS[kind]["comfy_tensor_layout"]
    operations: Any = import_module("comfy.ops").mixed_precision_ops(compute_dtype=torch.bfloat16)
    layer = operations.Linear(width, width, device="cpu", dtype=torch.bfloat16)
    layer.quant_format, layer.layout_type = kind, layout
    weight = torch.randn(width, width, generator=torch.Generator().manual_seed(0)).bfloat16() / 16
    layer.weight = nn.Parameter(quantised.QuantizedTensor.from_float(weight, layout), requires_grad=False)
    layer.bias = nn.Parameter(torch.zeros(width, dtype=torch.bfloat16), requires_grad=False)
    module, unpacked = nn.Sequential(layer), layer.weight.dequantize()
    for device in ("cpu", "meta"):
        x = torch.randn(2, 3, width, device=device).bfloat16().requires_grad_()
        concept = trainable_concept(module, {"a": "0"}, rank=4, seed=0, device=torch.device(device))
        with frozen(module), concept as adapters:
            parameters = adapters.begin_set_stage(0.0)
            with adapters.dropped_out():
                output = module(x)
                output.float().square().mean().backward()
        assert all(value.grad is not None and value.grad.device.type == device for value in parameters.values())
        if device == "cpu":
            plain = x.detach().clone().requires_grad_()
            expected = functional.linear(plain, unpacked)
            expected.float().square().mean().backward()
            assert x.grad is not None and plain.grad is not None
            assert torch.equal(output, expected) and torch.equal(x.grad, plain.grad)
    assert layer.weight.device.type == "cpu"
