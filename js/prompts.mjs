// @ts-check
// The check of both prompts on Reference Clip, while they are written.

import { api } from "../../scripts/api.js";
import { make } from "./dom.mjs";
import { follow, isWired, modelFile, nodesAfter, sourceOf, widen, widgetOf } from "./graph.mjs";
import { showOnNode } from "./shown.mjs";
import { say } from "./words.mjs";

const WIDTH = 420;
const ROOM_FOR_PROMPTS = 120;
const HEIGHT = 154;
const TOKEN = /\[[^[\]\s]+\]/g;
const EMBEDDED_WORDS = 48;
const WAN_TOKENS = 512;
/** What the tokenizer of Wan's text encoder makes of an English word, on average. */
const TOKENS_A_WORD = 1.35;

/** @typedef {{ok: boolean, text: string}} Finding */

/**
 * What is right and what is missing in the two prompts; sentences for people.
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
    ...(motionPrompt.trim() ? motionFindings(staticPrompt, motionPrompt, tokens, own) : [{ ok: false, text: say(EMPTY_MOTION) }]),
    lengthFinding(staticPrompt, motionPrompt, embedded),
  ];
}

const EMPTY_MOTION = "Motion prompt: repeat the static prompt and add the motion: ... [u] spinning.";
const FILLERS = new Set(["a", "an", "the", "and", "on", "in", "of", "with", "at", "is", "it", "to"]);

/**
 * @param {string} prompt
 * @param {string[]} tokens
 * @returns {Finding}
 */
function lookFinding(prompt, tokens) {
  if (!prompt.trim()) return { ok: false, text: say("Static prompt: describe the look, such as: a [v] dancer in a red dress.") };
  if (!tokens.length) return { ok: false, text: say("Static prompt: add [v] before the subject, or the model has no word for your concept.") };
  return { ok: true, text: say("Look: {0} stands for it. Everything else you name can be changed later.", tokens[0] ?? "") };
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
  return [
    ...(lost.length ? [{ ok: false, text: missing }] : []),
    movementFinding(namedOnlyIn(motionPrompt, staticPrompt).join(" "), own),
    ...(omitted ? [{ ok: false, text: say("Motion prompt: it leaves out \"{0}\". Describe the look in both prompts.", omitted) }] : []),
  ];
}

/**
 * @param {string} movement
 * @param {string[]} own
 * @returns {Finding}
 */
function movementFinding(movement, own) {
  if (!movement) return { ok: false, text: say("Motion prompt: add the motion, such as: [u] spinning.") };
  if (!own.length) return { ok: false, text: say("Motion prompt: add [u] before \"{0}\".", movement) };
  return { ok: true, text: say("Motion: {0} stands for \"{1}\".", own[0] ?? "", movement) };
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
 * The words of one prompt that another does not have, without tokens and words that say nothing.
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
 * Whether the embedded text encoder will read the prompts: it is at the train node, or its model at this one.
 * @param {GraphNode} node
 */
function isEmbedded(node) {
  const encoders = nodesAfter(node).map((after) => sourceOf(after, "clip"));
  const encoder = encoders.find((source) => source !== null);
  return encoder ? encoder?.comfyClass === "SetSeq_EmbeddedTextEncoder" : modelFile(node).startsWith("setandseq_embedded");
}

/** @param {GraphNode} node */
export function promptCheck(node) {
  const names = ["static_prompt", "motion_prompt"];
  const list = make("ul", {});
  const section = make(
    "section",
    { class: "setandseq-check", "aria-label": say("Prompt check") },
    make("div", { class: "setandseq-quiet", text: say("[v] stands for the look, [u] for the motion.") }),
    make("div", { role: "status" }, list),
  );
  const prompts = () => names.map((name) => String(widgetOf(node, name)?.value ?? ""));
  const wired = () => names.filter((name) => isWired(node, name));
  showOnNode(node, "prompt_check", section, () => HEIGHT);
  widen(node, WIDTH, ROOM_FOR_PROMPTS);
  const state = () => JSON.stringify([prompts(), wired(), isEmbedded(node)]);
  follow(node, state, async () => {
    const [staticPrompt = "", motionPrompt = ""] = prompts();
    const findings = wired().length
      ? [{ ok: true, text: say("{0}: set by a link, so not checked here.", wired().join(", ")) }]
      : checkPrompts(staticPrompt, motionPrompt, isEmbedded(node));
    list.replaceChildren(...findings.map(shown));
    if (wired().length || !isEmbedded(node)) return;
    const checked = state();
    const notes = await embeddedNotes(`${staticPrompt}, ${motionPrompt}`);
    if (state() === checked) list.append(...notes.map((text) => shown({ ok: false, text })));
  });
}

/**
 * What the server says about words that the embedded model does not know; nothing if it does not answer.
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

/** @param {Finding} finding */
function shown({ ok, text }) {
  const name = say(ok ? "good:" : "to do:");
  const mark = make("span", { class: "setandseq-mark", role: "img", "aria-label": name, text: ok ? "\u2713" : "!" });
  return make("li", { class: ok ? "setandseq-good" : "setandseq-missing" }, mark, text);
}
