"use strict";
// Everything that comes from the server is put in as text, never as markup.
const at = (id) => document.getElementById(id);
const cell = (kind, text, name) => {
  const made = document.createElement(kind);
  made.textContent = text;
  if (name) made.className = name;
  return made;
};
const number = (value, digits = 0) =>
  value === null || value === undefined ? "N/A" : value.toLocaleString("en", { maximumFractionDigits: digits });
const ms = (seconds) => (seconds === null ? "N/A" : number(seconds * 1e3, 2));
const span = (seconds) => {
  const s = Math.floor(seconds), parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const found = parts.findIndex(([size]) => s >= size), from = found < 0 ? 3 : found;
  let rest = s;
  return parts.slice(from, from + 2).map(([size, unit]) => {
    const n = Math.floor(rest / size); rest %= size; return `${n} ${unit}`;
  }).join(" ");
};
const STATES = { ready: "good", loading: "wait", draining: "wait", unavailable: "bad", stopped: "bad" };

function tiles(status) {
  const shown = [
    ["state", status.phase, STATES[status.phase]],
    ["requests/s", number(status.requests_per_s, 1)],
    ["errors/s", number(status.errors_per_s, 1), status.errors_per_s > 0 ? "bad" : ""],
    ["waiting", number(status.waiting)],
    ["batches running", number(status.running)],
    ["up", span(status.uptime_s)],
  ];
  at("tiles").replaceChildren(...shown.map(([name, text, kind]) => {
    const tile = cell("div", "", "tile");
    tile.append(cell("b", text, kind), cell("span", name));
    return tile;
  }));
}
function table(id, heads, rows) {
  const head = document.createElement("tr");
  head.append(...heads.map((text) => cell("th", text)));
  at(id).replaceChildren(head, ...rows.map((row) => {
    const made = document.createElement("tr");
    made.append(...row.map((entry) => Array.isArray(entry) ? cell("td", ...entry) : cell("td", entry)));
    return made;
  }));
}
function show(status) {
  at("version").textContent = status.version;
  tiles(status);
  table("models",
    ["model", "version", "state", "waiting", "running", "answered", "failed", "p50 ms", "p99 ms", "queue p99 ms", "rows/batch"],
    status.models.map((m) => [m.name, m.version, [m.reason ? `${m.state}: ${m.reason}` : m.state, STATES[m.state]],
      number(m.waiting), number(m.running), number(m.answered), [number(m.failed), m.failed ? "bad" : ""],
      ms(m.p50_s), ms(m.p99_s), ms(m.queue_p99_s), number(m.rows_per_batch, 1)]));
  table("routes", ["endpoint", "answered", "errors", "p50 ms", "p99 ms"],
    status.routes.map((r) => [`${r.method} ${r.path}`, number(r.answered), [number(r.errors), r.errors ? "bad" : ""],
      ms(r.p50_s), ms(r.p99_s)]));
}
async function update() {
  try {
    const headers = at("key").value ? { Authorization: `Bearer ${at("key").value}` } : {};
    const answer = await fetch("status.json", { cache: "no-store", headers });
    if (answer.status === 401) at("keyed").hidden = false;
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    show(await answer.json());
    at("problem").hidden = true;
  } catch (error) {
    at("problem").textContent = `No news from the server: ${error.message}`;
    at("problem").hidden = false;
  }
  setTimeout(update, document.hidden ? 10000 : 2000);
}
update();
