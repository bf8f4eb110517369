// @ts-check
// Tokens on the way to a sampler: those that two concepts share, those that no concept knows, and those that the prompt
// lacks. Checked in the graph, before anything runs.

import { askConcept } from "./concept.mjs";
import { make } from "./dom.mjs";
import { follow, isWired, nodesAfter, sourceOf, sourcesOf, widgetOf } from "./graph.mjs";
import { showOnNode } from "./shown.mjs";
import { say } from "./words.mjs";

const TOKEN = /\[[^[\]\s]+\]/g;
const LINE = 34;
const CONCEPT = "SETSEQ_CONCEPT";
const CONDITIONING = "CONDITIONING";
/** The modes in which a node takes part: neither muted nor bypassed. */
const ACTIVE = [0, 1, 3];
const LOAD = "SetSeq_LoadDynamicConcept";
const COMPOSE = "SetSeq_ComposeConcepts";
const PROMPTED = ["SetSeq_TrainConcept", "SetSeq_ReferenceClip"];

/**
 * @typedef {{key: string, name: string, tokens: string[], needed: string[], apart: boolean}} Known a concept on a wire:
 *   all tokens that it knows, those without which it hardly shows, and whether it meets no other: it is off, or acts in
 *   a region of its own
 * @typedef {{title: string, text: string}} Prompt of a text node
 * @typedef {{warning: boolean, text: string}} Finding
 */

/**
 * What is wrong with the tokens of one sampler.
 * @param {Known[]} concepts on its model
 * @param {Prompt[]} prompts that it samples
 * @param {Known[]} own those whose shared and missing tokens are told; their other nodes tell those of the others
 * @returns {Finding[]}
 */
export function tokenFindings(concepts, prompts, own) {
  const known = new Set(concepts.flatMap(({ tokens }) => tokens));
  return [
    ...own.flatMap((each) => shared(each, concepts)),
    ...prompts.flatMap((prompt) => unknown(prompt, known)),
    ...(prompts.length ? own.flatMap((each) => missing(each, prompts)) : []),
  ];
}

/**
 * @param {Known} own
 * @param {Known[]} concepts
 * @returns {Finding[]}
 */
function shared(own, concepts) {
  const others = own.apart ? [] : concepts.filter((each) => each.key !== own.key && !each.apart);
  return others.flatMap((other) => {
    const both = own.tokens.filter((token) => other.tokens.includes(token)).join(", ");
    const text = say("{0} and {1} share {2}, so the prompt cannot tell them apart. Train one of them with other tokens.", own.name, other.name, both);
    return both ? [{ warning: true, text }] : [];
  });
}

/**
 * @param {Prompt} prompt
 * @param {Set<string>} known
 * @returns {Finding[]}
 */
function unknown({ title, text }, known) {
  const strangers = [...new Set(text.match(TOKEN) ?? [])].filter((token) => !known.has(token));
  if (!strangers.length) return [];
  const said = say("{0} has {1}, which no concept on this wire knows.", title, strangers.join(", "));
  return [{ warning: true, text: said }];
}

/**
 * @param {Known} own
 * @param {Prompt[]} prompts
 * @returns {Finding[]}
 */
function missing(own, prompts) {
  const lost = own.needed.filter((token) => !prompts.some(({ text }) => text.includes(token)));
  if (!lost.length) return [];
  const titles = prompts.map(({ title }) => title).join(", ");
  return [{ warning: false, text: say("{0} lacks {1}: without its token, {2} hardly shows.", titles, lost.join(", "), own.name) }];
}

/**
 * What is wrong with the tokens of all samplers behind a node.
 * @param {GraphNode} node Load Dynamic Concept or Compose Concepts
 * @returns {Promise<Finding[]>}
 */
async function findingsAfter(node) {
  /** @type {Finding[]} */
  const found = [];
  for (const sampler of samplersAfter(node)) {
    const concepts = await conceptsOn(sampler);
    if (!concepts) continue;
    const own = await ownConcepts(node);
    const told = concepts.filter((each) => own.some(({ key }) => key === each.key));
    found.push(...tokenFindings(concepts, promptsOf(sampler) ?? [], told));
  }
  const texts = new Set();
  return found.filter(({ text }) => !texts.has(text) && texts.add(text));
}

/** @param {GraphNode} node */
function samplersAfter(node) {
  return nodesAfter(node).filter((each) => isActive(each) && isWired(each, "model") && positiveInput(each));
}

/** @param {GraphNode} node */
function positiveInput(node) {
  return node.inputs?.find(({ name }) => name === "positive" || name === "conditioning")?.name;
}

/** @param {GraphNode} node */
function isActive(node) {
  return ACTIVE.includes(node.mode ?? 0);
}

/**
 * The prompts that a sampler follows; undefined where the graph does not tell one of them.
 * @param {GraphNode} sampler
 * @returns {Prompt[] | undefined}
 */
function promptsOf(sampler) {
  const first = sourceOf(sampler, positiveInput(sampler) ?? "");
  const nodes = first ? [first] : [];
  for (const each of nodes) {
    const next = sourcesOf(each, ({ name, type }) => type === CONDITIONING && !name.includes("negative"));
    for (const one of next) if (!nodes.includes(one)) nodes.push(one);
  }
  const encoders = nodes.filter((each) => widgetOf(each, "text"));
  const prompts = encoders.map((each) => ({ title: each.title, text: textOf(each) }));
  return prompts.length && prompts.every(({ text }) => text !== undefined) ? /** @type {Prompt[]} */ (prompts) : undefined;
}

/**
 * The text of a node, also where it comes from a node that holds a text; undefined where it is made when it runs.
 * @param {GraphNode} encoder
 * @returns {string | undefined}
 */
function textOf(encoder) {
  if (!isWired(encoder, "text")) return String(widgetOf(encoder, "text")?.value ?? "");
  const source = sourceOf(encoder, "text");
  const widget = source && (widgetOf(source, "value") ?? widgetOf(source, "text") ?? widgetOf(source, "string"));
  return source && widget && !isWired(source, widget.name) && typeof widget.value === "string" ? widget.value : undefined;
}

/**
 * All concepts on the model of a sampler; undefined where one of them is not known.
 * @param {GraphNode} sampler
 * @returns {Promise<Known[] | undefined>}
 */
async function conceptsOn(sampler) {
  /** @type {Known[]} */
  const found = [];
  const seen = new Set();
  for (let each = sourceOf(sampler, "model"); each && !seen.has(each); each = sourceOf(each, "model")) {
    seen.add(each);
    const concepts = isActive(each) ? await conceptsFrom(each) : [];
    if (!concepts) return undefined;
    found.push(...concepts);
  }
  return found;
}

/** @param {GraphNode} node */
async function ownConcepts(node) {
  return (await conceptsFrom(node)) ?? [];
}

/**
 * The concepts that a node puts on a model or on a wire; undefined where they are not known before they run.
 * @param {GraphNode} node
 * @returns {Promise<Known[] | undefined>}
 */
async function conceptsFrom(node) {
  const kind = node.comfyClass ?? "";
  if (kind === LOAD) return await loaded(node);
  if (PROMPTED.includes(kind)) return prompted(node);
  const sources = sourcesOf(node, ({ name, type }) => type === CONCEPT || type === "SETSEQ_REFERENCE" || name === "identity");
  const parts = await Promise.all(sources.filter(isActive).map(conceptsFrom));
  if (parts.includes(undefined)) return undefined;
  const apart = kind === COMPOSE && widgetOf(node, "method")?.value === "regions";
  return parts.flatMap((part) => part ?? []).map((each) => ({ ...each, apart: each.apart || apart }));
}

/**
 * @param {GraphNode} node Load Dynamic Concept
 * @returns {Promise<Known[] | undefined>}
 */
async function loaded(node) {
  const file = widgetOf(node, "concept");
  if (!file || isWired(node, "concept")) return undefined;
  const answer = await askConcept(String(file.value ?? ""), "");
  if ("error" in answer) return undefined;
  const isOff = ["identity_strength", "motion_strength"].map((name) => widgetOf(node, name)?.value === 0 && !isWired(node, name));
  // The clips of several subjects have tokens of their own, and a prompt need not name all of them.
  const needed = answer.tokens.length > isOff.length ? [] : answer.tokens.filter((_, part) => !isOff[part]);
  return [{ key: String(file.value), name: String(file.value).replace(/\.safetensors$/, ""), tokens: answer.tokens, needed, apart: !isOff.includes(false) }];
}

/**
 * @param {GraphNode} node Train Concept or Reference Clip
 * @returns {Known[] | undefined}
 */
function prompted(node) {
  if (isWired(node, "static_prompt") || isWired(node, "motion_prompt")) return undefined;
  const [look = "", motion = ""] = ["static_prompt", "motion_prompt"].map((name) => String(widgetOf(node, name)?.value ?? ""));
  const tokens = [...new Set(`${look} ${motion}`.match(TOKEN) ?? [])];
  return [{ key: `#${node.id}`, name: node.title, tokens, needed: tokens, apart: false }];
}

/**
 * Show what is wrong with the tokens behind a node, for as long as it is in a graph.
 * @param {GraphNode} node
 * @param {HTMLElement} list
 * @param {() => void} [changed]
 */
export function followTokens(node, list, changed = () => {}) {
  let asked = 0;
  follow(node, () => stateAround(node), async () => {
    asked += 1;
    const mine = asked;
    const findings = await findingsAfter(node);
    if (mine !== asked) return;
    list.replaceChildren(...findings.map(shown));
    changed();
  });
}

/**
 * A text that changes whenever an answer may.
 * @param {GraphNode} node
 */
function stateAround(node) {
  /** @type {GraphNode[]} */
  const found = [];
  /** @type {string[]} */
  const parts = [];
  for (const sampler of samplersAfter(node)) {
    parts.push(JSON.stringify(promptsOf(sampler) ?? []));
    const before = [sampler];
    for (const each of before) {
      const next = sourcesOf(each, ({ name, type }) => name === "model" || type === CONCEPT || type === "SETSEQ_REFERENCE");
      for (const one of next) if (!before.includes(one)) before.push(one);
    }
    found.push(...before.slice(1));
  }
  const names = ["concept", "identity_strength", "motion_strength", "method", "static_prompt", "motion_prompt"];
  for (const each of found) {
    const values = names.map((name) => widgetOf(each, name)?.value);
    parts.push(JSON.stringify([each.id, each.mode, each.title, ...values]));
  }
  return parts.join("\n");
}

/** @param {Finding} finding */
function shown({ warning, text }) {
  return make("li", { class: warning ? "setandseq-warning" : "setandseq-quiet", text });
}

/**
 * On Compose Concepts: takes room only where something is wrong.
 * @param {GraphNode} node
 */
export function tokenCheck(node) {
  const list = make("ul", {});
  const section = make("section", { class: "setandseq-tokencheck", "aria-label": say("Token check") }, make("div", { role: "status" }, list));
  const height = () => LINE * list.childElementCount;
  showOnNode(node, "token_check", section, height);
  followTokens(node, list, () => {
    section.style.minHeight = `${height()}px`;
    const least = node.computeSize();
    if (least[1] > node.size[1]) node.setSize([node.size[0], least[1]]);
    node.setDirtyCanvas(true, true);
  });
}
