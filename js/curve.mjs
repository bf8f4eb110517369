// @ts-check
// A loss curve that is easy to read: its numbers and its drawing.

import { makeSvg } from "./dom.mjs";
import { say } from "./words.mjs";

/** @typedef {{step: number, loss: number}} Point */

const WIDTH = 360;
const HEIGHT = 130;
const LEFT = 34;
const RIGHT = 6;
const TOP = 8;
const BOTTOM = 18;

/**
 * A running mean that starts at the first value and forgets values that are much older than `span`.
 * @param {number[]} values
 * @param {number} [span] of values that count; without, a tenth of them
 */
export function smoothed(values, span = Math.max(5, values.length / 10)) {
  const keep = 1 - 1 / Math.max(span, 1);
  let sum = 0;
  let weight = 0;
  return values.map((value) => {
    sum = keep * sum + value;
    weight = keep * weight + 1;
    return sum / weight;
  });
}

/**
 * Round numbers inside a range, at most `most` of them.
 * @param {number} low
 * @param {number} high
 * @param {number} [most]
 */
export function ticks(low, high, most = 4) {
  if (!(high > low)) return [low];
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? rough;
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9) + 0; index * step <= high + step * 1e-9; index++) found.push(index * step);
  return found;
}

/**
 * The range of losses to draw: it holds both lines completely, and all single losses except outliers.
 * @param {number[]} raw
 * @param {number[]} lines
 * @returns {[number, number]}
 */
export function lossRange(raw, lines) {
  const sorted = [...raw].sort((a, b) => a - b);
  const inner = [0.03, 0.97].map((share) => sorted[Math.round(share * (sorted.length - 1))] ?? 0);
  const low = Math.min(...inner, ...lines);
  const high = Math.max(...inner, ...lines);
  const room = 0.05 * (high - low) || 0.1 * Math.abs(high) || 0.1;
  return [Math.max(0, low - room), high + room];
}

/**
 * Say in words whether the validation losses show progress.
 * @param {Point[]} validation
 */
export function verdict(validation) {
  const first = validation[0];
  const last = validation[validation.length - 1];
  if (!first || !last || validation.length < 3) return "";
  const best = Math.min(...validation.map((point) => point.loss));
  const change = Math.round((100 * (last.loss - first.loss)) / first.loss);
  if (last.loss > 1.05 * best && validation.length > 4) {
    return say("The validation loss is rising again. Fewer steps or a lower learning rate may work better.");
  }
  if (change < 0) return say("It is learning: the validation loss fell by {0} %.", -change);
  return say("The validation loss has not fallen yet.");
}

/**
 * Draw losses; the picture scales with its width.
 * @param {Point[]} losses of single steps
 * @param {Point[]} validation
 * @param {number} steps of the whole training
 * @returns {SVGSVGElement}
 */
export function drawCurve(losses, validation, steps) {
  const raw = losses.map((point) => point.loss);
  const line = smoothed(raw);
  const [low, high] = lossRange(raw, [...line, ...validation.map((point) => point.loss)]);
  const x = (/** @type {number} */ step) => LEFT + (step / Math.max(steps, 1)) * (WIDTH - LEFT - RIGHT);
  const y = (/** @type {number} */ loss) => {
    const share = (loss - low) / (high - low);
    return HEIGHT - BOTTOM - Math.min(1, Math.max(0, share)) * (HEIGHT - TOP - BOTTOM);
  };
  const path = (/** @type {Point[]} */ points) => points.map(({ step, loss }) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join(" ");
  const svg = makeSvg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": described(line, validation) });
  svg.append(...yAxis(low, high, y), ...xAxis(steps, x));
  svg.append(makeSvg("polyline", { class: "setandseq-raw", points: path(losses) }));
  const means = losses.map(({ step }, index) => ({ step, loss: line[index] ?? 0 }));
  svg.append(makeSvg("polyline", { class: "setandseq-loss", points: path(means) }));
  svg.append(makeSvg("polyline", { class: "setandseq-validation", points: path(validation) }));
  for (const { step, loss } of validation) {
    svg.append(makeSvg("circle", { class: "setandseq-validation", cx: x(step), cy: y(loss), r: 2 }));
  }
  return svg;
}

/**
 * @param {number} low
 * @param {number} high
 * @param {(loss: number) => number} y
 */
function yAxis(low, high, y) {
  const values = ticks(low, high, 4);
  const digits = values.length > 1 && (values[1] ?? 0) - (values[0] ?? 0) < 0.01 ? 3 : 2;
  return values.flatMap((value) => [
    makeSvg("line", { class: "setandseq-grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
    makeSvg("text", { x: LEFT - 4, y: y(value) + 3, "text-anchor": "end", text: value.toFixed(digits) }),
  ]);
}

/**
 * @param {number} steps
 * @param {(step: number) => number} x
 */
function xAxis(steps, x) {
  const room = steps * 0.8;
  const values = ticks(0, steps, 5).filter((value) => Number.isInteger(value) && value < room);
  const marks = values.map((value) => makeSvg("text", { x: x(value), y: HEIGHT - 5, "text-anchor": "middle", text: value }));
  return [...marks, makeSvg("text", { x: WIDTH - RIGHT, y: HEIGHT - 5, "text-anchor": "end", text: say("{0} steps", steps) })];
}

/**
 * Describe the curve in words.
 * @param {number[]} line
 * @param {Point[]} validation
 */
function described(line, validation) {
  const number = (/** @type {number | undefined} */ value) => (value ?? 0).toFixed(3);
  if (!line.length) return say("Loss curve: no steps yet");
  const text = say("Loss curve: {0} at the start, {1} now", number(line[Math.min(4, line.length - 1)]), number(line.at(-1)));
  if (validation.length < 2) return text;
  return say("{0}; validation {1}, now {2}", text, number(validation[0]?.loss), number(validation.at(-1)?.loss));
}
