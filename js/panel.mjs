// @ts-check
// The training panel on both train nodes.

import { make, showOnNode } from "./dom.mjs";

const HEIGHT = 250;

/** @param {GraphNode} node */
export function trainingPanel(node) {
  showOnNode(node, "training_panel", make("section", { "aria-label": "Training" }), () => HEIGHT);
}
