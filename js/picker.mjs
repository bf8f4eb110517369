// @ts-check
// All concepts with their looping pictures, to choose one for Load Dynamic Concept. A file is asked for when its tile
// comes into view.

import { askConcept, dayOf, thumbnailOf } from "./concept.mjs";
import { make } from "./dom.mjs";
import { asOneStep, isWired, modelFile, setWidget, widgetOf } from "./graph.mjs";
import { versionOf } from "./versions.mjs";
import { say } from "./words.mjs";

/** A tile must stay in view for so long, so that files that are only scrolled past are not asked for. */
const LINGER_MS = 120;
/** Of each key, where it moves the focus: by tiles, or by rows of tiles. @type {Record<string, [number, boolean]>} */
const MOVES = { ArrowLeft: [-1, false], ArrowRight: [1, false], ArrowUp: [-1, true], ArrowDown: [1, true] };

/**
 * The button that opens the picker.
 * @param {GraphNode} node Load Dynamic Concept
 */
export function pickerButton(node) {
  return make("button", {
    type: "button",
    class: "setandseq-browse",
    text: say("Browse"),
    title: say("All concepts with their pictures"),
    click: () => !isWired(node, "concept") && openPicker(node),
  });
}

/** @param {GraphNode} node */
function openPicker(node) {
  const values = widgetOf(node, "concept")?.options.values;
  const files = /** @type {string[]} */ (Array.isArray(values) ? values : []);
  const close = () => dialog.close();
  const choose = (/** @type {string} */ file) => {
    close();
    asOneStep(() => setWidget(node, "concept", file));
  };
  const tiles = files.map((file) => tile(file, choose));
  const grid = make("div", { class: "setandseq-grid", role: "group", "aria-label": say("Concepts") }, ...tiles);
  grid.addEventListener("keydown", (event) => move(event, grid));
  const none = make("p", { class: "setandseq-quiet", role: "status" });
  const search = make("input", {
    type: "search",
    "aria-label": say("Search concepts"),
    placeholder: say("Search {0} concepts", files.length),
    input: () => {
      none.textContent = narrow(tiles, search.value) ? "" : say("No concept has this in its name.");
    },
  });
  const head = make("header", {}, search, make("button", { type: "button", text: say("Close"), click: close }));
  const dialog = make(
    "dialog",
    { class: "setandseq setandseq-picker", "aria-label": say("Choose a concept"), keydown: keep, close: () => end() },
    head,
    none,
    grid,
  );
  const watcher = watch(tiles, grid, modelFile(node));
  const end = () => {
    watcher.disconnect();
    dialog.remove();
  };
  document.body.append(dialog);
  dialog.showModal();
  const current = tiles[files.indexOf(String(widgetOf(node, "concept")?.value ?? ""))];
  current?.setAttribute("aria-current", "true");
  current?.scrollIntoView({ block: "nearest" });
  (current ?? search).focus();
}

/**
 * Keys in the dialog are not for the graph behind it; the browser itself closes it with Escape.
 * @param {KeyboardEvent} event
 */
function keep(event) {
  event.stopPropagation();
}

/**
 * @param {string} file
 * @param {(file: string) => void} choose
 */
function tile(file, choose) {
  const { name, version } = versionOf(file);
  const label = make("strong", { text: name });
  const of = make("span", { class: "setandseq-quiet", text: version > 1 ? say("version {0}", version) : "" });
  const about = make("span", { class: "setandseq-quiet", "data-about": "" });
  const button = make(
    "button",
    { type: "button", class: "setandseq-tile", title: file, click: () => choose(file) },
    make("div", { class: "setandseq-picture-place" }),
    label,
    of,
    about,
  );
  button.dataset["file"] = file;
  return button;
}

/**
 * Fill tiles when they come into view.
 * @param {HTMLElement[]} tiles
 * @param {HTMLElement} grid
 * @param {string} model
 */
function watch(tiles, grid, model) {
  const inView = new Set();
  const watcher = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) {
      if (!isIntersecting) {
        inView.delete(target);
        continue;
      }
      inView.add(target);
      setTimeout(() => {
        if (!inView.has(target)) return;
        watcher.unobserve(target);
        inView.delete(target);
        void fill(/** @type {HTMLElement} */ (target), model);
      }, LINGER_MS);
    }
  }, { root: grid, rootMargin: "100px" });
  for (const each of tiles) watcher.observe(each);
  return watcher;
}

/**
 * @param {HTMLElement} button
 * @param {string} model
 */
async function fill(button, model) {
  const answer = await askConcept(button.dataset["file"] ?? "", model);
  const about = button.querySelector("[data-about]");
  if ("error" in answer) {
    button.classList.add("setandseq-unfit");
    button.title = answer.error;
    if (about) about.textContent = say("cannot be read");
    return;
  }
  const src = thumbnailOf(answer);
  if (src) button.querySelector(".setandseq-picture-place")?.append(make("img", { src, alt: "" }));
  if (about) about.textContent = [dayOf(answer.training), answer.misfit ? say("for {0}", answer.base_name) : ""].filter(Boolean).join(", ");
  button.classList.toggle("setandseq-unfit", Boolean(answer.misfit));
  button.title = [button.dataset["file"], answer.static_prompt, say("for {0}", answer.base_name)].join("\n");
}

/**
 * Show only tiles whose files have this in their names.
 * @param {HTMLElement[]} tiles
 * @param {string} text
 * @returns {boolean} whether any is left
 */
function narrow(tiles, text) {
  for (const each of tiles) each.hidden = !(each.dataset["file"] ?? "").toLowerCase().includes(text.trim().toLowerCase());
  return tiles.some((each) => !each.hidden);
}

/**
 * Move the focus between tiles by the keyboard.
 * @param {KeyboardEvent} event
 * @param {HTMLElement} grid
 */
function move(event, grid) {
  const tiles = /** @type {HTMLElement[]} */ ([...grid.children]).filter((each) => !each.hidden);
  const at = tiles.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const top = tiles[0]?.offsetTop;
  const columns = tiles.filter((each) => each.offsetTop === top).length;
  const [way, byRows] = MOVES[event.key] ?? [0, false];
  const ends = { Home: 0, End: tiles.length - 1 };
  const next = event.key in ends ? ends[/** @type {"Home" | "End"} */ (event.key)] : at + way * (byRows ? columns : 1);
  if (at < 0 || (!way && !(event.key in ends))) return;
  event.preventDefault();
  tiles[next]?.focus();
}
