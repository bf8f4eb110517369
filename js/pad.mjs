// @ts-check
// The strength pad: identity and motion strength as one point. It stores nothing itself: it shows and changes two numbers.

import { make } from "./dom.mjs";
import { dragged } from "./drag.mjs";
import { asOneStep, follow, isWired, setWidget, widen, widgetOf } from "./graph.mjs";
import { showOnNode } from "./shown.mjs";
import { say } from "./words.mjs";

const NAMES = /** @type {const} */ (["identity_strength", "motion_strength"]);
const MOST = 2;
const STEP = 0.05;
const WIDTH = 320;
const HEIGHT = 152;
const PRESETS = [
  { label: "off", strengths: [0, 0], means: "As if the node were not there" },
  { label: "look only", strengths: [1, 0], means: "The look, without its motion" },
  { label: "as trained", strengths: [1, 1], means: "The look and motion of the clip" },
  { label: "exaggerated", strengths: [1, 1.5], means: "The look, with more of its motion" },
];
/** Of each arrow key: what it adds to identity and to motion. @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** @param {GraphNode} node */
export function strengthPad(node) {
  const read = () => NAMES.map((name) => Number(widgetOf(node, name)?.value ?? 1));
  /** @param {number[]} strengths */
  const write = (strengths) => {
    NAMES.forEach((name, index) => setWidget(node, name, rounded(strengths[index] ?? 1)));
    show();
  };
  const point = make("div", {
    class: "setandseq-point",
    role: "slider",
    tabindex: 0,
    "aria-label": say("Look and motion strength"),
    "aria-roledescription": say("two-dimensional slider"),
    "aria-valuemin": 0,
    "aria-valuemax": MOST,
    keydown: (event) => onKey(event, read(), (strengths) => asOneStep(() => write(strengths))),
  });
  const field = make(
    "div",
    { class: "setandseq-field" },
    make("span", { class: "setandseq-axis-motion setandseq-quiet", "aria-hidden": "true", text: say("motion") }),
    make("span", { class: "setandseq-axis-identity setandseq-quiet", "aria-hidden": "true", text: say("look") }),
    point,
  );
  const state = make("output", { class: "setandseq-quiet" });
  const presets = PRESETS.map(({ label, strengths, means }) =>
    make("button", { type: "button", text: say(label), title: say(means), click: () => asOneStep(() => write(strengths)) }),
  );
  dragged(field, (x, y) => write([x * MOST, (1 - y) * MOST]), () => point.focus());

  function show() {
    const strengths = read();
    const shares = strengths.map((strength) => Math.min(Math.max(strength / MOST, 0), 1));
    point.style.left = `${(shares[0] ?? 0) * 100}%`;
    point.style.bottom = `${(shares[1] ?? 0) * 100}%`;
    point.classList.toggle("setandseq-outside", strengths.some((strength) => strength < 0 || strength > MOST));
    const text = say("look {0}, motion {1}", ...strengths);
    point.setAttribute("aria-valuenow", String(strengths[1]));
    point.setAttribute("aria-valuetext", text);
    const wired = NAMES.filter((name) => isWired(node, name));
    state.textContent = wired.length ? say("{0} ({1} set by a link)", text, wired.join(", ")) : text;
    PRESETS.forEach((preset, index) => {
      const chosen = preset.strengths.every((strength, axis) => strength === strengths[axis]);
      presets[index]?.setAttribute("aria-pressed", String(chosen));
    });
  }

  const controls = make("div", { class: "setandseq-presets", role: "group", "aria-label": say("Presets") }, ...presets);
  const side = make("div", {}, controls, state);
  const section = make("section", { class: "setandseq-pad", "aria-label": say("Strength pad") }, field, side);
  showOnNode(node, "strength_pad", section, () => HEIGHT);
  widen(node, WIDTH);
  follow(node, () => `${read()} ${NAMES.map((name) => isWired(node, name))}`, show);
}

/**
 * @param {KeyboardEvent} event
 * @param {number[]} strengths
 * @param {(strengths: number[]) => void} write
 */
function onKey(event, strengths, write) {
  const arrow = ARROWS[event.key];
  if (!arrow) return;
  event.preventDefault();
  const size = event.shiftKey ? 5 * STEP : STEP;
  write(strengths.map((strength, axis) => strength + size * (arrow[axis] ?? 0)));
}

/** @param {number} strength */
function rounded(strength) {
  return Math.round(Math.round(strength / STEP) * STEP * 100) / 100;
}
