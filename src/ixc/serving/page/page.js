// The page: shows how a picture will be cut, asks, and shows the answer while it comes. Talks to its own server only.

import { asCurl, asPython } from "/page/export_request.js";
import { View } from "/page/view.js";

const at = (id) => document.getElementById(id);
const state = { url: null, running: null, model: "", attention: false, pdf: null };

function headers() {
  const key = at("key").value;
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function note(text, wrong = false) {
  at("note").textContent = text;
  at("note").classList.toggle("wrong", wrong);
}

async function failure(response) {
  if (response.status === 401) at("key-row").hidden = false;
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server answered ${response.status}`;
  }
}

/** Fetch JSON from the server; null on an error, which is shown on the page. */
async function server(path, body) {
  const kind = body ? { "Content-Type": "application/json" } : {};
  const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
  try {
    const response = await fetch(path, { ...options, headers: { ...kind, ...headers() } });
    if (response.ok) return await response.json();
    note(await failure(response), true);
  } catch (error) {
    note(error.message, true);
  }
  return null;
}

const first = new View("", server, note);
const second = new View("-b", server, note);
const activeViews = () => (at("compare").checked ? [first, second] : [first]);

async function start() {
  const found = await server("/v1/models");
  if (!found) return;
  const model = found.data[0];
  Object.assign(state, { model: model.id, attention: model.attention });
  at("model").textContent = model.id;
  for (const view of [first, second]) {
    view.hd.max = model.max_hd;
    view.hd.value = view === first ? model.hd : 1;
    view.rule.replaceChildren(...model.rules.map((rule) => new Option(rule, rule, false, rule === model.partition)));
    view.replan();
  }
  note("");
  document.documentElement.dataset.ready = "yes";
}

// -- the picture ----------------------------------------------------------------------------------------------------

function asDataUrl(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}

async function loadFile(file) {
  if (!file) return;
  if (file.type === "application/pdf" || /\.pdf$/i.test(file.name || "")) {
    const url = (await asDataUrl(file)).replace(/^[^,]*,/, "data:application/pdf;base64,");
    return showPage(1, url);
  }
  at("pager").hidden = true;
  state.pdf = null;
  await showImage(file, await asDataUrl(file));
}

async function showPage(number, pdf = state.pdf) {
  note("Drawing the page …");
  const found = await server("/pdf", { file: pdf, page: number });
  if (!found) return;
  state.pdf = pdf;
  at("page-number").value = found.page;
  at("page-number").max = at("page-count").textContent = found.pages;
  at("page-back").disabled = found.page === 1;
  at("page-on").disabled = found.page === found.pages;
  at("pager").hidden = false;
  const bytes = Uint8Array.from(atob(found.image.split(",")[1]), (letter) => letter.charCodeAt(0));
  await showImage(new Blob([bytes], { type: "image/png" }), found.image);
}

async function showImage(file, url) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return note(`${file.name || "this"} is no image the browser can show`, true);
  }
  state.url = url;
  forget();
  for (const view of [first, second]) view.take(bitmap);
  at("drop").hidden = true;
  at("tools").hidden = at("clear").disabled = false;
  note("");
  await Promise.all([first.replan(), second.replan()]);
}

function remove() {
  Object.assign(state, { url: null, pdf: null });
  forget();
  for (const view of [first, second]) view.take(null);
  at("tools").hidden = at("clear").disabled = true;
  at("pager").hidden = true;
  at("drop").hidden = false;
}

function forget() {
  state.running?.abort();
  for (const view of [first, second]) {
    view.turns = [];
    view.look(null);
  }
  at("turns").replaceChildren();
}

function zoom(factor) {
  const found = [first, second].map((view) => (view.bitmap ? view.scale(factor) : 0))[0];
  at("zoom-shown").textContent = found ? `${Math.round(100 * found)} %` : "fit";
}

// -- the conversation -----------------------------------------------------------------------------------------------

function request(view, question, turns = view.turns) {
  const messages = [...turns, { role: "user", content: question }];
  return { model: state.model, messages: withImage(messages), ...tiling(view) };
}

function tiling(view) {
  return { hd: Number(view.hd.value), ...(view.rule.value ? { partition: view.rule.value } : {}) };
}

/** Add the image to the first turn. */
function withImage([turn, ...rest]) {
  if (!state.url) return [turn, ...rest];
  const picture = { type: "image_url", image_url: { url: state.url } };
  return [{ ...turn, content: [picture, { type: "text", text: turn.content }] }, ...rest];
}

function line(kind, text) {
  const item = document.createElement("li");
  item.className = kind;
  item.textContent = text; // never HTML: pictures and models write what they like
  at("turns").append(item);
  item.scrollIntoView({ block: "nearest" });
  return item;
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

async function ask(question) {
  line("asked", question);
  state.running = new AbortController();
  const { signal } = state.running;
  at("ask").disabled = !(at("stop").disabled = false);
  note("Reading …");
  const views = activeViews();
  const items = views.map((view) => line("answered", ""));
  if (views.length > 1) views.forEach((view, i) => (items[i].dataset.setting = `HD-${view.hd.value} ${view.rule.value}`));
  await Promise.all(views.map((view, i) => answer(view, question, items[i], signal)));
  if (state.running?.signal === signal) state.running = null;
  at("stop").disabled = !(at("ask").disabled = false);
  if (at("note").textContent === "Reading …") note("");
  for (const view of views) view.replan(); // the time is known better now
}

async function answer(view, question, item, signal) {
  const body = { ...request(view, question), stream: true, stream_options: { include_usage: true } };
  let text = "";
  try {
    const options = { method: "POST", headers: { "Content-Type": "application/json", ...headers() }, signal };
    const response = await fetch("/v1/chat/completions", { ...options, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(await failure(response));
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      text += event.choices[0]?.delta.content ?? "";
      item.firstChild ? (item.firstChild.data = text) : item.append(text);
      if (event.usage) usage(item, event.usage);
    }
    view.turns.push({ role: "user", content: question }, { role: "assistant", content: text });
    if (state.attention && state.url && text) item.append(looker(view, [...view.turns]));
  } catch (error) {
    if (error.name !== "AbortError") item.classList.add("wrong");
    item.append(error.name === "AbortError" ? " (stopped)" : error.message);
  }
}

function usage(item, used) {
  const words = document.createElement("span");
  words.className = "usage";
  const { image_tokens: seen, cached_tokens: kept } = used.prompt_tokens_details;
  const known = kept ? `, ${kept} known already` : "";
  words.textContent = `${used.prompt_tokens} tokens read (${seen} of images${known}), ${used.completion_tokens} written`;
  item.append(words);
}

/** A button that shows where the last of these turns looked; pressed again, it takes that away. */
function looker(view, turns) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "look";
  button.textContent = "Where it looked";
  button.setAttribute("aria-pressed", "false");
  const asked = { model: state.model, messages: withImage(turns), ...tiling(view), max_tokens: 1 };
  const body = { ...asked, add_generation_prompt: false, continue_final_message: true };
  button.addEventListener("click", async () => {
    const on = button.getAttribute("aria-pressed") === "false";
    for (const other of document.querySelectorAll(".look")) other.setAttribute("aria-pressed", "false");
    if (!on) return view.look(null);
    note("Looking …");
    const found = await server("/attention", body);
    if (!found) return;
    note("");
    button.setAttribute("aria-pressed", "true");
    const [image] = found.images;
    if (view.plan?.grid_h === image.grid_h && view.plan?.grid_w === image.grid_w) view.look(image);
    else note(`HD is another now; that answer saw ${image.grid_w} × ${image.grid_h} tiles`, true);
  });
  return button;
}

// -- hands ----------------------------------------------------------------------------------------------------------

async function copy(write, what) {
  const body = request(first, at("question").value.trim() || "What is the title?");
  const text = write(body, state.url, Boolean(at("key").value));
  try {
    await navigator.clipboard.writeText(text);
    note(`${what} copied${state.url ? "; it reads page.png" : ""}`);
  } catch {
    line("asked", text); // no clipboard without https: show it instead
  }
}

function compare() {
  at("second").hidden = !at("compare").checked;
  at("sides").classList.toggle("two", at("compare").checked);
  for (const view of activeViews()) view.draw();
}

const drop = at("drop");
const choose = () => at("file").click();
drop.addEventListener("click", choose);
drop.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  choose();
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  loadFile(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => loadFile(event.clipboardData.files[0]));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") state.running?.abort();
});
at("looking").addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey) return;
  const factor = { "+": 1.25, "=": 1.25, "-": 0.8, 0: 0 }[event.key];
  if (factor !== undefined) zoom(factor);
});
const clicks = {
  choose, clear: remove, curl: () => copy(asCurl, "curl"), python: () => copy(asPython, "Python"), new: forget,
  stop: () => state.running?.abort(), "zoom-in": () => zoom(1.25), "zoom-out": () => zoom(0.8), "zoom-fit": () => zoom(0),
  "page-back": () => showPage(Number(at("page-number").value) - 1),
  "page-on": () => showPage(Number(at("page-number").value) + 1),
};
for (const [id, work] of Object.entries(clicks)) at(id).addEventListener("click", work);
at("page-number").addEventListener("change", (event) => showPage(Number(event.target.value)));
at("file").addEventListener("change", (event) => {
  loadFile(event.target.files[0]);
  event.target.value = ""; // the same file may be chosen again
});
for (const id of ["show-tiles", "show-overview"]) at(id).addEventListener("change", () => activeViews().forEach((v) => v.draw()));
at("compare").addEventListener("change", compare);
at("key").addEventListener("change", start);
at("key-row").addEventListener("submit", (event) => event.preventDefault()); // Enter has changed the key already
at("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    at("form").requestSubmit();
  }
});
at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = at("question").value.trim();
  if (!question || state.running) return;
  at("question").value = "";
  ask(question);
});
start();
