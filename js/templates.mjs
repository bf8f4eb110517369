// @ts-check
// Puts our workflows in the template browser into the order of their numbers. ComfyUI lists them as the disk does.

import { api } from "../../scripts/api.js";

const byNumber = new Intl.Collator("en", { numeric: true });

/** Sort our section whenever the interface asks for the templates. */
export function orderTemplates() {
  const getTemplates = api.getWorkflowTemplates.bind(api);
  api.getWorkflowTemplates = async () => inOrder(await getTemplates(), ourFolder(import.meta.url));
}

/**
 * The templates with those of one pack sorted, so that 10 comes after 9.
 * @param {Record<string, string[]>} templates by the folder of their pack
 * @param {string} folder
 * @returns {Record<string, string[]>}
 */
export function inOrder(templates, folder) {
  const ours = templates[folder];
  return ours ? { ...templates, [folder]: [...ours].sort(byNumber.compare) } : templates;
}

/**
 * The folder of the pack, as its files' addresses have it.
 * @param {string} address such as "http://127.0.0.1:8188/extensions/setandseq/templates.mjs"
 */
export function ourFolder(address) {
  return decodeURIComponent(new URL(".", address).pathname.split("/").at(-2) ?? "");
}
