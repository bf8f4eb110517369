// @ts-check
// The check of both prompts on Reference Clip, while they are written.

import { make, showOnNode } from "./dom.mjs";
import { follow, isWired, modelFile, nodesAfter, sourceOf, widgetOf } from "./graph.mjs";

const HEIGHT = 132;
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
    ...(motionPrompt.trim() ? motionFindings(staticPrompt, motionPrompt, tokens, own) : [EMPTY_MOTION]),
    lengthFinding(staticPrompt, motionPrompt, embedded),
  ];
}

/** @type {Finding} */
const EMPTY_MOTION = {
  ok: false,
  text: "Motion prompt: repeat the static prompt and add the movement with a token of its own: ... [u] spinning fast.",
};

/**
 * @param {string} prompt
 * @param {string[]} tokens
 * @returns {Finding}
 */
function lookFinding(prompt, tokens) {
  if (!prompt.trim()) return { ok: false, text: "Static prompt: say how it looks, with [v] for the thing itself: a [v] dancer in a red dress." };
  if (!tokens.length) return { ok: false, text: "Static prompt: no token. Write [v] before the word for the thing itself, so that it can be called." };
  return { ok: true, text: `Look: ${tokens[0]} calls it; what else the static prompt names can be changed later.` };
}

/**
 * @param {string} staticPrompt
 * @param {string} motionPrompt
 * @param {string[]} tokens of the static prompt
 * @param {string[]} own tokens that only the motion prompt has
 * @returns {Finding[]}
 */
function motionFindings(staticPrompt, motionPrompt, tokens, own) {
  /** @type {Finding[]} */
  const found = [];
  const lost = tokens.filter((token) => !motionPrompt.includes(token));
  if (lost.length) found.push({ ok: false, text: `Motion prompt: ${lost.join(", ")} is missing. It needs both tokens, or training refuses it.` });
  const [look, said] = [wordsOf(staticPrompt), wordsOf(motionPrompt)];
  const movement = said.filter((word) => !look.includes(word) && !word.startsWith("[") && !FILLERS.has(word));
  const omitted = look.filter((word) => !said.includes(word) && !word.startsWith("[") && !FILLERS.has(word));
  if (!movement.length) found.push({ ok: false, text: "Motion prompt: it says nothing of the movement. Add how it moves: [u] spinning fast." });
  else if (!own.length) found.push({ ok: false, text: `Motion prompt: no token for the movement. Write [u] before it: [u] ${movement.join(" ")}.` });
  else found.push({ ok: true, text: `Movement: ${own[0]} calls it (${movement.join(" ")}).` });
  if (omitted.length) found.push({ ok: false, text: `Motion prompt: it leaves out "${omitted.join(" ")}" of the static prompt. Say the look in both.` });
  return found;
}

const FILLERS = new Set(["a", "an", "the", "and", "on", "in", "of", "with", "at", "is", "it", "to"]);

/**
 * @param {string} staticPrompt
 * @param {string} motionPrompt
 * @param {boolean} embedded
 * @returns {Finding}
 */
function lengthFinding(staticPrompt, motionPrompt, embedded) {
  const words = Math.max(wordsOf(staticPrompt).length, wordsOf(motionPrompt).length);
  if (embedded) {
    const text = `Length: ${words} of ${EMBEDDED_WORDS} words that the embedded text encoder takes.`;
    return words > EMBEDDED_WORDS ? { ok: false, text: `${text} Shorten the prompt.` } : { ok: true, text };
  }
  const tokens = Math.ceil(words * TOKENS_A_WORD);
  const text = `Length: about ${tokens} of ${WAN_TOKENS} tokens, by an estimate.`;
  return tokens > WAN_TOKENS ? { ok: false, text: `${text} The rest is not read: shorten the prompt.` } : { ok: true, text };
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
  const encoder = nodesAfter(node).map((after) => sourceOf(after, "clip")).find((source) => source !== null);
  if (encoder) return encoder.comfyClass === "SetSeq_EmbeddedTextEncoder";
  return modelFile(node).startsWith("setandseq_toy");
}

/** @param {GraphNode} node */
export function promptCheck(node) {
  const names = ["static_prompt", "motion_prompt"];
  const list = make("ul", {});
  const section = make(
    "section",
    { class: "setandseq-check", "aria-label": "Prompt check" },
    make("div", { class: "setandseq-quiet", text: "[v] is how it looks, [u] how it moves." }),
    make("div", { role: "status" }, list),
  );
  const prompts = () => names.map((name) => String(widgetOf(node, name)?.value ?? ""));
  const wired = () => names.filter((name) => isWired(node, name));
  showOnNode(node, "prompt_check", section, () => HEIGHT);
  follow(node, () => JSON.stringify([prompts(), wired(), isEmbedded(node)]), () => {
    const [staticPrompt = "", motionPrompt = ""] = prompts();
    const findings = wired().length
      ? [{ ok: true, text: `${wired().join(" and ")}: by wire, so not checked here. Keep [v] in both and [u] in the second.` }]
      : checkPrompts(staticPrompt, motionPrompt, isEmbedded(node));
    list.replaceChildren(...findings.map(shown));
  });
}

/** @param {Finding} finding */
function shown({ ok, text }) {
  const mark = make("span", { class: "setandseq-mark", "aria-label": ok ? "good:" : "to do:", role: "img", text: ok ? "\u2713" : "!" });
  return make("li", { class: ok ? "setandseq-good" : "setandseq-missing" }, mark, text);
}
