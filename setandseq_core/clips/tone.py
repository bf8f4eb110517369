"""Convert pictures of high dynamic range, as phones record them, to ordinary ones: HLG and PQ to SDR BT.709.

Formulas and constants are from ITU-R BT.2100 (HLG, PQ, and the light of a display), BT.2390 (tone mapping),
BT.2087 (BT.2020 to BT.709) and BT.1886 (the gamma of an SDR display).

Shape letters: H height, W width, C the three channels red, green and blue.
"""

import math
from enum import IntEnum

import torch
from torch import Tensor


class Transfer(IntEnum):
    """Transfer functions of high-dynamic-range video, with their numbers in ITU-T H.273."""

    PQ = 16
    HLG = 18


WHITE = 203.0
"""Light of a white object in HLG and PQ, in cd/m2 (BT.2408); it becomes nearly the brightest SDR value."""
PEAK = 1000.0
"""Brightest light that is not clipped, in cd/m2: the peak that HLG and most PQ videos are graded for."""
SDR_GAMMA = 2.4

HLG_A = 0.17883277
HLG_B = 1 - 4 * HLG_A
HLG_C = 0.5 - HLG_A * math.log(4 * HLG_A)
HLG_GAMMA = 1.2
LUMINANCE = torch.tensor([0.2627, 0.6780, 0.0593])
"""Contribution of each BT.2020 primary to the luminance."""

PQ_M1 = 2610 / 16384
PQ_M2 = 2523 / 4096 * 128
PQ_C1 = 3424 / 4096
PQ_C2 = 2413 / 4096 * 32
PQ_C3 = 2392 / 4096 * 32
PQ_PEAK = 10000.0

BT2020_TO_BT709 = torch.tensor([
    [1.6605, -0.5876, -0.0728],
    [-0.1246, 1.1329, -0.0083],
    [-0.0182, -0.1006, 1.1187],
])  # fmt: skip


def to_sdr(signal_HWC: Tensor, transfer: Transfer) -> Tensor:
    """Convert a BT.2020 picture with an HLG or PQ signal in [0, 1] to an ordinary one: BT.709 RGB in [0, 1]."""
    light_HWC = light_of_hlg(signal_HWC) if transfer is Transfer.HLG else light_of_pq(signal_HWC)
    brightest_HW1 = light_HWC.amax(dim=-1, keepdim=True).clamp_min(1e-6)
    # One factor for all three channels: if each were mapped on its own, bright colours would change their hue.
    mapped_HWC = light_HWC * (tone_mapped(brightest_HW1) / brightest_HW1)
    return (mapped_HWC @ BT2020_TO_BT709.T / WHITE).clamp(0, 1).pow(1 / SDR_GAMMA)


def light_of_pq(signal: Tensor) -> Tensor:
    """Display light in cd/m2 for a PQ signal in [0, 1]: the EOTF of BT.2100."""
    power = signal.clamp(0, 1).pow(1 / PQ_M2)
    return PQ_PEAK * ((power - PQ_C1).clamp_min(0) / (PQ_C2 - PQ_C3 * power)).pow(1 / PQ_M1)


def pq_of_light(light: Tensor) -> Tensor:
    """PQ signal of light in cd/m2, the inverse of `light_of_pq`."""
    power = (light / PQ_PEAK).clamp(0, 1).pow(PQ_M1)
    return ((PQ_C1 + PQ_C2 * power) / (1 + PQ_C3 * power)).pow(PQ_M2)


def light_of_hlg(signal_HWC: Tensor) -> Tensor:
    """Light of a display of 1000 cd/m2 from an HLG signal in [0, 1]: inverse OETF, then OOTF, of BT.2100."""
    signal_HWC = signal_HWC.clamp(0, 1)
    dark_HWC = signal_HWC.square() / 3
    bright_HWC = (((signal_HWC - HLG_C) / HLG_A).exp() + HLG_B) / 12
    scene_HWC = torch.where(signal_HWC <= 0.5, dark_HWC, bright_HWC)
    luminance_HW1 = (scene_HWC @ LUMINANCE).unsqueeze(-1).clamp_min(1e-9)
    return PEAK * luminance_HW1.pow(HLG_GAMMA - 1) * scene_HWC


def tone_mapped(light: Tensor) -> Tensor:
    """Compress light of up to `PEAK` to at most `WHITE`, in cd/m2: the EETF of BT.2390, without its black lift.

    Light below the knee is unchanged. Light above it is compressed smoothly in PQ, where equal steps look equal.
    """
    ends = pq_of_light(torch.tensor([PEAK, WHITE]))
    brightest = float(ends[1] / ends[0])
    knee = 1.5 * brightest - 0.5
    signal = (pq_of_light(light) / ends[0]).clamp(0, 1)
    t = ((signal - knee) / (1 - knee)).clamp_min(0)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * brightest
    return torch.where(signal < knee, light, light_of_pq(spline * ends[0]))
