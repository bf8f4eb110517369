"""Training in a real ComfyUI: nothing is trained twice, nothing is lost, and the model stays unchanged."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import imageio_ffmpeg
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from setandseq_core.clips.clip import Reference, Words
from setandseq_core.clips.video import read_clip
from setandseq_core.compose.apply import applied_concept
from setandseq_core.concept_file.file import load_concept
from setandseq_core.config import config_from_dict
from setandseq_core.embedded.files import TRANSFORMER_FILE
from setandseq_core.embedded.model import EMBEDDED_CONFIG, load_embedded
from setandseq_core.learn import learn_concept
from setandseq_core.sample import latent_noise, sample_latents
from setandseq_core.training.prior import automatic_prior
from tools.server.run import Run
from tools.server.server import Server
from tools.workflows import graphs
from tools.workflows.graphs import CONCEPT, Prompt, embedded_model, node, sampling

training = partial(graphs.training, preview_every=0)
TRAINERS = ("identity", "concept")


@pytest.fixture(scope="module")
def own_server(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose training folder only this file uses."""
    with Server(tmp_path_factory.mktemp("training")) as server:
        yield server


def told(run: Run, name: str) -> str:
    """The text on a node; "" if ComfyUI reused its result."""
    return " ".join(run.succeeded().outputs.get(name, {}).get("text", []))


def trained(run: Run) -> set[str]:
    """The train nodes that ran steps."""
    return {name for name in TRAINERS if told(run, name) and "was done before" not in told(run, name)}


def states(server: Server) -> dict[str, int]:
    """The number of steps in the kept state of each stage."""
    found = {}
    for path in (server.folder / "user" / "setandseq" / "training").glob("se*.safetensors"):  # set_, sequence_
        with safe_open(path, "pt") as file:
            found[path.stem] = file.metadata()["losses"].count(",") + 1
    return found


def latents(server: Server, prefix: str) -> torch.Tensor:
    (path,) = (server.folder / "output").glob(f"{prefix}_*.latent")
    return load_file(path)["latent_tensor"]


def sampled(server: Server, model: list, name: str, graph: Prompt, prompt: str = CONCEPT.motion_prompt) -> torch.Tensor:
    server.run(graph | sampling(model, prompt, prefix=name)).succeeded()
    return latents(server, name)


def test_trained_once_also_after_a_restart_and_anew_when_a_setting_changes(own_server: Server) -> None:
    first, other = training(), training(seed=5)
    assert trained(own_server.run(first)) == set(TRAINERS)
    assert trained(own_server.run(first)) == set()
    own_server.restart()
    again = own_server.run(first)
    assert trained(again) == set() and "was done before" in told(again, "concept")
    assert trained(own_server.run(other)) == set(TRAINERS)
    assert trained(own_server.run(first)) == set()
    assert trained(own_server.run(training(sequence_steps=3))) == {"concept"}
    saved = sorted(path.name for path in (own_server.folder / "models" / "dynamic_concepts").glob("*"))
    assert saved == ["my_concept.safetensors", "my_concept_2.safetensors", "my_concept_3.safetensors"]


def test_learns_what_the_core_learns(own_server: Server) -> None:
    file = own_server.folder / "input" / "lossless.mov"
    _write_lossless(file, (CONCEPT.frames() * 255).round().to(torch.uint8))
    graph = training(rank=3)
    graph["video"] = node("LoadVideo", file=file.name)
    graph["save"]["inputs"]["name"] = "lossless"
    own_server.run(graph).succeeded()
    found = load_concept(own_server.folder / "models" / "dynamic_concepts" / "lossless.safetensors")

    clip = read_clip(file, fps=16.0, frames=17, size=(64, 64))
    words = Words(static_prompt=CONCEPT.static_prompt, motion_prompt=CONCEPT.motion_prompt)
    stages = {name: {"steps": 2, "batch": 1, "learning_rate": 1e-3} for name in ("set_stage", "sequence_stage")}
    config = config_from_dict({"rank": 3, "prior": {"share": 0.0}, **stages}, EMBEDDED_CONFIG)
    expected = learn_concept(load_embedded(), [Reference(clip=clip, words=words)], config, name="lossless")
    for stage in ("set", "sequence"):
        assert found.info.training[stage]["losses"] == pytest.approx(expected.info.training[stage]["losses"], abs=1e-4)
    assert found.info.static_prompt == CONCEPT.static_prompt
    assert (found.info.identity_token, found.info.motion_token) == ("[v]", "[u]")


def test_learns_with_prior_clips_and_learned_tokens_what_the_core_learns(own_server: Server) -> None:
    file = own_server.folder / "input" / "lossless_prior.mov"
    _write_lossless(file, (CONCEPT.frames() * 255).round().to(torch.uint8))
    graph = training(rank=3, set_steps=4, batch=2, prior_share=0.5, token_learning_rate=1e-2)
    graph["video"] = node("LoadVideo", file=file.name)
    graph["save"]["inputs"]["name"] = "with_prior"
    graph["settings"]["inputs"]["prior_empty_prompts"] = 0.5
    own_server.run(graph).succeeded()
    made = sorted((own_server.folder / "user" / "setandseq" / "training").glob("prior_*.safetensors"))
    assert len(made) == 2
    wires = {name: [name, 0] for name in ("model", "clip", "vae", "reference")}
    prompts = {"prompts": "a large creature | wandering on a blue plain background", "clips": 1, "seed": 0}
    graph["prior"] = node("SetSeq_PriorClips", **wires, **prompts)
    graph["show"] = node("PreviewImage", images=["prior", 1])
    run = own_server.run(graph).succeeded()
    assert "wandering on a blue plain background" in run.outputs["prior"]["text"][0]
    assert len(run.outputs["show"]["images"]) == 17
    found = load_concept(own_server.folder / "models" / "dynamic_concepts" / "with_prior.safetensors")
    assert found.info.training["prior_clips"] == 2 and len(found.embeddings) == 2

    backbone, clip = load_embedded(), read_clip(file, fps=16.0, frames=17, size=(64, 64))
    words = Words(
        static_prompt=CONCEPT.static_prompt,
        motion_prompt=CONCEPT.motion_prompt,
        identity_token="[v]",
        motion_token="[u]",
    )
    changes = {"rank": 3, "token_learning_rate": 1e-2, "prior": {"share": 0.5, "empty_prompts": 0.5, "clips": 2}}
    stages = {"set_stage": {"steps": 4, "batch": 2, "learning_rate": 1e-3}}
    stages |= {"sequence_stage": {"steps": 2, "batch": 2, "learning_rate": 1e-3}}
    config = config_from_dict(changes | stages, EMBEDDED_CONFIG)
    references = [Reference(clip=clip, words=words)]
    prior = automatic_prior(backbone, references, config)
    expected = learn_concept(backbone, references, config, name="with_prior", prior=prior)
    for stage in ("set", "sequence"):
        assert found.info.training[stage]["losses"] == pytest.approx(expected.info.training[stage]["losses"], abs=1e-3)

    graph = embedded_model() | {
        "load": node(
            "SetSeq_LoadDynamicConcept",
            model=["model", 0],
            concept="with_prior.safetensors",
            identity_strength=1.0,
            motion_strength=1.0,
        )
    }
    with_tokens = sampled(own_server, ["load", 0], "with_tokens", graph)
    noise = latent_noise((16, 5, 8, 8), 7)
    with applied_concept(backbone, found) as applied:
        ours = applied.sample(noise, CONCEPT.motion_prompt, steps=4)
        without = sample_latents(backbone, noise, CONCEPT.motion_prompt, steps=4)
    assert (ours - without).abs().max() > 1e-3
    assert (_normalised(backbone, with_tokens) - ours).abs().max() < 1e-3 * ours.abs().max()


def _write_lossless(path: Path, frames_FHWC: torch.Tensor) -> None:
    """Write a video from which every decoder reads exactly these bytes."""
    height, width = frames_FHWC.shape[1:3]
    options = {"codec": "png", "pix_fmt_out": "rgb24", "fps": 16, "macro_block_size": 1}
    writer = imageio_ffmpeg.write_frames(str(path), (width, height), **options)
    writer.send(None)
    for frame_HWC in frames_FHWC:
        writer.send(frame_HWC.contiguous().numpy().tobytes())
    writer.close()


def test_a_concept_samples_the_same_everywhere(own_server: Server) -> None:
    graph = training(set_steps=3, sequence_steps=3, rank=4)
    graph["save"]["inputs"] |= {"name": "everywhere", "plain_lora": True, "float32": True}
    graph["identity"]["inputs"]["learning_rate"] = graph["concept"]["inputs"]["learning_rate"] = 2e-2
    base = {name: graph[name] for name in ("loader", "model", "clip")}
    own_server.run(graph).succeeded()
    load = {"concept": "everywhere.safetensors", "identity_strength": 1.0, "motion_strength": 1.0}
    loaded = base | {"load": node("SetSeq_LoadDynamicConcept", model=["model", 0], **load)}
    lora = {"lora_name": "everywhere.safetensors", "strength_model": 1.0}
    exported = base | {"lora": node("LoraLoaderModelOnly", model=["model", 0], **lora)}

    plain = sampled(own_server, ["model", 0], "plain", base)
    through_concept = sampled(own_server, ["load", 0], "loaded", loaded)
    through_lora = sampled(own_server, ["lora", 0], "exported", exported)
    backbone = load_embedded()
    concept = load_concept(own_server.folder / "models" / "dynamic_concepts" / "everywhere.safetensors")
    noise = latent_noise(backbone.latent_shape(17, 64, 64), 7)
    with applied_concept(backbone, concept):
        expected = sample_latents(backbone, noise, CONCEPT.motion_prompt, steps=4)
    frames = {
        name: backbone.decode_latents(_normalised(backbone, found))
        for name, found in {"plain": plain, "concept": through_concept, "lora": through_lora}.items()
    }
    frames["core"] = backbone.decode_latents(expected)
    assert (frames["concept"] - frames["lora"]).abs().max() < 1e-3
    assert (frames["concept"] - frames["core"]).abs().max() < 1e-3
    assert (frames["concept"] - frames["plain"]).abs().max() > 0.05


def test_several_clips_are_learned_jointly_with_a_mask_on_one(own_server: Server) -> None:
    graph = training()
    graph["mask"] = node("SolidMask", value=1.0, width=256, height=256)
    second = dict(graph["reference"]["inputs"], motion_prompt="a large [v] creature [u] circling", mask=["mask", 0])
    graph["second"] = {"class_type": "SetSeq_ReferenceClip", "inputs": second}
    graph["identity"]["inputs"]["references.reference_1"] = ["second", 0]  # the second stage gets them from the first
    graph["save"]["inputs"]["name"] = "joint"
    assert trained(own_server.run(graph)) == set(TRAINERS)
    record = load_concept(own_server.folder / "models" / "dynamic_concepts" / "joint.safetensors").info.training
    assert len(record["clips"]) == 2
    assert record["motion_prompts"] == [CONCEPT.motion_prompt, "a large [v] creature [u] circling"]


def test_a_look_is_learned_from_pictures_and_the_motion_from_the_clip(own_server: Server) -> None:
    graph = training()
    pictures = {"batch": (64, 2), "wide": (96, 1)}
    for name, (width, count) in pictures.items():
        graph[name] = node("EmptyImage", width=width, height=64, batch_size=count, color=0xC02020)
    graph["pictures"] = node(
        "SetSeq_ReferencePictures",
        model=["model", 0],
        reference=["reference", 0],
        static_prompt="a [w] brick",
        look_of_clip=False,
        **{f"pictures.picture_{index}": [name, 0] for index, name in enumerate(pictures)},
    )
    graph["identity"]["inputs"]["references.reference_0"] = ["pictures", 0]
    graph["save"]["inputs"]["name"] = "pictures"
    run = own_server.run(graph)
    assert trained(run) == set(TRAINERS)
    assert "Using 3 pictures: 2 of 64x64, 1 of 80x48." in told(run, "pictures")
    info = load_concept(own_server.folder / "models" / "dynamic_concepts" / "pictures.safetensors").info
    assert (info.static_prompt, info.motion_prompt) == ("a [w] brick", CONCEPT.motion_prompt)
    assert (info.identity_token, info.motion_token) == ("[w]", "[u]")


def _normalised(backbone, latents_BCFHW: torch.Tensor) -> torch.Tensor:
    """Normalise saved latents, which ComfyUI saves as the VAE gives them."""
    return (latents_BCFHW[0] - backbone._mean) / backbone._std


@pytest.mark.parametrize("stage", TRAINERS)
def test_cancel_keeps_the_work_and_the_model(own_server: Server, stage: str) -> None:
    many = 20_000
    steps = {"identity": {"set_steps": many}, "concept": {"sequence_steps": many}}[stage]
    graph = training(**steps, rank=2, seed=11)
    base = {name: graph[name] for name in ("loader", "model", "clip")}
    before = sampled(own_server, ["model", 0], f"before_{stage}", base)
    seen = _cancel(own_server, graph, stage, after=6)
    state = f"{'set' if stage == 'identity' else 'sequence'}_"
    kept = max(steps for name, steps in states(own_server).items() if name.startswith(state))
    assert seen <= kept <= seen + 500
    assert torch.equal(sampled(own_server, ["model", 0], f"after_{stage}", base), before)
    assert _cancel(own_server, graph, stage, after=kept + 1) > kept


def _cancel(server: Server, graph: Prompt, stage: str, after: int) -> int:
    """Queue a prompt and cancel it once a stage has done more than `after` steps; return the first step seen."""
    prompt_id = server.queue(graph)
    first = 0
    for event in server.follow(prompt_id):
        state = event.data.get("nodes", {}).get(stage, {}) if event.kind == "progress_state" else {}
        if not first and state.get("state") == "running" and state.get("max") == 20_000:
            first = int(state["value"])
        if first and state.get("value", 0) >= after:
            server.interrupt(prompt_id)
            break
    run = server.wait(prompt_id)
    assert run.status == "interrupted" and run.node == stage
    return first if after > 6 else after


Change = Callable[[Prompt], None]


def _set(name: str, **inputs: object) -> Change:
    return lambda graph: graph[name]["inputs"].update(inputs)


def _wire_image_model(graph: Prompt) -> None:
    graph["loader"]["inputs"]["unet_name"] = "image_model.safetensors"


MISTAKES: dict[str, tuple[Change, str, str]] = {
    "a lost token": (_set("reference", motion_prompt="a bee flying"), "reference", "does not hold it"),
    "a size of no model": (_set("reference", width=50), "reference", "must be multiples of 16"),
    "a prompt of many words": (_set("reference", static_prompt="a [v] " + "word " * 58), "identity", "has 60 words"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_on_its_node(own_server: Server, mistake: str) -> None:
    change, name, message = MISTAKES[mistake]
    graph = training()
    change(graph)
    if "many words" in mistake:
        graph["reference"]["inputs"]["motion_prompt"] = graph["reference"]["inputs"]["static_prompt"] + "[u]"
    run = own_server.run(graph)
    assert run.status == "error" and run.node == name and message in run.error


@pytest.mark.parametrize(("prompt", "shown"), [("static", "look"), ("motion", "motion")])
def test_an_empty_prompt_is_refused_before_anything_runs(own_server: Server, prompt: str, shown: str) -> None:
    graph = training()
    graph["reference"]["inputs"][f"{prompt}_prompt"] = " "
    run = own_server.run(graph)
    assert run.status == "rejected" and run.node == "reference" and f"The {shown} prompt is empty" in run.error


def test_a_clip_of_one_frame_is_told_on_its_node(own_server: Server) -> None:
    graph = training()
    graph["image"] = node("EmptyImage", width=64, height=64, batch_size=1, color=0)
    graph["reference"]["inputs"]["video"] = ["image", 0]
    run = own_server.run(graph)
    assert run.status == "error" and run.node == "reference" and "is a single picture" in run.error


def test_a_long_clip_is_cut_and_the_node_says_so(own_server: Server) -> None:
    graph = training()
    graph["image"] = node("EmptyImage", width=64, height=64, batch_size=400, color=0)
    graph["reference"]["inputs"] |= {"video": ["image", 0], "image_fps": 16.0}
    only = {name: graph[name] for name in ("loader", "model", "image", "reference")}
    only["shown"] = node("PreviewImage", images=["reference", 1])
    run = own_server.run(only)
    assert "read 25.0 s of 64x64 at 16 fps; using the first 17 frames" in told(run, "reference")
    assert len(run.outputs["shown"]["images"]) == 17


def test_a_vae_of_another_model_is_told_on_its_node(own_server: Server) -> None:
    graph = training()
    graph["vae"]["inputs"]["vae_name"] = "pixel_space"
    run = own_server.run(graph)
    assert run.status == "error" and run.node == "identity" and "Connect the VAE that belongs to the model" in run.error


def test_the_model_file_is_the_embedded_one(own_server: Server) -> None:
    assert TRANSFORMER_FILE.name in own_server.object_info()["UNETLoader"]["input"]["required"]["unet_name"][0]
