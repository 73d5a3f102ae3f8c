// The calls through the AI SDK, by @ai-sdk/openai-compatible or, with `responses` or `chat` behind FOLDER, @ai-sdk/openai.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, jsonSchema, streamText, tool } from "ai";
import { FIRST_QUESTION, KEY, KIND, MODEL, QUESTION, SCHEMA, SYSTEM, TOOL, URL, bytes, run } from "./calls.mjs";

const compatible = { name: "ours", baseURL: URL, apiKey: KEY, supportsStructuredOutputs: true };
const openai = createOpenAI({ baseURL: URL, apiKey: KEY });
const model = KIND ? openai[KIND](MODEL) : createOpenAICompatible(compatible)(MODEL);
const image = (name = "receipt.png") => ({ type: "file", data: bytes(name), mediaType: "image/png" });
const text = (words = QUESTION) => ({ type: "text", text: words });
const file = { type: "file", data: bytes("receipt.pdf"), mediaType: "application/pdf", filename: "receipt.pdf" };
const user = (...parts) => ({ role: "user", content: parts });
const ask = (messages, fields = {}) => generateText({ model, messages, maxRetries: 0, ...fields });

await run({
  call: async () => (await ask([user(image(), text())])).text,
  stream: async () => {
    let said = "";
    for await (const piece of streamText({ model, messages: [user(image(), text())], maxRetries: 0 }).textStream)
      said += piece;
    return said;
  },
  "second turn": async () => {
    const first = user(image(), text(FIRST_QUESTION));
    const answer = await ask([first]);
    return (await ask([first, { role: "assistant", content: answer.text }, user(text())])).text;
  },
  structured: async () =>
    (await ask([user(image(), text())], { output: Output.object({ schema: jsonSchema(SCHEMA) }) })).output.total,
  tools: async () => {
    const tools = { [TOOL.name]: tool({ description: TOOL.description, inputSchema: jsonSchema(SCHEMA) }) };
    const found = await ask([user(image(), text())], { tools, toolChoice: { type: "tool", toolName: TOOL.name } });
    return found.toolCalls[0].input.total;
  },
  PDF: async () => (await ask([user(file, text())])).text,
  "text first, system": async () => (await ask([user(text(), image())], { instructions: SYSTEM })).text,
  error: async () => (await ask([user(image("no_image.png"), text())])).text,
});
