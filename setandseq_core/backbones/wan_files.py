"""Load Wan models from the native single-file format, which ComfyUI reads too, and find their sizes.

The weights are found by their native names (wan_names.py), so a file must match the model key by key. Supported are
text-to-video transformers (Wan 2.1, and each of the two experts of Wan 2.2 14B) and the Wan 2.1 VAE.
"""

# diffusers leaves some types of the functions used here open.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed, WanTransformer3DModel
from safetensors import SafetensorError, safe_open

from ..errors import BackboneError
from .folders import DOWNLOAD_AGAIN, TRAINED_HERE, Model, load_part, some
from .wan_names import native_key, native_layer_name, native_transformer, native_vae, native_vae_name

__all__ = [
    "load_transformer",
    "load_vae",
    "native_layer_name",
    "native_transformer",
    "native_vae",
    "native_vae_name",
    "transformer_config",
    "vae_config",
]

Shapes = Mapping[str, Sequence[int]]
Config = dict[str, Any]

PREFIX = "model.diffusion_model."
HEAD_DIM = 128

_VARIANTS = {
    "img_emb.": "image-to-video",
    "vace_": "VACE",
    "control_adapter.": "camera control",
    "ref_conv.": "reference control",
    "face_adapter.": "Animate",
    "casual_audio_encoder.": "speech-to-video",
    "audio_proj.": "HuMo",
    "patch_embedding_": "pose or mask control",
}
_QUANTISED = (".scale_weight", ".weight_scale", "scaled_fp8", ".comfy_quant")


def transformer_config(shapes: Shapes) -> Config:
    """Constructor arguments of WanTransformer3DModel for a native file, from the shapes of its weights (no prefix).

    Raises:
        BackboneError: the file is not a Wan transformer, or is a variant other than text-to-video.
    """
    for key in shapes:
        if variant := next((name for start, name in _VARIANTS.items() if key.startswith(start)), None):
            raise BackboneError(f"this is the {variant} variant of Wan (it has {key!r}).", hint=TRAINED_HERE)
    dim, in_channels, *patch = _shape(shapes, "patch_embedding.weight", 5, "Wan transformer")
    projected, _ = _shape(shapes, "head.head.weight", 2, "Wan transformer")
    ffn_dim, _ = _shape(shapes, "blocks.0.ffn.0.weight", 2, "Wan transformer")
    _, text_dim = _shape(shapes, "text_embedding.0.weight", 2, "Wan transformer")
    _, freq_dim = _shape(shapes, "time_embedding.0.weight", 2, "Wan transformer")
    if dim == 0 or dim % HEAD_DIM:
        raise BackboneError(f"its width is {dim}; the width of a Wan is a multiple of {HEAD_DIM}.", hint=TRAINED_HERE)
    if patch != [1, 2, 2]:
        raise BackboneError(f"its patches are {tuple(patch)}; those of a Wan are (1, 2, 2).", hint=TRAINED_HERE)
    config = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": dim // HEAD_DIM,
        "attention_head_dim": HEAD_DIM,
        "in_channels": in_channels,
        "out_channels": projected // 4,
        "text_dim": text_dim,
        "freq_dim": freq_dim,
        "ffn_dim": ffn_dim,
        "num_layers": len({key.split(".")[1] for key in shapes if key.startswith("blocks.")}),
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
    }
    _check_text_to_video(config)
    return config


def vae_config(shapes: Shapes) -> Config:
    """Constructor arguments of AutoencoderKLWan for a native Wan 2.1 VAE file of any base width.

    Raises:
        BackboneError: the file is not a Wan VAE, or is the VAE of Wan 2.2 5B.
    """
    if "decoder.upsamples.0.upsamples.0.residual.2.weight" in shapes:
        raise BackboneError(
            "this is the Wan 2.2 5B VAE (48 channels).", hint="Use the Wan 2.1 VAE, which Wan 2.2 14B uses too."
        )
    base_dim, in_channels, *_ = _shape(shapes, "encoder.conv1.weight", 5, "Wan VAE")
    out_channels, *_ = _shape(shapes, "decoder.head.2.weight", 5, "Wan VAE")
    z_dim, *_ = _shape(shapes, "conv2.weight", 5, "Wan VAE")
    if z_dim != 16:
        raise BackboneError(
            f"its latents have {z_dim} channels; those of the Wan 2.1 VAE have 16.",
            hint="Give the VAE of Wan 2.1 with --vae.",
        )
    return {
        "base_dim": base_dim,
        "z_dim": z_dim,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_scales": [],
        "temperal_downsample": [False, True, True],
        "in_channels": in_channels,
        "out_channels": out_channels,
    }


def load_transformer(path: str | Path, dtype: torch.dtype) -> WanTransformer3DModel:
    """Load a Wan text-to-video transformer of any size, without network, in evaluation mode on the CPU.

    As in diffusers, time embedding, norms and modulation tables stay float32 whatever `dtype` is.

    Args:
        path: a native .safetensors file, or a diffusers folder of the pipeline or of the transformer alone.
        dtype: type of all other weights.
    Raises:
        BackboneError: the file is missing, unreadable or another kind of model, or its weights do not fit.
    """
    path = Path(path)
    if path.is_dir():
        return load_part(path, "transformer", dtype, WanTransformer3DModel, _check_text_to_video)
    model = _load_file(path, dtype, WanTransformer3DModel, transformer_config, native_layer_name)
    config = model.config
    model.rope = WanRotaryPosEmbed(HEAD_DIM, config["patch_size"], config["rope_max_seq_len"])  # files lack it
    return model


def load_vae(path: str | Path, dtype: torch.dtype) -> AutoencoderKLWan:
    """Load a Wan 2.1 VAE of any base width, without network, in evaluation mode on the CPU.

    Args:
        path: a native .safetensors file, or a diffusers folder of the pipeline or of the VAE alone.
        dtype: type of all weights.
    Raises:
        BackboneError: the file is missing, unreadable or another kind of model, or its weights do not fit.
    """
    path = Path(path)
    if path.is_dir():
        return load_part(path, "vae", dtype, AutoencoderKLWan)
    return _load_file(path, dtype, AutoencoderKLWan, vae_config, native_vae_name)


def _shape(shapes: Shapes, key: str, ndim: int, what: str) -> Sequence[int]:
    if key not in shapes:
        raise BackboneError(f"not a {what}: no key {key!r}; found {some(shapes)}.", hint=_diffusers_hint(shapes))
    if len(shapes[key]) != ndim:
        raise BackboneError(
            f"not a {what}: {key!r} has shape {tuple(shapes[key])}, not {ndim} dimensions.",
            hint=f"Give the file of a {what}.",
        )
    return shapes[key]


def _diffusers_hint(keys: Iterable[str]) -> str:
    ours = any(key.startswith(("condition_embedder.", "encoder.conv_in.")) for key in keys)
    if ours:
        return "These are diffusers names: give the folder of the file (with its config.json) instead."
    return TRAINED_HERE


def _check_text_to_video(config: Mapping[str, Any]) -> None:
    read, written = config.get("in_channels", 16), config.get("out_channels") or config.get("in_channels", 16)
    if read != written or config.get("image_dim") or config.get("added_kv_proj_dim"):
        found = f"{read} channels in, {written} out"
        raise BackboneError(f"this is an image-to-video or control variant of Wan ({found}).", hint=TRAINED_HERE)


def _load_file(
    path: Path,
    dtype: torch.dtype,
    model_class: type[Model],
    config_of: Callable[[Shapes], Config],
    native_name: Callable[[str], str],
) -> Model:
    if not path.is_file():
        raise BackboneError(f"{path}: no such file or folder.", hint="Give a .safetensors file or a diffusers folder.")
    try:
        with safe_open(path, framework="pt") as file:
            prefix = PREFIX if any(key.startswith(PREFIX) for key in file.keys()) else ""  # noqa: SIM118
            stored = {key.removeprefix(prefix): key for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118
            shapes = {name: file.get_slice(key).get_shape() for name, key in stored.items()}
            with torch.device("meta"):
                model = model_class(**config_of(shapes))
            names = {key: native_key(key, native_name) for key in model.state_dict()}
            _check_fit(shapes, {names[key]: tensor.shape for key, tensor in model.state_dict().items()})
            weights = {
                key: file.get_tensor(stored[name]).to(_kept_dtype(model, key, dtype)) for key, name in names.items()
            }
    except (SafetensorError, OSError) as error:
        raise BackboneError(f"{path}: cannot be read as a .safetensors file ({error}).", hint=DOWNLOAD_AGAIN) from error
    except BackboneError as error:
        raise BackboneError(f"{path}: {error.message}", hint=error.hint) from error
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _kept_dtype(model: ModelMixin, key: str, dtype: torch.dtype) -> torch.dtype:
    kept = model._keep_in_fp32_modules or ()
    return torch.float32 if any(name in key.split(".") for name in kept) else dtype


def _check_fit(found: Shapes, needed: Shapes) -> None:
    if quantised := [key for key in found if key.endswith(_QUANTISED)]:
        raise BackboneError(
            f"its weights are quantised (it has {some(quantised, 1)}).", hint="Use a float16 or bfloat16 file."
        )
    if missing := needed.keys() - found.keys():
        raise BackboneError(f"weights are missing: {some(missing)}.", hint=DOWNLOAD_AGAIN)
    if extra := found.keys() - needed.keys():
        raise BackboneError(f"weights that this kind of model does not have: {some(extra)}.", hint=TRAINED_HERE)
    for key, shape in needed.items():
        if tuple(found[key]) != tuple(shape):
            raise BackboneError(
                f"{key!r} has shape {tuple(found[key])}, but the other weights need {tuple(shape)}.",
                hint=DOWNLOAD_AGAIN,
            )
