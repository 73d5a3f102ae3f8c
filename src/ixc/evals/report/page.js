// Filters of the case browser, keys of the radar. The address keeps the filter: #wrong, #verdict=wrong&task=mme&q=lamp
"use strict";
const form = document.getElementById("filters");
const cards = [...document.querySelectorAll(".card")];
const words = new Map(cards.map((card) => [card, ["h3", "dl"].map((part) => card.querySelector(part).textContent)
  .join(" ").toLowerCase()]));
const verdicts = ["all", "right", "partly", "wrong", "unscored"];

const chosen = () => ({
  verdict: form.querySelector("input[name=verdict]:checked")?.value ?? "all",
  task: document.getElementById("task").value,
  q: document.getElementById("find").value.trim().toLowerCase(),
});

function apply() {
  const want = chosen();
  let shown = 0;
  for (const card of cards) {
    const fits = (want.verdict === "all" || card.dataset.verdict === want.verdict)
      && (!want.task || card.dataset.task === want.task)
      && (!want.q || words.get(card).includes(want.q));
    card.hidden = !fits;
    shown += fits;
  }
  document.getElementById("count").textContent = `${shown} of ${cards.length} cases`;
  document.getElementById("cards").classList.toggle("plain", !document.getElementById("grid").checked);
}

function remember() {
  const want = chosen();
  const hash = new URLSearchParams();
  if (want.verdict !== "all") hash.set("verdict", want.verdict);
  if (want.task) hash.set("task", want.task);
  if (want.q) hash.set("q", want.q);
  history.replaceState(null, "", hash.size ? `#${hash}` : "#cases");
}

function recall() {
  const text = location.hash.slice(1);
  const hash = new URLSearchParams(verdicts.includes(text) ? `verdict=${text}` : text);
  if (!["verdict", "task", "q"].some((name) => hash.has(name))) return;
  const radio = [...form.elements.verdict].find((r) => r.value === (hash.get("verdict") ?? "all"));
  if (radio) radio.checked = true;
  document.getElementById("task").value = hash.get("task") ?? "";
  document.getElementById("find").value = hash.get("q") ?? "";
  apply();
  document.getElementById("cases").scrollIntoView({ behavior: "instant" });
}

function walk(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
  if (event.key === "/") { event.preventDefault(); document.getElementById("find").focus(); return; }
  const step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  const open = cards.filter((card) => !card.hidden);
  const at = open.indexOf(document.activeElement.closest(".card"));
  const next = open[at < 0 ? 0 : at + step];
  if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
}

if (form) {
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { apply(); remember(); });
  addEventListener("hashchange", recall);
  addEventListener("keydown", walk);
  apply();
  recall();
}

for (const key of document.querySelectorAll(".key")) {
  key.addEventListener("click", () => {
    const on = key.getAttribute("aria-pressed") !== "true";
    key.setAttribute("aria-pressed", String(on));
    document.querySelector(`#radar .${key.dataset.series}`).classList.toggle("off", !on);
  });
}
document.documentElement.dataset.ready = "yes";
