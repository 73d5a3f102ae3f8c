// What every client in node is asked, and how its answers are printed; calls.py says the form of both.

import { readFileSync } from "node:fs";

export const [URL, MODEL, FOLDER, KIND] = process.argv.slice(2);
export const KEY = "none";
export const QUESTION = "What is the TOTAL?";
export const FIRST_QUESTION = "What is the Tax?";
export const SYSTEM = "You are a careful assistant. Answer with the value alone.";
export const SCHEMA = {
  type: "object",
  properties: { total: { type: "string" } },
  required: ["total"],
  additionalProperties: false,
};
export const TOOL = { name: "book", description: "Book the total of a receipt.", parameters: SCHEMA };

export const bytes = (name) => readFileSync(`${FOLDER}/${name}`);
export const dataUrl = (name) =>
  `data:${name.endsWith(".pdf") ? "application/pdf" : "image/png"};base64,${bytes(name).toString("base64")}`;

// Makes all calls and prints what they gave; one that fails does not end the others.
export async function run(calls) {
  const found = {};
  for (const [name, call] of Object.entries(calls)) {
    try {
      found[name] = { value: String(await call()) };
    } catch (error) {
      found[name] = { raised: `${error.name}: ${error.message}` };
    }
  }
  // as calls.py writes it: dev/clients.py looks for the line that begins so
  console.log(`{"call": ${JSON.stringify(found.call)}, ${JSON.stringify(found).slice(1)}`);
}
