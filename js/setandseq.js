// @ts-check
// The entry point: which node shows what. ComfyUI loads every .js in this folder; all else is .mjs.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { conceptCard, refreshAfterSaving } from "./card.mjs";
import { addStyles } from "./dom.mjs";
import { strengthPad } from "./pad.mjs";
import { listenToTraining, trainingPanel } from "./panel.mjs";
import { promptCheck } from "./prompts.mjs";
import { speak } from "./words.mjs";

const OUR_ERROR = /setandseq_core\.errors\.\w+$/;

/** Say what our errors say at once: the interface has it behind "View details". */
function showErrors() {
  api.addEventListener("execution_error", ({ detail: { exception_type, exception_message, node_id } }) => {
    if (!OUR_ERROR.test(exception_type)) return;
    const detail = exception_message.replace(/^\S*Error: /, "").trim();
    const node = app.rootGraph.getNodeById(node_id) ?? app.rootGraph.getNodeById(Number(node_id));
    app.extensionManager.toast.add({ severity: "error", summary: node?.title ?? "", detail, life: 20_000 });
  });
}

/** By node id, what is put on a node when it is made. @type {Record<string, ((node: GraphNode) => void)[]>} */
const WIDGETS = {
  SetSeq_ReferenceClip: [promptCheck],
  SetSeq_TrainIdentityLoRA: [trainingPanel],
  SetSeq_TrainMotionResidual: [trainingPanel],
  SetSeq_SaveDynamicConcept: [refreshAfterSaving],
  SetSeq_LoadDynamicConcept: [strengthPad, conceptCard],
  SetSeq_ComposeConcepts: [strengthPad],
};

app.registerExtension({
  name: "setandseq.nodes",
  init() {
    speak(() => String(app.extensionManager.setting.get("Comfy.Locale") ?? "en"));
  },
  setup() {
    addStyles();
    listenToTraining();
    showErrors();
  },
  nodeCreated(node) {
    const made = /** @type {GraphNode} */ (node);
    for (const add of WIDGETS[made.comfyClass ?? ""] ?? []) add(made);
  },
});
