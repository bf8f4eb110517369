"""Image to video: a clip's own first frame, pictures of the artist's graph, and a loss on what is predicted alone."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from setandseq_core.config import MethodConfig, PriorConfig, SamplingConfig, SequenceConfig, SetConfig
from tools.tiny_models import TINY, TinyClip, load_tiny, random, random_weights

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own
Pack = Callable[[str], Any]
Call = Callable[..., Any]
NEED_A_PICTURE = ("wan_i2v", "wan_22_i2v")
TAKE_A_PICTURE = ("wan_22_5b", "ltxv", "ltx2")
CONFIG = MethodConfig(
    rank=2,
    prior=PriorConfig(clips=2, share=0.5),
    sampling=SamplingConfig(steps=2, guidance=1.0),
    set_stage=SetConfig(steps=2, batch=2, learning_rate=1e-2),
    sequence_stage=SequenceConfig(steps=2, batch=2, learning_rate=1e-2),
)


@pytest.fixture(scope="module")
def load(comfyui: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """A tiny MODEL by its name."""
    folder = tmp_path_factory.mktemp("given")
    return lambda name: load_tiny(name, folder)


@pytest.fixture(scope="module")
def backbone_of(pack: Pack, load: Call) -> Call:
    """A tiny MODEL as the core's backbone, with a random VAE and text encoder."""

    def make(name: str, **options: Any) -> Any:
        network = import_module("comfy.taesd.taehv").TAEHV(TINY[name].latents[0])
        vae = import_module("comfy.sd").VAE(sd=random_weights(network))
        return pack("nodes.backbone").ComfyBackbone(load(name), TinyClip(TINY[name]), vae, **options)

    return make


def clip_of(backbone: Any, name: str, seed: int = 1) -> Tensor:
    """Frames (F, H, W, 3) of the size of a tiny model's latents."""
    _, frames, height, width = TINY[name].latents
    side = backbone.model.model.latent_format.spacial_downscale_ratio
    shape = backbone.format.length(frames), side * height, side * width, 3
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def from_node(backbone: Any, name: str, frames: Tensor, text: Any) -> tuple[Any, dict[str, Any]]:
    """Run ComfyUI's node for the first frame on a clip; return its CONDITIONING and LATENT."""
    length, height, width = frames.shape[:3]
    sizes = {"vae": backbone.vae, "width": width, "height": height, "length": length, "batch_size": 1}
    conditioning = [[text.tokens_ND.unsqueeze(0), TINY[name].encoded(len(text.tokens_ND))]]
    both = {"positive": conditioning, "negative": conditioning}
    wan, lightricks = import_module("comfy_extras.nodes_wan"), import_module("comfy_extras.nodes_lt")
    with torch.inference_mode():
        if name in NEED_A_PICTURE:
            found = wan.WanImageToVideo.execute(**both, **sizes, start_image=frames[:1]).args
        elif name == "wan_22_5b":
            return conditioning, wan.Wan22ImageToVideoLatent.execute(**sizes, start_image=frames[:1]).args[0]
        else:
            found = lightricks.LTXVImgToVideo.execute(**both, **sizes, image=frames[:1], strength=1.0).args
    return found[0], found[2]


def denoised_by_comfyui(backbone: Any, conditioning: Any, latent: Any, noise: Tensor, sigma: float) -> Tensor:
    """One step of ComfyUI's sampler to the end, from a LATENT with noise at that sigma; nothing of ours is asked."""
    samplers = import_module("comfy.samplers")
    with torch.inference_mode():
        guider = samplers.CFGGuider(backbone.model)
        guider.set_conds(conditioning, [])
        guider.set_cfg(1.0)
        samples, mask = latent["samples"], latent.get("noise_mask")
        sigmas, euler = torch.tensor([sigma, 0.0]), samplers.sampler_object("euler")
        found = guider.sample(noise, samples, euler, sigmas, denoise_mask=mask, seed=0)
        return backbone.model.model.process_latent_in(found).clone()


@pytest.mark.parametrize("name", [*NEED_A_PICTURE, *TAKE_A_PICTURE])
def test_a_first_frame_is_given_as_comfyuis_sampler_gives_it(pack: Pack, backbone_of: Call, name: str) -> None:
    sigma, noise = 0.6, random(1, *TINY[name].latents, seed=2)
    with torch.inference_mode(), pack("nodes.backbone").differentiable(), torch.no_grad():
        backbone = backbone_of(name)
        frames, text = clip_of(backbone, name), backbone.encode_prompt("a blob")
        given = backbone.given.with_first_frame(text, frames[:1], len(frames))
        conditioning, latent = from_node(backbone, name, frames, text)
        start = latent["samples"]  # an empty one is taken as it is
        start = backbone.model.model.process_latent_in(start) if start.any() else start
        x_t = sigma * noise + (1 - sigma) * start
        with backbone.running(x_t.shape):
            ours = x_t - sigma * backbone.velocity(x_t, torch.tensor([sigma]), [given])
            without = x_t - sigma * backbone.velocity(x_t, torch.tensor([sigma]), [text])
    theirs = denoised_by_comfyui(backbone, conditioning, latent, noise, sigma)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert (without - theirs).abs().max() > 1e-3


def reference_of(pack: Pack, frames: Tensor) -> Any:
    """A clip with its prompts, as Reference Clip makes it."""
    clips = pack("setandseq_core.clips.clip")
    words = clips.Words(
        static_prompt="a [v] blob", motion_prompt="a [v] blob [u] hopping", identity_token="[v]", motion_token="[u]"
    )
    clip = clips.Clip(frames_FHWC=frames, fps=16.0, choice="the whole clip")
    return clips.Reference(clip=clip, words=words)


@pytest.fixture
def seen(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Any]]:
    """Latent frames and condition of every sample that any backbone was asked about with gradients."""
    backbone = pack("nodes.backbone").ComfyBackbone
    answer = backbone.velocity
    found: list[tuple[int, Any]] = []

    def noted(self: Any, x_t: Tensor, time_B: Tensor, texts: Any) -> Tensor:
        if torch.is_grad_enabled():
            found.extend((x_t.shape[2], text) for text in texts)
        return answer(self, x_t, time_B, texts)

    monkeypatch.setattr(backbone, "velocity", noted)
    return found


@pytest.mark.parametrize("name", [*NEED_A_PICTURE, *TAKE_A_PICTURE])
def test_both_stages_learn_from_a_clip_and_only_the_second_is_given_its_first_frame(
    pack: Pack, backbone_of: Call, seen: list[tuple[int, Any]], name: str, tmp_path: Path
) -> None:
    """With practice clips; the MODEL answers bit for bit as before, and the concept is saved, loaded and applied."""
    learn, files = pack("setandseq_core.learn"), pack("setandseq_core.concept_file.file")
    with torch.inference_mode(), pack("nodes.backbone").differentiable():
        backbone = backbone_of(name)
        frames = clip_of(backbone, name)
        before = answer_of(backbone, backbone.model, name)
        concept = learn.learn_concept(backbone, [reference_of(pack, frames)], CONFIG, name="blob")
        assert torch.equal(answer_of(backbone, backbone.model, name), before)
        for layer in concept.layers.values():
            assert all(part.isfinite().all() for part in (layer.identity_basis_OR, layer.motion_residual_RI))
        assert all(layer.motion_residual_RI.any() for layer in concept.layers.values())
        told = pack("nodes.conditions").told_of
        stills = [text for length, text in seen if length == 1]
        clips = [text for length, text in seen if length > 1]
        assert not any(told(text).known or "concat_mask" in told(text).given for text in stills)
        given = [bool(told(text).known or "concat_mask" in told(text).given) for text in clips]
        assert all(given) if name in NEED_A_PICTURE else (any(given) and not all(given))
        files.save_concept(concept, tmp_path / "blob.safetensors")
        again = files.load_concept(tmp_path / "blob.safetensors")
        weighted = pack("nodes.wires").WeightedConcept(concept=again)
        merged = pack("nodes.apply").apply_concepts(backbone.model, [weighted])
        assert (answer_of(backbone, merged, name) - before).abs().max() > 1e-4


def answer_of(backbone: Any, model: Any, name: str) -> Tensor:
    """Run ComfyUI's sampler on a fixed picture and prompt with a MODEL."""
    text = backbone.encode_prompt("a blob")
    conditioning, latent = from_node(backbone, name, clip_of(backbone, name, seed=4), text)
    noise = random(1, *TINY[name].latents, seed=2)
    kept, backbone.model = backbone.model, model
    try:
        return denoised_by_comfyui(backbone, conditioning, latent, noise, 0.6)
    finally:
        backbone.model = kept


def test_the_loss_counts_only_what_is_predicted(pack: Pack, backbone_of: Call) -> None:
    """Whatever the model says of the frame that it is given, and whether or not a subject is masked."""
    prompts, flow, encode = (pack(f"setandseq_core.{name}") for name in ("prompts", "flow", "clips.encode"))
    velocity, target = random(2, 16, 3, 4, 4, seed=1), random(2, 16, 3, 4, 4, seed=2)
    text = prompts.Condition(tokens_ND=random(3, 8), known=1)
    weights = prompts.predicted_weights(text, velocity[0])
    found = flow.flow_loss(velocity, target, weights)
    torch.testing.assert_close(found, (velocity - target)[:, :, 1:].square().mean())
    velocity[:, :, 0] += 100
    assert torch.equal(flow.flow_loss(velocity, target, weights), found)
    assert prompts.predicted_weights(prompts.Condition(tokens_ND=text.tokens_ND), velocity[0]) is None
    with torch.inference_mode(), pack("nodes.backbone").differentiable():
        backbone = backbone_of("wan_22_5b")
        frames = clip_of(backbone, "wan_22_5b")
        mask = torch.ones(frames.shape[:3])
        sequence = encode.encode_frame_sequence(backbone, frames, "a blob", mask, first_frame=True)
        assert sequence.text.known == 1
        assert not sequence.weights_1FHW[:, 0].any() and sequence.weights_1FHW[:, 1:].all()


def test_practice_clips_of_a_model_that_needs_a_picture_start_from_a_still_of_their_own(
    pack: Pack, backbone_of: Call
) -> None:
    prior, prompts = pack("setandseq_core.training.prior"), pack("setandseq_core.prompts")
    encode = pack("setandseq_core.clips.encode")
    chosen = [prompts.PriorPrompt(appearance="a cat", motion="a cat up")]
    with torch.inference_mode(), pack("nodes.backbone").differentiable():
        backbone = backbone_of("wan_22_i2v", conditioning=[[random(1, 12, 4096), graph_of(backbone_of)]])
        clip = clip_of(backbone, "wan_22_i2v")
        made = prior.make_prior(backbone, chosen, tuple(clip.shape[:3]), sampling=CONFIG.sampling)
        encoded = encode.encode_prior_clips(backbone, made)
        own = encode.in_order(backbone, backbone.encode_prompt("a cat up"), clip, first_frame=True)
        told = pack("nodes.conditions").told_of
        pictures = [told(text).given["concat_latent_image"] for text in (encoded.texts[0], encoded.empty[0], own)]
        assert torch.equal(pictures[0], pictures[1]) and not torch.equal(pictures[0], pictures[2])
        assert torch.equal(pictures[2], graph_of(backbone_of)["concat_latent_image"])


def graph_of(backbone_of: Call) -> dict[str, Any]:
    """Return what WanImageToVideo puts on a CONDITIONING for another clip of the same size."""
    backbone = backbone_of("wan_22_i2v")
    text = backbone.encode_prompt("a blob")
    return from_node(backbone, "wan_22_i2v", clip_of(backbone, "wan_22_i2v", seed=9), text)[0][0][1]


@pytest.fixture
def train(run: Call, pack: Pack, folders: Path, load_wan: Call) -> Call:
    """Runs Train Concept on a Wan that needs a picture, always with the same clip; returns its NodeOutput."""
    for file in pack("nodes.folders").training_folder().glob("*"):
        file.unlink()
    latest, embedded = import_module("comfy_api.latest"), pack("nodes.embedded")
    frames = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    video = latest.InputImpl.VideoFromComponents(latest.Types.VideoComponents(images=frames, frame_rate=16))
    with torch.inference_mode():
        vae = import_module("comfy.sd").VAE(sd=import_module("comfy.utils").load_torch_file(str(embedded.VAE_FILE)))
    model = load_wan(in_channels=36)

    def execute(length: int, picture: int = 1, **values: Any) -> Any:
        image = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(picture))
        text = [[torch.zeros(1, 3, 4096), values]]
        node = import_module("comfy_extras.nodes_wan").WanImageToVideo
        with torch.inference_mode():
            conditioning = node.execute(text, text, vae, 32, 32, length, 1, start_image=image).args[0]
        return run(
            "TrainConcept",
            model=model,
            clip=embedded.embedded_clip(),
            vae=vae,
            video=video,
            static_prompt="a [v] blob",
            motion_prompt="a [v] blob [u] hopping",
            name="blob",
            settings=pack("nodes.settings").TrainingOptions(config=CONFIG, preview_every=2),
            conditioning=conditioning,
        )

    return execute


def test_another_first_frame_trains_the_motion_anew_and_keeps_the_look(
    train: Call, seen: list[tuple[int, Any]]
) -> None:
    train(length=5)
    keys = {text.key for length, text in seen if length > 1}
    done = "Nothing had to be done"
    assert str(train(length=5).ui.as_dict()["text"][0]).count(done) == 2
    seen.clear()
    assert str(train(length=5, picture=2).ui.as_dict()["text"][0]).count(done) == 1
    assert {text.key for length, text in seen if length > 1} != keys


def test_a_conditioning_of_another_length_is_refused_before_the_training(
    train: Call, pack: Pack, seen: list[tuple[int, Any]]
) -> None:
    with pytest.raises(pack("setandseq_core.errors").ConfigError) as caught:
        train(length=9)
    assert caught.value.message == (
        "The conditioning is made for 9 frames of 32x32 (concat_latent_image); the clip that is trained has 5 frames "
        "of 32x32."
    )
    assert "Set length to 5, width to 32 and height to 32" in caught.value.hint
    assert seen == []


def test_what_only_a_sampler_can_use_is_refused(train: Call, pack: Pack) -> None:
    with pytest.raises(pack("setandseq_core.errors").ConfigError, match="an area of the picture"):
        train(length=5, area=(4, 4, 0, 0))
    given_by = pack("nodes.given").given_by
    with pytest.raises(pack("setandseq_core.errors").ConfigError, match="2 entries; training takes one"):
        given_by([[torch.zeros(1, 3, 8), {}]] * 2)


def test_pictures_of_one_clip_are_refused_for_several(pack: Pack, backbone_of: Call) -> None:
    backbone = backbone_of("wan_22_i2v")
    reference = reference_of(pack, clip_of(backbone, "wan_22_i2v"))
    lesson = pack("nodes.lesson").Lesson(
        clip=TinyClip(TINY["wan_22_i2v"]),
        vae=backbone.vae,
        references=(reference, reference),
        options=pack("nodes.settings").TrainingOptions(config=CONFIG),
        conditioning=[[random(1, 12, 4096), graph_of(backbone_of)]],
    )
    with pytest.raises(pack("setandseq_core.errors").ConfigError, match="pictures of one clip.*2 clips"):
        lesson.backbone(backbone.model)
