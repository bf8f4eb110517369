"""A forward pass of a Wan VAE over the whole clip at once.

diffusers and ComfyUI encode and decode a Wan video in chunks, with a cache between them, to save memory. On the
embedded model's small clips, the same arithmetic over all frames at once is several times faster, with the same
diffusers modules; a test compares the two. Shape letters: B batch, C channels, F frames, H, W height and width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    AutoencoderKLWan,
    WanAttentionBlock,
    WanResample,
    WanResidualBlock,
)
from torch import Tensor, nn


def _norm(norm: Any, x: Tensor) -> Tensor:
    gamma = norm.gamma.flatten()
    return F.rms_norm(x.movedim(1, -1), gamma.shape, gamma.to(x.dtype), 1e-12).movedim(-1, 1)


def _conv(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """A causal convolution; on a single frame, all its time steps but the last see only padding."""
    if x.shape[2] > 1:
        return _frame_by_frame(conv, x) if x.is_cuda and conv.kernel_size == (3, 3, 3) else conv(x)
    weight = conv.weight[:, :, -1].contiguous(memory_format=torch.channels_last)
    frame = x.squeeze(2).contiguous(memory_format=torch.channels_last)
    return F.conv2d(frame, weight, conv.bias, padding=weight.shape[-1] // 2).unsqueeze(2)


def _frame_by_frame(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """A causal 3x3x3 convolution as a 3x3 convolution over each frame and the two before it, which is faster on GPUs.

    In memory order (channels last), frames become a batch without a copy.
    """
    batch, _, frames, height, width = x.shape
    padded = F.pad(x, (0, 0, 0, 0, 2, 0))
    near = torch.cat([padded[:, :, start : start + frames] for start in range(3)], dim=1)
    images = near.permute(0, 2, 3, 4, 1).reshape(batch * frames, height, width, -1).permute(0, 3, 1, 2)
    weight = conv.weight.movedim(2, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
    out = F.conv2d(images, weight, conv.bias, padding=1)
    return out.permute(0, 2, 3, 1).reshape(batch, frames, height, width, -1).permute(0, 4, 1, 2, 3)


def _residual(block: WanResidualBlock, x: Tensor) -> Tensor:
    h = _conv(block.conv1, F.silu(_norm(block.norm1, x)))
    h = _conv(block.conv2, F.silu(_norm(block.norm2, h)))
    shortcut = block.conv_shortcut
    return (x if isinstance(shortcut, nn.Identity) else _conv(shortcut, x)) + h


def _attention(block: WanAttentionBlock, x: Tensor) -> Tensor:
    batch, channels, frames, height, width = x.shape
    h = _norm(block.norm, x).permute(0, 2, 3, 4, 1).reshape(batch * frames, 1, height * width, channels)
    q, k, v = F.linear(h, block.to_qkv.weight.flatten(1), block.to_qkv.bias).chunk(3, dim=-1)
    h = F.scaled_dot_product_attention(q, k, v)
    h = F.linear(h, block.proj.weight.flatten(1), block.proj.bias)
    return x + h.reshape(batch, frames, height, width, channels).permute(0, 4, 1, 2, 3)


def _per_frame(layers: nn.Module, x: Tensor) -> Tensor:
    batch, channels, frames, height, width = x.shape
    x = x.permute(0, 2, 1, 3, 4).reshape(batch * frames, channels, height, width)
    x = layers(x.contiguous(memory_format=torch.channels_last))
    return x.view(batch, frames, *x.shape[1:]).permute(0, 2, 1, 3, 4)


def _resample(layer: WanResample, x: Tensor) -> Tensor:
    """Keep the first frame, and halve or double the number of the frames after it."""
    if layer.mode == "upsample3d":
        first, rest = x[:, :, :1], x[:, :, 1:]
        if rest.shape[2]:
            rest = layer.time_conv(rest).unflatten(1, (2, -1)).movedim(1, 3).flatten(2, 3)
        x = torch.cat([first, rest], dim=2)
    x = _per_frame(layer.resample, x)
    if layer.mode == "downsample3d" and x.shape[2] > 1:
        x = torch.cat([x[:, :, :1], layer.time_conv(x)], dim=2)
    return x.contiguous(memory_format=torch.channels_last_3d)


def _run(layers: list[Any], x: Tensor) -> Tensor:
    for layer in layers:
        if isinstance(layer, WanResidualBlock):
            x = _residual(layer, x)
        elif isinstance(layer, WanAttentionBlock):
            x = _attention(layer, x)
        else:
            x = _resample(layer, x)
    return x


def _middle(block: Any) -> list[nn.Module]:
    return [block.resnets[0], block.attentions[0], block.resnets[1]]


def encode_moments(vae: AutoencoderKLWan, pixels_BCFHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance of the latents of clips in [-1, 1] with 4n+1 frames: (B, 16, n+1, H/8, W/8) each."""
    encoder = vae.encoder
    x = _conv(encoder.conv_in, pixels_BCFHW.contiguous(memory_format=torch.channels_last_3d))
    x = _run([*encoder.down_blocks, *_middle(encoder.mid_block)], x)
    x = _conv(vae.quant_conv, _conv(encoder.conv_out, F.silu(_norm(encoder.norm_out, x))))
    mean, log_variance = x.chunk(2, dim=1)
    return mean, log_variance


def decode_clip(vae: AutoencoderKLWan, latents_BCFHW: Tensor) -> Tensor:
    """Decode latents (B, 16, n+1, H/8, W/8) into clips in [-1, 1], not clamped."""
    decoder: Any = vae.decoder
    x = latents_BCFHW.contiguous(memory_format=torch.channels_last_3d)
    x = _conv(decoder.conv_in, _conv(vae.post_quant_conv, x))
    layers = _middle(decoder.mid_block)
    for block in decoder.up_blocks:
        layers += [*block.resnets, *(block.upsamplers or [])]
    x = _run(layers, x)
    return _conv(decoder.conv_out, F.silu(_norm(decoder.norm_out, x)))
