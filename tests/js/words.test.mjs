// The texts in other languages: node --test tests/js/

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";
import { URL } from "node:url";

import { TABLES, say, speak } from "../../js/words.mjs";

const FOLDER = new URL("../../js/", import.meta.url);
const files = readdirSync(FOLDER).filter((name) => /\.m?js$/.test(name) && name !== "words.mjs");
const sources = files.map((name) => readFileSync(new URL(name, FOLDER), "utf8")).join("\n").replace(/" \+\s+"/g, "");
const placesOf = (/** @type {string} */ text) => (text.match(/\{\d\}/g) ?? []).sort();

for (const [language, table] of Object.entries(TABLES)) {
  test(`${language}: every text of the table is one of the code, with the same places for values`, () => {
    for (const [text, other] of Object.entries(table)) {
      assert.ok(sources.includes(JSON.stringify(text)), `no longer in the code: ${text}`);
      assert.deepEqual(placesOf(other), placesOf(text), text);
    }
  });

  test(`${language}: every text that the code says is in the table`, () => {
    const said = [...sources.matchAll(/\bsay\(("(?:[^"\\]|\\.)*")/g)].map((match) => JSON.parse(match[1] ?? ""));
    assert.ok(said.length > 40);
    assert.deepEqual(said.filter((text) => !(text in table)), []);
  });
}

test("a text is said in the interface's language, and in English where there is none", () => {
  speak(() => "fr");
  assert.equal(say("{0} steps", 12), "12 pas");
  assert.equal(say("what no table has {0}", 1), "what no table has 1");
  speak(() => "xx");
  assert.equal(say("{0} steps", 12), "12 steps");
  speak(() => "en");
});
