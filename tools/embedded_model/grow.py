"""Make larger models that begin as exact copies of smaller ones, so that nothing has to be learned again."""

import copy

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn


@torch.no_grad()
def widened(vae: AutoencoderKLWan, generator: torch.Generator) -> AutoencoderKLWan:
    """A VAE of twice the width with the same latents and frames.

    Every channel exists twice. The weights that read it are split between the two copies, unevenly and at random, so
    the sum is the same but the gradients differ.
    """
    wide = AutoencoderKLWan(**{**vae.config, "base_dim": 2 * vae.config["base_dim"]})
    small = vae.state_dict()
    state = {name: _doubled(name, small[name], value.shape, generator) for name, value in wide.state_dict().items()}
    wide.load_state_dict(state)
    return wide.eval()


def _doubled(name: str, value: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if value.shape[0] != shape[0]:
        stacked = _stacked_outputs(name)
        value = value.unflatten(0, (stacked, -1)).repeat_interleave(2, dim=1).flatten(0, 1)
    if value.shape[1:2] != shape[1:2]:
        share = 0.5 + 0.2 * (2 * torch.rand(value.shape[:2], generator=generator) - 1)
        share = torch.stack([share, 1 - share], dim=2).flatten(1)
        value = value.repeat_interleave(2, dim=1) * share.view(*share.shape, *(1,) * (value.ndim - 2))
    if "to_qkv" in name:  # attention divides by the root of the width, which has doubled
        query, rest = value.split((len(value) // 3, 2 * len(value) // 3))
        value = torch.cat([query / 2**0.5, rest])
    return value


def _stacked_outputs(name: str) -> int:
    """Number of full-width outputs that a layer stacks one after the other."""
    if "to_qkv" in name:
        return 3
    return 2 if "time_conv" in name and "up_blocks" in name else 1


@torch.no_grad()
def deepened(transformer: WanTransformer3DModel, layers: int) -> WanTransformer3DModel:
    """A transformer with more blocks and the same velocities: the new blocks are spread evenly and add nothing at
    first."""
    count = len(transformer.blocks)
    deep = WanTransformer3DModel(**{**transformer.config, "num_layers": layers})
    deep.load_state_dict(transformer.state_dict(), strict=False)
    blocks: list[nn.Module] = []
    for index, block in enumerate(transformer.blocks):
        blocks.append(copy.deepcopy(block))
        for _ in range((index + 1) * (layers - count) // count - index * (layers - count) // count):
            blocks.append(_idle(copy.deepcopy(block)))
    deep.blocks = nn.ModuleList(blocks)
    return deep.eval()


def _idle(block: nn.Module) -> nn.Module:
    for name in ("attn1.to_out.0", "attn2.to_out.0", "ffn.net.2"):
        for parameter in block.get_submodule(name).parameters():
            parameter.zero_()
    return block
