"""The workflows on the embedded model: train and generate, use and edit, compose."""

from dataclasses import dataclass
from typing import Any

from setandseq_core.concept import WITHOUT, Strengths
from setandseq_core.embedded.demo import SEED, Shot, demo_shots
from setandseq_core.embedded.files import TRANSFORMER_FILE, VAE_FILE
from setandseq_core.embedded.settings import EMBEDDED_CONFIG, EMBEDDED_GUIDANCE, EMBEDDED_SHIFT
from setandseq_core.embedded.world.concepts import CONCEPTS, DEMO, with_tokens
from setandseq_core.embedded.world.scene import FPS, FRAMES, SIZE
from tools.workflows.first import LEFT_WIDTH, train_and_make
from tools.workflows.graph import (
    COLLAPSED_WIDTH,
    COLUMN_STEP,
    GREEN,
    RED,
    Column,
    Graph,
    Subgraph,
    noted_columns,
)
from tools.workflows.notes import COMPOSE_NOTE, START_NOTE, TRAIN_NOTE, USE_NOTE
from tools.workflows.slots import Output

CONCEPT = CONCEPTS[DEMO]
SAMPLING: dict[str, Any] = {"seed": SEED, "steps": 20, "cfg": EMBEDDED_GUIDANCE}
SAMPLING |= {"sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
SMALL_SHOT = 440
"""Distance from one video's top to the next."""
BARE_SHOTS = 4
"""Videos per row if everything except the videos is collapsed."""
BARE_STEP = 250, 660
"""Distance between these videos, and between rows."""

START = "0 Start here"
TRAIN = "1 Train on the embedded model"
USE = "2 Use and edit a concept"
COMPOSE = "3 Compose two concepts"


@dataclass(frozen=True, slots=True)
class Base:
    """Outputs that carry the embedded model, its text encoder and its VAE."""

    model: Output
    clip: Output
    vae: Output


def start_workflow(object_info: dict[str, Any]) -> Graph:
    """The shortest way to a first concept: one node that trains, and one that makes a video."""
    graph = Graph(START, object_info)
    graph.scale = 1.0
    graph.note("Start here", START_NOTE, (0, 0), (LEFT_WIDTH, 340))
    model = graph.add("SetSeq_EmbeddedModel", (0, 385), size=(LEFT_WIDTH, 70))
    clip = graph.add("SetSeq_ExampleClip", (0, 540), size=(LEFT_WIDTH, 45))
    train_and_make(
        graph,
        _video_maker(object_info, with_tokens(str(CONCEPT.edited(background="pink", texture="striped")))),
        model=model["model"],
        clip=model["clip"],
        vae=model["vae"],
        video=clip["video"],
        prompts=(CONCEPT.static_prompt, CONCEPT.motion_prompt),
        heights=(230, 340),
        saved_as="setandseq/start",
    )
    return graph


def _video_maker(object_info: dict[str, Any], prompt: str) -> Subgraph:
    """A subgraph of stock nodes that makes a video of the embedded model's size from a model and a prompt."""
    inner = Subgraph("Make a Video", object_info, START, model="MODEL", clip="CLIP", vae="VAE")
    texts = []
    for y, title, colours, text in ((0, "Prompt", GREEN, prompt), (190, "Negative Prompt", RED, "")):
        options: dict[str, Any] = {"size": (400, 130), "title": title, "colours": colours}
        texts.append(inner.add("CLIPTextEncode", (0, y), clip=inner["clip"], text=text, **options))
    size: dict[str, Any] = {"width": SIZE, "height": SIZE, "length": FRAMES, "batch_size": 1}
    latent = inner.add("EmptyHunyuanLatentVideo", (0, 380), **size)
    sampler = inner.add(
        "KSampler",
        (450, 0),
        model=inner["model"],
        positive=texts[0]["CONDITIONING"],
        negative=texts[1]["CONDITIONING"],
        latent_image=latent["LATENT"],
        **SAMPLING,
    )
    frames = inner.add("VAEDecode", (820, 0), samples=sampler["LATENT"], vae=inner["vae"])
    video = inner.add("CreateVideo", (820, 120), images=frames["IMAGE"], fps=float(FPS))
    inner.give("VIDEO", video["VIDEO"])
    inner.promote(texts[0], "text")
    inner.promote(sampler, "seed")
    return inner


def train_workflow(object_info: dict[str, Any]) -> Graph:
    """(a) Train on the example clip, save the concept, and generate the demo's shots."""
    graph = Graph(TRAIN, object_info)
    first, second, third, fourth, *_ = noted_columns(graph, 5, (TRAIN, TRAIN_NOTE, 530))
    base, concept = _trained(first, second, third, fourth)
    models = {WITHOUT: base.model} | _applied(fourth, base, concept)
    fourth.group("Step5 - Apply")
    prompts = _Prompts(graph, third, base, step=6)
    places = [(shot, _prompt_of(shot, prompts)) for shot in demo_shots()]
    studio = prompts.finish(elsewhere=first)
    second.add("SetSeq_SaveDynamicConcept", tall=160, concept=concept, name="my_concept")
    second.group("Step8 - Save")
    for index, (shot, positive) in enumerate(places):
        row, column = divmod(index, BARE_SHOTS)
        pos = 4 * COLUMN_STEP + column * BARE_STEP[0], row * BARE_STEP[1]
        strengths = shot.strengths
        studio.shoot_bare(pos, models[strengths], positive, shot.name, shot.name.replace("_", " ").capitalize())
    return graph


def _prompt_of(shot: Shot, prompts: "_Prompts") -> Output:
    """The shot's prompt. Those that are seldom changed are collapsed, and their titles say what they are for."""
    titles = {"base": "Prompt without the concept", "no_motion": "Prompt for standing still"}
    text = with_tokens(str(shot.caption))
    return prompts.positive(text, titles[shot.name], collapsed=True) if shot.name in titles else prompts.positive(text)


def _applied(column: Column, base: Base, concept: Output) -> dict[Strengths, Output]:
    """Models with the concept by its strengths in the shots. Only the first node is open; the others have titles."""
    models: dict[Strengths, Output] = {}
    for shot in demo_shots():
        strengths = shot.strengths
        if strengths != WITHOUT and strengths not in models:
            wires = {"model": base.model, "concepts": [concept]}
            wires |= {"identity_strength": shot.strengths.identity, "motion_strength": shot.strengths.motion}
            title = f"Compose, motion {shot.strengths.motion:g}"
            node = column.add("SetSeq_ComposeConcepts", title=title, collapsed=bool(models), **wires)
            models[strengths] = node["model"]
    return models


def use_workflow(object_info: dict[str, Any]) -> Graph:
    """(b) Load a concept: with its own prompt, with an edited one, and reweighted."""
    graph = Graph(USE, object_info)
    first, second, third, last = noted_columns(graph, 4, (USE, USE_NOTE, 460))
    base = _load_base(first)
    loaded = second.add("SetSeq_LoadDynamicConcept", concept="my_concept.safetensors", model=base.model)
    second.group("Step2 - Concept")
    prompts = _Prompts(graph, third, base, step=3)
    own = prompts.positive(loaded["motion prompt"], "The concept's own prompt")
    edited = prompts.positive(with_tokens(str(CONCEPT.edited(background="pink", texture="striped"))))
    studio = prompts.finish(elsewhere=second)
    wires = {"model": base.model, "concepts": [loaded["concept"]], "motion_strength": 0.5}
    half = third.add("SetSeq_ComposeConcepts", title="Compose Concepts, half the motion", **wires)
    third.group("Step5 - Half the motion")
    shots = [("As trained", loaded, own), ("Edited", loaded, edited), ("Half the motion", half, own)]
    for title, node, positive in shots:
        name = title.lower().replace(" ", "_")
        studio.shoot_small((last.x, last.y), node["model"], positive, name, f"Step6 - {title}")
        last.y += SMALL_SHOT
    return graph


def compose_workflow(object_info: dict[str, Any]) -> Graph:
    """(c) Two concepts in one video."""
    graph = Graph(COMPOSE, object_info)
    first, second, third, fourth, last = noted_columns(graph, 5, (COMPOSE, COMPOSE_NOTE, 400))
    base = _load_base(first)
    files, columns = ("my_concept.safetensors", "my_concept_2.safetensors"), (second, third)
    names = ("a large [v] creature [u] wandering", "a large [w] creature [x] wandering")
    place = "on a grey plain background"
    concepts, own = [], []
    for file, column, name, title in zip(files, columns, names, ("The first concept", "The second"), strict=True):
        concepts.append(column.add("SetSeq_LoadDynamicConcept", concept=file)["concept"])
        own.append(_Prompts(graph, column, base, step=2).positive(f"{name} {place}", "Prompt of its region"))
        column.group(f"Step2 - {title}")
    wires: dict[str, Any] = {"concepts": concepts, "prompts": own}
    composed = fourth.add("SetSeq_ComposeConcepts", model=base.model, method="regions", **wires)
    fourth.group("Step3 - Compose")
    prompts = _Prompts(graph, fourth, base, step=4)
    positive = prompts.positive(f"{' and '.join(names)} {place}")
    studio = prompts.finish(elsewhere=second)
    studio.shoot_small((last.x, last.y), composed["model"], positive, "composed", "Step6 - Both in one video")
    return graph


def _trained(first: Column, second: Column, third: Column, fourth: Column) -> tuple[Base, Output]:
    """Steps 1 to 4, in one column each: the model, the clip and both stages."""
    base = _load_base(first)
    reference = _reference(second, base)
    settings = _settings(second)
    second.group("Settings")
    wires = _train_wires(base, reference, settings)
    identity = _train_identity(third, wires)
    third.group("Step3 - Train: the look")
    concept = _train_motion(fourth, base.model, identity)
    fourth.group("Step4 - Train: the motion")
    return base, concept


def _load_base(column: Column) -> Base:
    loader = column.add("UNETLoader", unet_name=TRANSFORMER_FILE.name, weight_dtype="default", collapsed=True)
    clip = column.add("SetSeq_EmbeddedTextEncoder", collapsed=True)
    vae = column.add("VAELoader", vae_name=VAE_FILE.name, collapsed=True)
    model = column.add("ModelSamplingSD3", model=loader["MODEL"], shift=EMBEDDED_SHIFT, collapsed=True)
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


def _settings(column: Column) -> Output:
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
        collapsed=True,
    )
    regularisation = column.add(
        "SetSeq_Regularisation",
        prior_share=config.prior.share,
        prior_weight=config.prior.weight,
        prior_empty_prompts=config.prior.empty_prompts,
        prior_clips=config.prior.clips,
        stitched_share=config.stitched_share,
        token_learning_rate=config.token_learning_rate,
        still_frames=first.still_frames,
        time_shift=first.time_shift,
        settings=settings["settings"],
        collapsed=True,
    )
    return regularisation["settings"]


def _train_wires(base: Base, reference: Output, settings: Output) -> dict[str, Any]:
    wires = {"model": base.model, "clip": base.clip, "vae": base.vae, "references": [reference]}
    return wires | {"settings": settings, "seed": EMBEDDED_CONFIG.seed}


def _train_identity(column: Column, wires: dict[str, Any]) -> Output:
    stage = EMBEDDED_CONFIG.set_stage
    rate = {"steps": stage.steps, "learning_rate": stage.learning_rate, "rank": EMBEDDED_CONFIG.rank}
    return column.add("SetSeq_TrainIdentityLoRA", **wires, **rate)["look"]


def _train_motion(column: Column, model: Output, identity: Output) -> Output:
    stage = EMBEDDED_CONFIG.sequence_stage
    rate = {"steps": stage.steps, "learning_rate": stage.learning_rate, "seed": EMBEDDED_CONFIG.seed}
    return column.add("SetSeq_TrainMotionResidual", model=model, identity=identity, **rate)["concept"]


@dataclass(frozen=True, slots=True)
class Studio:
    """Inputs that all videos of a workflow share."""

    graph: Graph
    base: Base
    negative: Output
    latent: Output

    def shoot_small(self, pos: tuple[float, float], model: Output, positive: Output, name: str, title: str) -> None:
        """Add sampler and saver side by side, with the decoder's nodes collapsed below the sampler."""
        (x, y), add = pos, self.graph.add
        sampler = add("KSampler", (x, y), **self._wires(model, positive), **SAMPLING)
        below = {"collapsed": True, "size": (COLLAPSED_WIDTH, 110)}
        frames = add("VAEDecode", (x, y + 330), samples=sampler["LATENT"], vae=self.base.vae, **below)
        video = add("CreateVideo", (x, y + 370), images=frames["IMAGE"], fps=float(FPS), **below)
        path, size = f"setandseq/{name}", {"size": (COLLAPSED_WIDTH, 126), "room": 350}
        saved = add("SaveVideo", (x + 345, y), video=video["VIDEO"], filename_prefix=path, **size)
        self.graph.group(title, [sampler, frames, video, saved])

    def shoot_bare(self, pos: tuple[float, float], model: Output, positive: Output, name: str, title: str) -> None:
        """Add the video below the collapsed nodes that make it."""
        (x, y), add = pos, self.graph.add
        bare = {"collapsed": True, "size": (COLLAPSED_WIDTH, 110)}
        sampler = add("KSampler", (x, y), **self._wires(model, positive), **SAMPLING, **bare)
        frames = add("VAEDecode", (x, y + 45), samples=sampler["LATENT"], vae=self.base.vae, **bare)
        video = add("CreateVideo", (x, y + 90), images=frames["IMAGE"], fps=float(FPS), **bare)
        path, size = f"setandseq/{name}", {"size": (COLLAPSED_WIDTH, 126), "room": 400}
        saved = add("SaveVideo", (x, y + 135), video=video["VIDEO"], filename_prefix=path, **size)
        self.graph.group(title, [sampler, frames, video, saved])

    def _wires(self, model: Output, positive: Output) -> dict[str, Output]:
        return {"model": model, "positive": positive, "negative": self.negative, "latent_image": self.latent}


class _Prompts:
    """A column with each prompt once, and the video's size."""

    def __init__(self, graph: Graph, column: Column, base: Base, step: int) -> None:
        self._graph, self._column, self._base, self._step = graph, column, base, step
        self._made: dict[Any, Output] = {}

    def positive(
        self, text: str | Output, title: str = "CLIP Text Encode (Positive Prompt)", *, collapsed: bool = False
    ) -> Output:
        if text not in self._made:
            self._made[text] = self._encode(title, text, GREEN, collapsed=collapsed)
        return self._made[text]

    def finish(self, elsewhere: Column) -> Studio:
        """Add the negative prompt, and the video's size in another column."""
        negative = self._encode("Negative Prompt", "", RED, collapsed=True)
        self._column.group(f"Step{self._step} - Prompts")
        size = {"width": SIZE, "height": SIZE, "length": FRAMES, "batch_size": 1}
        latent = elsewhere.add("EmptyHunyuanLatentVideo", **size)
        elsewhere.group(f"Step{self._step + 1} - Video size")
        return Studio(graph=self._graph, base=self._base, negative=negative, latent=latent["LATENT"])

    def _encode(self, title: str, text: str | Output, colours: tuple[str, str], *, collapsed: bool = False) -> Output:
        options: dict[str, Any] = {"title": title, "colours": colours, "tall": 105, "collapsed": collapsed}
        return self._column.add("CLIPTextEncode", clip=self._base.clip, text=text, **options)["CONDITIONING"]
