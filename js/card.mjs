// @ts-check
// The concept card on Load Dynamic Concept shows the chosen file before anything runs. Files come from strangers, so
// their texts are only ever inserted as text, and the server has checked their picture.

import { app } from "../../scripts/app.js";
import { askConcept, dayOf, thumbnailOf } from "./concept.mjs";
import { make } from "./dom.mjs";
import { EXPERTS } from "./experts.mjs";
import { asOneStep, follow, isWired, modelFile, nodesAfter, setWidget, sourceOf, widen, widgetOf } from "./graph.mjs";
import { pickerButton } from "./picker.mjs";
import { showOnNode } from "./shown.mjs";
import { followTokens } from "./tokens.mjs";
import { newestVersion } from "./versions.mjs";
import { say } from "./words.mjs";

const WIDTH = 400;
const HEIGHT = 280;
const NO_CONCEPT =
  "No concepts yet. Run the template \"0 Start here\" from Browse Templates, or put a shared file into " +
  "models/dynamic_concepts and press R.";
const NOT_CHOSEN = "Choose a concept in the list above to see it here.";
/** What Save Dynamic Concept said already in this page. @type {Set<string>} */
const saved = new Set();

/** @typedef {import("./concept.mjs").Concept} Concept */
/** @typedef {import("./concept.mjs").Training} Training */
/** @typedef {import("./concept.mjs").Expert} Expert */

/** @param {GraphNode} node */
export function conceptCard(node) {
  const section = make("section", { class: "setandseq-card", "aria-label": say("Concept") });
  showOnNode(node, "concept_card", section, () => HEIGHT);
  widen(node, WIDTH);
  const file = () => String(widgetOf(node, "concept")?.value ?? "");
  const list = () => String(widgetOf(node, "concept")?.options.values ?? "");
  const tokens = make("ul", { class: "setandseq-findings", role: "status" });
  followTokens(node, tokens);
  let asked = 0;
  follow(node, () => [file(), modelFile(node), list()].join("\n"), () => {
    asked += 1;
    const mine = asked;
    if (!file()) {
      section.replaceChildren(make("p", { text: say(list() ? NOT_CHOSEN : NO_CONCEPT) }), ...(list() ? [pickerButton(node)] : []));
      return;
    }
    void askConcept(file(), modelFile(node)).then((answer) => {
      if (mine !== asked) return;
      section.replaceChildren(...("error" in answer ? [...problem(answer.error), pickerButton(node)] : contents(node, answer, tokens)));
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

/** @param {string} text */
function problem(text) {
  return [make("p", { class: "setandseq-warning", role: "alert", text })];
}

/**
 * @param {GraphNode} node
 * @param {Concept} concept
 * @param {HTMLElement} findings what is wrong with its tokens
 */
function contents(node, concept, findings) {
  const made = [madeWhen(concept), ...(concept.experts.length ? concept.experts.map(ofExpert) : [madeHow(concept.training)])];
  const tokens = concept.tokens.map((token) => copyButton(token, say("Copy the token")));
  const facts = make(
    "div",
    { class: "setandseq-facts" },
    make("div", { class: "setandseq-name" }, make("strong", { text: concept.name }), pickerButton(node)),
    make("span", { text: say("for {0}", concept.base_name) }),
    ...made.map((text) => make("span", { class: "setandseq-quiet", text })),
    make("div", { class: "setandseq-tokens" }, ...tokens),
  );
  return [
    make("div", { class: "setandseq-head" }, ...picture(concept), facts),
    ...misfit(concept),
    ...newer(node),
    findings,
    prompt(node, say("look"), concept.static_prompt),
    prompt(node, say("look and motion"), concept.motion_prompt),
  ];
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
function picture(concept) {
  const src = thumbnailOf(concept);
  return src ? [make("img", { src, alt: say("The clip it was trained on: {0}", concept.static_prompt) })] : [];
}

/** @param {Concept} concept */
function madeWhen({ rank, bytes, training }) {
  return [dayOf(training), rank ? say("rank {0}", rank) : "", `${(bytes / 2 ** 20).toFixed(1)} MB`].filter(Boolean).join(", ");
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
