"""Converting HLG and PQ to SDR: published points of the curves, and a file like those that phones record."""

from pathlib import Path

import imageio_ffmpeg
import pytest
import torch

from setandseq_core.clips.tone import PEAK, WHITE, Transfer, light_of_hlg, light_of_pq, pq_of_light, to_sdr, tone_mapped
from setandseq_core.clips.video import read_clip

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # imageio-ffmpeg leaves pipes open


@pytest.mark.parametrize(
    ("signal", "light"), [(0.0, 0.0), (0.5081, 100.0), (0.5807, 203.0), (0.7518, 1000.0), (1, 1e4)]
)
def test_pq_is_the_curve_of_bt2100(signal: float, light: float) -> None:
    assert float(light_of_pq(torch.tensor(signal))) == pytest.approx(light, rel=0.002, abs=1e-4)
    assert float(pq_of_light(torch.tensor(light))) == pytest.approx(signal, abs=1e-4)


@pytest.mark.parametrize(("signal", "light"), [(0.0, 0.0), (0.5, 50.7), (0.75, 203.0), (1.0, 1000.0)])
def test_hlg_is_the_curve_of_bt2100(signal: float, light: float) -> None:
    assert float(light_of_hlg(torch.full((1, 1, 3), signal))[0, 0, 0]) == pytest.approx(light, rel=0.01, abs=0.01)


def test_dark_light_stays_and_bright_light_is_bent_below_white() -> None:
    light = torch.linspace(0, PEAK, 200)
    mapped = tone_mapped(light)
    assert torch.equal(mapped[light < 80], light[light < 80])
    assert (mapped.diff() >= 0).all() and float(mapped[-1]) == pytest.approx(WHITE, rel=0.01)


@pytest.mark.parametrize("transfer", list(Transfer))
def test_grey_stays_grey(transfer: Transfer) -> None:
    picture = to_sdr(torch.linspace(0, 1, 20).view(1, 20, 1).expand(1, 20, 3), transfer)
    assert torch.allclose(picture, picture.mean(-1, keepdim=True).expand_as(picture), atol=0.002)


def test_a_clip_of_a_phone_in_hlg_is_read_as_sdr(tmp_path: Path) -> None:
    path = tmp_path / "phone.mov"
    tags = "setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc"
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (64, 48),
        fps=16,
        codec="libx265",
        pix_fmt_out="yuv420p10le",
        quality=9,
        macro_block_size=1,
        output_params=["-vf", f"scale=out_color_matrix=bt2020,{tags}", "-x265-params", "log-level=none"],
    )
    writer.send(None)
    for _ in range(6):
        writer.send(bytes([191]) * (64 * 48 * 3))  # 75 %: white in HLG
    writer.close()
    clip = read_clip(path, fps=16)
    expected = to_sdr(torch.full((1, 1, 3), 191 / 255), Transfer.HLG)
    assert float(clip.frames_FHWC.mean()) == pytest.approx(float(expected.mean()), abs=0.01)
    assert 0.8 < float(clip.frames_FHWC.mean()) < 0.95 and clip.choice.endswith("HLG mapped to SDR")
