"""Spread a model's weights over the processes of a training, for a model that does not fit on one GPU.

PyTorch's FSDP does it, on the processes that Accelerate connects. Accelerate's own `prepare` is not used, because it
needs an optimizer over the model's weights, and all of these are frozen. FSDP must be applied before the concept's
adapters are added, so that it does not split them: every process then holds the complete adapters.
"""

# PyTorch leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from .processes import Processes
from .savings import block_lists


def spread(module: nn.Module, layers: Mapping[str, str], processes: Processes, device: torch.device) -> None:
    """Give each process a part of every weight; a block's weights are gathered while it runs.

    The blocks move to the device one by one, so at most one of them is complete there.

    Args:
        module: the transformer, on the CPU and the same in every process.
        layers: native layer name -> name of the Linear in `module`; they tell which lists hold the blocks.
        device: the device that this process computes on.
    """
    mesh = init_device_mesh(device.type, (processes.count,))
    for blocks in block_lists(module, layers).values():
        for block in blocks.children():
            fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
