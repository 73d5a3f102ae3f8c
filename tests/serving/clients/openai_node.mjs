// The calls through openai (node).

import OpenAI from "openai";
import { FIRST_QUESTION, KEY, MODEL, QUESTION, SCHEMA, SYSTEM, TOOL, URL, dataUrl, run } from "./calls.mjs";

const client = new OpenAI({ baseURL: URL, apiKey: KEY, maxRetries: 0 });
const image = (name = "receipt.png") => ({ type: "image_url", image_url: { url: dataUrl(name) } });
const text = (words = QUESTION) => ({ type: "text", text: words });
const file = { type: "file", file: { filename: "receipt.pdf", file_data: dataUrl("receipt.pdf") } };
const user = (...parts) => ({ role: "user", content: parts });
const ask = async (messages, fields = {}) =>
  (await client.chat.completions.create({ model: MODEL, messages, ...fields })).choices[0].message;

await run({
  call: async () => (await ask([user(image(), text())])).content,
  stream: async () => {
    let said = "";
    for await (const chunk of await client.chat.completions.create({
      model: MODEL,
      messages: [user(image(), text())],
      stream: true,
    }))
      said += chunk.choices[0]?.delta?.content ?? "";
    return said;
  },
  "second turn": async () => {
    const first = user(image(), text(FIRST_QUESTION));
    return (await ask([first, await ask([first]), user(text())])).content;
  },
  structured: async () => {
    const format = { type: "json_schema", json_schema: { name: "receipt", schema: SCHEMA, strict: true } };
    const messages = [user(image(), text())];
    const found = await client.chat.completions.parse({ model: MODEL, messages, response_format: format });
    return JSON.parse(found.choices[0].message.content).total;
  },
  tools: async () => {
    const tool_choice = { type: "function", function: { name: TOOL.name } };
    const message = await ask([user(image(), text())], { tools: [{ type: "function", function: TOOL }], tool_choice });
    return JSON.parse(message.tool_calls[0].function.arguments).total;
  },
  PDF: async () => (await ask([user(file, text())])).content,
  "text first, system": async () =>
    (await ask([{ role: "system", content: SYSTEM }, user(text(), image())])).content,
  error: async () => (await ask([user(image("no_image.png"), text())])).content,
});
