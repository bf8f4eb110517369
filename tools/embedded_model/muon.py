"""Muon for many matrices of few shapes: matrices of the same shape are orthogonalised together.

The embedded model has about a hundred small matrices. Updated one by one, they keep a GPU waiting for its next kernel.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .precision import fast_type

ITERATION = 3.4445, -4.7750, 2.0315
"""Coefficients of the Newton-Schulz iteration, as in PyTorch's Muon."""
ITERATIONS = 5


class BatchedMuon(torch.optim.Muon):
    """Takes the same steps as `torch.optim.Muon` with Nesterov momentum and updates as large as AdamW's."""

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0):
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape].append(matrix)
            for shape, matrices in alike.items():
                update = self._update(matrices, group["momentum"])
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, list(update.to(matrices[0].dtype).unbind(0)), alpha=-rate)

    def _update(self, matrices: list[Tensor], momentum: float) -> Tensor:
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        averages = []
        for matrix in matrices:
            state = self.state[matrix]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(matrix)
            averages.append(state["momentum_buffer"])
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        return orthogonalised(torch.stack(torch._foreach_lerp(gradients, averages, momentum)))


def orthogonalised(matrices_NOI: Tensor) -> Tensor:
    """Approximately the nearest matrices with equal singular values, in the fast type; see `torch.optim.Muon`."""
    a, b, c = ITERATION
    x = matrices_NOI.to(fast_type(matrices_NOI.device))
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
