"""Gradients through networks that write in place."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

Pack = Callable[[str], Any]


def test_what_is_written_over_is_kept_for_the_backward(pack: Pack) -> None:
    """Tensors are freed and made again in between, so that many reuse the address, id and version of an earlier one."""
    x = torch.arange(1.0, 1001.0, requires_grad=True)
    for _ in range(50):
        x.grad = None
        with pack("nodes.gradients").kept_before_writing():
            total = torch.zeros(())
            for factor in range(1, 6):
                product = factor * x
                total = total + (product.view(-1) ** 2).sum()
                product.mul_(0.0)
                del product
            total.backward()
        assert x.grad is not None and torch.equal(x.grad, 2 * x.detach() * sum(factor**2 for factor in range(1, 6)))


@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointed"])
def test_a_block_may_write_into_its_inputs_and_into_views(pack: Pack, again: bool) -> None:
    gradients = pack("nodes.gradients")
    weight = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)

    def block(x: Tensor) -> Tensor:
        squared = x * weight * x  # saves x, which is overwritten below
        x[::2].add_(squared[::2].sin())
        x.view(2, 4)[0].mul_(0.5)
        return squared * x.exp()

    def run(x: Tensor) -> tuple[float, Tensor]:
        with gradients.kept_before_writing():
            hidden = x * 0.3
            for _ in range(3):
                hidden = gradients.run_twice(block, hidden) if again else block(hidden)
            weight.grad = None
            loss = hidden.sum()
            loss.backward()
        assert weight.grad is not None
        return loss.item(), weight.grad

    x = torch.linspace(-1.0, 1.0, 8, dtype=torch.float64)
    _, gradient = run(x)
    for index in range(8):
        moved = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight[index] += step
            loss, _ = run(x)
            moved.append(loss)
            with torch.no_grad():
                weight[index] -= step
        assert gradient[index].item() == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-5)
