// @ts-check
// What the server says of a concept file (nodes/card.py).

import { api } from "../../scripts/api.js";
import { say } from "./words.mjs";

/**
 * @typedef {{steps: number, seconds: number | null}} Stage
 * @typedef {{date?: string, resolution?: string, frames?: number, fps?: number, finished?: boolean, set?: Stage,
 *   sequence?: Stage}} Training
 * @typedef {{name: string, static_prompt: string, motion_prompt: string, tokens: string[], base_name: string,
 *   author: string, tags: string[], rank: number | null, bytes: number, training: Training, thumbnail: string | null,
 *   experts: Expert[], misfit?: string | null}} Concept the answer of nodes/card.py
 * @typedef {{name: string, noise: string, base_name: string, training: Training}} Expert one of the two models of a base
 */

/**
 * @param {string} file
 * @param {string} model
 * @returns {Promise<Concept | {error: string}>}
 */
export async function askConcept(file, model) {
  try {
    const answer = await api.fetchApi(`/setandseq/concept?${new URLSearchParams({ file, model })}`);
    return answer.ok ? await answer.json() : { error: say("The server answers {0}. Restart ComfyUI.", answer.status) };
  } catch {
    return { error: say("The server does not answer. Is ComfyUI running?") };
  }
}

/**
 * The looping picture of a concept, as the server has checked it; "" where it has none.
 * @param {Concept} concept
 */
export function thumbnailOf({ thumbnail }) {
  return thumbnail && /^data:image\/(png|jpeg);base64,/.test(thumbnail) ? thumbnail : "";
}

/**
 * The day on which a training ended, in the reader's way of writing; "" where the file does not say.
 * @param {Training} training
 */
export function dayOf({ date = "" }) {
  const day = new Date(date);
  return Number.isNaN(day.getTime()) ? "" : day.toLocaleDateString(undefined, { dateStyle: "medium" });
}
