"""The workflows on the embedded model: train and generate, use and edit, compose."""

from dataclasses import dataclass
from typing import Any

from setandseq_core.demo import SEED, Shot, demo_shots
from setandseq_core.toy.concepts import CONCEPTS, DEMO, with_tokens
from setandseq_core.toy.model import EMBEDDED_CONFIG, TRANSFORMER_FILE, VAE_FILE
from setandseq_core.toy.world import FPS, FRAMES, SIZE
from tools.workflow_graph import GREEN, RED, Column, Graph, Output

CONCEPT = CONCEPTS[DEMO]
SHIFT = 3.0
SAMPLING = {"seed": SEED, "steps": 20, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
COLUMN = 460
"""From one column's left edge to the next."""
SHOT_WIDTH = 1080
NOTE_WIDTH = 500

START = "0 Start here"
TRAIN = "1 Train on the embedded model"
USE = "2 Use and edit a concept"
COMPOSE = "3 Compose two concepts"

START_NOTE = """
## Start here

Press **Run** and look at the two train nodes. Nothing needs to be downloaded, and it takes a few minutes, also without
a graphics card.

**What you see**

- *Reference Clip* has a clip of a bee and two prompts: `[v]` stands for how it looks, `[u]` for how it moves.
- *Train Identity LoRA* learns the look, then *Train Motion Residual* the movement. Each shows its losses, the time that
  is left, and a sample of what it has learned so far. **Stop and keep** goes on with what there is.
- *Save Dynamic Concept* writes `models/dynamic_concepts/my_concept.safetensors`.
- At the right are two videos: the clip again, and the same creature on another background.

**And then**

- Change the background in the green prompt and press **Run**: only the video is made again, nothing is trained twice.
- Drag the point of *Compose Concepts* down: less of the movement.
- **2 Use and edit a concept** takes the file, without training. **1 Train on the embedded model** makes more videos.

**A clip of your own**

1. Double-click an empty place, choose *Load Video*, and upload your clip in it.
2. Draw a line from its VIDEO to **video** of *Reference Clip*, in place of the example's.
3. Say there in both prompts what is seen; the check below them tells what is missing. Give *Save Dynamic Concept*
   another name, and change the green prompts.

This small model draws 64x64 pixels and simple shapes. For real videos take **4 Train on your clip**: the same with
Wan 2.1.
"""

TRAIN_NOTE = """
## A concept from one clip

Press **Run**. Nothing needs to be downloaded: the small model that comes with this pack learns the creature of the
example clip, its look and its way of moving, and then puts it into new videos. That takes some minutes on a
processor, less on a graphics card. Run it again and nothing is trained twice.

**What happens**

1. *Reference Clip* cuts the clip to what the model takes. Its two prompts say what is seen: `[v]` stands for the
   look, `[u]` for the movement.
2. *Train Identity LoRA* learns the look from single frames. *Train Motion Residual* keeps that look and learns the
   movement.
3. *Save Dynamic Concept* writes `models/dynamic_concepts/my_concept.safetensors`.
4. *Compose Concepts* puts the concept on the model. Its strengths say how much of the look and of the movement.
5. Seven videos are saved in `output/setandseq`.

**What to try**

- Another prompt: the model knows shapes, colours, motions and backgrounds, such as `a large [v] creature [u]
  wandering and a small yellow ring circling on a green dotted background`.
- Another clip: *Load Video* with your file, its VIDEO to **video** of *Reference Clip*. This model draws 64x64 pixels,
  17 frames, simple shapes.
- Then open **2 Use and edit a concept**.
"""

USE_NOTE = """
## A saved concept in new videos

*Load Dynamic Concept* between the model and the sampler is all that a concept needs. Choose its file there, and
press **Run**.

The file `my_concept.safetensors` is what **0 Start here** and **1 Train on the embedded model** save: run one of them
first. Concepts are in `models/dynamic_concepts`; press **R** when a new one is not in the list.

**Three videos**

- *As learned*: the prompt comes out of the file.
- *Edited*: another background, in your words. Keep `[v]` for the look and `[u]` for the movement.
- *Half the motion*: *Compose Concepts* with motion strength 0.5. Try 0, 1.5 or -1, and the same with the identity.

The card on the node shows its clip, its prompts and the model that it was made for. A click copies a prompt; **to
prompt** writes it into the green prompt.
"""

COMPOSE_NOTE = """
## Two concepts in one video

*Compose Concepts* takes any number of concepts: connect one and another input appears. Each has its own strengths
on its *Load Dynamic Concept*; those on *Compose Concepts* count for all.

**You need two concepts of the same model**

1. Run **1 Train on the embedded model**: it saves `my_concept.safetensors`.
2. Run it again with a clip of yours (*Load Video* in place of *Example Clip*), with other tokens in both prompts of
   *Reference Clip*, such as `[w]` and `[x]`. It saves `my_concept_2.safetensors`.
3. Choose both files here (press **R** if they are not in the list), and write both into the prompt: what is named
   first stands on the left.

`regions` gives each concept its part of the picture, from left to right; *masks* draw other parts. `add` lets all act
everywhere, which is right for one concept and mixes the looks of two.
"""


@dataclass(frozen=True, slots=True)
class Base:
    """The embedded model's wires."""

    model: Output
    clip: Output
    vae: Output


def start_workflow(object_info: dict[str, Any]) -> Graph:
    """The shortest way to a first concept: as below, with two videos."""
    graph = Graph(START, object_info)
    graph.note(START, START_NOTE, (-NOTE_WIDTH - 60, -70), (NOTE_WIDTH, 760))
    left = Column(graph, 0)
    base = _load_base(left)
    reference = _reference(left, base)
    concept = _train(Column(graph, COLUMN), base, reference)
    column = Column(graph, 2 * COLUMN)
    column.add("SetSeq_SaveDynamicConcept", tall=160, concept=concept, name="my_concept")
    model = column.add("SetSeq_ComposeConcepts", model=base.model, concepts=[concept])["model"]
    column.group("Step4 - Save and apply")
    prompts = _Prompts(graph, Column(graph, 3 * COLUMN), base, step=5)
    edited = with_tokens(str(CONCEPT.edited(background="pink", texture="striped")))
    shots = [("The clip again", CONCEPT.motion_prompt), ("Another background", edited)]
    positives = [prompts.positive(prompt) for _, prompt in shots]
    studio = prompts.finish()
    for index, ((title, _), positive) in enumerate(zip(shots, positives, strict=True)):
        pos, name = (4 * COLUMN, index * 440), f"start/{title.lower().replace(' ', '_')}"
        studio.shoot(pos, model, positive, name, f"Step7 - {title}")
    return graph


def train_workflow(object_info: dict[str, Any]) -> Graph:
    """(a) Train on the example clip, save the concept, and generate the demo's shots."""
    graph = Graph(TRAIN, object_info)
    graph.note(TRAIN, TRAIN_NOTE, (-NOTE_WIDTH - 60, -70), (NOTE_WIDTH, 520))
    left = Column(graph, 0)
    base = _load_base(left)
    reference = _reference(left, base)
    concept = _train(Column(graph, COLUMN), base, reference)
    applied = Column(graph, 2 * COLUMN)
    applied.add("SetSeq_SaveDynamicConcept", tall=160, concept=concept, name="my_concept")
    models = {(0.0, 0.0): base.model}
    for shot in demo_shots():
        strengths = shot.identity_strength, shot.motion_strength
        if strengths not in models:
            models[strengths] = applied.add(
                "SetSeq_ComposeConcepts",
                title=f"Compose Concepts, motion {shot.motion_strength:g}",
                model=base.model,
                concepts=[concept],
                identity_strength=shot.identity_strength,
                motion_strength=shot.motion_strength,
            )["model"]
    applied.group("Step4 - Save and apply")
    prompts = _Prompts(graph, Column(graph, 3 * COLUMN), base, step=5)
    places = [(shot, prompts.positive(with_tokens(str(shot.caption)))) for shot in demo_shots()]
    studio = prompts.finish()
    for index, (shot, positive) in enumerate(places):
        pos = 4 * COLUMN + (index % 2) * SHOT_WIDTH, (index // 2) * 440
        strengths = shot.identity_strength, shot.motion_strength
        studio.shoot(pos, models[strengths], positive, shot.name, _title(shot))
    return graph


def use_workflow(object_info: dict[str, Any]) -> Graph:
    """(b) Load a concept: with its own prompt, with an edited one, and reweighted."""
    graph = Graph(USE, object_info)
    graph.note(USE, USE_NOTE, (-NOTE_WIDTH - 60, -70), (NOTE_WIDTH, 420))
    base = _load_base(Column(graph, 0))
    column = Column(graph, COLUMN)
    loaded = column.add("SetSeq_LoadDynamicConcept", concept="my_concept.safetensors", model=base.model)
    wires = {"model": base.model, "concepts": [loaded["concept"]], "motion_strength": 0.5}
    half = column.add("SetSeq_ComposeConcepts", title="Compose Concepts, half the motion", **wires)
    column.group("Step2 - Concept")
    prompts = _Prompts(graph, Column(graph, 2 * COLUMN), base, step=3)
    own = prompts.positive(loaded["motion_prompt"], "The concept's own prompt")
    edited = prompts.positive(with_tokens(str(CONCEPT.edited(background="pink", texture="striped"))))
    studio = prompts.finish()
    shots = [("As learned", loaded, own), ("Edited", loaded, edited), ("Half the motion", half, own)]
    for index, (title, node, positive) in enumerate(shots):
        pos, name = (3 * COLUMN, index * 440), title.lower().replace(" ", "_")
        studio.shoot(pos, node["model"], positive, name, f"Step5 - {title}")
    return graph


def compose_workflow(object_info: dict[str, Any]) -> Graph:
    """(c) Two concepts in one video."""
    graph = Graph(COMPOSE, object_info)
    graph.note(COMPOSE, COMPOSE_NOTE, (-NOTE_WIDTH - 60, -70), (NOTE_WIDTH, 380))
    base = _load_base(Column(graph, 0))
    column = Column(graph, COLUMN)
    files = ("my_concept.safetensors", "my_concept_2.safetensors")
    concepts = [column.add("SetSeq_LoadDynamicConcept", concept=file)["concept"] for file in files]
    composed = column.add("SetSeq_ComposeConcepts", model=base.model, concepts=concepts, method="regions")
    column.group("Step2 - Concepts")
    prompts = _Prompts(graph, Column(graph, 2 * COLUMN), base, step=3)
    both = "a large [v] creature [u] wandering and a large [w] creature [x] wandering on a grey plain background"
    positive = prompts.positive(both)
    studio = prompts.finish()
    pos = 3 * COLUMN, 0
    studio.shoot(pos, composed["model"], positive, "composed", "Step5 - Both in one video")
    return graph


def _load_base(column: Column) -> Base:
    loader = column.add("UNETLoader", unet_name=TRANSFORMER_FILE.name, weight_dtype="default")
    clip = column.add("SetSeq_EmbeddedTextEncoder")
    vae = column.add("VAELoader", vae_name=VAE_FILE.name)
    model = column.add("ModelSamplingSD3", model=loader["MODEL"], shift=SHIFT)
    column.group("Step1 - Load models")
    return Base(model=model["MODEL"], clip=clip["clip"], vae=vae["VAE"])


def _reference(column: Column, base: Base) -> Output:
    video = column.add("SetSeq_ExampleClip")
    reference = column.add(
        "SetSeq_ReferenceClip",
        model=base.model,
        video=video["video"],
        static_prompt=CONCEPT.static_prompt,
        motion_prompt=CONCEPT.motion_prompt,
        frames=FRAMES,
        width=SIZE,
        height=SIZE,
    )
    column.group("Step2 - Reference clip")
    return reference["reference"]


def _train(column: Column, base: Base, reference: Output) -> Output:
    config, first, second = EMBEDDED_CONFIG, EMBEDDED_CONFIG.set_stage, EMBEDDED_CONFIG.sequence_stage
    if first.batch != second.batch:
        raise ValueError(f"One batch for both stages is needed, not {first.batch} and {second.batch}.")
    settings = column.add(
        "SetSeq_TrainingSettings",
        batch=first.batch,
        identity_dropout=first.coefficient_dropout,
        motion_dropout=second.coefficient_dropout,
        token_masking=config.token_masking,
        weight_decay=config.weight_decay,
        gradient_clipping=config.gradient_clipping,
    )
    regularisation = column.add(
        "SetSeq_Regularisation",
        prior_share=config.prior.share,
        prior_weight=config.prior.weight,
        prior_clips=config.prior.clips,
        stitched_share=config.stitched_share,
        token_learning_rate=config.token_learning_rate,
        still_frames=first.still_frames,
        settings=settings["settings"],
    )
    wires = {"model": base.model, "clip": base.clip, "vae": base.vae, "references": [reference]}
    wires |= {"settings": regularisation["settings"], "seed": config.seed}
    rate = {"steps": first.steps, "learning_rate": first.learning_rate, "rank": config.rank}
    identity = column.add("SetSeq_TrainIdentityLoRA", **wires, **rate)
    rate = {"steps": second.steps, "learning_rate": second.learning_rate}
    concept = column.add("SetSeq_TrainMotionResidual", identity=identity["identity"], **wires, **rate)
    column.group("Step3 - Train")
    return concept["concept"]


@dataclass(frozen=True, slots=True)
class Studio:
    """What all videos of a workflow have in common."""

    graph: Graph
    base: Base
    negative: Output
    latent: Output

    def shoot(self, pos: tuple[float, float], model: Output, positive: Output, name: str, title: str) -> None:
        """Sampler, decoder and saver in a row."""
        (x, y), add = pos, self.graph.add
        wires = {"model": model, "positive": positive, "negative": self.negative, "latent_image": self.latent}
        sampler = add("KSampler", (x, y), **wires, **SAMPLING)
        frames = add("VAEDecode", (x + 345, y), size=(300, 54), samples=sampler["LATENT"], vae=self.base.vae)
        video = add("CreateVideo", (x + 345, y + 104), size=(300, 110), images=frames["IMAGE"], fps=float(FPS))
        path = f"setandseq/{name}"
        saved = add("SaveVideo", (x + 675, y), size=(340, 126), room=330, video=video["VIDEO"], filename_prefix=path)
        self.graph.group(title, [sampler, frames, video, saved])


class _Prompts:
    """The column of prompts, each once, and of the video's size."""

    def __init__(self, graph: Graph, column: Column, base: Base, step: int) -> None:
        self._graph, self._column, self._base, self._step = graph, column, base, step
        self._made: dict[Any, Output] = {}

    def positive(self, text: str | Output, title: str = "CLIP Text Encode (Positive Prompt)") -> Output:
        if text not in self._made:
            self._made[text] = self._encode(title, text, GREEN)
        return self._made[text]

    def finish(self) -> Studio:
        negative = self._encode("CLIP Text Encode (Negative Prompt)", "", RED)
        self._column.group(f"Step{self._step} - Prompts")
        size = {"width": SIZE, "height": SIZE, "length": FRAMES, "batch_size": 1}
        latent = self._column.add("EmptyHunyuanLatentVideo", **size)
        self._column.group(f"Step{self._step + 1} - Video size")
        return Studio(graph=self._graph, base=self._base, negative=negative, latent=latent["LATENT"])

    def _encode(self, title: str, text: str | Output, colours: tuple[str, str]) -> Output:
        options: dict[str, Any] = {"title": title, "colours": colours, "tall": 130}
        return self._column.add("CLIPTextEncode", clip=self._base.clip, text=text, **options)["CONDITIONING"]


def _title(shot: Shot) -> str:
    return f"Step7 - {shot.label[0].upper()}{shot.label[1:]}"
