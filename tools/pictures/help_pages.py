"""Pictures of all nodes for their help pages: python -m tools.pictures.help_pages

Those of the train nodes, in the middle of a training, are made by tools.screenshots.
"""

from setandseq_core.clips.video import read_clip
from setandseq_core.concept_file.thumbnail import thumbnail
from tools.pictures.interface import Ui
from tools.pictures.pictures import interface, node_picture, save
from tools.sample_concept import INFO, save_sample
from tools.server.folder import ROOT

FOLDER = ROOT / "js" / "docs" / "images"
EXAMPLE = ROOT / "setandseq_core" / "embedded" / "demo_clip.mp4"
COLOURS = 160
STAGES = ("SetSeq_TrainIdentityLoRA", "SetSeq_TrainMotionResidual")
TRAINING = ("SetSeq_TrainConcept", *STAGES)
VALUES: dict[str, dict[str, object]] = {
    "SetSeq_ReferenceClip": {"static_prompt": INFO["static_prompt"], "motion_prompt": INFO["motion_prompt"]},
    "SetSeq_LoadDynamicConcept": {"concept": "bee.safetensors"},
    "SetSeq_SaveDynamicConcept": {"name": "bee"},
    "SetSeq_StrengthSchedule": {"identity_first": 0.0},
}
"""What is written on nodes whose defaults show little."""


def take(ui: Ui) -> None:
    """All nodes but the train nodes, in Nodes 2.0."""
    clip = read_clip(EXAMPLE, fps=16.0, multiple=16, max_frames=17)
    path = ui.server.folder / "models" / "dynamic_concepts" / "bee.safetensors"
    save_sample(path, thumbnail=thumbnail(clip.frames_FHWC, clip.fps))
    ui.page.evaluate("() => window.app.refreshComboInNodes()")
    ui.render("nodes2")
    for node_type in sorted(name for name in ui.server.object_info() if name.startswith("SetSeq_")):
        if node_type not in TRAINING:
            ui.load({"version": 0.4, "nodes": [], "links": []})
            node = ui.add(node_type, **VALUES.get(node_type, {}))
            ui.page.locator(f'[data-node-id="{node}"]').wait_for()
            save(node_picture(ui, node), FOLDER / f"{node_type}.png", COLOURS)


def main() -> None:
    """Start ComfyUI and a browser, and take them all."""
    with interface(1500, 1000) as ui:
        take(ui)


if __name__ == "__main__":
    main()
