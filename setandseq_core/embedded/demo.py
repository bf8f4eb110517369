"""Show everything on the embedded model in a few minutes: from one clip to a concept and new videos of it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..atomic import replaced
from ..backbone import Backbone
from ..clips.clip import Clip, Reference, Words
from ..clips.video import read_clip, write_video
from ..compose.apply import applied_concept
from ..concept import AS_LEARNED, WITHOUT, Concept, Strengths
from ..concept_file.file import load_concept, save_concept
from ..evaluate.contact_sheet import contact_sheet
from ..learn import learn_concept
from ..sample import latent_noise
from ..training.progress import Progress
from .files import CLIP_FILE
from .model import EMBEDDED_CONFIG, load_embedded
from .probes.metrics import clip_figures
from .world.concepts import CONCEPTS, DEMO, IDENTITY_TOKEN, MOTION_TOKEN, with_tokens
from .world.scene import FRAMES, SIZE, Caption, SpriteWords

STAR = SpriteWords(size="small", colour="red", shape="star", motion="bouncing")
IN_WORDS = SpriteWords(size="large", colour="yellow", shape="circle", motion="circling")
"""The sprite closest to the demo's clip that the embedded model has words for."""
SEED = 1


@dataclass(kw_only=True, slots=True, frozen=True)
class Shot:
    """One video of the demo."""

    name: str
    label: str
    caption: Caption
    """The prompt of the video, in the embedded world's words and without the concept's tokens."""
    strengths: Strengths = AS_LEARNED


def demo_shots() -> list[Shot]:
    """The base model with words alone, the clip with the concept, then edits: two backgrounds, a second object, and
    motion halved and off."""
    concept = CONCEPTS[DEMO]
    caption = concept.caption
    (creature,) = caption.sprites
    return [
        Shot(
            name="base",
            label="base model, without the concept: a large yellow circle circling",
            caption=replace(caption, sprites=(IN_WORDS,)),
            strengths=WITHOUT,
        ),
        Shot(name="reconstructed", label="concept, prompt of the clip", caption=caption),
        Shot(
            name="green",
            label="edit: green striped background",
            caption=concept.edited(background="green", texture="striped"),
        ),
        Shot(
            name="pink",
            label="edit: pink striped background",
            caption=concept.edited(background="pink", texture="striped"),
        ),
        Shot(name="star", label="edit: and a small red star bouncing", caption=concept.edited(second=STAR)),
        Shot(name="calm", label="edit: motion strength 0.5", caption=caption, strengths=Strengths(1.0, 0.5)),
        Shot(
            name="no_motion",
            label="edit: motion strength 0, standing still",
            caption=replace(caption, sprites=(replace(creature, motion="standing still"),)),
            strengths=Strengths(1.0, 0.0),
        ),
    ]


def shoot(backbone: Backbone, concept: Concept, shot: Shot, seed: int) -> Tensor:
    """Sample a video of the demo: frames (F, H, W, 3) in [0, 1]."""
    noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), seed)
    with applied_concept(backbone, concept, shot.strengths) as applied:
        return backbone.decode_latents(applied.sample(noise, with_tokens(str(shot.caption))))


def run_demo(out: Path, report: Callable[[str], None]) -> None:
    """Learn a concept from the shipped clip; write it, its videos, the contact sheet and report.json into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    backbone = load_embedded()
    clip = read_clip(CLIP_FILE, fps=backbone.format.fps, frames=FRAMES, size=(SIZE, SIZE))
    report(f"{CLIP_FILE.name}: {clip.choice}")
    words = Words(
        static_prompt=CONCEPTS[DEMO].static_prompt,
        motion_prompt=CONCEPTS[DEMO].motion_prompt,
        identity_token=IDENTITY_TOKEN,
        motion_token=MOTION_TOKEN,
    )
    concept_file = out / f"{DEMO}.safetensors"
    progress = _progress_lines(report)
    references = [Reference(clip=clip, words=words)]
    report("Making prior clips: what the model shall not forget")
    concept = learn_concept(backbone, references, EMBEDDED_CONFIG, name=DEMO, progress=progress)
    save_concept(concept, concept_file)
    report(f"{concept_file.name}: the concept")
    concept = load_concept(concept_file)
    takes = ((shot, shoot(backbone, concept, shot, SEED)) for shot in demo_shots())
    write_results(out, clip, concept, takes, report)


def write_results(
    out: Path, clip: Clip, concept: Concept, takes: Iterable[tuple[Shot, Tensor]], report: Callable[[str], None]
) -> None:
    """Write the videos, the contact sheet and report.json into `out`.

    Args:
        takes: pairs of a shot and its frames (F, H, W, 3) in [0, 1].
    """
    rows = [("reference clip", clip.frames_FHWC)]
    figures: dict[str, object] = {}
    for shot, frames_FHWC in takes:
        write_video(out / f"{shot.name}.mp4", _enlarged(frames_FHWC), clip.fps)
        figures[shot.name] = asdict(clip_figures(clip.frames_FHWC, frames_FHWC, shot.caption))
        rows.append((shot.label, frames_FHWC))
        report(f"{shot.name}.mp4: {shot.label}")
    with replaced(out / "contact_sheet.png") as partial:
        contact_sheet(rows).save(partial, "PNG")
    seconds = {stage: concept.info.training[stage]["seconds"] for stage in ("set", "sequence")}
    with replaced(out / "report.json") as partial:
        partial.write_text(json.dumps({"seconds": seconds, "figures": figures}, indent=2) + "\n", encoding="utf-8")
    report(f"Made the concept, {len(figures)} videos, contact_sheet.png and report.json in {out.resolve()}")


def _progress_lines(report: Callable[[str], None]) -> Callable[[Progress], None]:
    def line(progress: Progress) -> None:
        if progress.step % 25 == 0 or progress.step == progress.steps:
            left = f"{progress.seconds_left:.0f} s left"
            report(
                f"{progress.stage} stage, step {progress.step} of {progress.steps}, loss {progress.loss:.3f}, {left}"
            )

    return line


def _enlarged(frames_FHWC: Tensor, times: int = 4) -> Tensor:
    images = torch.nn.functional.interpolate(frames_FHWC.movedim(-1, 1), scale_factor=times, mode="nearest")
    return images.movedim(1, -1)
