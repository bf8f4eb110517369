"""The workflows on the embedded model: train and generate, use and edit, compose."""

from dataclasses import dataclass
from typing import Any

from setandseq_core.demo import SEED, Shot, demo_shots
from setandseq_core.toy.concepts import CONCEPTS, DEMO, with_tokens
from setandseq_core.toy.model import EMBEDDED_CONFIG, TRANSFORMER_FILE, VAE_FILE
from setandseq_core.toy.world import FPS, FRAMES, SIZE
from tools.workflow_graph import COLLAPSED_WIDTH, GREEN, RED, Column, Graph, Output
from tools.workflow_notes import COMPOSE_NOTE, START_NOTE, TRAIN_NOTE, USE_NOTE

CONCEPT = CONCEPTS[DEMO]
SHIFT = 3.0
SAMPLING = {"seed": SEED, "steps": 20, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
COLUMN = 460
"""From one column's left edge to the next."""
SHOT_WIDTH = 1080
NOTE_WIDTH = 500
NARROW = 420
"""Width of the columns of workflows of which all can be read as they open, in a window of 1920x1080."""
START_NOTE_HEIGHT, USE_NOTE_HEIGHT = 640, 460
SMALL_SHOT = 440
"""From one video's top to the next there."""

START = "0 Start here"
TRAIN = "1 Train on the embedded model"
USE = "2 Use and edit a concept"
COMPOSE = "3 Compose two concepts"


@dataclass(frozen=True, slots=True)
class Base:
    """The embedded model's wires."""

    model: Output
    clip: Output
    vae: Output


def start_workflow(object_info: dict[str, Any]) -> Graph:
    """The shortest way to a first concept: as below, with two videos."""
    graph = Graph(START, object_info)
    graph.note(START, START_NOTE, (-10, -70), (NARROW, START_NOTE_HEIGHT))
    first, second, third, fourth, last = (Column(graph, index * (NARROW + 20), width=NARROW - 20) for index in range(5))
    first.y = START_NOTE_HEIGHT + 30
    base = _load_base(first, collapsed=True)
    reference = _reference(second, base)
    settings = _settings(second, collapsed=True)
    second.group("Settings")
    wires = _train_wires(base, reference, settings)
    identity = _train_identity(third, wires)
    third.group("Step3 - Train: the look")
    concept = _train_motion(fourth, wires, identity)
    fourth.group("Step4 - Train: the movement")
    model = fourth.add("SetSeq_ComposeConcepts", model=base.model, concepts=[concept])["model"]
    fourth.group("Step5 - Apply")
    prompts = _Prompts(graph, third, base, step=6)
    edited = with_tokens(str(CONCEPT.edited(background="pink", texture="striped")))
    shots = [("The clip again", CONCEPT.motion_prompt), ("Another background", edited)]
    positives = [prompts.positive(prompt) for _, prompt in shots]
    studio = prompts.finish(elsewhere=second)
    for (title, _), positive in zip(shots, positives, strict=True):
        name = f"start/{title.lower().replace(' ', '_')}"
        studio.shoot_small((last.x, last.y), model, positive, name, f"Step8 - {title}")
        last.y += SMALL_SHOT
    last.add("SetSeq_SaveDynamicConcept", tall=160, concept=concept, name="my_concept")
    last.group("Step9 - Save")
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
    graph.note(USE, USE_NOTE, (-10, -70), (NARROW, USE_NOTE_HEIGHT))
    first, second, third, last = (Column(graph, index * (NARROW + 20), width=NARROW - 20) for index in range(4))
    first.y = USE_NOTE_HEIGHT + 30
    base = _load_base(first, collapsed=True)
    loaded = second.add("SetSeq_LoadDynamicConcept", concept="my_concept.safetensors", model=base.model)
    second.group("Step2 - Concept")
    prompts = _Prompts(graph, third, base, step=3)
    own = prompts.positive(loaded["motion_prompt"], "The concept's own prompt")
    edited = prompts.positive(with_tokens(str(CONCEPT.edited(background="pink", texture="striped"))))
    studio = prompts.finish(elsewhere=second)
    wires = {"model": base.model, "concepts": [loaded["concept"]], "motion_strength": 0.5}
    half = third.add("SetSeq_ComposeConcepts", title="Compose Concepts, half the motion", **wires)
    third.group("Step5 - Another strength")
    shots = [("As learned", loaded, own), ("Edited", loaded, edited), ("Half the motion", half, own)]
    for title, node, positive in shots:
        name = title.lower().replace(" ", "_")
        studio.shoot_small((last.x, last.y), node["model"], positive, name, f"Step6 - {title}")
        last.y += SMALL_SHOT
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


def _load_base(column: Column, *, collapsed: bool = False) -> Base:
    shown = {"collapsed": collapsed}
    loader = column.add("UNETLoader", unet_name=TRANSFORMER_FILE.name, weight_dtype="default", **shown)
    clip = column.add("SetSeq_EmbeddedTextEncoder", **shown)
    vae = column.add("VAELoader", vae_name=VAE_FILE.name, **shown)
    model = column.add("ModelSamplingSD3", model=loader["MODEL"], shift=SHIFT, **shown)
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
    wires = _train_wires(base, reference, _settings(column))
    concept = _train_motion(column, wires, _train_identity(column, wires))
    column.group("Step3 - Train")
    return concept


def _settings(column: Column, *, collapsed: bool = False) -> Output:
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
        collapsed=collapsed,
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
        collapsed=collapsed,
    )
    return regularisation["settings"]


def _train_wires(base: Base, reference: Output, settings: Output) -> dict[str, Any]:
    wires = {"model": base.model, "clip": base.clip, "vae": base.vae, "references": [reference]}
    return wires | {"settings": settings, "seed": EMBEDDED_CONFIG.seed}


def _train_identity(column: Column, wires: dict[str, Any]) -> Output:
    stage = EMBEDDED_CONFIG.set_stage
    rate = {"steps": stage.steps, "learning_rate": stage.learning_rate, "rank": EMBEDDED_CONFIG.rank}
    return column.add("SetSeq_TrainIdentityLoRA", **wires, **rate)["identity"]


def _train_motion(column: Column, wires: dict[str, Any], identity: Output) -> Output:
    stage = EMBEDDED_CONFIG.sequence_stage
    rate = {"steps": stage.steps, "learning_rate": stage.learning_rate}
    return column.add("SetSeq_TrainMotionResidual", identity=identity, **wires, **rate)["concept"]


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
        sampler = add("KSampler", (x, y), **self._wires(model, positive), **SAMPLING)
        frames = add("VAEDecode", (x + 345, y), size=(300, 54), samples=sampler["LATENT"], vae=self.base.vae)
        video = add("CreateVideo", (x + 345, y + 104), size=(300, 110), images=frames["IMAGE"], fps=float(FPS))
        path = f"setandseq/{name}"
        saved = add("SaveVideo", (x + 675, y), size=(340, 126), room=330, video=video["VIDEO"], filename_prefix=path)
        self.graph.group(title, [sampler, frames, video, saved])

    def shoot_small(self, pos: tuple[float, float], model: Output, positive: Output, name: str, title: str) -> None:
        """The same, with the decoder's nodes collapsed below the sampler."""
        (x, y), add = pos, self.graph.add
        sampler = add("KSampler", (x, y), **self._wires(model, positive), **SAMPLING)
        below = {"collapsed": True, "size": (COLLAPSED_WIDTH, 110)}
        frames = add("VAEDecode", (x, y + 330), samples=sampler["LATENT"], vae=self.base.vae, **below)
        video = add("CreateVideo", (x, y + 370), images=frames["IMAGE"], fps=float(FPS), **below)
        path, size = f"setandseq/{name}", {"size": (COLLAPSED_WIDTH, 126), "room": 350}
        saved = add("SaveVideo", (x + 345, y), video=video["VIDEO"], filename_prefix=path, **size)
        self.graph.group(title, [sampler, frames, video, saved])

    def _wires(self, model: Output, positive: Output) -> dict[str, Output]:
        return {"model": model, "positive": positive, "negative": self.negative, "latent_image": self.latent}


class _Prompts:
    """The column of prompts, each once, and of the video's size."""

    def __init__(self, graph: Graph, column: Column, base: Base, step: int) -> None:
        self._graph, self._column, self._base, self._step = graph, column, base, step
        self._made: dict[Any, Output] = {}

    def positive(self, text: str | Output, title: str = "CLIP Text Encode (Positive Prompt)") -> Output:
        if text not in self._made:
            self._made[text] = self._encode(title, text, GREEN)
        return self._made[text]

    def finish(self, elsewhere: Column | None = None) -> Studio:
        """The negative prompt and the video's size; where that is in another column, the prompt is collapsed."""
        title = "Negative Prompt" if elsewhere else "CLIP Text Encode (Negative Prompt)"
        negative = self._encode(title, "", RED, collapsed=elsewhere is not None)
        self._column.group(f"Step{self._step} - Prompts")
        size = {"width": SIZE, "height": SIZE, "length": FRAMES, "batch_size": 1}
        column = elsewhere or self._column
        latent = column.add("EmptyHunyuanLatentVideo", **size)
        column.group(f"Step{self._step + 1} - Video size")
        return Studio(graph=self._graph, base=self._base, negative=negative, latent=latent["LATENT"])

    def _encode(self, title: str, text: str | Output, colours: tuple[str, str], *, collapsed: bool = False) -> Output:
        options: dict[str, Any] = {"title": title, "colours": colours, "tall": 130, "collapsed": collapsed}
        return self._column.add("CLIPTextEncode", clip=self._base.clip, text=text, **options)["CONDITIONING"]


def _title(shot: Shot) -> str:
    return f"Step7 - {shot.label[0].upper()}{shot.label[1:]}"
