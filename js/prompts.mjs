// @ts-check
// Checks both prompts on Reference Clip while they are typed.

import { api } from "../../scripts/api.js";
import { make } from "./dom.mjs";
import { asOneStep, follow, isWired, modelFile, nodesAfter, setWidget, sourceOf, widen, widgetOf } from "./graph.mjs";
import { showOnNode } from "./shown.mjs";
import { say } from "./words.mjs";

const WIDTH = 420;
const ROOM_FOR_PROMPTS = 120;
const LINE = 19;
const MARGINS = 14;
const LEAST_LINES = 3;
const TOKEN = /\[[^[\]\s]+\]/g;
/** Nodes that provide the embedded text encoder. */
const EMBEDDED = ["SetSeq_EmbeddedModel", "SetSeq_EmbeddedTextEncoder"];
const EMBEDDED_WORDS = 48;
const WAN_TOKENS = 512;
/** Average number of tokens that the tokenizer of Wan's text encoder makes from an English word. */
const TOKENS_A_WORD = 1.35;

/**
 * @typedef {{label: string, name: string, text: string}} Fix what a button says, and the prompt that it writes
 * @typedef {{ok: boolean | null, text: string, fix?: Fix}} Finding ok is null where nothing was checked
 */

/**
 * Findings about the two prompts, as sentences: what is right and what is missing.
 * @param {string} staticPrompt
 * @param {string} motionPrompt
 * @param {boolean} embedded whether the embedded text encoder reads them
 * @returns {Finding[]}
 */
export function checkPrompts(staticPrompt, motionPrompt, embedded) {
  const tokens = tokensOf(staticPrompt);
  const own = tokensOf(motionPrompt).filter((token) => !tokens.includes(token));
  return [
    lookFinding(staticPrompt, tokens),
    ...(motionPrompt.trim() ? motionFindings(staticPrompt, motionPrompt, tokens, own) : [emptyMotion(staticPrompt)]),
    ...(staticPrompt.trim() || motionPrompt.trim() ? [lengthFinding(staticPrompt, motionPrompt, embedded)] : []),
  ];
}

/**
 * @param {string} staticPrompt
 * @returns {Finding}
 */
function emptyMotion(staticPrompt) {
  const fix = { label: say("Repeat it"), name: "motion_prompt", text: staticPrompt };
  const text = say("Motion prompt: repeat the look prompt and add the motion: ... [u] spinning.");
  return staticPrompt.trim() ? { ok: false, text, fix } : { ok: false, text };
}

const FILLERS = new Set(["a", "an", "the", "and", "on", "in", "of", "with", "at", "is", "it", "to"]);

/**
 * @param {string} prompt
 * @param {string[]} tokens
 * @returns {Finding}
 */
function lookFinding(prompt, tokens) {
  if (!prompt.trim()) return { ok: false, text: say("Look prompt: describe the look, such as: a [v] dancer in a red dress.") };
  if (tokens.length) return { ok: true, text: say("Look: {0} stands for it.", tokens[0] ?? "") };
  const fix = { label: say("Add {0}", "[v]"), name: "static_prompt", text: withToken(prompt, "[v]") };
  return { ok: false, text: say("Look prompt: add [v] before the subject, or the model has no word for your concept."), fix };
}

/**
 * @param {string} staticPrompt
 * @param {string} motionPrompt
 * @param {string[]} tokens of the static prompt
 * @param {string[]} own tokens that only the motion prompt has
 * @returns {Finding[]}
 */
function motionFindings(staticPrompt, motionPrompt, tokens, own) {
  const lost = tokens.filter((token) => !motionPrompt.includes(token));
  const omitted = namedOnlyIn(staticPrompt, motionPrompt).join(" ");
  const missing = say("Motion prompt: {0} is missing. It needs both tokens.", lost.join(", "));
  const put = lost.reduce(withToken, motionPrompt);
  const fix = { label: say("Add {0}", lost.join(", ")), name: "motion_prompt", text: put };
  return [
    ...(lost.length ? [{ ok: false, text: missing, fix }] : []),
    movementFinding(motionPrompt, namedOnlyIn(motionPrompt, staticPrompt), own),
    ...(omitted ? [{ ok: false, text: say("Motion prompt: it leaves out \"{0}\". Describe the look in both prompts.", omitted) }] : []),
  ];
}

/**
 * @param {string} prompt
 * @param {string[]} words that only this prompt has
 * @param {string[]} own
 * @returns {Finding}
 */
function movementFinding(prompt, words, own) {
  const movement = words.join(" ");
  if (!movement) return { ok: false, text: say("Motion prompt: add the motion, such as: [u] spinning.") };
  if (own.length) return { ok: true, text: say("Motion: {0} stands for \"{1}\".", own[0] ?? "", movement) };
  const begins = prompt.toLowerCase().indexOf(words[0] ?? "");
  const fix = { label: say("Add {0}", "[u]"), name: "motion_prompt", text: `${prompt.slice(0, begins)}[u] ${prompt.slice(begins)}` };
  return { ok: false, text: say("Motion prompt: add [u] before \"{0}\".", movement), fix };
}

/**
 * The prompt with a token before its subject, which is assumed to begin after the first article.
 * @param {string} prompt
 * @param {string} token
 */
export function withToken(prompt, token) {
  const article = /\b(?:an?|the)\s+/i.exec(prompt);
  const place = article ? article.index + article[0].length : 0;
  return `${prompt.slice(0, place)}${token} ${prompt.slice(place)}`;
}

/**
 * @param {string} staticPrompt
 * @param {string} motionPrompt
 * @param {boolean} embedded
 * @returns {Finding}
 */
function lengthFinding(staticPrompt, motionPrompt, embedded) {
  const words = Math.max(wordsOf(staticPrompt).length, wordsOf(motionPrompt).length);
  const [length, most] = embedded ? [words, EMBEDDED_WORDS] : [Math.ceil(words * TOKENS_A_WORD), WAN_TOKENS];
  const text = say(embedded ? "Length: {0} of {1} words." : "Length: about {0} of {1} tokens.", length, most);
  return length > most ? { ok: false, text: say("{0} Shorten the prompt.", text) } : { ok: true, text };
}

/**
 * The words of one prompt that another does not have, without tokens and words that carry no meaning.
 * @param {string} prompt
 * @param {string} other
 */
function namedOnlyIn(prompt, other) {
  const known = new Set([...wordsOf(other), ...FILLERS]);
  return wordsOf(prompt).filter((word) => !known.has(word) && !word.startsWith("["));
}

/**
 * @param {string} prompt
 * @returns {string[]}
 */
function tokensOf(prompt) {
  return prompt.match(TOKEN) ?? [];
}

/**
 * @param {string} prompt
 * @returns {string[]}
 */
function wordsOf(prompt) {
  return prompt.toLowerCase().match(/[\p{L}\p{N}_[\]'*-]+/gu) ?? [];
}

/**
 * Whether the embedded text encoder will read the prompts. It will if it is connected to the train node, or if the
 * embedded model is connected to this node.
 * @param {GraphNode} node
 */
function isEmbedded(node) {
  const encoders = [node, ...nodesAfter(node)].map((after) => sourceOf(after, "clip"));
  const encoder = encoders.find((source) => source !== null);
  return encoder ? EMBEDDED.includes(encoder.comfyClass ?? "") : modelFile(node).startsWith("setandseq_embedded");
}

/** @param {GraphNode} node */
export function promptCheck(node) {
  const names = ["static_prompt", "motion_prompt"];
  const list = make("ul", {});
  const section = make(
    "section",
    { class: "setandseq-check", "aria-label": say("Prompt check") },
    make("div", { role: "status" }, list),
  );
  const prompts = () => names.map((name) => String(widgetOf(node, name)?.value ?? ""));
  const wired = () => names.filter((name) => isWired(node, name));
  const height = () => MARGINS + LINE * Math.max(list.childElementCount, LEAST_LINES);
  showOnNode(node, "prompt_check", section, height);
  /** @param {Finding[]} findings */
  const show = (findings) => {
    list.append(...findings.map((finding) => shown(finding, node)));
    section.style.minHeight = `${height()}px`;
    node.setDirtyCanvas(true, true);
  };
  widen(node, WIDTH, ROOM_FOR_PROMPTS);
  const state = () => JSON.stringify([prompts(), wired(), isEmbedded(node)]);
  follow(node, state, async () => {
    const [staticPrompt = "", motionPrompt = ""] = prompts();
    const findings = wired().length
      ? [{ ok: null, text: say("{0}: set by a link, so not checked here.", wired().join(", ")) }]
      : checkPrompts(staticPrompt, motionPrompt, isEmbedded(node));
    list.replaceChildren();
    show(findings);
    if (wired().length || !isEmbedded(node)) return;
    const checked = state();
    const notes = await embeddedNotes(`${staticPrompt}, ${motionPrompt}`);
    if (state() === checked) show(notes.map((text) => ({ ok: false, text })));
  });
}

/**
 * The server's notes about words that the embedded model does not know; empty if the server does not answer.
 * @param {string} prompt
 * @returns {Promise<string[]>}
 */
async function embeddedNotes(prompt) {
  try {
    const answer = await api.fetchApi(`/setandseq/prompt_notes?${new URLSearchParams({ prompt })}`);
    return answer.ok ? await answer.json() : [];
  } catch {
    return [];
  }
}

/**
 * @param {Finding} finding
 * @param {GraphNode} node
 */
function shown({ ok, text, fix }, node) {
  const [name, mark] = ok === null ? [say("not checked:"), "\u2013"] : ok ? [say("good:"), "\u2713"] : [say("to do:"), "!"];
  const click = () => fix && asOneStep(() => setWidget(node, fix.name, fix.text));
  return make(
    "li",
    { class: ok === null ? "setandseq-quiet" : ok ? "setandseq-good" : "setandseq-missing" },
    make("span", { class: "setandseq-mark", role: "img", "aria-label": name, text: mark }),
    make("span", { text }),
    ...(fix ? [make("button", { type: "button", text: fix.label, title: fix.text, click })] : []),
  );
}
