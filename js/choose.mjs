// @ts-check
// A video from the user's own disk, on a button: uploaded as Load Video does it, and connected to the node.

import { api } from "../../scripts/api.js";
import { make } from "./dom.mjs";
import { asOneStep, isWired, setWidget, sourceOf, widgetOf } from "./graph.mjs";
import { say } from "./words.mjs";

const LOADER = "LoadVideo";
/** Width and height of a new Load Video with its picture. @type {[number, number]} */
const SIZE = [290, 320];
/** Pixels between two nodes, and of a node's title, which is above its top. */
const GAP = 35;
const TITLE = 30;
const TOO_LARGE = 413;
/** What browsers call a video, and what they do not but the nodes can read. */
const ACCEPTED = "video/*,image/gif,.mkv";
const VIDEO = /^(video\/|image\/gif$)/;
const VIDEO_NAME = /\.mkv$/i;

/** @typedef {{left: number, top: number, right: number, bottom: number}} Box with its title */

/**
 * A button that opens the file dialog, and the dialog's input.
 * @param {GraphNode} node whose input `video` gets the file
 * @param {(problem: string) => void} tell what went wrong, or "" as soon as another file is chosen
 */
export function videoButton(node, tell) {
  const input = make("input", { type: "file", accept: ACCEPTED, hidden: true, "aria-label": say("Video file") });
  const button = make("button", {
    type: "button",
    class: "setandseq-choose",
    text: say("Choose a video…"),
    title: say("Uploads a video and connects it. A Load Video node is added if there is none"),
    click: () => input.click(),
  });
  input.addEventListener("change", async () => {
    const file = input.files?.[0];
    input.value = "";  // so that the same file can be chosen again
    if (!file) return;
    tell("");
    button.disabled = true;
    button.textContent = say("Uploading…");
    const { name, problem } = await upload(file);
    button.disabled = false;
    button.textContent = say("Choose a video…");
    if (name && node.graph) asOneStep(() => use(node, name));
    tell(problem);
  });
  return make("span", { class: "setandseq-chooser" }, button, input);
}

/**
 * Put a file into ComfyUI's folder `input`.
 * @param {File} file
 * @returns {Promise<{name: string, problem: string}>} its name there, or what went wrong
 */
async function upload(file) {
  if (!VIDEO.test(file.type) && !VIDEO_NAME.test(file.name)) {
    return { name: "", problem: say("{0} is not a video. Choose an mp4, mov, webm, mkv or gif file.", file.name) };
  }
  const body = new FormData();
  body.append("image", file);
  try {
    const answer = await api.fetchApi("/upload/image", { method: "POST", body });
    if (!answer.ok) return { name: "", problem: refusal(answer.status) };
    const { name, subfolder } = await answer.json();
    return { name: subfolder ? `${subfolder}/${name}` : name, problem: "" };
  } catch {
    return { name: "", problem: say("The server does not answer. Is ComfyUI running?") };
  }
}

/** @param {number} status of the server's answer */
function refusal(status) {
  if (status === TOO_LARGE) {
    return say("The file is too large to upload. Cut it to a few seconds, or put it into ComfyUI's folder input and press R.");
  }
  return say("The server refused the file ({0}). Put it into ComfyUI's folder input, press R and choose it in Load Video.", status);
}

/**
 * Make a file the node's video: on the Load Video that it comes from, or on a new one.
 * @param {GraphNode} node
 * @param {string} name
 */
function use(node, name) {
  const source = sourceOf(node, "video");
  const isLoader = source?.comfyClass === LOADER && !isWired(source, "file");
  const loader = isLoader ? source : addLoader(node);
  const choices = /** @type {{values?: unknown} | undefined} */ (widgetOf(loader, "file")?.options)?.values;
  if (Array.isArray(choices) && !choices.includes(name)) choices.push(name);
  setWidget(loader, "file", name);
}

/**
 * Add a Load Video to the left of a node, and connect it in place of what was connected.
 * @param {GraphNode} node
 * @returns {GraphNode}
 */
function addLoader(node) {
  const { graph } = node;
  const loader = /** @type {any} */ (window).LiteGraph.createNode(LOADER);
  const others = [...(graph?.nodes ?? []), /** @type {any} */ (graph)?.inputNode].filter(Boolean).map(boxOf);
  const place = freePlace(boxOf(node), others, SIZE);
  loader.pos = place;
  graph?.add(loader);
  loader.setSize(SIZE);
  loader.connect(0, node, node.inputs.findIndex((input) => input.name === "video"));
  return loader;
}

/**
 * The first place to the left of a node, from its own height downwards, where nothing is in the way.
 * @param {Box} node
 * @param {Box[]} others
 * @param {[number, number]} size of what is placed there
 * @returns {[number, number]} as a node's `pos`, which is below the title
 */
export function freePlace(node, others, [width, height]) {
  const right = node.left - GAP;
  const column = others.filter((each) => each.left < right + GAP && each.right > right - width - GAP);
  const below = column.map(({ bottom }) => bottom + GAP).filter((top) => top > node.top);
  const isFree = (/** @type {number} */ top) =>
    column.every((each) => each.top >= top + TITLE + height + GAP || each.bottom + GAP <= top);
  const top = [node.top, ...below.sort((first, second) => first - second)].find(isFree) ?? node.top;
  return [right - width, top + TITLE];
}

/**
 * Where a node is, with its title. In Nodes 2.0, a node may be taller than the graph knows.
 * @param {any} node
 * @returns {Box}
 */
function boxOf(node) {
  const [left, top, width, height] = [...node.boundingRect];
  const shown = /** @type {HTMLElement | null} */ (document.querySelector(`[data-node-id="${CSS.escape(String(node.id))}"]`));
  return { left, top, right: left + width, bottom: top + Math.max(height, shown?.offsetHeight ?? 0) };
}
