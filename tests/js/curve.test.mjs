// The numbers of the loss curve: node --test tests/js/

import assert from "node:assert/strict";
import test from "node:test";

import { lossRange, smoothed, ticks, verdict } from "../../js/curve.mjs";

test("smoothing starts at the first value and keeps a constant", () => {
  assert.deepEqual(smoothed([2, 2, 2], 5).map((value) => value.toFixed(9)), ["2.000000000", "2.000000000", "2.000000000"]);
  const [first, second] = smoothed([1, 0], 2);
  assert.equal(first, 1);
  assert.ok(Math.abs((second ?? 0) - 1 / 3) < 1e-12);
});

test("smoothing makes a noisy curve calmer", () => {
  const noisy = Array.from({ length: 200 }, (_, index) => index % 2);
  const tail = smoothed(noisy).slice(100);
  assert.ok(Math.max(...tail) - Math.min(...tail) < 0.1);
});

test("ticks are round and inside the range", () => {
  assert.deepEqual(ticks(0, 150, 5), [0, 50, 100, 150]);
  assert.deepEqual(ticks(0.31, 0.52, 4).map((value) => value.toFixed(1)), ["0.4", "0.5"]);
  assert.deepEqual(ticks(3, 3), [3]);
});

test("a few odd losses do not flatten the curve", () => {
  const losses = Array.from({ length: 100 }, () => 0.5);
  const [low, high] = lossRange([...losses, 90], [0.5, 0.4]);
  assert.ok(high < 1 && low < 0.4);
});

test("the verdict tells learning from standing still and from getting worse", () => {
  const points = (/** @type {number[]} */ ...losses) => losses.map((loss, step) => ({ step, loss }));
  assert.equal(verdict(points(1, 0.9)), "");
  assert.match(verdict(points(1, 0.9, 0.8)), /fell by 20 %/);
  assert.match(verdict(points(1, 1, 1)), /not fallen/);
  assert.match(verdict(points(1, 0.8, 0.7, 0.8, 0.9)), /is rising again/);
});
