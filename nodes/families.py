"""The families of video models that ComfyUI samples, one entry each. No other file in nodes/ names a family.

An entry holds only facts that ComfyUI does not provide. The MODEL itself provides everything else: which inputs the
network takes besides latents and text, how noise is measured, how pixels and frames become latents, and which lists of
blocks the network has.

To add a family, write an entry here and a tiny model of its kind in tools/tiny_models.py; tests/nodes/test_families.py
then tests it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from comfy.model_patcher import ModelPatcher

from ..setandseq_core.backbone import Size

MODULATION = ("mod", "adaln", "norm")
"""Words in the paths of linear layers that see only the time; no LoRA adapts them."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Family:
    """Models whose concepts have layers of the same names."""

    name: str
    """Its name in concept files."""
    kinds: Mapping[str, str]
    """Classes of comfy.supported_models, each with the name that people know such a model by."""
    fps: float
    """Frames per second of the videos it was trained on."""
    civitai: str = ""
    """Civitai's label for such models, by which LoRA managers group files; "" if Civitai has none, and for Wan, whose
    label depends on the size."""
    size: Size = (480, 832)
    """Size that it was trained on; other sizes of the same area work as well."""
    guidance: float = 4.0
    """Classifier-free guidance for prior clips and sample videos, as in ComfyUI's templates; 1 for distilled models."""
    takes_picture: Mapping[str, str] = field(default_factory=dict)
    """Names that replace those in `kinds` if the network has channels for a picture."""
    first_frame: Mapping[str, str] = field(default_factory=dict)
    """ComfyUI's nodes that give classes of `kinds` the first frame of a clip, as module:class of comfy_extras; for
    classes of `takes_picture` only where the network has channels for it."""
    of_width: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """Names that replace those in `kinds` if the network has that width, for releases that share their shapes."""
    boundary: float = 0.0
    """The time at which the high-noise expert hands over to the low-noise expert; 0 if no release has two experts."""
    boundary_with_picture: float = 0.0
    """The same for classes of `takes_picture`."""
    while_training: Mapping[str, float] = field(default_factory=dict)
    """Values that training puts on the conditioning and that differ from those for sampling."""
    regions: bool = False
    """Whether concepts can act in regions, which needs tokens of 2x2 latents and a network that takes the text as
    a separate argument."""
    reads_padding: bool = True
    """Whether its network reads the padding of a prompt, which is where learned tokens are placed."""
    writes_in_place: bool = False
    """Whether its blocks write into tensors that their backward pass needs."""
    batches: bool = True
    """Whether it takes samples at different times in one batch."""
    skip: tuple[str, ...] = ()
    """Further words in the paths of layers that are not adapted."""
    refusal: str = ""
    """Why it cannot be trained; "" if it can."""
    caution: str = ""
    """A warning for those who want to train it; "" if there is none."""

    def title(self, kind: str, width: int, *, takes_picture: bool) -> str:
        """The name that people know a class of `kinds` by, if its network has that width."""
        if takes_picture and kind in self.takes_picture:
            return self.takes_picture[kind]
        return self.of_width.get((kind, width), self.kinds[kind])


FAMILIES = (
    Family(
        name="wan",
        regions=True,
        kinds={
            "WAN21_T2V": "Wan 2.1 T2V",
            "WAN21_I2V": "Wan 2.1 I2V",
            "WAN21_Vace": "Wan 2.1 VACE",
            "WAN21_FunControl2V": "Wan 2.1 Fun Control",
        },
        takes_picture={"WAN21_T2V": "Wan 2.2 I2V"},
        first_frame={"WAN21_T2V": "nodes_wan:WanImageToVideo", "WAN21_I2V": "nodes_wan:WanImageToVideo"},
        of_width={("WAN21_T2V", 5120): "Wan 2.1 or 2.2 T2V"},
        boundary=0.875,
        boundary_with_picture=0.9,
        fps=16.0,
        skip=("vace_",),
    ),
    Family(
        name="wan",
        regions=True,
        kinds={"WAN22_T2V": "Wan 2.2 TI2V"},
        first_frame={"WAN22_T2V": "nodes_wan:Wan22ImageToVideoLatent"},
        fps=24.0,
        size=(704, 1280),
    ),
    Family(
        name="wan",
        regions=True,
        kinds={
            "WAN21_Camera": "Wan 2.1 Fun Camera",
            "WAN22_Camera": "Wan 2.2 Fun Camera",
            "WAN21_CausalAR_T2V": "Wan 2.1 causal",
            "WAN22_Animate": "Wan 2.2 Animate",
            "WAN22_S2V": "Wan 2.2 S2V",
            "WAN21_HuMo": "Wan 2.1 HuMo",
            "WAN21_SCAIL": "Wan 2.1 SCAIL",
            "WAN21_SCAIL2": "Wan 2.1 SCAIL 2",
            "WAN22_WanDancer": "Wan 2.2 WanDancer",
        },
        fps=16.0,
        batches=False,
        caution="Training has never been tried on this variant of Wan. A concept for the T2V model that it was made "
        "from may work as well.",
    ),
    Family(
        name="ltx2",
        kinds={"LTXAV": "LTX-2"},
        first_frame={"LTXAV": "nodes_lt:LTXVImgToVideo"},
        civitai="LTXV2",
        reads_padding=False,
        fps=25.0,
        size=(512, 768),
        writes_in_place=True,
        skip=("audio",),
        caution="Only the picture is learned, not the sound.",
    ),
    Family(
        name="ltxv",
        kinds={"LTXV": "LTX-Video"},
        first_frame={"LTXV": "nodes_lt:LTXVImgToVideo"},
        civitai="LTXV",
        reads_padding=False,
        guidance=3.0,
        fps=25.0,
        size=(512, 768),
        writes_in_place=True,
    ),
    Family(
        name="hunyuan_video_15",
        kinds={"HunyuanVideo15": "HunyuanVideo 1.5"},
        civitai="Hunyuan Video",
        guidance=6.0,
        fps=24.0,
        writes_in_place=True,
        batches=False,
    ),
    Family(
        name="hunyuan_video",
        kinds={
            "HunyuanVideo": "HunyuanVideo",
            "HunyuanVideoI2V": "HunyuanVideo I2V",
            "HunyuanVideoSkyreelsI2V": "SkyReels I2V",
        },
        civitai="Hunyuan Video",
        guidance=1.0,
        fps=24.0,
        size=(544, 960),
        while_training={"guidance": 1.0},
        writes_in_place=True,
        batches=False,
    ),
    Family(
        name="minimax_h3",
        kinds={"MiniMaxH3": "MiniMax H3"},
        civitai="MiniMax H3",
        fps=24.0,
        writes_in_place=True,
        batches=False,
        refusal="Its guidance is distilled into it, and a concept trained without a loss made for that washes its "
        "videos out",
    ),
    Family(
        name="kandinsky5",
        kinds={"Kandinsky5": "Kandinsky 5"},
        guidance=5.0,
        fps=24.0,
        size=(512, 768),
    ),
    Family(
        name="cosmos_predict2",
        kinds={"CosmosT2IPredict2": "Cosmos Predict2", "CosmosI2VPredict2": "Cosmos Predict2 Video2World"},
        fps=16.0,
        size=(480, 832),
    ),
    Family(
        name="mochi",
        kinds={"GenmoMochi": "Mochi"},
        civitai="Mochi",
        reads_padding=False,
        guidance=4.5,
        fps=24.0,
        size=(480, 848),
        batches=False,
    ),
    Family(
        name="cogvideox",
        kinds={"CogVideoX_T2V": "CogVideoX", "CogVideoX_I2V": "CogVideoX I2V"},
        civitai="CogVideoX",
        guidance=6.0,
        fps=8.0,
        size=(480, 720),
    ),
)

NO_VIDEO = {
    "SVD_img2vid": "makes videos of a picture alone and takes no prompt",
    "SV3D_u": "turns around a thing in a picture and takes no prompt",
    "SV3D_p": "turns around a thing in a picture and takes no prompt",
    "SeedVR2": "restores videos and takes no prompt",
    "HunyuanVideo15_SR_Distilled": "makes videos larger",
    "WAN21_FlowRVS": "finds things in videos",
    "QwenImage": "makes pictures",
    "JoyImage": "makes pictures",
    "Krea2": "makes pictures",
    "Anima": "makes pictures",
    "HunyuanImage21Refiner": "refines pictures",
    "Kandinsky5Image": "makes pictures",
    "MageFlow": "makes pictures",
}
"""Describes models whose latents have a time axis, or that take a video, but that make no video from a prompt."""


def family_of(model: ModelPatcher) -> Family:
    """The MODEL's family. A model that is not listed gets an entry of its own under ComfyUI's name for it."""
    kind = type(model.model.model_config).__name__
    for family in FAMILIES:
        if kind in family.kinds:
            return family
    return Family(
        name=kind.lower(),
        kinds={kind: kind},
        fps=24.0,
        writes_in_place=True,
        batches=False,
        refusal=_why_not(model, kind),
        caution=f"{kind} is not in the list of models that are tested. It is trained the way ComfyUI samples it: check "
        "the frame rate, and look at a short training first.",
    )


def boundary_of(model: ModelPatcher) -> float:
    """The time at which one expert of the MODEL's family hands over to the other; 0 if it has no experts."""
    family = family_of(model)
    return family.boundary_with_picture if takes_picture(model) else family.boundary


def first_frame_node(model: ModelPatcher) -> str:
    """ComfyUI's node that gives the MODEL the first frame of a clip, as module:class; "" where there is none."""
    kind = type(model.model.model_config).__name__
    family = family_of(model)
    if kind in family.takes_picture and not takes_picture(model):
        return ""
    return family.first_frame.get(kind, "")


def takes_picture(model: ModelPatcher) -> bool:
    """Whether its network has channels for a picture besides the latents."""
    channels = model.model.latent_format.latent_channels
    return model.model.model_config.unet_config.get("in_dim", 0) > channels


def _why_not(model: ModelPatcher, kind: str) -> str:
    if kind in NO_VIDEO:
        return f"It {NO_VIDEO[kind]}"
    return "It makes pictures, not videos" if makes_pictures(model) else ""


def makes_pictures(model: ModelPatcher) -> bool:
    """Whether its latents have no time axis."""
    return model.model.latent_format.latent_dimensions != 3
