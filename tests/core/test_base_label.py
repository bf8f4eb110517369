"""Base models under Civitai's own labels, which LoRA managers group files by."""

from typing import Any

import pytest

from setandseq_core.concept import ConceptInfo
from setandseq_core.concept_file.base_label import base_label
from setandseq_core.fingerprint import BaseFingerprint

WAN = "wan"


def info(family: str, width: int = 0, base_name: str = "its own name", **made: Any) -> ConceptInfo:
    layers = {f"blocks.0.{name}": [width, width] for name in ("self_attn.q", *made.pop("extra", ()))}
    return ConceptInfo(
        name="bee",
        static_prompt="a bee",
        motion_prompt="a bee dancing",
        identity_token="",
        motion_token="",
        base=BaseFingerprint(family=family, layers=layers, projections=dict.fromkeys(layers, 0.0)),
        base_name=base_name,
        config={"time_range": made["time_range"]} if "time_range" in made else {},
        training={key: made[key] for key in ("resolution", "base_label") if key in made},
    )


@pytest.mark.parametrize(
    ("found", "label"),
    [
        (info(WAN, 1536), "Wan Video 1.3B t2v"),
        (info(WAN, 5120), "Wan Video 14B t2v"),
        (info(WAN, 5120, time_range=[0.0, 1.0]), "Wan Video 14B t2v"),
        (info(WAN, 5120, time_range=[0.875, 1.0]), "Wan Video 2.2 T2V-A14B"),
        (info(WAN, 5120, "Wan image-to-video or control (5120 wide)"), "Wan Video 2.2 I2V-A14B"),
        (info(WAN, 5120, extra=["cross_attn.k_img"], resolution="832x480"), "Wan Video 14B i2v 480p"),
        (info(WAN, 5120, extra=["cross_attn.k_img"], resolution="1280x720"), "Wan Video 14B i2v 720p"),
        (info(WAN, 3072), "Wan Video 2.2 TI2V-5B"),
        (info(WAN, 256), "its own name"),
        (info("ltxv", base_label="LTXV"), "LTXV"),
        (info("kandinsky5"), "its own name"),
    ],
)
def test_a_base_has_the_label_that_civitai_gives_it(found: ConceptInfo, label: str) -> None:
    assert base_label(found) == label
