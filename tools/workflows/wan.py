"""The workflows on Wan, with the file names and URLs of the official templates."""

from collections.abc import Sequence
from typing import Any

from tools.workflows.first import LEFT_WIDTH, MAKE_PLACE, SAVE_PLACE, SAVE_WIDTH, train_and_make
from tools.workflows.graph import (
    COLLAPSED_WIDTH,
    COLUMN_STEP,
    GREEN,
    RED,
    Column,
    Graph,
    Node,
    Subgraph,
    noted_columns,
)
from tools.workflows.slots import Output

REPOSITORY = "https://huggingface.co/Comfy-Org/{}/resolve/main/{}"
WAN21 = "Wan_2.1_ComfyUI_repackaged"
WAN22 = "Wan_2.2_ComfyUI_Repackaged"

Note = tuple[str, str, float]
"""Title, text and height of a note."""

TRAIN = "4 Train on your clip (Wan 2.1 1.3B)"
EXPERTS = "5 A concept in both experts (Wan 2.2 14B)"
SHARED = "6 A shared concept in the text-to-video template"
PIPELINE = "7 Concept video, then upscaling and interpolation"
TRAIN_EXPERTS = "8 Train both experts (Wan 2.2 14B)"

STATIC_PROMPT = "a [v] dancer in a red dress, on a bright stage"
MOTION_PROMPT = "a [v] dancer in a red dress [u] spinning, on a bright stage"
EDITED_PROMPT = "a [v] dancer in a red dress [u] spinning, on a beach at sunset, waves in the background"
NEGATIVE_PROMPT = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, overall gray, "
    "worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, poorly "
    "drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three legs, "
    "many people in the background, walking backwards"
)


SAMPLING: dict[str, Any] = {"seed": 1, "steps": 30, "cfg": 6.0, "sampler_name": "uni_pc", "scheduler": "simple"}


def model_file(directory: str, name: str, repository: str = WAN21) -> dict[str, str]:
    """A loader's entry for the file that it needs."""
    path = f"split_files/{directory}/{name}"
    return {"name": name, "url": REPOSITORY.format(repository, path), "directory": directory}


SMALL = model_file("diffusion_models", "wan2.1_t2v_1.3B_fp16.safetensors")
HIGH = model_file("diffusion_models", "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", WAN22)
LOW = model_file("diffusion_models", "wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors", WAN22)
TEXT = model_file("text_encoders", "umt5_xxl_fp8_e4m3fn_scaled.safetensors")
VAE = model_file("vae", "wan_2.1_vae.safetensors")
FILM = {
    "name": "film_net_fp16.safetensors",
    "url": REPOSITORY.format("frame_interpolation", "frame_interpolation/film_net_fp16.safetensors"),
    "directory": "frame_interpolation",
}

TRAIN_NOTE = """
## A concept from your clip

1. **Train Concept**: *Choose a video…*, one to five seconds of one moving thing.
2. Say there how it looks, with `[v]`, then how it moves, with `[u]`.
3. **Make a Video**: say what to show, with both.
4. Press **Run**. Cancelled? Press it again: training resumes.
"""

TRAIN_EXPERTS_NOTE = """
## Train both experts

Wan 2.2 14B consists of two models, its experts: one for the noisy start, one for the details. A concept needs to be
trained on both. *Train Concept* does it in one run.

1. **Train Concept**: *Choose a video…*, one to five seconds of one moving thing. Say how it looks, with `[v]`, then how
   it moves, with `[u]`.
2. The high-noise model is on its *model*, the low-noise one on its *low_noise_model*.
3. Press **Run**. The high-noise model learns first, then the low-noise one; the panel says which. Cancelled? Press it
   again: training resumes.

One file holds the concept for both. Workflow **5** uses it. The high-noise model learns noise levels from 0.875 to 1,
the low-noise model the rest.
"""

EXPERTS_NOTE = """
## A concept in both experts

Wan 2.2 14B consists of two models, its experts: one for the noisy start, one for the details. Workflow **8** trains a
concept on both and saves it in one file.

**Here**, each loader is followed by its own *Load Dynamic Concept*, both with the same file. Each finds its expert by
itself. The high-noise expert decides the layout and most of the motion, the low-noise expert the details, so try
different strengths on the two.
"""

SHARED_NOTE = """
## A shared concept

This is ComfyUI's own text-to-video template for Wan 2.1 with one node added: *Load Dynamic Concept*, between the
model's loader and the sampler.

1. Put the file you received into `models/dynamic_concepts` and press **R**.
2. Choose it in *Load Dynamic Concept*. Its card shows its prompts and the model it was made for.
3. Use its words and tokens in your positive prompt, and press **Run**.

**look strength** sets the look, **motion strength** the motion. 1 is as trained, 0 is off.

The same node works in any other graph: its input is a model and its output is a model.
"""

PIPELINE_NOTE = """
## A concept in a longer pipeline

This workflow makes a video of a concept, then doubles its frame rate and its size. After *Load Dynamic Concept*, all
nodes are ComfyUI's own; you can continue with any other video node.

1. Choose your concept and write its words and tokens into the positive prompt.
2. *Run Frame Interpolation Model* adds a frame between every two frames. If you do not have its file, bypass its two
   nodes (Ctrl+B) and set *Create Video* to 16 fps.
3. *Upscale Image By* enlarges the frames without a model. For more detail, replace it with *Upscale Image (using
   Model)*.
"""


def train_workflow(object_info: dict[str, Any]) -> Graph:
    """(d) Train on the user's clip: one node that trains, and one that makes a video."""
    graph = Graph(TRAIN, object_info)
    graph.scale = 1.0
    small = (COLLAPSED_WIDTH, 110)
    clip = graph.add(
        "CLIPLoader", (0, 0), size=small, collapsed=True, clip_name=TEXT["name"], type="wan", models=[TEXT]
    )
    vae = graph.add("VAELoader", (0, 45), size=small, collapsed=True, vae_name=VAE["name"], models=[VAE])
    model = graph.add("UNETLoader", (0, 100), size=(LEFT_WIDTH, 85), unet_name=SMALL["name"], models=[SMALL])
    video = graph.add("LoadVideo", (0, 245), size=(LEFT_WIDTH, 310), file="my_clip.mp4")
    train_and_make(
        graph,
        _video_maker(object_info),
        model=model["MODEL"],
        clip=clip["CLIP"],
        vae=vae["VAE"],
        video=video["VIDEO"],
        prompts=(STATIC_PROMPT, MOTION_PROMPT),
        heights=(330, 310),
        saved_as="setandseq/my_concept",
    )
    note = f"{TRAIN_NOTE}\nModel files: {files_links(SMALL, TEXT, VAE)}."
    graph.note(TRAIN, note, (MAKE_PLACE[0], 375), (SAVE_PLACE[0] + SAVE_WIDTH - MAKE_PLACE[0], 170))
    return graph


def _video_maker(object_info: dict[str, Any]) -> Subgraph:
    """A subgraph of the official text-to-video template, from model to video."""
    inner = Subgraph("Make a Video", object_info, TRAIN, model="MODEL", clip="CLIP", vae="VAE")
    return wan_video(inner, inner["model"], EDITED_PROMPT)


def wan_video(inner: Subgraph, model: Output, prompt: str) -> Subgraph:
    """Add the official text-to-video template, from model to video, to a subgraph and return it."""
    shifted = inner.add("ModelSamplingSD3", (0, 0), model=model, shift=8.0)
    positive, negative = encoded_prompts(inner, prompt)
    latent = inner.add("EmptyHunyuanLatentVideo", (0, 590), width=832, height=480, length=33)
    texts = positive["CONDITIONING"], negative["CONDITIONING"]
    return sampled_video(inner, shifted["MODEL"], texts, latent["LATENT"], shown=(positive, latent))


def encoded_prompts(inner: Subgraph, prompt: str) -> tuple[Node, Node]:
    """Add the prompt and the official templates' negative prompt to a subgraph."""
    texts = []
    prompts = ((130, "Prompt", GREEN, prompt), (360, "Negative Prompt", RED, NEGATIVE_PROMPT))
    for y, title, colours, text in prompts:
        options: dict[str, Any] = {"size": (400, 180), "title": title, "colours": colours}
        texts.append(inner.add("CLIPTextEncode", (0, y), clip=inner["clip"], text=text, **options))
    return texts[0], texts[1]


def sampled_video(
    inner: Subgraph, model: Output, texts: tuple[Output, Output], latents: Output, *, shown: tuple[Node, Node]
) -> Subgraph:
    """Add the official templates' sampler and decoder to a subgraph and return it.

    Args:
        texts: the positive and the negative conditioning.
        shown: the nodes whose prompt and whose size the subgraph shows.
    """
    sampler = inner.add(
        "KSampler",
        (450, 0),
        model=model,
        positive=texts[0],
        negative=texts[1],
        latent_image=latents,
        **SAMPLING,
    )
    frames = inner.add("VAEDecode", (820, 0), samples=sampler["LATENT"], vae=inner["vae"])
    video = inner.add("CreateVideo", (820, 120), images=frames["IMAGE"], fps=16.0)
    inner.give("VIDEO", video["VIDEO"])
    prompt, size = shown
    inner.promote(prompt, "text")
    inner.promote(size, "width", "height", "length")
    inner.promote(sampler, "seed")
    return inner


def experts_workflow(object_info: dict[str, Any]) -> Graph:
    """(e) The two-expert graph of the official template with a concept in each expert."""
    graph = Graph(EXPERTS, object_info)
    columns, (high, low, clip, vae) = _begin_with_experts(graph, (EXPERTS, EXPERTS_NOTE, 330))
    second, third = columns[1:3]
    models = []
    for expert, loader, column in (("high", high, second), ("low", low, third)):
        title = f"Load Dynamic Concept ({expert} noise)"
        options = {"title": title, "concept": "my_concept.safetensors", "model": loader["MODEL"]}
        loaded = column.add("SetSeq_LoadDynamicConcept", **options)
        sampling = column.add("ModelSamplingSD3", model=loaded["model"], shift=5.0, collapsed=True)
        models.append(sampling["MODEL"])
        column.group(f"Step2 - The concept, {expert} noise")
    texts = _prompts(second, clip["CLIP"], EDITED_PROMPT)
    second.group("Step3 - Prompt")
    latent = third.add("EmptyHunyuanLatentVideo", width=640, height=640, length=81)
    third.group("Step4 - Video size")
    _end_with_experts(columns, models, texts, latent["LATENT"], vae["VAE"])
    return graph


def train_experts_workflow(object_info: dict[str, Any]) -> Graph:
    """(h) Train on the user's clip in both experts, and make a video with both."""
    graph = Graph(TRAIN_EXPERTS, object_info)
    columns, (high, low, clip, vae) = _begin_with_experts(graph, (TRAIN_EXPERTS, TRAIN_EXPERTS_NOTE, 400))
    second, third = columns[1:3]
    video = second.add("LoadVideo", tall=310, file="my_clip.mp4")
    second.group("Step2 - Your clip")
    trained = second.add(
        "SetSeq_TrainConcept",
        tall=720,
        model=high["MODEL"],
        low_noise_model=low["MODEL"],
        clip=clip["CLIP"],
        vae=vae["VAE"],
        video=video["VIDEO"],
        static_prompt=STATIC_PROMPT,
        motion_prompt=MOTION_PROMPT,
    )
    second.group("Step3 - Train both experts")
    models = [
        third.add("ModelSamplingSD3", model=trained[output], shift=5.0, collapsed=True)["MODEL"]
        for output in ("model", "low noise model")
    ]
    texts = _prompts(third, trained["clip"], EDITED_PROMPT)
    latent = third.add("EmptyHunyuanLatentVideo", width=640, height=640, length=81)
    third.group("Step4 - Prompt and size")
    _end_with_experts(columns, models, texts, latent["LATENT"], trained["vae"])
    return graph


def _begin_with_experts(graph: Graph, note: Note) -> tuple[list[Column], list[Node]]:
    """Add five columns, with notes and the loaders of both experts, text encoder and VAE in the first."""
    columns = noted_columns(graph, 5, note, _files_note(HIGH, LOW, TEXT, VAE))
    loaders = _loaders(columns[0], [HIGH, LOW])
    columns[0].group("Step1 - Load models")
    return columns, loaders


def _end_with_experts(
    columns: Sequence[Column], models: Sequence[Output], texts: tuple[Output, Output], latents: Output, vae: Output
) -> None:
    """Sample with both experts in the fourth column, and save the video in the last."""
    made = _sample_in_turn(columns[3], models, texts, latents)
    columns[3].group("Step5 - High noise, then low noise")
    _save(columns[4], made, vae)
    columns[4].group("Step6 - Video")


def _sample_in_turn(column: Column, models: Sequence[Output], texts: tuple[Output, Output], latents: Output) -> Output:
    """Latents of a video, with the first half of the steps by one model and the second half by the other."""
    common: dict[str, Any] = {
        "positive": texts[0],
        "negative": texts[1],
        "noise_seed": 1,
        "steps": 20,
        "cfg": 3.5,
        "sampler_name": "euler",
        "scheduler": "simple",
    }
    begin = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 10, "return_with_leftover_noise": "enable"}
    noisy = column.add("KSamplerAdvanced", model=models[0], latent_image=latents, **begin, **common)
    end = {"add_noise": "disable", "start_at_step": 10, "end_at_step": 20, "return_with_leftover_noise": "disable"}
    return column.add("KSamplerAdvanced", model=models[1], latent_image=noisy["LATENT"], **end, **common)["LATENT"]


def shared_workflow(object_info: dict[str, Any]) -> Graph:
    """(f) The official text-to-video template with one more node."""
    graph = Graph(SHARED, object_info)
    notes = (SHARED, SHARED_NOTE, 340), _files_note(SMALL, TEXT, VAE)
    column, latents, vae = _concept_video(graph, notes)
    _save(column, latents, vae)
    column.group("Step5 - Generate")
    return graph


def pipeline_workflow(object_info: dict[str, Any]) -> Graph:
    """(g) A video of a concept, then stock nodes for more frames and more pixels."""
    graph = Graph(PIPELINE, object_info)
    notes = (PIPELINE, PIPELINE_NOTE, 290), _files_note(SMALL, TEXT, VAE, FILM)
    column, latents, vae = _concept_video(graph, notes)
    frames = column.add("VAEDecode", samples=latents, vae=vae, collapsed=True)
    column.group("Step5 - Generate")
    network = column.add("FrameInterpolationModelLoader", model_name=FILM["name"], models=[FILM])
    smooth = column.add("FrameInterpolate", interp_model=network["INTERP_MODEL"], images=frames["IMAGE"], multiplier=2)
    column.group("Step6 - Twice the frames")
    large = column.add("ImageScaleBy", image=smooth["IMAGE"], upscale_method="lanczos", scale_by=2.0)
    column.group("Step7 - Twice the size")
    column = Column(graph, 4 * COLUMN_STEP)
    video = column.add("CreateVideo", images=large["IMAGE"], fps=32.0)
    column.add("SaveVideo", tall=126, room=400, video=video["VIDEO"])
    column.group("Step8 - Video")
    return graph


def _concept_video(graph: Graph, notes: Sequence[Note]) -> tuple[Column, Output, Output]:
    """Add the official template up to its sampler; return the sampler's column, the latents and the VAE."""
    first, second, third, last = noted_columns(graph, 4, *notes)
    loader, clip, vae = _loaders(first, [SMALL])
    first.group("Step1 - Load models")
    loaded = second.add("SetSeq_LoadDynamicConcept", concept="my_concept.safetensors", model=loader["MODEL"])
    second.group("Step2 - Concept")
    latent = third.add("EmptyHunyuanLatentVideo", width=832, height=480, length=33)
    third.group("Step3 - Video size")
    positive, negative = _prompts(third, clip["CLIP"], EDITED_PROMPT)
    third.group("Step4 - Prompt")
    model = last.add("ModelSamplingSD3", model=loaded["model"], shift=8.0, collapsed=True)["MODEL"]
    wires = {"model": model, "positive": positive, "negative": negative, "latent_image": latent["LATENT"]}
    return last, _sample(last, **wires), vae["VAE"]


def _loaders(column: Column, diffusion: Sequence[dict[str, str]]) -> list[Node]:
    """Add the loaders of the diffusion models, the text encoder and the VAE, in this order."""
    nodes = [
        column.add("UNETLoader", unet_name=file["name"], weight_dtype="default", models=[file]) for file in diffusion
    ]
    nodes.append(column.add("CLIPLoader", clip_name=TEXT["name"], type="wan", device="default", models=[TEXT]))
    nodes.append(column.add("VAELoader", vae_name=VAE["name"], models=[VAE]))
    return nodes


def _prompts(column: Column, clip: Output, text: str) -> tuple[Output, Output]:
    positive = {"title": "CLIP Text Encode (Positive Prompt)", "colours": GREEN, "text": text}
    negative = {"title": "CLIP Text Encode (Negative Prompt)", "colours": RED, "text": NEGATIVE_PROMPT}
    first, second = (column.add("CLIPTextEncode", tall=180, clip=clip, **each) for each in (positive, negative))
    return first["CONDITIONING"], second["CONDITIONING"]


def _sample(column: Column, **wires: Output) -> Output:
    return column.add("KSampler", **wires, **SAMPLING)["LATENT"]


def _save(column: Column, latents: Output, vae: Output) -> None:
    frames = column.add("VAEDecode", samples=latents, vae=vae, collapsed=True)
    video = column.add("CreateVideo", images=frames["IMAGE"], fps=16.0, collapsed=True)
    column.add("SaveVideo", tall=126, room=400, video=video["VIDEO"])


def _files_note(*files: dict[str, str]) -> Note:
    """A note that says which model file belongs in which folder."""
    return "Model files", _files_text(*files), 100 + 35 * len(files)


def files_links(*files: dict[str, str]) -> str:
    """Names of the files for a sentence, each linked to its file."""
    return ", ".join(f"[{file['name']}]({file['url']})" for file in files)


def _files_text(*files: dict[str, str]) -> str:
    lines = [f"- [{file['name']}]({file['url']}) in `models/{file['directory']}`" for file in files]
    return "\n".join(["## Model files", "", *lines])
