// @ts-check
// The entry point, which gives each node its widgets. ComfyUI loads every .js file in this folder; all others are .mjs.

import { app } from "../../scripts/app.js";
import { conceptCard, refreshAfterSaving } from "./card.mjs";
import { addStyles } from "./dom.mjs";
import { tellErrors } from "./errors.mjs";
import { KEPT_COMMAND } from "./kept.mjs";
import { strengthPad } from "./pad.mjs";
import { listenToTraining, trainingPanel } from "./panel.mjs";
import { promptCheck } from "./prompts.mjs";
import { stretchChooser } from "./stretch.mjs";
import { orderTemplates } from "./templates.mjs";
import { tokenCheck } from "./tokens.mjs";
import { enlargeTemplate, noteOpening } from "./view.mjs";
import { speak } from "./words.mjs";

/** By node id, what is put on a node when it is made. @type {Record<string, ((node: GraphNode) => void)[]>} */
const WIDGETS = {
  SetSeq_TrainConcept: [stretchChooser, promptCheck, trainingPanel],
  SetSeq_ReferenceClip: [stretchChooser, promptCheck],
  SetSeq_TrainIdentityLoRA: [trainingPanel],
  SetSeq_TrainMotionResidual: [trainingPanel],
  SetSeq_SaveDynamicConcept: [refreshAfterSaving],
  SetSeq_LoadDynamicConcept: [strengthPad, conceptCard],
  SetSeq_ComposeConcepts: [strengthPad, tokenCheck],
};

app.registerExtension({
  name: "setandseq.nodes",
  commands: [KEPT_COMMAND],
  menuCommands: [{ path: ["Set-and-Sequence"], commands: [KEPT_COMMAND.id] }],
  init() {
    speak(() => String(app.extensionManager.setting.get("Comfy.Locale") ?? "en"));
  },
  setup() {
    addStyles();
    listenToTraining();
    tellErrors();
    orderTemplates();
  },
  beforeConfigureGraph(workflow) {
    noteOpening(/** @type {any} */ (workflow));
  },
  afterConfigureGraph() {
    enlargeTemplate();
  },
  nodeCreated(node) {
    const made = /** @type {GraphNode} */ (node);
    for (const add of WIDGETS[made.comfyClass ?? ""] ?? []) add(made);
  },
});
