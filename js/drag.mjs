// @ts-check
// Dragging on our elements: everything from pressing to releasing is one step of undo.

import { app } from "../../scripts/app.js";

/**
 * While the pointer is down, call `moved` with its position as fractions from the left and from the top.
 * @param {HTMLElement} field
 * @param {(x: number, y: number) => void} moved
 * @param {(event: PointerEvent) => void} [begun] before the first move
 */
export function dragged(field, moved, begun = () => {}) {
  let drags = false;
  /** @param {PointerEvent} event */
  const move = (event) => {
    event.stopPropagation();
    const box = field.getBoundingClientRect();
    moved(share(event.clientX - box.left, box.width), share(event.clientY - box.top, box.height));
  };
  field.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    drags = true;
    app.canvas.emitBeforeChange();
    field.setPointerCapture(event.pointerId);
    begun(event);
    move(event);
  });
  field.addEventListener("pointermove", (event) => {
    if (drags) move(event);
  });
  field.addEventListener("lostpointercapture", () => {
    if (!drags) return;
    drags = false;
    app.canvas.emitAfterChange();
  });
}

/**
 * @param {number} part
 * @param {number} whole
 */
function share(part, whole) {
  return whole > 0 ? Math.min(Math.max(part / whole, 0), 1) : 0;
}
