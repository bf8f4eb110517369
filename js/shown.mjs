// @ts-check
// An element on a node that is only shown and never saved, in both renderers.

import { app } from "../../scripts/app.js";
import { repeat, whileInGraph } from "./graph.mjs";

const LOOK_MS = 250;

/**
 * Show an element on a node, in both renderers; it goes neither into the workflow file nor into the prompt.
 * @param {GraphNode} node
 * @param {string} name of the widget, unlike all inputs of the node
 * @param {HTMLElement} element
 * @param {() => number} height least pixels that it needs
 */
export function showOnNode(node, name, element, height) {
  element.classList.add("setandseq");
  element.dataset["widget"] = name;
  element.style.minHeight = `${height()}px`;  // Nodes 2.0 does not ask the widget
  keepFromCanvas(element);
  giveToCanvas(element);
  const widget = node.addDOMWidget(name, "setandseq", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: height,
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false;
  keepShown(node, element);
  return widget;
}

/**
 * Undo and loading replace a node by a new one with the same id. Nodes 2.0 then still shows the element of the old node.
 * @param {GraphNode} node
 * @param {HTMLElement} element
 */
function keepShown(node, element) {
  whileInGraph(node, (left) => {
    repeat(LOOK_MS, left, () => {
      if (element.isConnected || node.graph !== app.canvas.graph) return;
      const id = CSS.escape(String(node.id));
      const widget = `.setandseq[data-widget="${element.dataset["widget"]}"]`;
      document.querySelector(`[data-node-id="${id}"] ${widget}`)?.replaceWith(element);
    });
  });
}

/**
 * In the classic renderer, make the wheel and the middle button zoom and move the view over our elements, too; in
 * Nodes 2.0 they do so already. An element that is longer than its place scrolls instead.
 * @param {HTMLElement} element
 */
function giveToCanvas(element) {
  const isClassic = () => !element.closest("[data-node-id]");
  const scrolls = () => element.scrollHeight > element.clientHeight && getComputedStyle(element).overflowY === "auto";
  element.addEventListener("wheel", (event) => {
    if (!isClassic() || (scrolls() && !event.ctrlKey)) return;
    event.preventDefault();
    app.canvas.processMouseWheel(event);
  });
  element.addEventListener("pointerdown", (event) => {
    if (isClassic() && event.button === 1) app.canvas.processMouseDown(event);
  });
}

/**
 * Stop keys and clicks that the element uses from also moving, deleting or opening nodes.
 * @param {HTMLElement} element
 */
function keepFromCanvas(element) {
  for (const kind of ["keydown", "keyup", "pointerdown", "dblclick", "contextmenu", "copy", "paste"]) {
    element.addEventListener(kind, (event) => {
      const target = /** @type {Element} */ (event.target);
      if (target.closest("button, input, textarea, select, summary, [tabindex]")) event.stopPropagation();
    });
  }
}
