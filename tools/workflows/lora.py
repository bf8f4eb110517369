"""The workflow for a LoRA that the artist already has: its look is kept as it is, and only the motion is learned."""

from typing import Any

from tools.workflows.graph import COLLAPSED_WIDTH, Graph, Node, Subgraph
from tools.workflows.wan import SMALL, TEXT, VAE, wan_video

NAME = "9 Teach a LoRA to move (Wan 2.1 1.3B)"
LORA = "my_character.safetensors"
TRIGGER = "ohwx"
LOOK_PROMPT = "a ohwx woman in a red dress"
CLIP_PROMPT = "a [w] man in a blue shirt, on a bright stage"
MOTION_PROMPT = "a [w] man in a blue shirt [u] dancing, on a bright stage"
NEW_PROMPT = "a ohwx woman in a red dress [u] dancing, on a beach at sunset, waves in the background"
TITLE = "Teach a LoRA to move"
NOTE = """
**When:** you have a character's LoRA and a clip of a movement.

1. Choose both, and the LoRA's *trigger word*.
2. Write the LoRA's look, the clip's look `[w]`, the clip's motion `[u]`.
3. Press **Run**.
"""

STEP = 24
"""Space between two columns."""
LEFT, LOOK, TRAIN, MAKE, SAVE = 225, 255, 260, 225, 225
"""Widths of the columns, which a window of 1366x768 shows at 100 %."""
LOADERS_STEP = 38
STAIRS = 166, 108, 0
"""Tops of the second to the fourth column, such that the loaders' wires pass above columns that do not use them."""
BOTTOM = 634


def lora_workflow(object_info: dict[str, Any]) -> Graph:
    """(i) Learn the motion of a clip for the look of a LoRA, save both as a concept, and make a video."""
    graph = Graph(NAME, object_info)
    graph.scale = 1.0
    model, clip, vae = _loaders(graph)
    video = graph.add("LoadVideo", (0, 225), size=(LEFT, 310), file="my_clip.mp4")
    x = LEFT + STEP
    look = graph.use(
        _look_and_clip(object_info),
        (x, STAIRS[0]),
        (LOOK, BOTTOM - STAIRS[0]),
        model=model["MODEL"],
        clip=clip["CLIP"],
        vae=vae["VAE"],
        video=video["VIDEO"],
    )
    x += LOOK + STEP
    trained = graph.add(
        "SetSeq_TrainMotionResidual",
        (x, STAIRS[1]),
        size=(TRAIN, BOTTOM - STAIRS[1]),
        model=model["MODEL"],
        identity=look["look"],
    )
    x += TRAIN + STEP
    made = graph.use(
        _video_maker(object_info),
        (x, STAIRS[2]),
        (MAKE, 350),
        model=model["MODEL"],
        clip=clip["CLIP"],
        vae=vae["VAE"],
        concept=trained["concept"],
    )
    graph.add("SetSeq_SaveDynamicConcept", (x, 400), size=(MAKE, 130), concept=trained["concept"], name="my_concept")
    x += MAKE + STEP
    graph.add("SaveVideo", (x, 0), size=(SAVE, 250), video=made["VIDEO"], filename_prefix="setandseq/my_concept")
    files = (("Model", SMALL), ("text", TEXT), ("VAE", VAE))
    links = ", ".join(f"[{name}]({file['url']})" for name, file in files)
    graph.note(TITLE, f"{NOTE}\n{links}", (x, 290), (SAVE, BOTTOM - 290))
    return graph


def _loaders(graph: Graph) -> tuple[Node, Node, Node]:
    small = (COLLAPSED_WIDTH, 110)
    model = graph.add("UNETLoader", (0, 0), size=small, collapsed=True, unet_name=SMALL["name"], models=[SMALL])
    place = (0, LOADERS_STEP)
    clip = graph.add("CLIPLoader", place, size=small, collapsed=True, clip_name=TEXT["name"], type="wan", models=[TEXT])
    place = (0, 2 * LOADERS_STEP)
    vae = graph.add("VAELoader", place, size=small, collapsed=True, vae_name=VAE["name"], models=[VAE])
    return model, clip, vae


def _look_and_clip(object_info: dict[str, Any]) -> Subgraph:
    """A subgraph of Reference Clip and Identity from LoRA, with the files and prompts that an artist chooses."""
    inner = Subgraph("Look and Clip", object_info, NAME, model="MODEL", clip="CLIP", vae="VAE", video="VIDEO")
    clip = inner.add(
        "SetSeq_ReferenceClip",
        (0, 0),
        model=inner["model"],
        video=inner["video"],
        static_prompt=CLIP_PROMPT,
        motion_prompt=MOTION_PROMPT,
    )
    look = inner.add(
        "SetSeq_IdentityFromLoRA",
        (380, 0),
        model=inner["model"],
        clip=inner["clip"],
        vae=inner["vae"],
        references=[clip["reference"]],
        lora=LORA,
        static_prompt=LOOK_PROMPT,
        trigger_word=TRIGGER,
    )
    inner.give("look", look["look"])
    inner.promote(look, "lora", "trigger_word", static_prompt="look of the LoRA")
    inner.promote(clip, static_prompt="look of the clip", motion_prompt="look and motion of the clip")
    return inner


def _video_maker(object_info: dict[str, Any]) -> Subgraph:
    """A subgraph that applies the concept to the model, then runs the official text-to-video template."""
    given = {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "concept": "SETSEQ_CONCEPT"}
    inner = Subgraph("Make a Video", object_info, NAME, first_id=201, **given)
    applied = inner.add("SetSeq_ComposeConcepts", (-380, 0), model=inner["model"], concepts=[inner["concept"]])
    return wan_video(inner, applied["model"], NEW_PROMPT)
