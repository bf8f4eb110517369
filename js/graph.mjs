// @ts-check
// Questions that our widgets ask about the graph around their node.

import { app } from "../../scripts/app.js";

/** The model file that Embedded Model loads. */
const EMBEDDED_FILE = "setandseq_embedded_transformer.safetensors";
const POLL_MS = 200;

/**
 * A widget of a node by its name.
 * @param {GraphNode} node
 * @param {string} name
 */
export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/**
 * Whether an input, or a widget that was turned into one, gets its value from a wire.
 * @param {GraphNode} node
 * @param {string} name
 */
export function isWired(node, name) {
  return node.inputs?.some((input) => input.name === name && input.link !== null && input.link !== undefined) ?? false;
}

/**
 * Set a widget's value as if a person had done it.
 * @param {GraphNode} node
 * @param {string} name
 * @param {any} value
 */
export function setWidget(node, name, value) {
  const widget = widgetOf(node, name);
  if (!widget || isWired(node, name) || widget.value === value) return;
  const before = widget.value;
  widget.value = value;
  widget.callback?.(value);
  node.onWidgetChanged?.(name, value, before, widget);  // the interface then forgets complaints about the old value
  node.setDirtyCanvas(true, true);
}

/**
 * Change something as one step of undo. By itself, the interface notices only changes that end when the mouse is released.
 * @param {() => void} change
 */
export function asOneStep(change) {
  app.canvas.emitBeforeChange();
  change();
  app.canvas.emitAfterChange();
}

/**
 * The node that an input is connected to, even if it is inside or outside a subgraph.
 * @param {GraphNode} node
 * @param {string} name
 * @returns {GraphNode | null}
 */
export function sourceOf(node, name) {
  const input = node.inputs?.find((each) => each.name === name);
  return originOf(node.graph, input?.link);
}

/**
 * The nodes that some of a node's inputs are connected to, as `sourceOf` finds them.
 * @param {GraphNode} node
 * @param {(input: {name: string, type: string}) => boolean} wanted
 * @returns {GraphNode[]}
 */
export function sourcesOf(node, wanted) {
  const inputs = (node.inputs ?? []).filter(({ name, type }) => wanted({ name, type: String(type) }));
  return inputs.flatMap(({ link }) => originOf(node.graph, link) ?? []);
}

/**
 * Where a wire comes from. Frontend 1.58 looks for the source of a subgraph's input among its outputs, so we follow the
 * links ourselves.
 * @param {any} graph
 * @param {any} id of the link
 * @returns {GraphNode | null}
 */
function originOf(graph, id) {
  const link = id === null || id === undefined ? undefined : graph?.getLink(id);
  if (!link) return null;
  if (link.origin_id === graph.inputNode?.id) {
    const holder = holderOf(graph);
    return holder ? originOf(holder.graph, holder.inputs[link.origin_slot]?.link) : null;
  }
  const source = graph.getNodeById(link.origin_id);
  const inside = source?.subgraph;
  return inside ? originOf(inside, inside.outputs[link.origin_slot]?.linkIds[0]) : source ?? null;
}

/**
 * The node that shows a subgraph; the first one if there are several.
 * @param {any} subgraph
 * @param {any} [graph]
 * @returns {any}
 */
function holderOf(subgraph, graph = app.rootGraph) {
  for (const node of graph.nodes ?? []) {
    const found = node.subgraph === subgraph ? node : node.subgraph && holderOf(subgraph, node.subgraph);
    if (found) return found;
  }
  return undefined;
}

/**
 * All nodes that come after one, the nearest first; for a subgraph, all nodes inside it.
 * @param {GraphNode} node
 * @returns {GraphNode[]}
 */
export function nodesAfter(node) {
  /** @type {any[]} */
  const found = [node];
  for (const each of found) {
    const next = [...(each.subgraph?.nodes ?? [])];
    for (let slot = 0; slot < (each.outputs?.length ?? 0); slot += 1) next.push(...(each.getOutputNodes(slot) ?? []));
    for (const one of next) if (!found.includes(one)) found.push(one);
  }
  return found.slice(1);
}

/**
 * The file of the model that is connected to a node; "" if the graph does not show it.
 * @param {GraphNode} node
 * @returns {string}
 */
export function modelFile(node) {
  const seen = new Set();
  for (let each = sourceOf(node, "model"); each && !seen.has(each); each = sourceOf(each, "model")) {
    seen.add(each);
    if (each.comfyClass === "SetSeq_EmbeddedModel") return EMBEDDED_FILE;
    const file = widgetOf(each, "unet_name") ?? widgetOf(each, "ckpt_name");
    if (file) return String(file.value ?? "");
  }
  return "";
}

/**
 * Make a new node wide and tall enough for its widgets; a loaded node then takes the size that it was saved with.
 * @param {GraphNode} node
 * @param {number} width
 * @param {number} [room] pixels of height besides what all widgets need at least
 */
export function widen(node, width, room = 0) {
  const least = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], least[1] + room)]);
}

/**
 * Call `begin` whenever a node enters a graph, with a signal that aborts when it leaves. Since frontend 1.54, a node is
 * made before it has a graph. In every version, some nodes never get one, such as copies for a subgraph.
 * @param {GraphNode} node
 * @param {(left: AbortSignal) => void} begin
 */
export function whileInGraph(node, begin) {
  let stay = new AbortController();
  const start = () => {
    stay.abort();
    stay = new AbortController();
    begin(stay.signal);
  };
  const { onAdded, onRemoved } = node;
  node.onAdded = function (graph) {
    onAdded?.call(this, graph);
    start();
  };
  node.onRemoved = function () {
    stay.abort();
    onRemoved?.call(this);
  };
  if (node.graph) start();
}

/**
 * Call `look` again and again until the signal aborts. The first call waits until the running code is done, because nodes
 * lack their neighbours while a graph is being built. If a call fails, the error is reported once and the calls continue.
 * @param {number} milliseconds
 * @param {AbortSignal} end
 * @param {() => void} look
 */
export function repeat(milliseconds, end, look) {
  let reported = "";
  const lookSafely = () => {
    try {
      look();
    } catch (error) {
      if (String(error) !== reported) reportError(error);
      reported = String(error);
    }
  };
  const first = setTimeout(lookSafely);
  const timer = setInterval(lookSafely, milliseconds);
  end.addEventListener("abort", () => {
    clearTimeout(first);
    clearInterval(timer);
  });
}

/**
 * Call `changed` whenever `read` returns a different text, as long as the node is in a graph. Values change by hand, by
 * wires, by undo and by loading, in two renderers, so polling is simpler than listening to all of these.
 * @param {GraphNode} node
 * @param {() => string} read
 * @param {() => void} changed
 */
export function follow(node, read, changed) {
  whileInGraph(node, (left) => {
    /** @type {string | undefined} */
    let last;
    repeat(POLL_MS, left, () => {
      const now = read();
      if (now === last) return;
      last = now;
      changed();
    });
  });
}

/** The id of the open workflow, as it is sent with its prompts. */
export function workflowId() {
  return String(app.rootGraph?.id ?? "");
}

/**
 * The ids that a node has in prompts: its own, or "1:2:3" inside subgraphs. It has several if its subgraph is used
 * several times.
 * @param {GraphNode} node
 * @param {{nodes?: any[]}} [graph]
 * @returns {string[]}
 */
export function executionIds(node, graph = app.rootGraph) {
  return (graph.nodes ?? []).flatMap((each) => {
    if (each === node) return [String(each.id)];
    return each.subgraph ? executionIds(node, each.subgraph).map((id) => `${each.id}:${id}`) : [];
  });
}

/**
 * The node that has this id in a prompt; see `executionIds`.
 * @param {string} id
 * @returns {GraphNode | undefined}
 */
export function nodeOfExecution(id) {
  /** @type {{nodes?: any[]} | undefined} */
  let graph = app.rootGraph;
  let found;
  for (const part of id.split(":")) {
    found = graph?.nodes?.find((node) => String(node.id) === part);
    graph = found?.subgraph;
  }
  return found;
}
