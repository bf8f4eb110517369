// @ts-check
// Shows the messages of our errors at once; the interface hides them behind "View details".

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { nodeOfExecution } from "./graph.mjs";

const OUR_ERROR = /setandseq_core\.errors\.\w+$/;
const OUR_NODE = /^SetSeq_/;
const LIFE_MS = 20_000;

/** @typedef {{type: string, details: string}} Complaint about one input of a node */
/** @typedef {Record<string, {class_type: string, errors: Complaint[]}>} NodeErrors by node id */

/** Show one toast for each error, of a training that failed or of a prompt that was rejected. */
export function tellErrors() {
  api.addEventListener("execution_error", ({ detail: { exception_type, exception_message, node_id } }) => {
    if (!OUR_ERROR.test(exception_type)) return;
    toast(node_id, exception_message.replace(/^\S*Error: /, "").trim());
  });
  const queuePrompt = api.queuePrompt.bind(api);
  api.queuePrompt = async (...prompt) => {  // there is no event for a rejection
    try {
      const accepted = await queuePrompt(...prompt);
      tell(accepted.node_errors);
      return accepted;
    } catch (error) {
      tell(/** @type {{response?: {node_errors?: NodeErrors}}} */ (error).response?.node_errors);
      throw error;
    }
  };
}

/**
 * Our nodes' messages about their inputs, each text only once per node, because ComfyUI repeats it for every input.
 * @param {NodeErrors} errors
 * @returns {[string, string][]} node ids and texts
 */
export function complaints(errors) {
  return Object.entries(errors).flatMap(([node, { class_type, errors: found }]) => {
    if (!OUR_NODE.test(class_type)) return [];
    const own = found.filter((each) => each.type === "custom_validation_failed");
    const texts = new Set(own.map((each) => each.details.replace(/^[\w.]+ - /, "")));
    return [...texts].map((text) => /** @type {[string, string]} */ ([node, text]));
  });
}

/** @param {NodeErrors | undefined} errors */
function tell(errors) {
  for (const [node, text] of complaints(errors ?? {})) toast(node, text);
}

/**
 * @param {string | number} node_id
 * @param {string} detail
 */
function toast(node_id, detail) {
  const summary = nodeOfExecution(String(node_id))?.title ?? "";
  app.extensionManager.toast.add({ severity: "error", summary, detail, life: LIFE_MS });
}
