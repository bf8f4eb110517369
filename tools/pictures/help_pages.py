"""Take pictures of nodes for their help pages: python -m tools.pictures.help_pages [NODE_ID ...]; by default, of all.

tools.pictures.screenshots takes the pictures of the train nodes during a training.
"""

import sys
from collections.abc import Sequence

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
    "SetSeq_ReferencePictures": {"static_prompt": "a [v] dancer in a red dress"},
    "SetSeq_IdentityFromLoRA": {"static_prompt": "a ohwx woman in a red dress", "trigger_word": "ohwx"},
}
"""Values of widgets on nodes whose defaults show little."""


def take(ui: Ui, wanted: Sequence[str] = ()) -> None:
    """Take pictures of the wanted nodes in Nodes 2.0; if none are named, of all except the train nodes."""
    clip = read_clip(EXAMPLE, fps=16.0, multiple=16, max_frames=17)
    path = ui.server.folder / "models" / "dynamic_concepts" / "bee.safetensors"
    save_sample(path, thumbnail=thumbnail(clip.frames_FHWC, clip.fps))
    ui.page.evaluate("() => window.app.refreshComboInNodes()")
    ui.render("nodes2")
    known = sorted(name for name in ui.server.object_info() if name.startswith("SetSeq_"))
    for node_type in wanted or known:
        if node_type not in TRAINING:
            ui.load({"version": 0.4, "nodes": [], "links": []})
            node = ui.add(node_type, **VALUES.get(node_type, {}))
            ui.page.locator(f'[data-node-id="{node}"]').wait_for()
            save(node_picture(ui, node), FOLDER / f"{node_type}.png", COLOURS)


def main() -> None:
    """Start ComfyUI and a browser, and take all pictures."""
    with interface(1500, 1000) as ui:
        take(ui, sys.argv[1:])


if __name__ == "__main__":
    main()
