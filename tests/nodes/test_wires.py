"""Other nodes change a MODEL before ours: concepts train through it, and merged and live give the same result."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from setandseq_core.embedded.text import encode_prompt

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]
LATENTS = torch.randn(1, 16, 2, 4, 8, generator=torch.Generator().manual_seed(5))
TEXT = encode_prompt("a [v] bee, [u] dancing").unsqueeze(0)
BLOCK = 32
"""Number of weights that share a scale in a Q8_0 file."""


class PackedTensor(Tensor):
    """A weight of a GGUF file as its loader holds it: packed bytes that report the shape of the unpacked weight.

    As in that loader, cloning returns the weight itself, and `patches` holds its LoRAs.
    """

    tensor_shape: torch.Size
    patches: list[Any]

    @property
    def shape(self) -> torch.Size:
        return self.tensor_shape

    def clone(self, *_args: Any, **_options: Any) -> "PackedTensor":
        return self

    def detach(self) -> "PackedTensor":
        return self

    def to(self, *args: Any, **options: Any) -> "PackedTensor":
        return labelled(super().to(*args, **options), self.tensor_shape, list(self.patches))


def labelled(values: Any, shape: torch.Size, patches: list[Any]) -> PackedTensor:
    found = values.as_subclass(PackedTensor)
    found.tensor_shape, found.patches = shape, patches
    return found


def packed(weight: Tensor) -> PackedTensor:
    """Pack a weight as Q8_0: 8-bit integers with a float16 scale for each block."""
    blocks = weight.reshape(-1, BLOCK).float()
    scales = (blocks.abs().amax(1, keepdim=True) / 127).half()
    whole = (blocks / scales.float()).round().clamp(-127, 127).to(torch.int8)
    values = torch.cat([scales.view(torch.uint8), whole.view(torch.uint8)], dim=1)
    return labelled(values, weight.shape, [])


def unpacked(weight: PackedTensor, dtype: torch.dtype) -> Tensor:
    values = weight.as_subclass(Tensor)
    if values.dtype != torch.uint8:
        return values.to(dtype)
    scales, whole = values[:, :2].contiguous().view(torch.float16), values[:, 2:].contiguous().view(torch.int8)
    return (scales.to(dtype) * whole.to(dtype)).reshape(weight.tensor_shape)


def packed_operations() -> Any:
    """ComfyUI's layers with the weights of such files and the interface of the pack that loads them."""
    ops: Any = import_module("comfy.ops")

    class Layer:
        comfy_cast_weights = True

        def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
            for name in ("weight", "bias"):
                if f"{prefix}{name}" in state:
                    setattr(self, name, nn.Parameter(state[f"{prefix}{name}"], requires_grad=False))

        def get_weight(self, weight: Any, dtype: torch.dtype) -> Any:
            if weight is None:
                return None
            found = unpacked(weight, dtype)
            for patches, key in weight.patches:
                found = import_module("comfy.lora").calculate_weight(patches, found, key)
            return found

        def cast_bias_weight(self: Any, input: Tensor) -> tuple[Any, Any]:
            weight, bias = (self.get_weight(value, input.dtype) for value in (self.weight, self.bias))
            return weight, bias

    class Linear(Layer, ops.manual_cast.Linear):
        def forward_comfy_cast_weights(self, input: Tensor) -> Tensor:
            return functional.linear(input, *self.cast_bias_weight(input))

    class LayerNorm(Layer, ops.manual_cast.LayerNorm):
        def forward_comfy_cast_weights(self, input: Tensor) -> Tensor:
            if self.weight is None:
                return super().forward_comfy_cast_weights(input)
            return functional.layer_norm(input, self.normalized_shape, *self.cast_bias_weight(input), self.eps)

    class Operations(ops.manual_cast):
        pass

    Operations.Linear, Operations.LayerNorm = Linear, LayerNorm  # type: ignore[misc, assignment]
    return Operations


@pytest.fixture
def load_packed_wan(comfyui: ModuleType, wan_file: Callable[..., Path]) -> Call:
    """Loads the random Wan from weights packed as in a GGUF file; returns its MODEL."""

    def load() -> Any:
        patcher: Any = import_module("comfy.model_patcher").ModelPatcher

        class PackedPatcher(patcher):
            """Keeps LoRAs beside packed weights, as the pack that loads such files does."""

            def patch_weight_to_device(self, key: str, *args: Any, **options: Any) -> None:
                weight = import_module("comfy.utils").get_attr(self.model, key)
                if weight.dtype != torch.uint8:
                    super().patch_weight_to_device(key, *args, **options)
                elif key in self.patches:
                    weight.patches = [(self.patches[key], key)]

            def load(self, *args: Any, **options: Any) -> None:
                super().load(*args, **(options | {"force_patch_weights": True}))

            def unpatch_model(self, *args: Any, **options: Any) -> None:
                for weight in self.model.parameters():
                    if isinstance(weight, PackedTensor):
                        weight.patches = []
                super().unpatch_model(*args, **options)

        with torch.inference_mode():
            weights = {}
            for name, weight in load_file(wan_file()).items():
                is_matrix = name.startswith("blocks.") and name.endswith("weight") and weight.ndim == 2
                weights[name] = packed(weight) if is_matrix else labelled(weight, weight.shape, [])
            options = {"custom_operations": packed_operations(), "dtype": torch.float32}
            model = import_module("comfy.sd").load_diffusion_model_state_dict(weights, model_options=options)
        model.__class__ = PackedPatcher
        return model

    return load


@pytest.fixture
def compiled(comfyui: ModuleType) -> Call:
    """A MODEL with ComfyUI's wrapper for compiled models; Dynamo's own interpreter runs it, without a C compiler."""

    def put_on(model: Any) -> Any:
        torch._dynamo.reset()
        other = model.clone()
        skip = import_module("comfy_extras.nodes_torch_compile").skip_torch_compile_dict
        wrap = import_module("comfy_api.torch_helpers").set_torch_compile_wrapper
        wrap(model=other, backend="eager", options={"guard_filter_fn": skip})
        return other

    return put_on


@pytest.fixture
def bypassed(pack: Pack, folders: Path, make_concept: Call) -> Call:
    """A MODEL with ComfyUI's bypass LoRA on it."""

    def put_on(model: Any) -> Any:
        file = folders / "loras" / "other.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        pack("setandseq_core.concept_file.export").export_lora(make_concept(model, seed=3), file)
        with torch.inference_mode():
            lora = import_module("comfy.utils").load_torch_file(str(file))
            return import_module("comfy.sd").load_bypass_lora_for_models(model, None, lora, 0.5, 0.0)[0]

    return put_on


@pytest.fixture
def embedded_wires(pack: Pack) -> tuple[Any, Any]:
    """The embedded CLIP and VAE."""
    file = pack("setandseq_core.embedded.model").VAE_FILE
    with torch.inference_mode():
        vae = import_module("comfy.sd").VAE(sd=import_module("comfy.utils").load_torch_file(str(file)))
        return pack("nodes.embedded").embedded_clip(), vae


@pytest.fixture
def wire(load_wan: Call, load_packed_wan: Call, compiled: Call, bypassed: Call) -> Call:
    """The random Wan through the wire of that name."""
    wires: dict[str, Call] = {
        "plain": load_wan,
        "compiled": lambda: compiled(load_wan()),
        "bypass LoRA": lambda: bypassed(load_wan()),
        "GGUF": load_packed_wan,
        "GGUF with a bypass LoRA": lambda: bypassed(load_packed_wan()),
    }
    return lambda name: wires[name]()


WIRES = ("plain", "compiled", "bypass LoRA", "GGUF", "GGUF with a bypass LoRA")


def answer(model: Any, time: float) -> Tensor:
    """A MODEL's velocity at a time, with everything that nodes have put on it."""
    with torch.inference_mode():
        import_module("comfy.model_management").load_models_gpu([model])
        options = {"wrappers": model.wrappers, "cond_or_uncond": [0]}
        denoised = model.model.apply_model(LATENTS, torch.tensor([time]), None, TEXT, {"input": []}, options)
        return ((LATENTS - denoised) / time).clone()


def fill(parameters: dict[str, nn.Parameter]) -> None:
    """Give a concept in training a fixed effect."""
    with torch.no_grad():
        for index, value in enumerate(parameters.values()):
            value.copy_(0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(index)))


@pytest.mark.parametrize("name", WIRES)
def test_merged_and_live_concepts_are_the_same(pack: Pack, wire: Call, make_concept: Call, name: str) -> None:
    model = wire(name)
    base, concept = answer(model, 0.6), make_concept(model)
    wires, apply = pack("nodes.wires"), pack("nodes.apply").apply_concepts
    schedules = pack("setandseq_core.compose.strengths")
    schedule = schedules.StrengthSchedule(identity=((0.0, 1.0), (1.0, 0.0)))
    live = wires.WeightedConcept(concept=concept, schedules=(schedule,))
    differences = []
    for time in (0.6, 0.9):
        shift = model.get_model_object("model_sampling").shift
        strengths = live.at(schedules.progress_at(time, shift))
        merged = answer(apply(model, [wires.WeightedConcept(concept=concept, strengths=strengths)]), time)
        assert torch.allclose(answer(apply(model, [live]), time), merged, rtol=0, atol=2e-4)
        differences.append(float((merged - answer(model, time)).abs().max()))
    assert torch.equal(answer(model, 0.6), base)
    assert min(differences) > 0.01 and abs(differences[0] - differences[1]) > 1e-3


@pytest.mark.parametrize("name", WIRES)
def test_gradients_pass_the_wire(pack: Pack, wire: Call, embedded_wires: tuple[Any, Any], name: str) -> None:
    """The slope of the loss along the concept's gradient equals that of central differences."""
    model = wire(name)
    backbone = pack("nodes.backbone").ComfyBackbone(model, *embedded_wires)
    trainable, moved = pack("setandseq_core.lora").trainable_concept, 1e-3
    with pack("nodes.backbone").differentiable():
        text = backbone.encode_prompt("a [v] bee")
        latents, layers = LATENTS.clone(), backbone.layers
        with backbone.running((1, 16, 2, 4, 8)), trainable(backbone.module, layers, rank=2, seed=0) as concept:
            parameters = concept.begin_set_stage(0.0)
            fill(parameters)

            def loss() -> Tensor:
                with concept.dropped_out():
                    return backbone.velocity(latents, torch.tensor([0.6]), [text]).double().square().mean()

            loss().backward()
            gradients = [value.grad.clone() for value in parameters.values() if value.grad is not None]
            assert len(gradients) == len(parameters)
            slope = float(sum(value.double().square().sum() for value in gradients))
            with torch.no_grad():
                sides = []
                for side in (1.0, -2.0):
                    for value, gradient in zip(parameters.values(), gradients, strict=True):
                        value.add_(side * moved / slope**0.5 * gradient)
                    sides.append(float(loss()))
    assert (sides[0] - sides[1]) / (2 * moved) == pytest.approx(slope**0.5, rel=2e-2)


def test_a_concept_of_the_full_weights_fits_their_packed_file(
    pack: Pack, load_wan: Call, load_packed_wan: Call, make_concept: Call
) -> None:
    core, models = pack("setandseq_core.fingerprint"), pack("nodes.models")
    full, small = (models.model_fingerprint(load()) for load in (load_wan, load_packed_wan))
    core.check_base(full, small)
    assert 0 < core.distance(full, small) < 0.02


def test_the_fingerprint_of_a_packed_file_leaves_loras_out(
    pack: Pack, load_packed_wan: Call, make_concept: Call
) -> None:
    models, model = pack("nodes.models"), load_packed_wan()
    before, concept = models.model_fingerprint(model), make_concept(model)
    patched = pack("nodes.apply").apply_concepts(model, [pack("nodes.wires").WeightedConcept(concept=concept)])
    answer(patched, 0.6)
    weight: Any = patched.model.diffusion_model.blocks[0].self_attn.q.weight
    assert weight.patches
    models._fingerprints.clear()
    assert models.model_fingerprint(patched) == before
    assert weight.patches


def moved(model: Any, how_far: float) -> Any:
    """The MODEL with other weights, as if it were fine-tuned or the other expert of Wan 2.2."""
    generator = torch.Generator().manual_seed(7)
    with torch.inference_mode():
        for weight in model.model.diffusion_model.blocks.parameters():
            weight.add_(how_far * weight.std() * torch.randn(weight.shape, generator=generator))
    return model


@pytest.mark.parametrize(("how_far", "is_told"), [(0.02, False), (0.3, True)], ids=["rounded", "another expert"])
def test_other_weights_of_the_same_sizes_are_told(
    pack: Pack, run: Call, load_wan: Call, make_concept: Call, how_far: float, is_told: bool
) -> None:
    concept, other = make_concept(load_wan()), moved(load_wan(), how_far)
    weighted = pack("nodes.wires").WeightedConcept(concept=concept)
    strengths = {"identity_strength": 1.0, "motion_strength": 1.0}
    output = run("ComposeConcepts", model=other, concepts={"concept_0": weighted}, **strengths)
    said = "" if output.ui is None else str(output.ui.as_dict())
    assert ("other expert of Wan 2.2" in said) == is_told


def test_a_concept_of_an_expert_says_which_noise_it_was_trained_on(
    pack: Pack, load_wan: Call, make_concept: Call
) -> None:
    concept = make_concept(load_wan())
    concept.info.config["time_range"] = [0.875, 1.0]
    assert pack("nodes.apply").base_note(concept, load_wan()) == ""
    assert "noise levels 0.875 to 1" in pack("nodes.apply").base_note(concept, moved(load_wan(), 0.3))


def gradients(pack: Pack, wires: tuple[Any, Any], model: Any) -> Tensor:
    """The gradients of a concept on the MODEL, all in one row, for the loss of a clip of realistic length."""
    backbone = pack("nodes.backbone").ComfyBackbone(model, *wires)
    trainable = pack("setandseq_core.lora").trainable_concept
    with pack("nodes.backbone").differentiable():
        text = backbone.encode_prompt("a [v] bee")
        with backbone.running((1, 16, 2, 4, 8)), trainable(backbone.module, backbone.layers, rank=2, seed=0) as concept:
            parameters = concept.begin_set_stage(0.0)
            fill(parameters)
            with concept.dropped_out():
                answer = backbone.velocity(LATENTS.clone(), torch.tensor([0.6]), [text])
                (answer.float().square().mean() * LATENTS.numel() / 2e6).backward()
            return torch.cat([value.grad.flatten() for value in parameters.values() if value.grad is not None])


def test_gradients_keep_their_digits_on_a_model_that_computes_in_float16(
    pack: Pack, load_wan: Call, embedded_wires: tuple[Any, Any]
) -> None:
    exact = gradients(pack, embedded_wires, load_wan())
    model = load_wan(dtype=torch.float16)
    model.model.manual_cast_dtype = torch.float16  # as on a GPU; on the CPU, ComfyUI uses float32
    found = gradients(pack, embedded_wires, model)
    assert torch.cosine_similarity(found, exact, dim=0) > 0.999
    assert model.model.get_dtype_inference() == torch.float16
    layer: Any = model.model.diffusion_model.blocks[0].ffn[0]
    assert "forward" not in vars(layer) and layer.weight.dtype == torch.float16
