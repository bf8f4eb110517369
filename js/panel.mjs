// @ts-check
// The training panel on both train nodes. The server keeps the record of a training (nodes/panel.py); a new panel asks
// for the whole record, and then adds the changes that events bring.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { drawCurve, verdict } from "./curve.mjs";
import { make } from "./dom.mjs";
import { EXPERTS } from "./experts.mjs";
import { asOneStep, executionIds, setWidget, whileInGraph, widen, widgetOf, workflowId } from "./graph.mjs";
import { showOnNode } from "./shown.mjs";
import { say } from "./words.mjs";

/**
 * @typedef {object} News
 * @property {string} node
 * @property {string} workflow
 * @property {string} run
 * @property {string} stage
 * @property {number} step
 * @property {number} steps
 * @property {string} expert which of two models learns; "" if there is only one
 * @property {number} steps_before steps of the request's earlier parts
 * @property {number} steps_in_all steps of all its parts; 0 if it has only one
 * @property {string} prompt
 * @property {"training" | "finished" | "kept" | "stopped" | "failed"} state
 * @property {string} message
 * @property {boolean} alarming
 * @property {string} plan
 * @property {string} wish
 * @property {number} seconds_left
 * @property {number} start
 * @property {number} stride
 * @property {number} first
 * @property {number[]} losses
 * @property {number} first_validation
 * @property {[number, number][]} validation
 * @property {string[]} pictures
 * @property {number} sample_step
 */

const EVENT = "setandseq.training";
const WIDTH = 340;
const HEIGHT = 310;
/** The record of a panel that has no training to show. */
const IDLE_HEIGHT = 36;
/** @type {Record<string, string>} */
const STAGES = { set: "Learning the look", sequence: "Learning the motion" };
/** @type {Record<string, string>} */
const ENDS = {
  finished: "finished",
  kept: "finished early",
  stopped: "paused; run again to resume",
  failed: "failed",
};
/** The property that distinguishes a node from the same node in another copy of the workflow; see nodes/panel.py. */
const COPY = "setandseq_copy";
/** By stage, the widgets that may hold its number of steps. @type {Record<string, string[]>} */
const STEPS = { set: ["look_steps", "steps"], sequence: ["motion_steps", "steps"] };
/** Steps that a click on "Train more" adds, as a fraction of those that were done. */
const MORE = 0.5;
const IDLE = "Loss and sample videos appear here while it trains.";

/** @type {Set<TrainingPanel>} */
const panels = new Set();

/** Make all panels receive the events of every training; does nothing the second time. */
export function listenToTraining() {
  api.addEventListener(/** @type {any} */ (EVENT), (/** @type {CustomEvent<News>} */ event) => {
    for (const panel of panels) panel.hear(event.detail);
  });
  api.addEventListener("reconnected", () => panels.forEach((panel) => panel.askForAll()));
}

/** @param {GraphNode} node */
export function trainingPanel(node) {
  node.properties[COPY] ??= Math.random().toString(36).slice(2);
  const panel = new TrainingPanel(node);
  showOnNode(node, "training_panel", panel.element, () => panel.height);
  widen(node, WIDTH);
  whileInGraph(node, (left) => {
    panels.add(panel);
    left.addEventListener("abort", () => panels.delete(panel));
    setTimeout(() => panel.askForAll()); // by then a node that is being loaded has its id
  });
}

class TrainingPanel {
  /** @type {News | undefined} */
  #record;

  /** @param {GraphNode} node */
  constructor(node) {
    this.node = node;
    this.title = make("div", { class: "setandseq-title", text: say(IDLE) });
    this.bar = make("div", { class: "setandseq-bar", role: "progressbar", "aria-label": say("Training steps"), hidden: true }, make("div"));
    this.verdict = make("div", { class: "setandseq-quiet", role: "status" });
    this.curve = make("div", { class: "setandseq-curve" });
    this.legend = make(
      "div",
      { class: "setandseq-legend setandseq-quiet" },
      make("span", { class: "setandseq-key-loss", text: say("loss, smoothed") }),
      make("span", { class: "setandseq-key-validation", text: say("validation: fixed noise") }),
    );
    this.pictures = make("div", { class: "setandseq-pictures" });
    this.keep = this.#button("keep", "Finish now", "Ends this stage, keeps what was learned and continues");
    this.stop = this.#button("stop", "Pause", "Stops the run. Run again to resume from here");
    this.more = make("button", {
      type: "button",
      text: say("Train more"),
      title: say("Adds half as many steps and runs again, resuming from here"),
      click: () => this.#trainMore(),
    });
    this.strip = make("div", { class: "setandseq-strip", role: "group", "aria-label": say("Samples") });
    this.buttons = make("div", { class: "setandseq-buttons" }, this.keep, this.stop, this.more);
    this.element = make(
      "section",
      { class: "setandseq-panel", "aria-label": say("Training") },
      this.title,
      this.bar,
      this.verdict,
      this.curve,
      this.legend,
      this.pictures,
      this.strip,
      this.buttons,
    );
    this.#show();
  }

  /** Height in pixels that the panel needs; it is small until there is a training. */
  get height() {
    return this.#record ? HEIGHT : IDLE_HEIGHT;
  }

  /**
   * Take in the changes that the server sends; those of other nodes are ignored.
   * @param {News} news
   */
  hear(news) {
    if (!executionIds(this.node).includes(news.node) || (news.workflow && news.workflow !== this.#copy())) return;
    const known = this.#record;
    const continues = known?.run === news.run;
    const fits = continues && known.stride === news.stride && known.losses.length >= news.first;
    if (!fits && (news.first > 0 || news.first_validation > 0)) {
      this.askForAll();
      return;
    }
    if (fits && known.validation.length < news.first_validation) {
      this.askForAll();
      return;
    }
    const losses = fits ? [...known.losses.slice(0, news.first), ...news.losses] : news.losses;
    const validation = fits ? [...known.validation.slice(0, news.first_validation), ...news.validation] : news.validation;
    this.#record = { ...news, losses, validation };
    this.#show();
  }

  /** Ask the server for the whole record: after a reload, in a second tab, or when something was missed. */
  async askForAll() {
    for (const id of executionIds(this.node)) {
      const answer = await api.fetchApi(this.#route(id));
      const record = answer.ok ? await answer.json() : {};
      if (!record.node) continue;
      this.#record = record;
      this.#show();
      return;
    }
    this.#record = undefined;
    this.#show();
  }

  /**
   * @param {"keep" | "stop"} wish
   * @param {string} text
   * @param {string} title
   */
  #button(wish, text, title) {
    return make("button", { type: "button", text: say(text), title: say(title), click: () => this.#wish(wish) });
  }

  /** @param {"keep" | "stop"} wish */
  async #wish(wish) {
    if (!this.#record) return;
    this.keep.disabled = this.stop.disabled = true;
    const answer = await api.fetchApi(this.#route(this.#record.node, wish), { method: "POST" });
    if (answer.ok) return;
    app.extensionManager.toast.add({ severity: "warn", summary: say("Training"), detail: await answer.text(), life: 5000 });
    await this.askForAll();
  }

  /** The mark that distinguishes this node from the same node in another copy of the workflow. */
  #copy() {
    return String(this.node.properties[COPY] ?? workflowId());
  }

  /**
   * @param {string} node
   * @param {string} [rest] of the address
   * @param {string} [version] what makes the browser ask again
   */
  #route(node, rest = "", version = "") {
    const query = new URLSearchParams({ workflow: this.#copy(), ...(version ? { version } : {}) });
    return `/setandseq/training/${encodeURIComponent(node)}${rest ? `/${rest}` : ""}?${query}`;
  }

  #trainMore() {
    const record = this.#record;
    const name = STEPS[record?.stage ?? ""]?.find((each) => widgetOf(this.node, each));
    if (!record || !name) return;
    asOneStep(() => setWidget(this.node, name, record.step + Math.max(1, Math.round(MORE * record.step))));
    void app.queuePrompt(0, 1);
  }

  #show() {
    const record = this.#record;
    const trains = record?.state === "training";
    this.element.classList.toggle("setandseq-idle", !record);
    this.element.style.minHeight = `${this.height}px`;
    this.node.setDirtyCanvas(true, true);
    this.keep.disabled = this.stop.disabled = !trains || record.wish !== "";
    this.keep.hidden = this.stop.hidden = !trains;
    this.more.hidden = record?.state !== "finished" && record?.state !== "kept";
    this.bar.hidden = !record;
    if (!record) {
      this.title.textContent = say(IDLE);
      this.verdict.textContent = "";
      this.curve.replaceChildren();
      this.pictures.replaceChildren();
      this.pictures.dataset["sources"] = "";
      this.strip.replaceChildren();
      return;
    }
    this.title.textContent = titled(record);
    this.title.classList.toggle("setandseq-alarm", record.state === "failed");
    this.#showBar(record);
    const losses = record.losses.map((loss, index) => ({ step: record.start + (index + 1) * record.stride, loss }));
    const validation = record.validation.map(([step, loss]) => ({ step, loss }));
    const words = record.message || (losses.length ? verdict(validation) : record.plan);
    this.title.title = record.plan;
    if (this.verdict.textContent !== words) this.verdict.textContent = words;
    this.verdict.classList.toggle("setandseq-alarm", record.alarming);
    this.curve.replaceChildren(drawCurve(losses, validation, record.steps));
    this.#showPictures(record);
  }

  /** @param {News} record */
  #showBar(record) {
    const inner = /** @type {HTMLElement} */ (this.bar.firstElementChild);
    const all = record.steps_in_all || record.steps;
    const done = record.steps_in_all ? record.steps_before + record.step : record.step;
    inner.style.width = `${(100 * done) / Math.max(all, 1)}%`;
    this.bar.setAttribute("aria-valuemin", "0");
    this.bar.setAttribute("aria-valuemax", String(all));
    this.bar.setAttribute("aria-valuenow", String(done));
  }

  /** @param {News} record */
  #showPictures(record) {
    const labels = { reference: say("Your clip"), sample: say("Sample at step {0}", record.sample_step) };
    const wanted = /** @type {("reference" | "sample")[]} */ (["reference", "sample"]).filter((name) => record.pictures.includes(name));
    const sources = wanted.map((name) => this.#source(record, name));
    if (this.pictures.dataset["sources"] === sources.join()) return;
    this.pictures.dataset["sources"] = sources.join();
    const figures = wanted.map((name, index) => {
      const alt = `${labels[name]}: ${record.prompt}`;
      return make("figure", {}, picture(sources[index] ?? "", alt), make("figcaption", { text: labels[name] }));
    });
    this.pictures.replaceChildren(...figures);
    this.#showStrip(record);
  }

  /**
   * All kept samples, each with its step.
   * @param {News} record
   */
  #showStrip(record) {
    const steps = record.pictures.flatMap((name) => /^sample_(\d+)$/.exec(name)?.[1] ?? []).map(Number).sort((a, b) => a - b);
    const figures = steps.map((step) => {
      const source = this.#source(record, `sample_${step}`);
      return make("figure", {}, picture(source, say("Sample at step {0}", step)), make("figcaption", { text: step }));
    });
    this.strip.replaceChildren(...(steps.length > 1 ? figures : []));
  }

  /**
   * @param {News} record
   * @param {string} name of the picture
   */
  #source(record, name) {
    return api.apiURL(this.#route(record.node, name, `${record.run}.${name === "sample" ? record.sample_step : 0}`));
  }
}

/**
 * A picture that a click enlarges.
 * @param {string} src
 * @param {string} alt
 */
function picture(src, alt) {
  const title = say("Click to enlarge");
  const small = make("img", { src, alt, title, draggable: "false" });
  const button = make("button", { type: "button", class: "setandseq-picture", click: () => showLarge(src, alt) }, small);
  return button;
}

/**
 * @param {string} src
 * @param {string} alt
 */
function showLarge(src, alt) {
  const close = () => dialog.close();
  const dialog = make(
    "dialog",
    { class: "setandseq-large", "aria-label": alt, click: close, close: () => dialog.remove() },
    make("img", { src, alt }),
    make("p", { text: alt }),
  );
  document.body.append(dialog);
  dialog.showModal();
}

/** @param {News} record */
function titled(record) {
  const learning = say(STAGES[record.stage] ?? record.stage);
  const stage = record.expert ? say("{0} ({1})", learning, say(EXPERTS[record.expert] ?? record.expert)) : learning;
  const where = say("{0}: step {1} of {2}", stage, record.step, record.steps);
  if (record.state !== "training") return `${where}, ${say(ENDS[record.state] ?? record.state)}`;
  if (record.wish) return say("{0}, stopping ...", where);
  return record.step ? say("{0}, {1} left", where, clock(record.seconds_left)) : say("{0}: getting ready ...", stage);
}

/** @param {number} seconds */
function clock(seconds) {
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part, index) => (index ? String(part).padStart(2, "0") : String(part)));
  const hours = Math.floor(whole / 3600);
  return hours ? `${hours}:${parts.map((part) => part.padStart(2, "0")).join(":")}` : parts.join(":");
}
