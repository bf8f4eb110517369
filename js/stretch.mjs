// @ts-check
// The part of the video that training learns from: it loops, and its start and end can be dragged.

import { api } from "../../scripts/api.js";
import { videoButton } from "./choose.mjs";
import { make } from "./dom.mjs";
import { dragged } from "./drag.mjs";
import { asOneStep, follow, isWired, modelFile, setWidget, sourceOf, widgetOf } from "./graph.mjs";
import { showOnNode } from "./shown.mjs";
import { say } from "./words.mjs";

const HEIGHT = 72;
const STEP = 0.1;
const LEAST = 0.2;
const EXAMPLE = "SetSeq_ExampleClip";
/** The widgets of a node that decide what a video becomes. */
const NUMBERS = ["frames", "width", "height", "start", "length"];

/**
 * @typedef {{start: number, end: number}} Stretch in seconds
 * @typedef {[number, number]} Size width and height in pixels
 * @typedef {{most_seconds?: number, error?: string, source?: Size, crop?: Size, size?: Size, frames?: number,
 *   fps?: number}} Fit as nodes/fit.py answers
 */

/**
 * The part of a video that start and length select.
 * @param {number} start
 * @param {number} length 0 for as much as the model takes
 * @param {number} most seconds that the model takes
 * @param {number} duration of the video
 * @returns {Stretch}
 */
export function stretchOf(start, length, most, duration) {
  const begin = Math.min(start, Math.max(duration - LEAST, 0));
  return { start: begin, end: Math.min(begin + (length > 0 ? Math.min(length, most) : most), duration) };
}

/** @param {GraphNode} node */
export function stretchChooser(node) {
  const video = make("video", { playsinline: true, "aria-label": say("The clip that is learned from") });
  video.muted = true;
  const crop = make("div", { class: "setandseq-crop", hidden: true });
  const screen = make("div", { class: "setandseq-screen" }, video, crop);
  const from = handle("start", "Start");
  const to = handle("end", "End");
  const range = make("div", { class: "setandseq-range" });
  const track = make("div", { class: "setandseq-track" }, range, from, to);
  const text = make("output", { class: "setandseq-quiet" });
  const becomes = make("p", { class: "setandseq-fit", role: "status" });
  /** Why a chosen file could not be used. */
  let problem = "";
  /** Whether the server has no such file. */
  let missing = false;
  const choose = videoButton(node, (text) => {
    problem = text;
    showFit();
  });
  const section = make(
    "section",
    { class: "setandseq-stretch", "aria-label": say("Clip") },
    screen,
    make("div", {}, make("div", { class: "setandseq-times" }, text, choose), track, becomes),
  );
  /** What the server says the clip becomes. @type {Fit} */
  let fit = {};
  const mostSeconds = () => fit.most_seconds ?? Infinity;
  const number = (/** @type {string} */ name) => Number(widgetOf(node, name)?.value ?? 0);
  const current = () => stretchOf(number("start"), number("length"), mostSeconds(), video.duration || 0);

  /** @param {Stretch} stretch */
  const write = ({ start, end }) => {
    setWidget(node, "start", rounded(start));
    setWidget(node, "length", rounded(Math.min(end - start, mostSeconds())));
    video.currentTime = start;
    show();
  };
  /** @type {"start" | "end"} */
  let held = "start";
  dragged(
    track,
    (x) => write(moved(current(), held, x * video.duration, video.duration)),
    ({ target, clientX }) => {
      held = target === to || (target !== from && nearerToEnd(clientX, from, to)) ? "end" : "start";
      (held === "end" ? to : from).focus();
    },
  );
  for (const [element, name] of /** @type {[HTMLElement, "start" | "end"][]} */ ([[from, "start"], [to, "end"]])) {
    element.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!way || !video.duration) return;
      event.preventDefault();
      const now = current();
      asOneStep(() => write(moved(now, name, now[name] + way * STEP, video.duration)));
    });
  }
  video.addEventListener("timeupdate", () => {
    const { start, end } = current();
    if (video.currentTime >= end || video.currentTime < start - STEP) video.currentTime = start;
  });
  video.addEventListener("ended", () => {
    video.currentTime = current().start;
    play();
  });
  video.addEventListener("loadedmetadata", () => {
    show();
    video.currentTime = current().start;
    play();
  });
  video.addEventListener("error", async () => {
    const address = video.getAttribute("src") ?? "";
    const found = await isMissing(address);
    if (video.getAttribute("src") === address) missing = found;
    show();
  });

  function play() {
    // A browser may forbid playing before the first click, and stops it when the node is removed: the video stands still.
    video.play().catch(() => {});
  }

  function show() {
    const known = video.duration > 0;
    track.hidden = screen.hidden = !known;
    if (!known) {
      text.textContent = notShown(node, video.hasAttribute("src"), missing);
      return;
    }
    const { start, end } = current();
    const place = (/** @type {number} */ time) => `${(100 * time) / video.duration}%`;
    from.style.left = range.style.left = place(start);
    to.style.left = place(end);
    range.style.width = place(end - start);
    for (const [element, time] of /** @type {[HTMLElement, number][]} */ ([[from, start], [to, end]])) {
      element.setAttribute("aria-valuemax", video.duration.toFixed(2));
      element.setAttribute("aria-valuenow", time.toFixed(2));
    }
    text.textContent = say("{0} to {1} of {2} s", start.toFixed(2), end.toFixed(2), video.duration.toFixed(2));
  }

  function showFit() {
    const { error, source, crop: used, size, frames, fps } = fit;
    becomes.classList.toggle("setandseq-warning", Boolean(problem || error));
    crop.hidden = !source || !used || source.join() === used.join();
    becomes.textContent = problem || (error ?? "");
    becomes.title = "";
    if (problem || !source || !used || !size) return;
    becomes.textContent = say("Trains on {0} of {1}, {2} frames at {3} fps", times(size), times(source), frames ?? 0, fps ?? 0);
    becomes.title = crop.hidden ? "" : say("The central {0} of the picture; what is outside the frame is cut off.", times(used));
    crop.style.width = `${(100 * used[0]) / source[0]}%`;
    crop.style.height = `${(100 * used[1]) / source[1]}%`;
  }

  showOnNode(node, "stretch_chooser", section, () => HEIGHT);
  follow(
    node,
    () => [videoAddress(node), isWired(node, "video"), number("start"), number("length"), mostSeconds()].join("\n"),
    () => {
      const address = videoAddress(node);
      if (video.getAttribute("src") !== address) {
        if (address) video.src = address;
        else video.removeAttribute("src");
        video.load();
        problem = "";
        missing = false;
        showFit();
      }
      show();
    },
  );
  followAnswer(node, () => fitQuery(node), (answer) => {
    fit = answer;
    showFit();
    show();
  });
}

/**
 * Ask the server what the clip becomes whenever something changes that decides it. Of several changes in quick
 * succession, such as by dragging, the last one is asked for when the answer before has come.
 * @param {GraphNode} node
 * @param {() => string} query
 * @param {(answer: Fit) => void} answered
 */
function followAnswer(node, query, answered) {
  let asks = false;
  const ask = async () => {
    if (asks) return;
    asks = true;
    let wanted;
    do {
      wanted = query();
      answered(await fitFor(wanted));
    } while (wanted !== query());
    asks = false;
  };
  follow(node, query, () => void ask());
}

/**
 * What a node asks of `nodes/fit.py`; "" where the graph tells neither model nor video.
 * @param {GraphNode} node
 */
function fitQuery(node) {
  const model = modelFile(node);
  if (!model) return "";
  const numbers = NUMBERS.filter((name) => widgetOf(node, name) && !isWired(node, name));
  const values = numbers.map((name) => [name, String(widgetOf(node, name)?.value ?? 0)]);
  return String(new URLSearchParams([["model", model], ["video", videoName(node)], ...values]));
}

/**
 * @param {string} query
 * @returns {Promise<Fit>} nothing where the server does not answer
 */
async function fitFor(query) {
  if (!query) return {};
  try {
    const answer = await api.fetchApi(`/setandseq/fit?${query}`);
    return answer.ok ? await answer.json() : {};
  } catch {
    return {};
  }
}

/**
 * Why there is no picture.
 * @param {GraphNode} node
 * @param {boolean} hasFile
 * @param {boolean} missing whether there is no such file on the server
 */
function notShown(node, hasFile, missing) {
  if (missing) return say("There is no {0} on the server yet. Choose a video.", videoName(node));
  if (hasFile) return say("The browser cannot show this file. You can still train on it.");
  if (isWired(node, "video")) return say("The clip can be shown here only if it comes straight from Load Video.");
  return say("Choose a video, or connect Load Video.");
}

/**
 * Whether the server has nothing at an address.
 * @param {string} address
 */
async function isMissing(address) {
  try {
    return (await fetch(address, { method: "HEAD" })).status === 404;
  } catch {
    return false;
  }
}

/** @param {Size} size */
function times([width, height]) {
  return `${width}x${height}`;
}

/**
 * The stretch with one end moved, within the video.
 * @param {Stretch} stretch
 * @param {"start" | "end"} name
 * @param {number} time
 * @param {number} duration
 * @returns {Stretch}
 */
export function moved({ start, end }, name, time, duration) {
  if (name === "end") return { start, end: Math.min(Math.max(time, start + LEAST), duration) };
  const begin = Math.min(Math.max(time, 0), Math.max(duration - LEAST, 0));
  return { start: begin, end: Math.min(begin + end - start, duration) };
}

/**
 * @param {string} name
 * @param {string} label
 */
function handle(name, label) {
  const kind = `setandseq-handle setandseq-handle-${name}`;
  return make("div", { class: kind, role: "slider", tabindex: 0, "aria-label": say(label), "aria-valuemin": 0 });
}

/**
 * @param {number} x
 * @param {HTMLElement} from
 * @param {HTMLElement} to
 */
function nearerToEnd(x, from, to) {
  const [first, last] = [from, to].map((element) => Math.abs(element.getBoundingClientRect().left - x));
  return (last ?? 0) < (first ?? 0);
}

/**
 * The connected video by its name in ComfyUI's folders; "" where the graph does not tell.
 * @param {GraphNode} node
 */
function videoName(node) {
  const source = sourceOf(node, "video");
  if (source?.comfyClass === EXAMPLE) return EXAMPLE;
  return source?.comfyClass === "LoadVideo" && !isWired(source, "file") ? String(widgetOf(source, "file")?.value ?? "") : "";
}

/**
 * The address at which the browser finds the connected video; "" if the graph does not show it.
 * @param {GraphNode} node
 */
function videoAddress(node) {
  const file = videoName(node);
  if (file === EXAMPLE) return api.apiURL("/setandseq/example_clip");
  if (!file) return "";
  const [, path = "", type = "input"] = /^(.*?)(?: \[(\w+)\])?$/.exec(file) ?? [];
  const cut = path.lastIndexOf("/") + 1;
  const query = new URLSearchParams({ filename: path.slice(cut), subfolder: path.slice(0, cut), type });
  return api.apiURL(`/view?${query}`);
}

/** @param {number} seconds */
function rounded(seconds) {
  return Math.round(100 * seconds) / 100;
}
