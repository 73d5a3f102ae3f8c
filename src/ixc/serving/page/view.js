// One setting of HD: its plan, the image with its tiles, the overview, and the attention of an answer.

const MARK = "224, 69, 43";
const EVIDENCE = "rgb(215, 25, 70)"; // of the frames around what an answer was copied from
const CAP = 0.995; // quantile that is drawn at full strength: one or two tokens may hold most of the attention

export class View {
  /** ids: those of the first setting with "-b" or nothing behind them. */
  constructor(suffix, ask, note) {
    const at = (name) => document.getElementById(name + suffix);
    Object.assign(this, { hd: at("hd"), shown: outputOf("hd", suffix), rule: at("rule"), words: at("plan"), ask, note });
    Object.assign(this, { frame: at("frame"), canvas: at("view"), whole: at("whole") });
    this.figure = document.getElementById(`whole${suffix}-figure`);
    Object.assign(this, { bitmap: null, plan: null, heat: null, turns: [], newest: 0 });
    this.zoom = 0; // 0: fitted to the width of the frame
    this.hd.addEventListener("input", () => this.replan());
    this.rule.addEventListener("change", () => this.replan());
    this.frame.addEventListener("pointerdown", (event) => this.drag(event));
  }

  async replan() {
    this.shown.textContent = this.hd.value;
    if (!this.bitmap) return;
    const turn = ++this.newest; // the reply to an older request may arrive later
    const { width, height } = this.bitmap;
    const asked = new URLSearchParams({ width, height, hd: this.hd.value, partition: this.rule.value });
    const found = await this.ask(`/plan?${asked}`);
    if (turn !== this.newest || !this.bitmap || !found) return;
    const same = this.plan && this.plan.grid_h === found.grid_h && this.plan.grid_w === found.grid_w;
    if (!same) this.heat = null;
    this.plan = found;
    this.note("");
    this.draw();
    this.describe();
  }

  take(bitmap) {
    Object.assign(this, { bitmap, plan: null, heat: null, turns: [] });
    this.frame.hidden = !bitmap;
    if (!bitmap) this.figure.hidden = true;
    delete this.words.dataset.grid;
    this.words.textContent = bitmap ? "…" : "No image yet.";
  }

  describe() {
    const plan = this.plan;
    const overview = plan.overview ? " + overview" : "";
    const overflow = plan.fits ? "" : `: more than the model's ${plan.positions.toLocaleString("en")} positions`;
    this.words.textContent =
      `${plan.width} × ${plan.height} px → ${plan.grid_w} × ${plan.grid_h} = ${plan.tiles} tiles${overview}, ` +
      `${plan.image_tokens.toLocaleString("en")} tokens, about ${plan.seconds} s to read${overflow}`;
    this.words.dataset.grid = `${plan.grid_h}x${plan.grid_w}`;
  }

  draw() {
    if (!this.plan) return;
    const { canvas, plan } = this;
    [canvas.width, canvas.height] = [plan.canvas_width, plan.canvas_height];
    const context = canvas.getContext("2d");
    this.picture(context, 1);
    if (this.heat) drawHeatmap(context, this.heat.local, canvas.width, canvas.height);
    if (this.heat) drawBoxes(context, this.heat.boxes, canvas.width, canvas.height);
    if (document.getElementById("show-tiles").checked) this.tiles(context);
    this.overview();
    this.fit();
  }

  picture(context, scale) {
    const { plan } = this;
    const [x0, y0, x1, y1] = plan.picture_box.map((value) => value * scale);
    context.fillStyle = "white";
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
    context.drawImage(this.bitmap, x0, y0, x1 - x0, y1 - y0);
  }

  tiles(context) {
    const { plan, canvas } = this;
    const [w, h] = [canvas.width / plan.grid_w, canvas.height / plan.grid_h];
    context.strokeStyle = `rgb(${MARK})`;
    context.lineWidth = Math.max(2, canvas.width / 400);
    for (let row = 0; row < plan.grid_h; row++) {
      for (let column = 0; column < plan.grid_w; column++) context.strokeRect(column * w, row * h, w, h);
    }
  }

  overview() {
    const wanted = document.getElementById("show-overview").checked && this.plan.overview;
    this.figure.hidden = !wanted;
    if (!wanted) return;
    const { plan, whole } = this;
    [whole.width, whole.height] = [336, 336]; // the model gets one tile, whatever the shape
    const context = whole.getContext("2d");
    context.save();
    context.scale(336 / plan.canvas_width, 336 / plan.canvas_height);
    context.fillStyle = "white";
    context.fillRect(0, 0, plan.canvas_width, plan.canvas_height);
    const [x0, y0, x1, y1] = plan.picture_box;
    context.drawImage(this.bitmap, x0, y0, x1 - x0, y1 - y0);
    context.restore();
    if (this.heat?.overview) drawHeatmap(context, this.heat.overview, 336, 336);
  }

  /** Show the attention of an answer over the image; null removes it. */
  look(heat) {
    this.heat = heat;
    this.draw();
  }

  scale(factor) {
    const now = this.zoom || this.canvas.clientWidth / this.canvas.width;
    this.zoom = factor ? Math.min(8, Math.max(0.05, now * factor)) : 0;
    this.fit();
    return this.zoom;
  }

  fit() {
    this.canvas.style.width = this.zoom ? `${Math.round(this.canvas.width * this.zoom)}px` : "";
    this.canvas.classList.toggle("fitted", !this.zoom);
  }

  drag(event) {
    if (event.pointerType !== "mouse" || event.button !== 0) return; // touch scrolls natively
    const { frame } = this;
    const [x, y] = [frame.scrollLeft + event.clientX, frame.scrollTop + event.clientY];
    const move = (to) => frame.scrollTo(x - to.clientX, y - to.clientY);
    document.addEventListener("pointermove", move);
    document.addEventListener("pointerup", () => document.removeEventListener("pointermove", move), { once: true });
  }
}

function outputOf(name, suffix) {
  return document.getElementById(`${name}${suffix}-shown`);
}

/** Frame what the answer was copied from. */
function drawBoxes(context, boxes, width, height) {
  context.strokeStyle = EVIDENCE;
  context.lineWidth = Math.max(3, width / 300);
  for (const { box: [left, top, right, bottom] } of boxes) {
    context.strokeRect(left * width, top * height, (right - left) * width, (bottom - top) * height);
  }
}

function drawHeatmap(context, rows, width, height) {
  const all = rows.flat().sort((a, b) => a - b);
  const cap = all[Math.floor(CAP * (all.length - 1))] || 1;
  const [w, h] = [width / rows[0].length, height / rows.length];
  rows.forEach((row, y) => {
    row.forEach((value, x) => {
      const share = Math.min(1, value / cap);
      if (share < 0.1) return;
      context.fillStyle = `rgba(${MARK}, ${(0.65 * share).toFixed(3)})`;
      context.fillRect(x * w, y * h, w, h);
    });
  });
}
