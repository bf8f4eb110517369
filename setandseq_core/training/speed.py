"""A device's training speed: measured in earlier trainings, or estimated from the rate of large matrix products."""

import time

import torch

SHARE_OF_PRODUCTS = 0.4
"""Fraction of the rate of large matrix products that a training reaches: 36 to 48 % with Wan on an H200."""
PRODUCTS = 3
SIDES = {"cuda": 8192}
"""Side of the square matrices by kind of device; on a GPU one product takes a few milliseconds."""
SIDE = 1024

_products: dict[str, float] = {}
_trained: dict[str, float] = {}


def speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a training with layers of this type."""
    key = f"{device} {dtype}"
    if key in _trained:
        return _trained[key]
    if key not in _products:
        _products[key] = _product_rate(device, dtype)
    return SHARE_OF_PRODUCTS * _products[key]


def remember_speed(device: torch.device, dtype: torch.dtype, operations: float, seconds: float) -> None:
    """Use the measured speed of a training for all later plans."""
    if operations > 0 and seconds > 0:
        _trained[f"{device} {dtype}"] = operations / seconds


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second in the fastest of a few products of large matrices."""
    side = SIDES.get(device.type, SIDE)
    one = torch.ones(side, side, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(PRODUCTS + 1):  # the first one also loads the library
        begun = time.perf_counter()
        _ = float((one @ one)[0, 0])  # reading the number waits until the device has finished
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best
