// @ts-check
// The concept card on Load Dynamic Concept shows the chosen file before anything runs. Files come from strangers, so
// their texts are only ever inserted as text, and the server has checked their picture.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { make } from "./dom.mjs";
import { EXPERTS } from "./experts.mjs";
import { asOneStep, follow, isWired, modelFile, nodesAfter, setWidget, sourceOf, widen, widgetOf } from "./graph.mjs";
import { showOnNode } from "./shown.mjs";
import { say } from "./words.mjs";

const WIDTH = 400;
const HEIGHT = 280;
const NO_CONCEPT =
  "No concepts yet. Run the template \"0 Start here\" from Browse Templates, or put a shared file into " +
  "models/dynamic_concepts and press R.";
const NOT_CHOSEN = "Choose a concept in the list above to see it here.";
/** What Save Dynamic Concept said already in this page. @type {Set<string>} */
const saved = new Set();

/**
 * @typedef {{steps: number, seconds: number | null}} Stage
 * @typedef {{date?: string, resolution?: string, frames?: number, fps?: number, finished?: boolean, set?: Stage,
 *   sequence?: Stage}} Training
 * @typedef {{name: string, static_prompt: string, motion_prompt: string, tokens: string[], base_name: string,
 *   author: string, tags: string[], rank: number | null, bytes: number, training: Training, thumbnail: string | null,
 *   experts: Expert[], misfit?: string | null}} Concept the answer of nodes/card.py
 * @typedef {{name: string, noise: string, base_name: string, training: Training}} Expert one of the two models of a base
 */

/** @param {GraphNode} node */
export function conceptCard(node) {
  const section = make("section", { class: "setandseq-card", "aria-label": say("Concept") });
  showOnNode(node, "concept_card", section, () => HEIGHT);
  widen(node, WIDTH);
  const file = () => String(widgetOf(node, "concept")?.value ?? "");
  const list = () => String(widgetOf(node, "concept")?.options.values ?? "");
  let asked = 0;
  follow(node, () => [file(), modelFile(node), list()].join("\n"), () => {
    asked += 1;
    const mine = asked;
    if (!file()) {
      section.replaceChildren(make("p", { text: say(list() ? NOT_CHOSEN : NO_CONCEPT) }));
      return;
    }
    void ask(file(), modelFile(node)).then((answer) => {
      if (mine !== asked) return;
      section.replaceChildren(...("error" in answer ? problem(answer.error) : contents(node, answer)));
    });
  });
}

/**
 * On Save Dynamic Concept: refresh the lists of all nodes when a new file was saved.
 * @param {GraphNode} node
 */
export function refreshAfterSaving(node) {
  const { onExecuted } = node;
  node.onExecuted = function (output) {
    onExecuted?.call(this, output);
    const text = String(output?.text ?? "");
    if (!text || saved.has(text)) return;
    saved.add(text);
    void app.refreshComboInNodes();
  };
}

/**
 * @param {string} file
 * @param {string} model
 * @returns {Promise<Concept | {error: string}>}
 */
async function ask(file, model) {
  try {
    const answer = await api.fetchApi(`/setandseq/concept?${new URLSearchParams({ file, model })}`);
    return answer.ok ? await answer.json() : { error: say("The server answers {0}. Restart ComfyUI.", answer.status) };
  } catch {
    return { error: say("The server does not answer. Is ComfyUI running?") };
  }
}

/** @param {string} text */
function problem(text) {
  return [make("p", { class: "setandseq-warning", role: "alert", text })];
}

/**
 * @param {GraphNode} node
 * @param {Concept} concept
 */
function contents(node, concept) {
  const made = [madeWhen(concept), ...(concept.experts.length ? concept.experts.map(ofExpert) : [madeHow(concept.training)])];
  const tokens = concept.tokens.map((token) => copyButton(token, say("Copy the token")));
  const facts = make(
    "div",
    { class: "setandseq-facts" },
    make("strong", { text: concept.name }),
    make("span", { text: say("for {0}", concept.base_name) }),
    ...made.map((text) => make("span", { class: "setandseq-quiet", text })),
    make("div", { class: "setandseq-tokens" }, ...tokens),
  );
  return [
    make("div", { class: "setandseq-head" }, ...picture(concept), facts),
    ...misfit(concept),
    ...newer(node),
    prompt(node, say("look"), concept.static_prompt),
    prompt(node, say("look and motion"), concept.motion_prompt),
  ];
}

/**
 * The newest version of a concept: saving "bee" again makes "bee_2".
 * @param {string} file
 * @param {string[]} files
 */
export function newestVersion(file, files) {
  const parts = (/** @type {string} */ name) => /^(.*?)(?:_(\d+))?\.safetensors$/.exec(name) ?? [];
  const [, base] = parts(file);
  const versions = files.filter((each) => parts(each)[1] === base && base !== undefined);
  const number = (/** @type {string} */ name) => Number(parts(name)[2] ?? 1);
  return versions.reduce((newest, each) => (number(each) > number(newest) ? each : newest), file);
}

/** @param {GraphNode} node */
function newer(node) {
  const widget = widgetOf(node, "concept");
  const file = String(widget?.value ?? "");
  const files = /** @type {string[]} */ (Array.isArray(widget?.options.values) ? widget.options.values : []);
  const newest = newestVersion(file, files);
  if (newest === file) return [];
  const click = () => asOneStep(() => setWidget(node, "concept", newest));
  const take = make("button", { type: "button", text: say("Use it"), click });
  return [make("p", { class: "setandseq-newer" }, make("span", { text: say("{0} is newer.", newest) }), take)];
}

/** @param {Concept} concept */
function misfit({ misfit: why, base_name }) {
  if (!why) return [];
  const [warning] = problem(say("This concept was made for a different model. Load {0}.", base_name));
  warning?.setAttribute("title", why);
  return warning ? [warning] : [];
}

/** @param {Concept} concept */
function picture({ thumbnail, static_prompt }) {
  if (!thumbnail || !/^data:image\/(png|jpeg);base64,/.test(thumbnail)) return [];
  return [make("img", { src: thumbnail, alt: say("The clip it was trained on: {0}", static_prompt) })];
}

/** @param {Concept} concept */
function madeWhen({ rank, bytes, training }) {
  const day = new Date(training.date ?? "");
  const when = Number.isNaN(day.getTime()) ? "" : day.toLocaleDateString(undefined, { dateStyle: "medium" });
  return [when, rank ? say("rank {0}", rank) : "", `${(bytes / 2 ** 20).toFixed(1)} MB`].filter(Boolean).join(", ");
}

/** @param {Training} training */
function madeHow({ set, sequence, frames, resolution, fps, finished }) {
  const stages = [set && say("look: {0} steps", set.steps), sequence && say("motion: {0} steps", sequence.steps)];
  const steps = stages.filter(Boolean).join(", ");
  const clip = frames && resolution ? say("{0} frames {1}", frames, resolution) : "";
  const timed = clip && fps ? say("{0} at {1} fps", clip, Math.round(fps)) : clip;
  return [steps, finished === false ? say("stopped early") : "", timed].filter(Boolean).join("; ");
}

/** @param {Expert} expert */
function ofExpert({ name, noise, training }) {
  return say("{0} ({1}): {2}", say(EXPERTS[name] ?? name), noise, madeHow(training));
}

/**
 * One prompt: a click copies it, a button puts it into a text node.
 * @param {GraphNode} node
 * @param {string} label
 * @param {string} text
 */
function prompt(node, label, text) {
  return make(
    "div",
    { class: "setandseq-prompt" },
    make("span", { class: "setandseq-quiet", text: label }),
    copyButton(text, say("Copy the prompt: {0}", label)),
    make("button", {
      type: "button",
      text: say("to prompt"),
      title: say("Writes it into the selected text node, or into the sampler's prompt if none is selected"),
      "aria-label": say("Write the prompt into a text node: {0}", label),
      click: () => send(node, text),
    }),
  );
}

/**
 * @param {string} text
 * @param {string} label
 */
function copyButton(text, label) {
  const title = `${label}:\n${text}`;
  const click = () => void copy(text);
  const shown = make("span", { text });
  return make("button", { type: "button", class: "setandseq-copy", title, "aria-label": title, click }, shown);
}

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    if (!copiedOverHttp(text)) {
      toast("warn", say("Not copied"), say("The browser blocks copying here. Use \"to prompt\" instead."));
      return;
    }
  }
  toast("success", say("Copied"), text);
}

/**
 * Copy where the browser blocks the clipboard, as on pages from another machine without https.
 * @param {string} text
 */
function copiedOverHttp(text) {
  const field = make("textarea", { readonly: true });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}

/**
 * @param {GraphNode} node
 * @param {string} text
 */
function send(node, text) {
  const target = textNode(node);
  if (!target) {
    const todo = say("Add CLIP Text Encode, or connect a prompt output of this node to its text input.");
    toast("warn", say("No text node"), todo);
    return;
  }
  asOneStep(() => setWidget(target, "text", text));
  const next = say("Change the words around the tokens. Press Ctrl+Z to undo.");
  toast("success", say("Written into {0}", target.title), next);
}

/**
 * The text node to write into: a selected one, else that of the positive prompt of a sampler after this node, else any.
 * @param {GraphNode} node
 * @returns {GraphNode | undefined}
 */
function textNode(node) {
  const selected = /** @type {GraphNode[]} */ (Object.values(app.canvas.selected_nodes ?? {}));
  const positive = nodesAfter(node).map((after) => sourceOf(after, "positive"));
  const all = /** @type {GraphNode[]} */ (node.graph?.nodes ?? []);
  const encoders = all.filter((each) => each.comfyClass === "CLIPTextEncode");
  return [...selected, ...positive, ...encoders].find((each) => each && takesText(each)) ?? undefined;
}

/** @param {GraphNode} node */
function takesText(node) {
  return typeof widgetOf(node, "text")?.value === "string" && !isWired(node, "text");
}

/**
 * @param {"success" | "warn"} severity
 * @param {string} summary
 * @param {string} detail
 */
function toast(severity, summary, detail) {
  app.extensionManager.toast.add({ severity, summary, detail, life: 4000 });
}
