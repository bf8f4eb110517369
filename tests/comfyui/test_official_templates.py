"""ComfyUI's own templates for the video models, with a concept for each model in front of its samplers.

Tiny random models have the file names that the templates ask for. Text and vision encoders are replaced by others,
because ComfyUI has only one size of each. Sizes, lengths and steps are reduced; everything else runs as published.
Workflow 4, with a template's model in it, trains the concepts.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from _pytest.mark.structures import ParameterSet
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from PIL import Image
from safetensors.torch import load_file, save_file

from setandseq_core.backbones.wan_names import native_vae
from setandseq_core.clips.video import read_clip, write_video
from setandseq_core.concept_file.file import load_concept
from setandseq_core.embedded.files import CLIP_FILE
from tools.server.folder import ROOT
from tools.server.server import Server
from tools.workflows import graphs, wan
from tools.workflows.make import FOLDER
from tools.workflows.prompt import to_prompt

Prompt = dict[str, Any]
TINY_PACK = Path(__file__).parent / "data" / "tiny_pack"
SIZE = 64
CLIP_SIZE = 128
SECONDS = 0.4
"""Length of the clip: the shortest that every VAE takes at its frame rate."""
SAMPLERS = ("KSampler", "KSamplerAdvanced", "CFGGuider")
LOADERS = {"UNETLoader": "unet_name", "CheckpointLoaderSimple": "ckpt_name"}
TEXT_LOADERS = ("CLIPLoader", "DualCLIPLoader", "LTXAVTextEncoderLoader")
SIZES = ("width", "height", "longer_edge", "resize_type.width", "resize_type.height")


@dataclass(kw_only=True, frozen=True)
class Template:
    """One official template and the kind of its files."""

    file: str
    kind: str
    """The name of the tiny model in tools/tiny_models.py."""
    channels: int = 16
    """Channels of its latents."""
    vision: int = 0
    """Width of its vision encoder; 0 means it has none."""
    size: int = SIZE
    length: int = 9

    @property
    def numbers(self) -> dict[str, int]:
        """Numbers for inputs of nodes."""
        return {**dict.fromkeys(SIZES, self.size), "length": self.length, "steps": 2}

    @property
    def primitives(self) -> dict[float, float]:
        """Numbers for primitive nodes: widths, heights and frames, steps in all and of the first expert, seconds."""
        return {768: self.size, 512: self.size, 121: self.length, 20: 2, 10: 1, 5: 0.5}


TEMPLATES = (
    Template(file="text_to_video_wan", kind="wan_t2v"),
    Template(file="image_to_video_wan", kind="wan_i2v", vision=1280),
    Template(file="video_wan2_2_5B_ti2v", kind="wan_22_5b", channels=48),
    Template(file="video_wan2_2_14B_t2v", kind="wan_t2v"),
    Template(file="video_wan2_2_14B_i2v", kind="wan_22_i2v"),
    Template(file="video_ltx2_t2v", kind="ltx2", channels=128, size=128),
    Template(file="video_ltx2_i2v", kind="ltx2", channels=128, size=128),
    Template(file="video_hunyuan_video_1.5_720p_t2v", kind="hunyuan_video_15", channels=32),
    Template(file="video_hunyuan_video_1.5_720p_i2v", kind="hunyuan_video_15", channels=32, vision=1152),
    Template(file="video_kandinsky5_t2v", kind="kandinsky5"),
    Template(file="video_kandinsky5_i2v", kind="kandinsky5", length=25),
)
QUICK = ("video_wan2_2_5B_ti2v", "video_ltx2_t2v", "video_hunyuan_video_1.5_720p_t2v", "video_kandinsky5_i2v")


@pytest.fixture(scope="module")
def studio(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the nodes that write tiny models, and a clip."""
    folder = tmp_path_factory.mktemp("templates")
    for name in ("custom_nodes", "input"):
        (folder / name).mkdir()
    (folder / "custom_nodes" / "tiny_pack").symlink_to(TINY_PACK, target_is_directory=True)
    frames = read_clip(CLIP_FILE, fps=24, size=(CLIP_SIZE, CLIP_SIZE)).frames_FHWC
    write_video(folder / "input" / "my_clip.mp4", frames, 24)
    with Server(folder, environment={"PYTHONPATH": str(ROOT)}) as server:
        yield server


def template_prompt(server: Server, template: Template) -> Prompt:
    package = pytest.importorskip("comfyui_workflow_templates_json")
    text = (Path(package.__path__[0]) / "templates" / f"{template.file}.json").read_text(encoding="utf-8")
    return to_prompt(json.loads(text), server.object_info())


def supply(server: Server, template: Template, prompt: Prompt) -> None:
    """Write tiny models and a picture to the places where the prompt's loaders look for them."""
    files: dict[str, str] = {}
    for node in prompt.values():
        given = node["inputs"]
        match node["class_type"]:
            case "UNETLoader":
                files[f"diffusion_models/{given['unet_name']}"] = template.kind
            case "VAELoader":
                files[f"vae/{given['vae_name']}"] = str(template.channels)
            case "CheckpointLoaderSimple":
                files[f"checkpoints/{given['ckpt_name']}"] = "checkpoint"
            case "LatentUpscaleModelLoader":
                files[f"latent_upscale_models/{given['model_name']}"] = "upsampler"
            case "LoraLoaderModelOnly":
                files[f"loras/{given['lora_name']}"] = "unmatched"
            case "LoadImage":
                Image.linear_gradient("L").convert("RGB").save(server.folder / "input" / given["image"])
    models = server.folder / "models"
    for file in [file for file, kind in files.items() if kind == "16"]:
        (models / file).parent.mkdir(parents=True, exist_ok=True)
        save_file(tiny_vae(), models / file)
        del files[file]
    server.run(
        {
            f"{seed}": {
                "class_type": "TinyFile",
                "inputs": {"kind": kind, "file": str(models / file), "seed": seed},
            }
            for seed, (file, kind) in enumerate(sorted(files.items()))
        }
    ).succeeded()


def tiny_vae() -> dict[str, torch.Tensor]:
    """A VAE of Wan's kind; the tiny autoencoders take ten times as long."""
    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2)
    return {name: tensor.contiguous() for name, tensor in native_vae(vae.state_dict()).items()}


def tiny(prompt: Prompt, template: Template) -> Prompt:
    """Make a prompt small and short, with few steps and the tests' encoders."""
    for node in prompt.values():
        given = node["inputs"]
        given |= {name: value for name, value in template.numbers.items() if isinstance(given.get(name), int)}
        if node["class_type"].startswith("Primitive"):
            given["value"] = template.primitives.get(given["value"], given["value"])
        if node["class_type"] in TEXT_LOADERS:
            node |= {"class_type": "TinyTextEncoder", "inputs": {"kind": template.kind}}
        if node["class_type"] == "CLIPVisionLoader":
            node |= {"class_type": "TinyVision", "inputs": {"width": template.vision}}
    return prompt


def model_file(prompt: Prompt, node_id: str) -> tuple[str, str]:
    """The type of the loader at which a node's MODEL wire begins, and the file that it loads."""
    node = prompt[node_id]
    if node["class_type"] in LOADERS:
        return node["class_type"], node["inputs"][LOADERS[node["class_type"]]]
    return model_file(prompt, node["inputs"].get("model", node["inputs"].get("on_false"))[0])


def samplers(prompt: Prompt) -> dict[str, tuple[str, str]]:
    """The loader and the file for each node that samples."""
    return {name: model_file(prompt, name) for name, node in prompt.items() if node["class_type"] in SAMPLERS}


def training(server: Server, template: Template, loader: str, file: str, vae: str) -> Prompt:
    """Workflow 4 with another model and VAE, without prior clips and without the nodes that make a video."""
    prompt = to_prompt(json.loads((FOLDER / f"{wan.TRAIN}.json").read_text(encoding="utf-8")), server.object_info())
    prompt = {name: node for name, node in prompt.items() if ":" not in name and node["class_type"] != "SaveVideo"}
    (train,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "SetSeq_TrainConcept")
    train |= {"look_steps": 2, "motion_steps": 2, "name": Path(file).stem, "length": SECONDS}
    train["settings"] = ["settings", 0]
    prompt |= graphs.quick_settings()
    model = prompt[train["model"][0]]
    model |= {"class_type": loader, "inputs": {LOADERS[loader]: file}}
    if loader == "UNETLoader":
        model["inputs"]["weight_dtype"] = "default"
        prompt[train["vae"][0]]["inputs"]["vae_name"] = vae
    else:
        train["vae"] = [train["model"][0], 2]
    return tiny(prompt, template)


def spliced(prompt: Prompt, motion: float) -> Prompt:
    """Insert Load Dynamic Concept in front of each node that samples, and save its latents."""
    added: Prompt = {}
    for name, (_, file) in samplers(prompt).items():
        given = {"concept": f"{Path(file).stem}.safetensors", "identity_strength": motion, "motion_strength": motion}
        given["model"] = prompt[name]["inputs"]["model"]
        added[f"concept_{name}"] = {"class_type": "SetSeq_LoadDynamicConcept", "inputs": given}
    changed = {
        name: {**node, "inputs": {**node["inputs"], "model": [f"concept_{name}", 0]}}
        if name in samplers(prompt)
        else node
        for name, node in prompt.items()
    }
    (decoder,) = (node["inputs"] for node in prompt.values() if node["class_type"] in ("VAEDecode", "VAEDecodeTiled"))
    saved = {"class_type": "SaveLatent", "inputs": {"samples": decoder["samples"], "filename_prefix": "latents"}}
    return prompt | changed | added | {"latents": saved}


def latents(server: Server, prompt: Prompt) -> torch.Tensor:
    run = server.run(prompt).succeeded()
    (video,) = (paths for node, paths in server.files(run).items() if prompt[node]["class_type"] == "SaveVideo")
    assert video[0].stat().st_size > 1000
    return load_file(server.files(run)["latents"][0])["latent_tensor"]


def marked(template: Template) -> ParameterSet:
    """Mark one template of each family for `make test`."""
    marks = [] if template.file in QUICK else [pytest.mark.templates]
    return pytest.param(template, id=template.file, marks=marks)


@pytest.mark.parametrize("template", [marked(template) for template in TEMPLATES])
def test_template_runs_with_a_concept_that_workflow_4_trained_on_its_model(studio: Server, template: Template) -> None:
    prompt = template_prompt(studio, template)
    supply(studio, template, prompt)
    vae = next((node["inputs"]["vae_name"] for node in prompt.values() if node["class_type"] == "VAELoader"), "")
    for loader, file in sorted(set(samplers(prompt).values())):
        studio.run(training(studio, template, loader, file, vae)).succeeded()
        concept = load_concept(studio.folder / "models" / "dynamic_concepts" / f"{Path(file).stem}.safetensors")
        assert (concept.info.training["set"]["steps"], concept.info.training["sequence"]["steps"]) == (2, 2)
    prompt = tiny(prompt, template)
    without, applied = latents(studio, spliced(prompt, 0.0)), latents(studio, spliced(prompt, 5.0))
    assert applied.isfinite().all()
    assert applied.shape == without.shape
    assert (applied - without).abs().max() > 1e-4


def test_pictures_of_the_graph_are_learned_from_and_another_picture_trains_only_the_motion_anew(studio: Server) -> None:
    """The template for image to video with Train Concept in it: from Load Image through WanImageToVideo to a video."""
    template = next(each for each in TEMPLATES if each.file == "image_to_video_wan")
    graph = template_prompt(studio, template)
    supply(studio, template, graph)
    prompt = with_training(studio, template, graph)
    with_length(prompt, 9)
    refused = studio.run(prompt)
    assert "is made for 9 frames of 64x64 (concat_latent_image); the clip that is trained has 5 frames" in refused.error
    with_length(prompt, 5)
    assert texts(studio, prompt).count("Learned the") == 2
    (picture,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "LoadImage")
    picture["image"] = "another.png"
    Image.linear_gradient("L").rotate(90).convert("RGB").save(studio.folder / "input" / "another.png")
    again = texts(studio, prompt)
    assert again.count("Learned the") == 2 and again.count("Nothing had to be done") == 1


def with_training(server: Server, template: Template, graph: Prompt) -> Prompt:
    """A graph whose own conditioning is trained with, and whose sampler has the model that this gives."""
    ((loader, file),) = set(samplers(graph).values())
    vae = next(node["inputs"]["vae_name"] for node in graph.values() if node["class_type"] == "VAELoader")
    learning = numbered(training(server, template, loader, file, vae), "learning")
    graph = tiny(graph, template)
    (train,) = (name for name, node in learning.items() if node["class_type"] == "SetSeq_TrainConcept")
    (sampler,) = samplers(graph)
    learning[train]["inputs"]["conditioning"] = graph[sampler]["inputs"]["positive"]
    graph[sampler]["inputs"]["model"] = [train, 0]
    return graph | learning


def numbered(prompt: Prompt, prefix: str) -> Prompt:
    """A prompt whose ids begin with a prefix."""
    return {
        f"{prefix}_{name}": node
        | {
            "inputs": {
                key: [f"{prefix}_{value[0]}", value[1]] if isinstance(value, list) else value
                for key, value in node["inputs"].items()
            }
        }
        for name, node in prompt.items()
    }


def with_length(prompt: Prompt, length: int) -> None:
    (node,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "WanImageToVideo")
    node["length"] = length


def texts(server: Server, prompt: Prompt) -> str:
    """Run a prompt, and return the text that Train Concept shows."""
    run = server.run(prompt).succeeded()
    (train,) = (name for name, node in prompt.items() if node["class_type"] == "SetSeq_TrainConcept")
    return str(run.outputs[train]["text"])
