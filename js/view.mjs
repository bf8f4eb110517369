// @ts-check
// Templates open as large as they fit. The interface fits a template into three quarters of the window, so that text
// that was laid out for 100 % is hard to read on a small screen. Views that a person has chosen stay as they are.

import { app } from "../../scripts/app.js";

/** The interface's own view of a template: its share of the window, and pixels around nodes. */
const SHARE = 0.75;
const PADDING = 10;
const TITLE = 30;
/** Edges of the graph that tabs, side bar, Run button and view controls cover, in pixels. */
const COVERED = { left: 66, top: 92, right: 12, bottom: 12 };
const ALIKE = 0.005;
const LOOK_MS = 2000;

/** @typedef {{left: number, top: number, width: number, height: number}} Box of the graph, or pixels of the window */
/** @typedef {{scale: number, x: number, y: number}} View its scale, and where the graph's origin is in its units */
/** @typedef {{type: string, pos: number[], size: number[], flags?: {collapsed?: boolean}}} SavedNode */

/** The box of the workflow that is being opened; undefined if it has none of our nodes. @type {Box | undefined} */
let opening;

/**
 * The box around the nodes of a workflow file.
 * @param {SavedNode[]} nodes
 * @returns {Box}
 */
export function boxOf(nodes) {
  const lefts = nodes.map(({ pos }) => pos[0] ?? 0);
  const tops = nodes.map(({ pos }) => (pos[1] ?? 0) - TITLE);
  const rights = nodes.map(({ pos, size }) => (pos[0] ?? 0) + (size[0] ?? 0));
  const bottoms = nodes.map(({ pos, size, flags }) => (pos[1] ?? 0) + (flags?.collapsed ? 0 : size[1] ?? 0));
  const [left, top] = [Math.min(...lefts), Math.min(...tops)];
  return { left, top, width: Math.max(...rights) - left, height: Math.max(...bottoms) - top };
}

/**
 * The scale at which the interface shows a template by itself.
 * @param {Box} box
 * @param {number} width of the window
 * @param {number} height
 */
export function ownScale(box, width, height) {
  return SHARE * Math.min(width / (box.width + 2 * PADDING), height / (box.height + 2 * PADDING));
}

/**
 * The largest view up to 100 % that shows a whole box, aligned with its top because nodes grow downwards.
 * @param {Box} box
 * @param {number} width of the window
 * @param {number} height
 * @returns {View}
 */
export function largeView(box, width, height) {
  const free = { width: width - COVERED.left - COVERED.right, height: height - COVERED.top - COVERED.bottom };
  const scale = Math.min(1, free.width / box.width, free.height / box.height);
  const left = COVERED.left + (free.width - scale * box.width) / 2;
  return { scale, x: left / scale - box.left, y: COVERED.top / scale - box.top };
}

/**
 * Before a workflow is opened, note where its nodes are.
 * @param {{nodes?: SavedNode[]}} workflow
 */
export function noteOpening({ nodes = [] }) {
  opening = nodes.some(({ type }) => type.startsWith("SetSeq_")) ? boxOf(nodes) : undefined;
}

/** After a workflow was opened, enlarge the interface's view of a template as soon as it is set. */
export function enlargeTemplate() {
  const box = opening;
  const end = performance.now() + LOOK_MS;
  const look = () => {
    if (!box || box !== opening || performance.now() > end) return;
    const { clientWidth: width, clientHeight: height } = app.canvas.canvas;
    const own = ownScale(box, width, height);
    const view = largeView(box, width, height);
    if (Math.abs(app.canvas.ds.scale / own - 1) > ALIKE) requestAnimationFrame(look);
    else if (view.scale > own) show(view);
  };
  look();
}

/** @param {View} view */
function show({ scale, x, y }) {
  const { ds } = app.canvas;
  ds.scale = scale;
  ds.offset[0] = x;
  ds.offset[1] = y;
  app.canvas.setDirty(true, true);
}
