"""Training on a real GPU, with and without ComfyUI's dynamic VRAM; `python -m benchmarks.gpu` measures it."""

import multiprocessing
from collections.abc import Callable, Iterator

import pytest
import torch

from benchmarks.gpu.checks import CHECKS, check_here

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


@pytest.fixture(scope="module", params=[False, True], ids=["loaded", "dynamic VRAM"])
def check(request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """Runs a check in a new process, because the ComfyUI of the other tests is bound to the CPU."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield lambda name: pool.apply(check_here, (name, request.param))


@pytest.mark.parametrize("name", CHECKS)
def test_nothing_is_lost_on_a_card(check: Callable[[str], str], name: str) -> None:
    assert check(name)
