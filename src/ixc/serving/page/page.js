"use strict";
// The page: shows how a picture will be cut, asks, and shows the answer while it comes. Talks to its own server only.

const at = (id) => document.getElementById(id);
const state = { url: null, bitmap: null, plan: null, turns: [], running: null, model: "", planned: 0 };

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

async function start() {
  const response = await fetch("/v1/models", { headers: headers() });
  if (!response.ok) return note(await failure(response), true);
  const model = (await response.json()).data[0];
  state.model = model.id;
  at("model").textContent = model.id;
  at("hd").max = model.max_hd;
  at("hd").value = model.hd;
  at("rule").replaceChildren(...model.rules.map((rule) => new Option(rule, rule, false, rule === model.partition)));
  at("hd-shown").textContent = at("hd").value;
  note("");
  if (state.bitmap) plan();
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

async function take(file) {
  if (!file) return;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return note(`${file.name || "this"} is no image the browser can show`, true);
  }
  state.bitmap = bitmap;
  state.url = await asDataUrl(file);
  state.turns = [];
  at("turns").replaceChildren();
  at("clear").disabled = false;
  note("");
  await plan();
}

function remove() {
  Object.assign(state, { bitmap: null, url: null, plan: null, turns: [] });
  at("turns").replaceChildren();
  at("view").hidden = true;
  at("hint").hidden = false;
  at("clear").disabled = true;
  at("plan").textContent = "No image yet.";
}

async function plan() {
  at("hd-shown").textContent = at("hd").value;
  if (!state.bitmap) return;
  const turn = ++state.planned; // an older answer may come later
  const { width, height } = state.bitmap;
  const asked = new URLSearchParams({ width, height, hd: at("hd").value, partition: at("rule").value });
  const response = await fetch(`/plan?${asked}`, { headers: headers() });
  if (turn !== state.planned || !state.bitmap) return;
  if (!response.ok) return note(await failure(response), true);
  state.plan = await response.json();
  note("");
  draw();
  describe(state.plan);
}

function describe(plan) {
  const overview = plan.overview ? " + overview" : "";
  const seconds = plan.seconds === null ? "" : `, about ${plan.seconds} s to read`;
  const room = plan.fits ? "" : `: more than the model's ${plan.positions.toLocaleString("en")} positions`;
  at("plan").textContent =
    `${plan.width} × ${plan.height} px → ${plan.grid_w} × ${plan.grid_h} = ${plan.tiles} tiles${overview}, ` +
    `${plan.image_tokens.toLocaleString("en")} tokens${seconds}${room}`;
  at("plan").dataset.grid = `${plan.grid_h}x${plan.grid_w}`;
}

function draw() {
  const { plan, bitmap } = state;
  const view = at("view");
  const pen = view.getContext("2d");
  [view.width, view.height] = [plan.canvas_width, plan.canvas_height];
  const [x0, y0, x1, y1] = plan.picture_box;
  pen.fillStyle = "white";
  pen.fillRect(0, 0, view.width, view.height);
  pen.drawImage(bitmap, x0, y0, x1 - x0, y1 - y0);
  pen.strokeStyle = "#e0452b";
  pen.lineWidth = Math.max(2, view.width / 400);
  const [w, h] = [view.width / plan.grid_w, view.height / plan.grid_h];
  for (let row = 0; row < plan.grid_h; row++) {
    for (let column = 0; column < plan.grid_w; column++) pen.strokeRect(column * w, row * h, w, h);
  }
  view.hidden = false;
  at("hint").hidden = true;
}

// -- the conversation -----------------------------------------------------------------------------------------------

function request(question) {
  const messages = [...state.turns, { role: "user", content: question }].map((turn) => ({ ...turn }));
  if (state.url) {
    const first = messages[0];
    first.content = [
      { type: "image_url", image_url: { url: state.url } },
      { type: "text", text: first.content },
    ];
  }
  const body = { model: state.model, messages, hd: Number(at("hd").value) };
  if (at("rule").value) body.partition = at("rule").value;
  return body;
}

function line(kind, text) {
  const item = document.createElement("li");
  item.className = kind;
  item.textContent = text; // never HTML: pictures and models write what they like
  at("turns").append(item);
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
  const body = { ...request(question), stream: true, stream_options: { include_usage: true } };
  line("asked", question);
  const item = line("answered", "");
  state.running = new AbortController();
  at("ask").disabled = !(at("stop").disabled = false);
  note("Reading …");
  let text = "";
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers() },
      body: JSON.stringify(body),
      signal: state.running.signal,
    });
    if (!response.ok) throw new Error(await failure(response));
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      text += event.choices[0]?.delta.content ?? "";
      item.firstChild ? (item.firstChild.data = text) : item.append(text);
      if (event.usage) usage(item, event.usage);
    }
    state.turns.push({ role: "user", content: question }, { role: "assistant", content: text });
    note("");
  } catch (error) {
    if (error.name !== "AbortError") item.classList.add("wrong");
    item.append(error.name === "AbortError" ? " (stopped)" : error.message);
    note("");
  } finally {
    state.running = null;
    at("stop").disabled = !(at("ask").disabled = false);
    if (state.bitmap) plan(); // the time is known better now
  }
}

function usage(item, used) {
  const words = document.createElement("span");
  words.className = "usage";
  const seen = used.prompt_tokens_details.image_tokens;
  words.textContent = `${used.prompt_tokens} tokens read (${seen} of images), ${used.completion_tokens} written`;
  item.append(words);
}

// -- the request elsewhere ------------------------------------------------------------------------------------------

function forCopying() {
  const body = request(at("question").value.trim() || "What is the title?");
  const text = JSON.stringify(body, null, 2);
  return state.url ? text.replaceAll(state.url, "data:image/png;base64,IMAGE") : text;
}

function asCurl() {
  const key = at("key").value ? " -H 'Authorization: Bearer KEY'" : "";
  const body = forCopying().replaceAll("'", "'\\''").replaceAll("base64,IMAGE", `base64,'"$(base64 -w0 page.png)"'`);
  return `printf '%s' '${body}' |\n  curl -s ${location.origin}/v1/chat/completions -H 'Content-Type: application/json'${key} -d @-`;
}

function asPython() {
  const { model, messages, hd, partition } = JSON.parse(forCopying());
  const extra = JSON.stringify(partition ? { hd, partition } : { hd });
  const list = JSON.stringify(messages, null, 4);
  const picture = list.includes('base64,IMAGE"')
    ? 'import base64\nimage = base64.b64encode(open("page.png", "rb").read()).decode()\n'
    : "";
  return (
    `from openai import OpenAI\n${picture}client = OpenAI(base_url="${location.origin}/v1", api_key="KEY")\n` +
    `answer = client.chat.completions.create(\n    model=${JSON.stringify(model)},\n    messages=` +
    `${list.replaceAll('base64,IMAGE"', 'base64," + image')},\n    extra_body=${extra},\n)\n` +
    "print(answer.choices[0].message.content)\n"
  );
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    note(`${what} copied; it reads page.png`);
  } catch {
    line("asked", text); // no clipboard without https: show it instead
  }
}

// -- hands ----------------------------------------------------------------------------------------------------------

const drop = at("drop");
drop.addEventListener("click", () => at("file").click());
drop.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") at("file").click();
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
at("file").addEventListener("change", (event) => take(event.target.files[0]));
at("hd").addEventListener("input", plan);
at("rule").addEventListener("change", plan);
at("key").addEventListener("change", start);
at("key-row").addEventListener("submit", (event) => event.preventDefault()); // Enter has changed the key already
at("clear").addEventListener("click", remove);
at("stop").addEventListener("click", () => state.running?.abort());
at("new").addEventListener("click", () => {
  state.running?.abort();
  state.turns = [];
  at("turns").replaceChildren();
});
at("curl").addEventListener("click", () => copy(asCurl(), "curl"));
at("python").addEventListener("click", () => copy(asPython(), "Python"));
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
