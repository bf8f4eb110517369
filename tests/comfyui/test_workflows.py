"""A real ComfyUI runs every workflow file; only sizes, numbers of steps and the large models are reduced.

Tiny random models have the file names that the Wan workflows ask for. The embedded text encoder replaces UMT5, and a
stand-in the vision encoder, because ComfyUI knows only one size of each.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from setandseq_core.clips.video import read_clip, write_video
from setandseq_core.concept import experts_of
from setandseq_core.concept_file.file import load_concept
from setandseq_core.embedded.demo import demo_shots
from setandseq_core.embedded.files import CLIP_FILE
from setandseq_core.embedded.settings import EMBEDDED_CONFIG
from setandseq_core.embedded.world.scene import FRAMES
from tools.server.folder import ROOT
from tools.server.run import ComfyUIError, Run
from tools.server.server import Server
from tools.tiny_wan import TINY_TRANSFORMER, save_as, write_wan_files
from tools.workflows import embedded, image_to_video, lora, wan
from tools.workflows.graphs import quick_settings
from tools.workflows.make import FOLDER, MAKERS, workflow_texts
from tools.workflows.prompt import to_prompt

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # imageio-ffmpeg leaves pipes open

Prompt = dict[str, Any]
TINY_PACK = Path(__file__).parent / "data" / "tiny_pack"
SIZE, LENGTH = 64, 5
WORDS = 40
"""Largest number of words that the embedded text encoder is given."""


@pytest.fixture(scope="module")
def studio(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with tiny models and a clip, under the names that the workflows ask for."""
    folder = tmp_path_factory.mktemp("workflows")
    models = folder / "models"
    write_wan_files(models)
    save_as(tiny_interpolation(), models, wan.FILM)
    save_as({"never": torch.zeros(1)}, models, image_to_video.VISION)
    save_as(tiny_lora(), models, {"name": lora.LORA, "directory": "loras"})
    for name in ("custom_nodes", "input"):
        (folder / name).mkdir()
    (folder / "custom_nodes" / "tiny_pack").symlink_to(TINY_PACK, target_is_directory=True)
    frames = read_clip(CLIP_FILE, fps=24, size=(SIZE, SIZE)).frames_FHWC
    write_video(folder / "input" / "my_clip.mp4", frames, 24)  # Train Concept takes a clip in its own size
    Image.linear_gradient("L").convert("RGB").save(folder / "input" / image_to_video.PICTURE)
    with Server(folder, environment={"PYTHONPATH": str(ROOT)}) as server:
        big = folder / "models" / image_to_video.BIG["directory"] / image_to_video.BIG["name"]
        tiny_file = {"kind": "wan_i2v", "file": str(big), "seed": 0}
        server.run({"1": {"class_type": "TinyFile", "inputs": tiny_file}}).succeeded()
        yield server


def tiny_lora(rank: int = 2) -> dict[str, torch.Tensor]:
    """A LoRA of the tiny transformer's attention, as trainers for ComfyUI write it."""
    width = TINY_TRANSFORMER["num_attention_heads"] * TINY_TRANSFORMER["attention_head_dim"]
    weights = {}
    for block in range(TINY_TRANSFORMER["num_layers"]):
        for layer in "qkvo":
            name = f"diffusion_model.blocks.{block}.self_attn.{layer}"
            weights[f"{name}.lora_A.weight"] = torch.randn(rank, width)
            weights[f"{name}.lora_B.weight"] = torch.randn(width, rank)
    return weights


def tiny_interpolation(channels: int = 4) -> dict[str, torch.Tensor]:
    """Weights of a frame interpolation network of RIFE's kind."""
    shapes: dict[str, tuple[int, ...]] = {"cnn0": (16, 3, 3, 3), "cnn1": (16, 16, 3, 3), "cnn2": (16, 16, 3, 3)}
    shapes = {f"encode.{name}": shape for name, shape in {**shapes, "cnn3": (16, 4, 4, 4)}.items()}
    for block in range(5):
        inner = {"conv0.0.0": (channels // 2, 28 if block else 15, 3, 3), "conv0.1.0": (channels, channels // 2, 3, 3)}
        inner |= {f"convblock.{i}.conv": (channels, channels, 3, 3) for i in range(8)}
        shapes |= {
            f"blocks.{block}.{name}": shape for name, shape in {**inner, "lastconv.0": (channels, 52, 4, 4)}.items()
        }
    weights = {}
    for name, shape in shapes.items():
        transposed = name.endswith(("cnn3", "lastconv.0"))
        weights[f"{name}.weight"] = 0.05 * torch.randn(shape)
        weights[f"{name}.bias"] = torch.zeros(shape[1 if transposed else 0])
        if name.endswith(".conv"):
            weights[name.removesuffix("conv") + "beta"] = torch.ones(1, channels, 1, 1)
    return weights


def file_prompt(server: Server, name: str) -> Prompt:
    return to_prompt(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")), server.object_info())


def nodes_of(prompt: Prompt, class_type: str) -> list[dict[str, Any]]:
    return [node["inputs"] for node in prompt.values() if node["class_type"] == class_type]


def shortened(prompt: Prompt) -> Prompt:
    """Set every number of steps to two, and every number of practice clips to one."""
    for inputs in nodes_of(prompt, "SetSeq_Regularisation"):
        inputs["prior_clips"] = 1
    for class_type in ("KSampler", "SetSeq_TrainIdentityLoRA", "SetSeq_TrainMotionResidual"):
        for inputs in nodes_of(prompt, class_type):
            inputs["steps"] = 2
    for inputs in nodes_of(prompt, "SetSeq_TrainConcept"):
        inputs |= {"look_steps": 2, "motion_steps": 2}
    for inputs in nodes_of(prompt, "KSamplerAdvanced"):
        for bound in ("start_at_step", "end_at_step"):
            inputs[bound] = 2 * inputs[bound] // inputs["steps"]
        inputs["steps"] = 2
    return prompt


def tiny(prompt: Prompt) -> Prompt:
    """Change a prompt to two steps, small and short clips, and the tests' encoders."""
    for class_type in ("EmptyHunyuanLatentVideo", "WanImageToVideo"):
        for inputs in nodes_of(prompt, class_type):
            inputs |= {"width": SIZE, "height": SIZE, "length": LENGTH}
    for inputs in nodes_of(prompt, "SetSeq_ReferenceClip"):
        inputs |= {"width": SIZE, "height": SIZE, "frames": LENGTH}
    for inputs in nodes_of(prompt, "CLIPTextEncode"):
        inputs["text"] = " ".join(inputs["text"].split()[:WORDS])
    for node in prompt.values():
        if node["class_type"] == "CLIPLoader":
            node |= {"class_type": "SetSeq_EmbeddedTextEncoder", "inputs": {}}
        if node["class_type"] == "CLIPVisionLoader":
            node |= {"class_type": "TinyVision", "inputs": {"width": 1280}}
    return shortened(prompt)


def quick(prompt: Prompt, class_type: str) -> Prompt:
    """Batch 1, no practice clips and no samples, for the nodes of a type that take settings."""
    for inputs in nodes_of(prompt, class_type):
        inputs["settings"] = ["settings", 0]
    return prompt | quick_settings()


def without_videos(prompt: Prompt) -> Prompt:
    """Remove everything that the saved concept does not need."""
    return {node_id: node for node_id, node in prompt.items() if node["class_type"] != "SaveVideo"}


def videos(server: Server, run: Run) -> dict[str, Path]:
    """The videos that a run saved, by their names without numbers."""
    return {path.stem.rsplit("_", 2)[0]: path for paths in server.files(run.succeeded()).values() for path in paths}


def shape(video: Path, fps: float = 16) -> tuple[int, ...]:
    return tuple(read_clip(video, fps=fps).frames_FHWC.shape)


@pytest.fixture
def concepts(studio: Server) -> Path:
    """The concepts' folder, emptied."""
    folder = studio.folder / "models" / "dynamic_concepts"
    for file in folder.glob("*"):
        file.unlink()
    return folder


def test_files_are_what_the_program_writes(studio: Server) -> None:
    texts = workflow_texts(studio.object_info())
    assert {path.name for path in FOLDER.glob("*.json")} == set(texts)
    for name, text in texts.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, f"run python -m tools.workflows.make for {name}"


@pytest.mark.parametrize("name", MAKERS)
def test_file_is_accepted_as_it_is(studio: Server, concepts: Path, name: str) -> None:
    prompt = file_prompt(studio, name)
    for inputs in nodes_of(prompt, "SetSeq_LoadDynamicConcept"):
        (concepts / inputs["concept"]).touch()
    prompt_id = studio.queue(prompt)  # a rejected prompt raises an error
    studio.interrupt(prompt_id)
    with suppress(ComfyUIError):  # removed from the queue before it began
        studio.wait(prompt_id)


def test_embedded_workflows_run_one_after_the_other(studio: Server, concepts: Path) -> None:
    train = shortened(file_prompt(studio, embedded.TRAIN))
    found = videos(studio, studio.run(train))
    assert set(found) == {shot.name for shot in demo_shots()}
    assert {shape(path) for path in found.values()} == {(17, 64, 64, 3)}

    found = videos(studio, studio.run(shortened(file_prompt(studio, embedded.USE))))
    assert set(found) == {"as_trained", "edited", "half_the_motion"}

    for inputs in nodes_of(train, "SetSeq_ReferenceClip"):
        for prompt in ("static_prompt", "motion_prompt"):
            inputs[prompt] = inputs[prompt].replace("[v]", "[w]").replace("[u]", "[x]")
    studio.run(without_videos(train)).succeeded()
    assert {path.stem for path in concepts.iterdir()} == {"my_concept", "my_concept_2"}
    assert load_concept(concepts / "my_concept_2.safetensors").info.identity_token == "[w]"
    assert set(videos(studio, studio.run(shortened(file_prompt(studio, embedded.COMPOSE))))) == {"composed"}


def test_start_here_trains_saves_and_makes_a_video(studio: Server, concepts: Path) -> None:
    prompt = quick(shortened(file_prompt(studio, embedded.START)), "SetSeq_TrainConcept")
    (video,) = videos(studio, studio.run(prompt)).values()
    assert shape(video) == (FRAMES, 64, 64, 3)
    trained = load_concept(concepts / "my_concept.safetensors").info.training
    assert (trained["set"]["steps"], trained["sequence"]["steps"]) == (2, 2)


def test_wan_workflows_run_one_after_the_other(studio: Server, concepts: Path) -> None:
    train = quick(tiny(file_prompt(studio, wan.TRAIN)), "SetSeq_TrainConcept")
    (video,) = videos(studio, studio.run(train)).values()
    assert shape(video) == (LENGTH, SIZE, SIZE, 3)
    assert load_concept(concepts / "my_concept.safetensors").info.training["frames"] == FRAMES

    (video,) = videos(studio, studio.run(tiny(file_prompt(studio, wan.SHARED)))).values()
    assert shape(video) == (LENGTH, SIZE, SIZE, 3)

    (video,) = videos(studio, studio.run(tiny(file_prompt(studio, wan.PIPELINE)))).values()
    assert shape(video, fps=32) == (2 * LENGTH - 1, 2 * SIZE, 2 * SIZE, 3)


def test_one_run_trains_both_experts_and_each_loader_finds_its_own(studio: Server, concepts: Path) -> None:
    train = quick(tiny(file_prompt(studio, wan.TRAIN_EXPERTS)), "SetSeq_TrainConcept")
    (video,) = videos(studio, studio.run(train)).values()
    assert shape(video) == (LENGTH, SIZE, SIZE, 3)
    (file,) = concepts.iterdir()
    parts = experts_of(load_concept(file))
    assert [part.info.config["time_range"] for part in parts.values()] == [[0.875, 1.0], [0.0, 0.875]]

    use = tiny(file_prompt(studio, wan.EXPERTS))
    (video,) = videos(studio, studio.run(use)).values()
    assert shape(video) == (LENGTH, SIZE, SIZE, 3)

    high, low = nodes_of(use, "UNETLoader")
    assert (high["unet_name"], low["unet_name"]) == (wan.HIGH["name"], wan.LOW["name"])
    low["unet_name"] = wan.SMALL["name"]
    run = studio.run(use)
    assert (run.status, run.node_type) == ("error", "SetSeq_LoadDynamicConcept")


def test_a_lora_learns_to_move(studio: Server, concepts: Path) -> None:
    train = quick(tiny(file_prompt(studio, lora.NAME)), "SetSeq_IdentityFromLoRA")
    (video,) = videos(studio, studio.run(train)).values()
    assert shape(video) == (LENGTH, SIZE, SIZE, 3)
    concept = load_concept(concepts / "my_concept.safetensors")
    assert concept.info.training["identity_from_lora"]["file"] == lora.LORA
    assert (concept.info.identity_token, concept.info.motion_token) == (lora.TRIGGER, "[u]")
    assert all(layer.motion_residual_RI.any() for layer in concept.layers.values())


def test_a_clip_is_learned_for_image_to_video_with_its_own_first_frame_and_clip_vision(
    studio: Server, concepts: Path
) -> None:
    """Without the conditioning, the motion is learned anew and the look is kept, so the conditioning was used."""
    prompt = quick(tiny(file_prompt(studio, image_to_video.NAME)), "SetSeq_TrainConcept")
    run = studio.run(prompt)
    (video,) = videos(studio, run).values()
    assert shape(video) == (LENGTH, SIZE, SIZE, 3)
    concept = load_concept(concepts / "my_concept.safetensors")
    assert concept.info.training["frames"] == FRAMES
    assert all(layer.motion_residual_RI.any() for layer in concept.layers.values())
    assert learned(run, prompt) == (2, 0)
    (train,) = nodes_of(prompt, "SetSeq_TrainConcept")
    del train["conditioning"]
    assert learned(studio.run(prompt).succeeded(), prompt) == (2, 1)


def learned(run: Run, prompt: Prompt) -> tuple[int, int]:
    """The stages that Train Concept names, and those of them in which nothing had to be done."""
    (train,) = (name for name, node in prompt.items() if node["class_type"] == "SetSeq_TrainConcept")
    text = str(run.outputs[train]["text"])
    return text.count("Learned the"), text.count("Nothing had to be done")


def test_training_workflow_has_the_embedded_settings_and_the_demos_shots(studio: Server) -> None:
    prompt = file_prompt(studio, embedded.TRAIN)
    (settings,) = nodes_of(prompt, "SetSeq_TrainingSettings")
    (identity,) = nodes_of(prompt, "SetSeq_TrainIdentityLoRA")
    (motion,) = nodes_of(prompt, "SetSeq_TrainMotionResidual")
    config, first, second = EMBEDDED_CONFIG, EMBEDDED_CONFIG.set_stage, EMBEDDED_CONFIG.sequence_stage
    assert (identity["steps"], identity["learning_rate"], identity["rank"]) == (
        first.steps,
        first.learning_rate,
        config.rank,
    )
    assert (motion["steps"], motion["learning_rate"]) == (second.steps, second.learning_rate)
    assert settings["batch"] == first.batch == second.batch
    assert (settings["identity_dropout"], settings["motion_dropout"]) == (
        first.coefficient_dropout,
        second.coefficient_dropout,
    )
    assert [settings[name] for name in ("token_masking", "weight_decay", "gradient_clipping")] == [
        config.token_masking,
        config.weight_decay,
        config.gradient_clipping,
    ]
    saved = [inputs["filename_prefix"] for inputs in nodes_of(prompt, "SaveVideo")]
    assert saved == [f"setandseq/{shot.name}" for shot in demo_shots()]


def test_official_template_becomes_its_prompt(studio: Server) -> None:
    templates = pytest.importorskip("comfyui_workflow_templates_json")
    file = Path(templates.__path__[0]) / "templates" / "text_to_video_wan.json"
    prompt = to_prompt(json.loads(file.read_text(encoding="utf-8")), studio.object_info())
    ours = file_prompt(studio, wan.SHARED)
    for class_type in ("UNETLoader", "CLIPLoader", "VAELoader", "EmptyHunyuanLatentVideo"):
        assert nodes_of(prompt, class_type) == nodes_of(ours, class_type)
    run = studio.run(tiny(prompt))
    assert [shape(path) for path in videos(studio, run).values()] == [(LENGTH, SIZE, SIZE, 3)]
