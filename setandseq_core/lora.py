"""The weights of a dynamic concept on PEFT layers (Eq. 2, 3, 6 and 10 of Abdal et al. 2025, arXiv 2502.14844).

For a linear layer W (out x in):

    set stage:       W' = W + A1 B1            A1 identity basis (out x rank), B1 coefficients (rank x in)
    sequence stage:  W' = W + A1 (B1 + B2)     B2 motion residual (rank x in); A1 and B1 frozen

PEFT calls the paper's A `lora_B` and the paper's B `lora_A`. The PEFT adapter "identity" holds A1 and B1. The adapter
"motion" holds B2 as its `lora_A`, and its `lora_B` is the same Parameter as that of "identity". While B2 trains, a
parametrization adds the frozen B1 to it, so that one adapter does the work of both at the price of one.

The matrices are float32 on the device that the model computes on, wherever its weights are, because small updates
would be lost in bfloat16. In the forward pass they are cast to the type of a layer's input. The input itself is never
cast, so it is kept once for the backward pass even if several layers share it.

Shape letters: O out features, R rank, I in features; N all other dimensions of a layer's input.
"""

# PEFT and PyTorch leave some types of the functions used here open.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraModel
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from .concept import ConceptLayer, effective_coefficients
from .errors import BackboneError

IDENTITY = "identity"
MOTION = "motion"
HALF = (torch.bfloat16, torch.float16)


def coefficient_dropout(coefficients_RI: Tensor, probability: float) -> Tensor:
    """B' = B * M / (1 - p): M keeps each entry with probability 1 - p (Eq. 10).

    The division (inverted dropout) is not in the paper. Because of it, nothing needs rescaling after training.
    """
    return nn.functional.dropout(coefficients_RI, probability)


class _EffectiveCoefficients(nn.Module):
    """Coefficients that multiply the layer's input: with dropout in training, plus frozen ones if any."""

    def __init__(self, probability: float, frozen_RI: Tensor | None = None):
        super().__init__()
        self.probability = probability
        self.frozen_RI = frozen_RI

    def forward(self, learned_RI: Tensor) -> Tensor:
        kept_RI = coefficient_dropout(learned_RI, self.probability) if self.training else learned_RI
        return kept_RI if self.frozen_RI is None else effective_coefficients(self.frozen_RI, kept_RI)


class _Widened:
    """The last output of a layer that widens its input, such as the first layer of a feed-forward network.

    The second layer's input is the GELU of this output, several times as wide as other inputs. PyTorch keeps the output
    for the GELU's backward pass. The second layer's low-rank path computes its input again from it and keeps no copy.
    """

    output: Tensor | None = None

    def remember(self, _layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """A forward hook for layers that widen their input."""
        self.output = output if output.requires_grad else None

    def forget(self) -> None:
        """Release the output and the graph behind it."""
        self.output = None

    def source_of(self, x: Tensor) -> tuple[Tensor | None, str]:
        """The output whose GELU is x, and the kind of GELU; None and "" if x was made in another way."""
        made_by: Any = x.grad_fn
        if self.output is None or made_by is None or made_by.name() != "GeluBackward0":
            return None, ""
        if made_by.next_functions[0][0] is not self.output.grad_fn:
            return None, ""
        return self.output, made_by._saved_approximate


class _ProjectDown(torch.autograd.Function):
    """Computes x B^T. If x is the GELU of a tensor, keeps that tensor instead of x for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, coefficients_RI: Tensor, source: Tensor | None, approximate: str) -> Tensor:
        ctx.approximate, ctx.is_source = approximate, source is not None
        ctx.save_for_backward(x if source is None else source, coefficients_RI)
        return functional.linear(x, coefficients_RI)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad, (kept, coefficients_RI) = grad_outputs[0], ctx.saved_tensors
        grad_NR = grad.reshape(-1, grad.shape[-1])
        grad_x = (grad_NR @ coefficients_RI).view(kept.shape) if ctx.needs_input_grad[0] else None
        grad_RI = None
        if ctx.needs_input_grad[1]:
            x = functional.gelu(kept, approximate=ctx.approximate) if ctx.is_source else kept
            grad_RI = grad_NR.t() @ x.reshape(-1, x.shape[-1])
        return grad_x, grad_RI, None, None


class _AddUp(torch.autograd.Function):
    """Adds z A^T to the output in place: one pass over a layer's widest tensor instead of five."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, z: Tensor, basis_OR: Tensor) -> Tensor:
        ctx.save_for_backward(z, basis_OR)
        ctx.mark_dirty(output)
        output.view(-1, output.shape[-1]).addmm_(z.reshape(-1, z.shape[-1]), basis_OR.t())
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad, (z, basis_OR) = grad_outputs[0], ctx.saved_tensors
        grad_z = grad @ basis_OR if ctx.needs_input_grad[1] else None
        grad_OR = None
        if ctx.needs_input_grad[2]:
            grad_OR = grad.reshape(-1, grad.shape[-1]).t() @ z.reshape(-1, z.shape[-1])
        return grad, grad_z, grad_OR


class _Coefficients(nn.Linear):
    """The low-rank path's down projection, computed in the type of its input."""

    def __init__(self, weight_RI: Tensor, widened: _Widened):
        super().__init__(weight_RI.shape[1], weight_RI.shape[0], bias=False, device="meta")
        self.weight = nn.Parameter(weight_RI)
        self._widened = widened

    def forward(self, input: Tensor) -> Tensor:
        weight_RI = self.weight.to(input.dtype)
        return _ProjectDown.apply(input, weight_RI, *self._widened.source_of(input))


class _Basis(nn.Linear):
    """The low-rank path's up projection, computed in the type of its input."""

    def __init__(self, weight_OR: Tensor):
        super().__init__(weight_OR.shape[1], weight_OR.shape[0], bias=False, device="meta")
        self.weight = nn.Parameter(weight_OR)

    def added_to(self, output: Tensor, z: Tensor) -> Tensor:
        """The layer's output plus the low-rank path's; in half precision on a GPU, `output` is changed in place."""
        weight_OR = self.weight.to(z.dtype)
        if output.is_cuda and output.dtype in HALF and output.dtype == z.dtype and output.is_contiguous():
            return _AddUp.apply(output, z, weight_OR)
        return (output + functional.linear(z, weight_OR)).to(output.dtype)


def _adapted(layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """W x + A B x with the one active adapter. Replaces PEFT's own forward, which reads and writes the output five
    times; with large clips that took a twentieth of a step's time on an H200."""
    output = layer.base_layer(x, *args, **kwargs)
    (adapter,) = layer.active_adapters
    return layer.lora_B[adapter].added_to(output, layer.lora_A[adapter](x))


class TrainableConcept:
    """The identity and motion adapters in a model during training; made by `trainable_concept`."""

    def __init__(self, module: nn.Module, layers: Mapping[str, str], rank: int, device: torch.device | None):
        self.embeddings: dict[str, nn.Parameter] = {}
        """Learned tokens, each (D,), by their names in the concept's file; empty when none are learned."""
        self._device, self._widened = device, _Widened()
        self._config = _lora_config(module, list(layers.values()), rank)
        self._tuner = LoraModel(module, self._config, IDENTITY)
        self._layers: dict[str, Any] = {name: module.get_submodule(path) for name, path in layers.items()}
        for layer in self._layers.values():
            layer.forward = partial(_adapted, layer)
            if layer.out_features > layer.in_features:
                layer.register_forward_hook(self._widened.remember)
        self._hold_in_float32(IDENTITY)

    def set_identity(self, identity: Mapping[str, ConceptLayer]) -> None:
        """Load an identity that was learned before."""
        with torch.no_grad():
            for name, layer in self._layers.items():
                layer.lora_B[IDENTITY].weight.copy_(identity[name].identity_basis_OR)
                layer.lora_A[IDENTITY].weight.copy_(identity[name].coefficients_RI)

    def set_embeddings(self, embeddings: Mapping[str, Tensor]) -> None:
        """Load learned tokens; they are not trained."""
        for name, embedding_D in embeddings.items():
            self.embeddings[name] = nn.Parameter(embedding_D.detach().clone(), requires_grad=False)

    def learn_embedding(self, name: str, like_D: Tensor) -> dict[str, nn.Parameter]:
        """Add a trainable token of zeros and return it by name."""
        self.embeddings[name] = nn.Parameter(torch.zeros_like(like_D, dtype=torch.float32))
        return {name: self.embeddings[name]}

    def begin_set_stage(self, dropout: float) -> dict[str, nn.Parameter]:
        """Make the identity basis and the coefficients trainable, and return them by name."""
        for layer in self._layers.values():
            effective = _EffectiveCoefficients(dropout)
            parametrize.register_parametrization(layer.lora_A[IDENTITY], "weight", effective)
        self._tuner.set_adapter(IDENTITY)
        return self.parameters()

    def begin_sequence_stage(self, dropout: float) -> dict[str, nn.Parameter]:
        """Freeze the identity, make a motion residual of zeros trainable, and return it by name."""
        self._remove_dropout()
        self._tuner.peft_config[MOTION] = self._config
        self._tuner.inject_adapter(self._tuner.model, MOTION)
        self._hold_in_float32(MOTION)
        for layer in self._layers.values():
            identity_A, motion_A = layer.lora_A[IDENTITY], layer.lora_A[MOTION]
            layer.lora_B[MOTION].weight = layer.lora_B[IDENTITY].weight
            nn.init.zeros_(motion_A.weight)
            effective = _EffectiveCoefficients(dropout, identity_A.weight.detach())
            parametrize.register_parametrization(motion_A, "weight", effective)
        self._tuner.set_adapter(MOTION)
        for layer in self._layers.values():
            layer.lora_B[MOTION].weight.requires_grad_(False)
        return self.parameters()

    @contextmanager
    def dropped_out(self) -> Generator[None]:
        """Draw the dropped entries once per step, even if gradient checkpointing runs the forward twice."""
        with parametrize.cached():
            # Reading a weight draws its dropped entries and puts it into the cache, for all forwards inside.
            for layer in self._layers.values():
                for linear in layer.lora_A.values():
                    _ = linear.weight
            try:
                yield
            finally:
                self._widened.forget()

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by layer and matrix name."""
        found: dict[str, nn.Parameter] = {}
        for name, layer in self._layers.items():
            matrices = {"identity_basis": layer.lora_B[IDENTITY].weight}
            for adapter, key in ((IDENTITY, "coefficients"), (MOTION, "motion_residual")):
                if adapter in layer.lora_A:
                    matrices[key] = _learned(layer.lora_A[adapter])
            found |= {f"{name}.{key}": matrix for key, matrix in matrices.items() if matrix.requires_grad}
        return found

    def read(self) -> dict[str, ConceptLayer]:
        """Copy the current weights to the CPU in float32. Before the sequence stage, the motion residual is zeros."""
        found: dict[str, ConceptLayer] = {}
        for name, layer in self._layers.items():
            coefficients = _learned(layer.lora_A[IDENTITY])
            has_motion = MOTION in layer.lora_A
            residual = _learned(layer.lora_A[MOTION]) if has_motion else torch.zeros_like(coefficients)
            matrices = (layer.lora_B[IDENTITY].weight, coefficients, residual)
            basis, coefficients, residual = (m.detach().to("cpu", torch.float32, copy=True) for m in matrices)
            found[name] = ConceptLayer(
                identity_basis_OR=basis, coefficients_RI=coefficients, motion_residual_RI=residual
            )
        return found

    def read_embeddings(self) -> dict[str, Tensor]:
        """Copy the current learned tokens to the CPU in float32."""
        return {name: value.detach().to("cpu", torch.float32, copy=True) for name, value in self.embeddings.items()}

    def remove(self) -> None:
        """Remove all adapters; the model's own layers are unchanged."""
        self._remove_dropout()
        self._tuner.unload()

    def _hold_in_float32(self, adapter: str) -> None:
        """Replace PEFT's factors, which have the type and device of the layer's weight, with float32 ones."""
        for layer in self._layers.values():
            down, up = layer.lora_A[adapter], layer.lora_B[adapter]
            device = self._device or down.weight.device
            layer.lora_A[adapter] = _Coefficients(_first_coefficients(down.weight.detach(), device), self._widened)
            layer.lora_B[adapter] = _Basis(torch.zeros(up.weight.shape, device=device))

    def _remove_dropout(self) -> None:
        for layer in self._layers.values():
            for linear in layer.lora_A.values():
                if parametrize.is_parametrized(linear):
                    parametrize.remove_parametrizations(linear, "weight", leave_parametrized=False)


def _lora_config(module: nn.Module, paths: list[str], rank: int) -> LoraConfig:
    """PEFT's settings, in which other classes of linear layers, such as quantised ones, are registered."""
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=paths)
    kinds = {type(module.get_submodule(path)) for path in paths}
    config._register_custom_module({kind: LoraLinear for kind in kinds if not issubclass(kind, nn.Linear)})
    return config


def _first_coefficients(weight_RI: Tensor, device: torch.device) -> Tensor:
    """PEFT's initial coefficients in float32; drawn again if PEFT made them in a smaller type or on the meta device."""
    if weight_RI.dtype == torch.float32 and not weight_RI.is_meta:
        return weight_RI.to(device)
    drawn_RI = torch.empty(weight_RI.shape)
    nn.init.kaiming_uniform_(drawn_RI, a=math.sqrt(5))
    return drawn_RI.to(device)


def _learned(linear: Any) -> nn.Parameter:
    return linear.parametrizations.weight.original if parametrize.is_parametrized(linear) else linear.weight


@contextmanager
def _restored(module: nn.Module) -> Generator[None]:
    """Restore `requires_grad` flags and the training mode, which PEFT changes."""
    flags = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    training = module.training
    try:
        yield
    finally:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(flags[name])
        module.train(training)


@contextmanager
def trainable_concept(
    module: nn.Module, layers: Mapping[str, str], *, rank: int, seed: int, device: torch.device | None = None
) -> Generator[TrainableConcept]:
    """Inject freshly initialised adapters into `module` and remove them on exit, even after an error.

    The identity basis starts at zero and the coefficients at random, PEFT's default, drawn from `seed`.

    Args:
        layers: native layer name -> name of the Linear in `module`.
        device: the device that the model computes on; None for the device of its weights.
    Raises:
        BackboneError: there is nothing to adapt.
    """
    if not layers:
        raise BackboneError(
            "The model has no layers to adapt.",
            hint="Connect a video transformer of a supported family.",
        )
    with _restored(module), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        concept = TrainableConcept(module, layers, rank, device)
        module.train()
        try:
            yield concept
        finally:
            concept.remove()


@contextmanager
def applied_coefficients(
    module: nn.Module, layers: Mapping[str, str], factors: Mapping[str, tuple[Tensor, Tensor]]
) -> Generator[None]:
    """Run `module` with W + up down on the named layers, through one PEFT adapter that is removed on exit.

    Args:
        layers: native layer name -> name of the Linear in `module`.
        factors: native layer name -> up (O, R) and down (R, I).
    """
    rank = next(iter(factors.values()))[1].shape[0]
    config = _lora_config(module, [layers[name] for name in factors], rank)
    with _restored(module):
        tuner = LoraModel(module, config, IDENTITY)
        try:
            with torch.no_grad():
                for name, (up_OR, down_RI) in factors.items():
                    layer: Any = module.get_submodule(layers[name])
                    layer.lora_B[IDENTITY].weight.copy_(up_OR)
                    layer.lora_A[IDENTITY].weight.copy_(down_RI)
            yield
        finally:
            tuner.unload()
