"""Native Wan files of tiny random models: names, round trips, and messages about files that do not fit."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from setandseq_core.backbones.wan_files import load_transformer, load_vae, transformer_config, vae_config
from setandseq_core.backbones.wan_names import native_layer_name, native_transformer, native_vae, native_vae_name
from setandseq_core.errors import BackboneError

TINY_WAN: dict[str, Any] = {
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "ffn_dim": 192,
    "num_layers": 2,
    "text_dim": 48,
}
LATENTS = (1, 16, 2, 4, 4)


@pytest.fixture
def transformer() -> WanTransformer3DModel:
    torch.manual_seed(0)
    return WanTransformer3DModel(**TINY_WAN).eval()


@pytest.fixture
def vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan(base_dim=4).eval()


@pytest.fixture
def transformer_file(transformer: WanTransformer3DModel, tmp_path: Path) -> Path:
    save_file(native_transformer(transformer.state_dict()), tmp_path / "wan.safetensors")
    return tmp_path / "wan.safetensors"


@pytest.fixture
def vae_file(vae: AutoencoderKLWan, tmp_path: Path) -> Path:
    save_file(native_vae(vae.state_dict()), tmp_path / "vae.safetensors")
    return tmp_path / "vae.safetensors"


def rewrite(file: Path, **changes: torch.Tensor | None) -> Path:
    """Rewrite a file with weights added or replaced; a change of None removes the weight."""
    weights = {key: tensor for key, tensor in (load_file(file) | changes).items() if tensor is not None}
    save_file(weights, file)
    return file


def assert_same_weights(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    found_state, expected_state = found.state_dict(), expected.state_dict()
    assert found_state.keys() == expected_state.keys()
    assert all(torch.equal(found_state[key], expected_state[key]) for key in expected_state)


@torch.no_grad()
def velocity(model: WanTransformer3DModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(LATENTS, generator=generator)
    text = torch.randn(1, 5, TINY_WAN["text_dim"], generator=generator)
    return model(hidden_states=x, timestep=torch.tensor([500.0]), encoder_hidden_states=text).sample


@pytest.mark.parametrize(
    ("name", "native"),
    [
        ("blocks.0.attn1.to_q", "blocks.0.self_attn.q"),
        ("blocks.11.attn1.to_out.0", "blocks.11.self_attn.o"),
        ("blocks.3.attn2.to_k", "blocks.3.cross_attn.k"),
        ("blocks.3.attn2.norm_q", "blocks.3.cross_attn.norm_q"),
        ("blocks.0.norm2", "blocks.0.norm3"),
        ("blocks.0.ffn.net.0.proj", "blocks.0.ffn.0"),
        ("blocks.0.ffn.net.2", "blocks.0.ffn.2"),
        ("blocks.0.scale_shift_table", "blocks.0.modulation"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("condition_embedder.time_proj", "time_projection.1"),
        ("scale_shift_table", "head.modulation"),
        ("proj_out", "head.head"),
    ],
)
def test_layer_has_its_native_name(name: str, native: str) -> None:
    assert native_layer_name(name) == native


@pytest.mark.parametrize("name", ["blocks.0.attn2.add_k_proj", "blocks.x.attn1.to_q", "vace_blocks.0.proj_in", ""])
def test_layer_that_no_text_to_video_wan_has_is_named_in_the_error(name: str) -> None:
    with pytest.raises(BackboneError, match=f"Layer {name!r} has no native name"):
        native_layer_name(name)


@pytest.mark.parametrize(
    ("name", "native"),
    [
        ("quant_conv", "conv1"),
        ("decoder.conv_in", "decoder.conv1"),
        ("encoder.mid_block.resnets.1.conv2", "encoder.middle.2.residual.6"),
        ("encoder.down_blocks.5.time_conv", "encoder.downsamples.5.time_conv"),
        ("decoder.up_blocks.1.resnets.0.conv_shortcut", "decoder.upsamples.4.shortcut"),
        ("decoder.up_blocks.2.upsamplers.0.resample.1", "decoder.upsamples.11.resample.1"),
    ],
)
def test_vae_layer_has_its_native_name(name: str, native: str) -> None:
    assert native_vae_name(name) == native


def test_vae_layer_without_native_name_is_named_in_the_error() -> None:
    with pytest.raises(BackboneError, match=r"Layer 'encoder\.other' has no native name"):
        native_vae_name("encoder.other")


def test_transformer_file_gives_back_weights_and_output(
    transformer: WanTransformer3DModel, transformer_file: Path
) -> None:
    loaded = load_transformer(transformer_file, torch.float32)
    assert_same_weights(loaded, transformer)
    assert torch.equal(velocity(loaded), velocity(transformer))
    assert not loaded.training


def test_transformer_file_loads_in_diffusers_alone(
    transformer: WanTransformer3DModel, transformer_file: Path, tmp_path: Path
) -> None:
    transformer.save_config(tmp_path / "config")
    loaded = WanTransformer3DModel.from_single_file(str(transformer_file), config=str(tmp_path / "config"))
    assert_same_weights(loaded, transformer)
    assert torch.equal(velocity(loaded), velocity(transformer))


def test_vae_file_gives_back_weights_and_output(vae: AutoencoderKLWan, vae_file: Path) -> None:
    loaded = load_vae(vae_file, torch.float32)
    assert_same_weights(loaded, vae)
    latents = torch.randn(LATENTS, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded.decode(latents, return_dict=False)[0], vae.decode(latents, return_dict=False)[0])
    assert not loaded.training


def test_vae_file_loads_in_diffusers_alone(vae: AutoencoderKLWan, vae_file: Path, tmp_path: Path) -> None:
    vae.save_config(tmp_path / "config")
    assert_same_weights(AutoencoderKLWan.from_single_file(str(vae_file), config=str(tmp_path / "config")), vae)


def test_loaded_models_can_be_saved_again(transformer_file: Path, vae_file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    save_file(native_transformer(load_transformer(transformer_file, torch.float32).state_dict()), again)
    assert load_file(again).keys() == load_file(transformer_file).keys()
    save_file(native_vae(load_vae(vae_file, torch.float32).state_dict()), again)
    assert load_file(again).keys() == load_file(vae_file).keys()


def test_comfyui_prefix_is_accepted(transformer: WanTransformer3DModel, tmp_path: Path) -> None:
    weights = {f"model.diffusion_model.{k}": w for k, w in native_transformer(transformer.state_dict()).items()}
    save_file(weights | {"text_encoder.other": torch.zeros(1)}, tmp_path / "prefixed.safetensors")
    assert_same_weights(load_transformer(tmp_path / "prefixed.safetensors", torch.float32), transformer)


def test_lower_precision_is_that_of_diffusers(
    transformer: WanTransformer3DModel, transformer_file: Path, tmp_path: Path
) -> None:
    transformer.save_pretrained(tmp_path / "folder")
    from_file = load_transformer(transformer_file, torch.bfloat16)
    from_folder = load_transformer(tmp_path / "folder", torch.bfloat16)
    assert_same_weights(from_file, from_folder)
    found, expected = from_file.state_dict(), from_folder.state_dict()
    assert {key: w.dtype for key, w in found.items()} == {key: w.dtype for key, w in expected.items()}
    assert found["blocks.0.attn1.to_q.weight"].dtype == torch.bfloat16
    assert found["blocks.0.scale_shift_table"].dtype == torch.float32
    assert all(buffer.dtype == torch.float32 for buffer in from_file.buffers())


@pytest.mark.parametrize("subfolder", ["", "transformer"])
def test_transformer_folder_loads(transformer: WanTransformer3DModel, tmp_path: Path, subfolder: str) -> None:
    transformer.save_pretrained(tmp_path / "wan" / subfolder)
    assert_same_weights(load_transformer(tmp_path / "wan", torch.float32), transformer)


@pytest.mark.parametrize("subfolder", ["", "vae"])
def test_vae_folder_loads(vae: AutoencoderKLWan, tmp_path: Path, subfolder: str) -> None:
    vae.save_pretrained(tmp_path / "wan" / subfolder)
    assert_same_weights(load_vae(tmp_path / "wan", torch.float32), vae)


def test_config_of_wan_14b_is_read_off_its_shapes() -> None:
    with torch.device("meta"):
        expected = WanTransformer3DModel()
    config = transformer_config({k: w.shape for k, w in native_transformer(expected.state_dict()).items()})
    assert {key: expected.config[key] for key in config} == config


def test_config_of_wan_vae_is_read_off_its_shapes() -> None:
    with torch.device("meta"):
        expected = AutoencoderKLWan()
    config = vae_config({key: weight.shape for key, weight in native_vae(expected.state_dict()).items()})
    assert {key: expected.config[key] for key in config} == config


@pytest.mark.parametrize("load", [load_transformer, load_vae])
class TestUnusableFile:
    def test_missing(self, load, tmp_path: Path) -> None:
        with pytest.raises(BackboneError, match=r"none\.safetensors: no such file or folder"):
            load(tmp_path / "none.safetensors", torch.float32)

    @pytest.mark.parametrize("content", [b"", b"not a model", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"])
    def test_not_safetensors(self, load, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "bad.safetensors"
        file.write_bytes(content)
        with pytest.raises(BackboneError, match=r"bad\.safetensors: (cannot be read as|not a Wan)"):
            load(file, torch.float32)

    def test_truncated(self, load, transformer_file: Path) -> None:
        transformer_file.write_bytes(transformer_file.read_bytes()[:-100])
        with pytest.raises(BackboneError, match=r"cannot be read as a \.safetensors file"):
            load(transformer_file, torch.float32)

    def test_not_wan(self, load, tmp_path: Path) -> None:
        save_file({"unet.weight": torch.zeros(2), "unet.bias": torch.zeros(2)}, tmp_path / "other.safetensors")
        with pytest.raises(BackboneError, match=r"not a Wan .*: no key '.*\.weight'; found 'unet.bias', 'unet.weight'"):
            load(tmp_path / "other.safetensors", torch.float32)

    def test_folder_without_config(self, load, tmp_path: Path) -> None:
        with pytest.raises(BackboneError, match=r"no readable config\.json"):
            load(tmp_path, torch.float32)

    @pytest.mark.parametrize("content", ["{", "[]", '{"_class_name": "WanVACETransformer3DModel"}'])
    def test_folder_of_something_else(self, load, tmp_path: Path, content: str) -> None:
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(
            BackboneError, match=r"no readable config\.json|holds a (None|WanVACETransformer3DModel), not"
        ):
            load(tmp_path, torch.float32)

    def test_other_video_models_are_sent_to_comfyui(self, load, tmp_path: Path) -> None:
        folder, file = tmp_path / "LTX", tmp_path / "ltx.safetensors"
        folder.mkdir()
        (folder / "config.json").write_text('{"_class_name": "LTXVideoTransformer3DModel"}')
        save_file({"transformer_blocks.0.attn1.to_q.weight": torch.zeros(2, 2)}, file)
        for path in (folder, file):
            with pytest.raises(BackboneError) as caught:
                load(path, torch.float32)
            assert "in ComfyUI, by the node Train Concept" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "variant"),
    [
        ("img_emb.proj.0.bias", "image-to-video"),
        ("vace_blocks.0.after_proj.bias", "VACE"),
        ("vace_patch_embedding.weight", "VACE"),
        ("control_adapter.conv.weight", "camera control"),
    ],
)
def test_other_variants_of_wan_are_refused_by_name(transformer_file: Path, key: str, variant: str) -> None:
    with pytest.raises(BackboneError, match=f"the {variant} variant of Wan .*{key}.*trains text-to-video only"):
        load_transformer(rewrite(transformer_file, **{key: torch.zeros(1)}), torch.float32)


def test_image_channels_in_the_input_are_refused(transformer_file: Path) -> None:
    wide = rewrite(transformer_file, **{"patch_embedding.weight": torch.zeros(128, 36, 1, 2, 2)})
    with pytest.raises(BackboneError, match=r"image-to-video or control variant of Wan \(36 channels in, 16 out\)"):
        load_transformer(wide, torch.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"blocks.1.ffn.2.weight": torch.zeros(128, 7)},
            r"'blocks\.1\.ffn\.2\.weight' has shape \(128, 7\).*\(128, 192\)",
        ),
        ({"blocks.1.ffn.2.weight": None}, r"weights are missing: 'blocks\.1\.ffn\.2\.weight'"),
        ({"blocks.1.ffn.2.other": torch.zeros(1)}, r"does not have: 'blocks\.1\.ffn\.2\.other'"),
        ({"scaled_fp8": torch.zeros(1)}, r"quantised \(it has 'scaled_fp8'\)"),
        ({"patch_embedding.weight": torch.zeros(100, 16, 1, 2, 2)}, "width is 100; .* multiple of 128"),
        ({"patch_embedding.weight": torch.zeros(128, 16, 2, 2, 2)}, r"patches are \(2, 2, 2\)"),
        (
            {"patch_embedding.weight": torch.zeros(128)},
            r"'patch_embedding.weight' has shape \(128,\), not 5 dimensions",
        ),
    ],
)
def test_transformer_file_that_does_not_fit_names_the_weight(transformer_file: Path, changes, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        load_transformer(rewrite(transformer_file, **changes), torch.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv2.weight": torch.zeros(8, 8, 1, 1, 1)}, "latents have 8 channels"),
        ({"decoder.conv1.weight": torch.zeros(1)}, r"'decoder\.conv1\.weight' has shape \(1,\)"),
        ({"decoder.conv1.bias": None}, r"weights are missing: 'decoder\.conv1\.bias'"),
        ({"decoder.upsamples.0.upsamples.0.residual.2.weight": torch.zeros(1)}, "Wan 2.2 5B VAE"),
    ],
)
def test_vae_file_that_does_not_fit_names_the_weight(vae_file: Path, changes, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        load_vae(rewrite(vae_file, **changes), torch.float32)


def test_file_with_diffusers_names_is_sent_to_its_folder(
    transformer: WanTransformer3DModel, vae: AutoencoderKLWan, tmp_path: Path
) -> None:
    save_file(transformer.state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(BackboneError, match="diffusers names: give the folder"):
        load_transformer(tmp_path / "a.safetensors", torch.float32)
    save_file(vae.state_dict(), tmp_path / "b.safetensors")
    with pytest.raises(BackboneError, match="diffusers names: give the folder"):
        load_vae(tmp_path / "b.safetensors", torch.float32)


def test_image_to_video_folder_is_refused(transformer: WanTransformer3DModel, tmp_path: Path) -> None:
    transformer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"image_dim": 1280}))
    with pytest.raises(BackboneError, match=r"image-to-video or control variant.*trains text-to-video only"):
        load_transformer(tmp_path, torch.float32)


def test_folder_without_weights_is_refused(transformer: WanTransformer3DModel, tmp_path: Path) -> None:
    transformer.save_config(tmp_path)
    with pytest.raises(BackboneError, match="safetensors"):
        load_transformer(tmp_path, torch.float32)


@pytest.mark.parametrize("changes", [{"num_layers": 3}, {"num_layers": 1}, {"ffn_dim": 100}])
def test_folder_whose_weights_do_not_fit_its_config_is_refused(
    transformer: WanTransformer3DModel, tmp_path: Path, changes: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    transformer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(BackboneError, match=r"blocks\.|shape"):
        load_transformer(tmp_path, torch.float32)
