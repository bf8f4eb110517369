"""The workflow for image to video: a concept of a clip on a model that starts every video from a picture."""

from typing import Any

from tools.workflows.graph import COLLAPSED_WIDTH, Graph, Node, Subgraph
from tools.workflows.wan import (
    MOTION_PROMPT,
    STATIC_PROMPT,
    TEXT,
    VAE,
    encoded_prompts,
    files_links,
    model_file,
    sampled_video,
)

NAME = "10 Train for image to video (Wan 2.1 14B)"
BIG = model_file("diffusion_models", "wan2.1_i2v_480p_14B_fp16.safetensors")
VISION = model_file("clip_vision", "clip_vision_h.safetensors")
PICTURE = "my_first_frame.png"
NEW_PROMPT = "a [v] dancer in a red dress [u] spinning, on a beach at sunset, waves in the background"
NOTE = """
**When:** your videos start from a picture. With a text-to-video model, use workflow **4**.

1. **Load Video**: one to five seconds of one moving thing.
2. **Train Concept**: say how it looks, with `[v]`, then how it moves, with `[u]`. It takes the clip's first frame by
   itself; *Clip Vision* adds the vision encoder's view of it. If you move the clip's start, set *start_time* inside it,
   too.
3. **Load Image**: the first frame of your new video, with the same subject.
4. **Make a Video**: say what happens, with both tokens. Press **Run**.
"""

STEP = 24
"""Space between two columns."""
NARROW, TRAIN = COLLAPSED_WIDTH, 352
"""Widths of the columns; the third one is that of the train node."""
LOADERS_STEP = 38
LOADERS_TOP, TRAIN_TOP, PICTURE_TOP = 180, 113, 285
"""Tops of the first, third and fourth column, such that wires pass above or below nodes that do not use them."""
MODEL_TOP = 480
BOTTOM = 746


def image_to_video_workflow(object_info: dict[str, Any]) -> Graph:
    """(j) Train on the user's clip for image to video, and make a video from a new first frame."""
    graph = Graph(NAME, object_info)
    graph.scale = 0.8
    clip, vae, model = _loaders(graph)
    video = graph.add("LoadVideo", (0, LOADERS_TOP + 150), size=(NARROW, 310), file="my_clip.mp4")
    x = NARROW + STEP
    seen = graph.use(
        _clip_vision(object_info),
        (x, 0),
        (NARROW, 95),
        clip=clip["CLIP"],
        vae=vae["VAE"],
        video=video["VIDEO"],
    )
    x += NARROW + STEP
    trained = graph.add(
        "SetSeq_TrainConcept",
        (x, TRAIN_TOP),
        size=(TRAIN, BOTTOM - TRAIN_TOP),
        model=model["MODEL"],
        clip=clip["CLIP"],
        vae=vae["VAE"],
        video=video["VIDEO"],
        conditioning=seen["conditioning"],
        static_prompt=STATIC_PROMPT,
        motion_prompt=MOTION_PROMPT,
    )
    x += TRAIN + STEP
    picture = graph.add("LoadImage", (x, PICTURE_TOP), size=(NARROW, 310), image=PICTURE)
    x += NARROW + STEP
    made = graph.use(
        _video_maker(object_info),
        (x, 0),
        (NARROW, 380),
        model=trained["model"],
        clip=trained["clip"],
        vae=trained["vae"],
        vision=seen["vision"],
        picture=picture["IMAGE"],
    )
    graph.add(
        "SaveVideo",
        (x + NARROW + STEP, 0),
        size=(NARROW, 310),
        video=made["VIDEO"],
        filename_prefix="setandseq/my_concept",
    )
    note = f"{NOTE}\nModel files: {files_links(BIG, TEXT, VAE, VISION)}."
    graph.note("Train for image to video", note, (x, 425), (2 * NARROW + STEP, BOTTOM - 425))
    return graph


def _loaders(graph: Graph) -> list[Node]:
    """The loaders of the text encoder and the VAE, and that of the model in the second column, below other wires."""
    loaders: tuple[tuple[tuple[float, float], str, dict[str, Any], dict[str, Any]], ...] = (
        ((0, LOADERS_TOP), "CLIPLoader", TEXT, {"clip_name": TEXT["name"], "type": "wan"}),
        ((0, LOADERS_TOP + LOADERS_STEP), "VAELoader", VAE, {"vae_name": VAE["name"]}),
        ((NARROW + STEP, MODEL_TOP), "UNETLoader", BIG, {"unet_name": BIG["name"]}),
    )
    return [
        graph.add(kind, place, size=(NARROW, 110), collapsed=True, models=[file], **values)
        for place, kind, file, values in loaders
    ]


def _clip_vision(object_info: dict[str, Any]) -> Subgraph:
    """A subgraph that loads the vision encoder and shows it the clip's first frame, for the training.

    WanImageToVideo gets no picture here: Train Concept then gives the model the first frame of exactly the part, size
    and length that it trains on.
    """
    inner = Subgraph("Clip Vision", object_info, NAME, clip="CLIP", vae="VAE", video="VIDEO")
    vision = inner.add("CLIPVisionLoader", (720, -150), clip_name=VISION["name"], models=[VISION])
    start = inner.add("Video Slice", (0, 0), video=inner["video"], duration=0.5)
    frames = inner.add("GetVideoComponents", (360, 0), video=start["VIDEO"])
    first = inner.add("ImageFromBatch", (720, 0), image=frames["images"], batch_index=0, length=1)
    seen = inner.add(
        "CLIPVisionEncode", (1080, 0), clip_vision=vision["CLIP_VISION"], image=first["IMAGE"], crop="none"
    )
    text = inner.add("CLIPTextEncode", (720, 170), size=(315, 130), clip=inner["clip"], text="")
    wan = inner.add(
        "WanImageToVideo",
        (1440, 0),
        positive=text["CONDITIONING"],
        negative=text["CONDITIONING"],
        vae=inner["vae"],
        clip_vision_output=seen["CLIP_VISION_OUTPUT"],
    )
    inner.give("vision", vision["CLIP_VISION"])
    inner.give("conditioning", wan["positive"])
    inner.promote(vision, "clip_name")
    return inner


def _video_maker(object_info: dict[str, Any]) -> Subgraph:
    """A subgraph of the official image-to-video template, from model and picture to video."""
    given = {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "vision": "CLIP_VISION", "picture": "IMAGE"}
    inner = Subgraph("Make a Video", object_info, NAME, first_id=201, **given)
    shifted = inner.add("ModelSamplingSD3", (0, 0), model=inner["model"], shift=8.0)
    positive, negative = encoded_prompts(inner, NEW_PROMPT)
    seen = inner.add("CLIPVisionEncode", (0, 590), clip_vision=inner["vision"], image=inner["picture"], crop="none")
    wan = inner.add(
        "WanImageToVideo",
        (450, 320),
        positive=positive["CONDITIONING"],
        negative=negative["CONDITIONING"],
        vae=inner["vae"],
        clip_vision_output=seen["CLIP_VISION_OUTPUT"],
        start_image=inner["picture"],
        width=832,
        height=480,
        length=33,
    )
    texts = wan["positive"], wan["negative"]
    return sampled_video(inner, shifted["MODEL"], texts, wan["latent"], shown=(positive, wan))
