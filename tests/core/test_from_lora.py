"""A look that another program has learned: real files of each spelling, factorised, and motion learned on them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from peft import LoraConfig
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.backbones.wan_names import diffusers_layer_name
from setandseq_core.clips.clip import Clip, Reference, Words
from setandseq_core.concept_file.export import export_lora
from setandseq_core.concept_file.from_lora import ROW_NORM, LookTaken, factorised, identity_from_lora
from setandseq_core.config import MethodConfig
from setandseq_core.errors import ConceptFileError, ConceptMismatchError, PromptError
from setandseq_core.learn import learn_motion

WORDS = Words(static_prompt="a ohwx blob", motion_prompt="a ohwx blob", identity_token="ohwx")
RANK, ALPHA = 4, 6.0
Pairs = dict[str, tuple[Tensor, Tensor]]
Write = Callable[[WanBackbone, Pairs, Path], None]


def some_pairs(backbone: WanBackbone, rank: int = RANK) -> Pairs:
    """Random up and down matrices for every layer, by native names."""
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) / 10

    sizes = backbone.fingerprint().layers
    return {layer: (random(num_out, rank), random(rank, num_in)) for layer, (num_out, num_in) in sizes.items()}


def write_native(_backbone: WanBackbone, pairs: Pairs, path: Path) -> None:
    tensors = {}
    for layer, (up_OR, down_RI) in pairs.items():
        tensors[f"diffusion_model.{layer}.lora_A.weight"] = down_RI
        tensors[f"diffusion_model.{layer}.lora_B.weight"] = up_OR * ALPHA / RANK
    save_file(tensors, path)


def write_kohya(_backbone: WanBackbone, pairs: Pairs, path: Path) -> None:
    tensors = {}
    for layer, (up_OR, down_RI) in pairs.items():
        name = f"lora_unet_{layer.replace('.', '_')}"
        tensors[f"{name}.lora_down.weight"] = down_RI
        tensors[f"{name}.lora_up.weight"] = up_OR
        tensors[f"{name}.alpha"] = torch.tensor(ALPHA)
    save_file(tensors, path)


def write_diffusers(backbone: WanBackbone, pairs: Pairs, path: Path) -> None:
    """Write a LoRA with diffusers itself: an adapter in its transformer, saved as its training scripts do."""
    transformer = backbone.module
    paths = list(backbone.layers.values())
    config = LoraConfig(r=RANK, lora_alpha=int(ALPHA), target_modules=paths, init_lora_weights=False)
    transformer.add_adapter(config)
    with torch.no_grad():
        for layer, (up_OR, down_RI) in pairs.items():
            adapted: Any = transformer.get_submodule(backbone.layers[layer])
            adapted.lora_A["default"].weight.copy_(down_RI)
            adapted.lora_B["default"].weight.copy_(up_OR)
    weights: dict[str, Any] = get_peft_model_state_dict(transformer)
    WanPipeline.save_lora_weights(
        path.parent,
        transformer_lora_layers=weights,
        weight_name=path.name,
        transformer_lora_adapter_metadata={"r": RANK, "lora_alpha": int(ALPHA)},
    )
    transformer.delete_adapters("default")


@pytest.fixture
def look(tiny_backbone: WanBackbone, tmp_path: Path) -> Callable[..., LookTaken]:
    """Takes the look of a LoRA file for the tiny model."""

    def take(rank: int = 0, strength: float = 1.0, leave_out: bool = False) -> LookTaken:
        return identity_from_lora(
            tmp_path / "lora.safetensors",
            tiny_backbone.fingerprint(),
            "tiny",
            WORDS,
            in_diffusers=diffusers_layer_name,
            rank=rank,
            strength=strength,
            leave_out=leave_out,
        )

    return take


@pytest.mark.parametrize("write", [write_native, write_kohya, write_diffusers])
def test_a_look_is_the_lora_whatever_its_spelling(
    tiny_backbone: WanBackbone, tmp_path: Path, look: Callable[..., LookTaken], write: Write
) -> None:
    pairs = some_pairs(tiny_backbone)
    write(tiny_backbone, pairs, tmp_path / "lora.safetensors")
    taken = look()
    identity = taken.identity
    assert identity.layers.keys() == pairs.keys() == tiny_backbone.layers.keys()
    assert (identity.rank, taken.rank, taken.left_out) == (RANK, RANK, [])
    assert taken.kept == pytest.approx(1)
    for layer, (up_OR, down_RI) in pairs.items():
        found = identity.layers[layer]
        change = found.identity_basis_OR @ found.coefficients_RI
        torch.testing.assert_close(change, ALPHA / RANK * up_OR @ down_RI, rtol=1e-4, atol=1e-6)
        assert not found.motion_residual_RI.any()


def test_motion_is_learned_on_a_look_that_stays_as_it_is(
    tiny_backbone: WanBackbone, tiny_frames: Tensor, tmp_path: Path, look: Callable[..., LookTaken]
) -> None:
    write_kohya(tiny_backbone, some_pairs(tiny_backbone), tmp_path / "lora.safetensors")
    identity = look().identity
    words = Words(static_prompt="a ohwx blob", motion_prompt="a ohwx blob, zub hopping", motion_token="zub")
    reference = Reference(clip=Clip(frames_FHWC=tiny_frames, fps=16.0, choice="all of it"), words=words)
    config = MethodConfig(prior=replace(MethodConfig().prior, share=0.0))
    config = replace(config, sequence_stage=replace(config.sequence_stage, steps=2, batch=1))
    concept = learn_motion(tiny_backbone, identity, [reference], config)
    for layer, value in concept.layers.items():
        assert torch.equal(value.identity_basis_OR, identity.layers[layer].identity_basis_OR)
        assert torch.equal(value.coefficients_RI, identity.layers[layer].coefficients_RI)
        assert value.motion_residual_RI.any()
    info = concept.info
    assert (info.static_prompt, info.motion_prompt) == ("a ohwx blob", "a ohwx blob, zub hopping")
    assert (info.identity_token, info.motion_token) == ("ohwx", "zub")
    assert info.training["identity_from_lora"]["file"] == "lora.safetensors"
    assert info.config["sequence_stage"]["steps"] == 2 and info.config["rank"] == RANK
    assert "token_masking" in info.config and "set_stage" not in info.config
    export_lora(concept, tmp_path / "out.safetensors")


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_basis_is_the_best_of_its_rank(rank: int) -> None:
    generator = torch.Generator().manual_seed(4)
    up_OR = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    down_RI = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    found = factorised(up_OR, down_RI, rank)
    left, values, right = torch.linalg.svd(up_OR @ down_RI)
    taken = min(rank, 5)
    best = left[:, :taken] * values[:taken] @ right[:taken]
    torch.testing.assert_close(found.identity_basis_OR @ found.coefficients_RI, best)
    assert found.identity_basis_OR.shape == (9, rank) and found.coefficients_RI.shape == (rank, 7)
    torch.testing.assert_close(found.coefficients_RI[:taken].norm(dim=1), torch.full((taken,), ROW_NORM).double())
    assert found.kept == pytest.approx(values[:taken].square().sum().item())
    assert found.whole == pytest.approx(values.square().sum().item())


def test_a_lower_rank_says_how_much_is_kept(
    tiny_backbone: WanBackbone, tmp_path: Path, look: Callable[..., LookTaken]
) -> None:
    write_native(tiny_backbone, some_pairs(tiny_backbone), tmp_path / "lora.safetensors")
    taken = look(rank=2)
    assert taken.identity.rank == 2 and 0.3 < taken.kept < 0.95
    assert f"rank 2 of 4, {taken.kept:.0%} of it kept" in taken.summary()
    assert look(rank=64).identity.rank == RANK


def test_strength_is_that_of_a_loader(
    tiny_backbone: WanBackbone, tmp_path: Path, look: Callable[..., LookTaken]
) -> None:
    write_native(tiny_backbone, some_pairs(tiny_backbone), tmp_path / "lora.safetensors")
    whole, half = look().identity.layers["blocks.0.ffn.0"], look(strength=-0.5).identity.layers["blocks.0.ffn.0"]
    change = whole.identity_basis_OR @ whole.coefficients_RI
    torch.testing.assert_close(half.identity_basis_OR @ half.coefficients_RI, -0.5 * change)


def test_what_cannot_be_taken_is_refused_or_left_out(
    tiny_backbone: WanBackbone, tmp_path: Path, look: Callable[..., LookTaken]
) -> None:
    path = tmp_path / "lora.safetensors"
    write_native(tiny_backbone, some_pairs(tiny_backbone), path)
    rest = {"diffusion_model.blocks.0.norm3.diff": torch.ones(128), "lora_te_x.lora_down.weight": torch.ones(2, 2)}
    save_file(load_file(path) | rest, path)
    with pytest.raises(ConceptMismatchError, match=r"2 of 42 tensors .* cannot be taken: 'diffusion_model.*norm3"):
        look()
    taken = look(leave_out=True)
    assert taken.left_out == sorted(rest) and len(taken.identity.layers) == 20
    assert "Left out: 2 tensors, such as diffusion_model.blocks.0.norm3.diff" in taken.summary()


def test_a_lora_of_another_size_names_the_layer_and_both_sizes(
    tiny_backbone: WanBackbone, tmp_path: Path, look: Callable[..., LookTaken]
) -> None:
    pairs = some_pairs(tiny_backbone)
    wider = {layer: (torch.ones(256, RANK), torch.ones(RANK, 256)) for layer in pairs}
    write_kohya(tiny_backbone, wider, tmp_path / "lora.safetensors")
    with pytest.raises(ConceptMismatchError, match=r"blocks.0.cross_attn.k.*\[256, 4\] and \[4, 256\].*\[128, 128\]"):
        look()
    with pytest.raises(ConceptMismatchError, match="another size"):
        look(leave_out=True)


@pytest.mark.parametrize(
    ("tensors", "kind", "message"),
    [
        ({"lora_unet_input_blocks_1.lora_down.weight": (2, 8)}, ConceptFileError, "is no LoRA that can be taken"),
        ({"blocks.0.self_attn.q.hada_w1_a": (4, 4)}, ConceptFileError, "other kinds, such as LoHa"),
        (
            {"unet.down.0.lora_A.weight": (2, 8), "unet.down.0.lora_B.weight": (8, 2)},
            ConceptMismatchError,
            "No layer of .* is known .* 'unet.down.0', the model has 'blocks.0",
        ),
        (
            {"blocks.0.ffn.0.lora_A.weight": (4, 128), "blocks.0.ffn.0.lora_B.weight": (64, 4)},
            ConceptFileError,
            "changes nothing at strength 1",
        ),
    ],
)
def test_files_that_hold_no_look_are_refused_in_words(
    tmp_path: Path,
    look: Callable[..., LookTaken],
    tensors: dict[str, tuple[int, int]],
    kind: type[Exception],
    message: str,
) -> None:
    save_file({key: torch.zeros(shape) for key, shape in tensors.items()}, tmp_path / "lora.safetensors")
    with pytest.raises(kind, match=message):
        look()


def test_a_lora_that_is_not_finite_is_refused(
    tiny_backbone: WanBackbone, tmp_path: Path, look: Callable[..., LookTaken]
) -> None:
    pairs = some_pairs(tiny_backbone)
    pairs["blocks.1.ffn.2"][0][0, 0] = float("nan")
    write_native(tiny_backbone, pairs, tmp_path / "lora.safetensors")
    with pytest.raises(ConceptFileError, match=r"'blocks.1.ffn.2' of lora.safetensors holds NaN"):
        look()


def test_a_trigger_word_must_be_in_the_prompt() -> None:
    with pytest.raises(PromptError, match="does not hold it"):
        Words(static_prompt="a blob", motion_prompt="a blob", identity_token="ohwx")
