"""A model whose weights are spread over the processes of a training, for one that no single card holds.

PyTorch's FSDP does it, on the processes that Accelerate connects. Accelerate's own `prepare` is not used, because it
wants an optimizer over the model's weights, and here all of them are frozen. FSDP must come before the concept's
adapters, so that it does not split them: every process then holds all of them, as with a model that is not spread.
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
    """Leave each process a part of every weight; a block's weights come together while it runs.

    The blocks move to the device one by one, so at most one of them is there whole.

    Args:
        module: on the CPU, the same in every process.
        layers: native layer name -> name of the Linear in `module`; they tell which lists hold the blocks.
        device: where the processes compute.
    """
    mesh = init_device_mesh(device.type, (processes.count,))
    for blocks in block_lists(module, layers).values():
        for block in blocks.children():
            fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
