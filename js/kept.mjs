// @ts-check
// The menu entry that shows what trainings keep on disk and removes it (nodes/kept.py).

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { say } from "./words.mjs";

const ROUTE = "/setandseq/kept";
const MIB = 2 ** 20;

export const KEPT_COMMAND = { id: "SetSeq.RemoveKept", label: "Remove kept trainings", icon: "pi pi-trash", function: removeKept };

async function removeKept() {
  const { bytes, folder } = await (await api.fetchApi(ROUTE)).json();
  const size = (bytes / MIB).toFixed(1);
  const message = say("Kept trainings take {0} MiB in {1}. Concepts are not removed, but a removed training cannot be resumed.", size, folder);
  const title = say("Remove kept trainings");
  if (!(await app.extensionManager.dialog.confirm({ title, message, type: "delete" }))) return;
  const answer = await api.fetchApi(ROUTE, { method: "DELETE" });
  const detail = answer.ok ? say("{0} MiB removed", ((await answer.json()).bytes / MIB).toFixed(1)) : await answer.text();
  app.extensionManager.toast.add({ severity: answer.ok ? "success" : "warn", summary: title, detail, life: 5000 });
}
