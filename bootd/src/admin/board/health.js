// How the box itself is: how long stages take, what flows, the cache and what is behind it, plugins and leases.
//
// It is asked every 5 s; leases and cached objects, which may be many, every 30 s. What cannot be had is said in its place.

import { ask } from "./feed.js";
import { el, svg, count, say, size, stageOf, table, time } from "./words.js";

/** Milliseconds between two looks at what may be long. */
const LONG = 30_000;
/** Points of the small curve, one each half second. */
const POINTS = 240;
/** Rows of leases in the page. */
const MOST = 100;

export class Health {
  #parts;
  #asking = false;
  #looked = 0;
  #inventory = "";
  #leases = null;
  #objects = null;
  #before = null;
  #rates = [];
  #flow;
  /** The inventory has other nodes than before. */
  oninventory = () => {};

  constructor(parts) {
    this.#parts = parts;
    this.#flow = flow(parts.flow);
  }

  /** What files are on their way at, in bytes a second, and who booted within a minute. Twice a second at most. */
  moving(rate, lately) {
    this.#rates.push(rate);
    if (this.#rates.length > POINTS) this.#rates.shift();
    say(this.#flow.rate, `${size(rate)}/s`);
    say(this.#flow.lately, count(lately));
    const most = Math.max(1, ...this.#rates);
    const points = this.#rates.map((rate, at) => `${(at * 240) / (POINTS - 1)},${(38 - (rate / most) * 34).toFixed(1)}`);
    this.#flow.curve.setAttribute("points", points.join(" "));
  }

  async look() {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const views = ["/admin/boots/stages", "/admin/status", "/admin/plugins"].map((path) => view(path));
      const [stages, status, plugins, metrics] = await Promise.all([...views, view("/metrics", "text")]);
      if (Date.now() - this.#looked > LONG) {
        this.#looked = Date.now();
        // There is no such view where nothing is kept.
        [this.#leases, this.#objects] = await Promise.all([view("/admin/leases"), status.cache ? view("/admin/cache") : null]);
        put(this.#parts.leases, this.#leases, leases);
      }
      put(this.#parts.stages, stages, percentiles);
      put(this.#parts.plugins, plugins, pluginTable);
      if (!(metrics instanceof Error)) this.#flows(metrics);
      put(this.#parts.health, status, (status) => statusList(status, this.#objects));
      if (status.inventory && status.inventory !== this.#inventory) {
        if (this.#inventory) this.oninventory();
        this.#inventory = status.inventory;
      }
    } finally {
      this.#asking = false;
    }
  }

  #flows(text) {
    const sum = (name, test = () => true) => {
      let sum = 0;
      for (const [, labels, value] of text.matchAll(new RegExp(`^bootd_${name}\\{([^}]*)\\} (\\S+)$`, "gm"))) {
        if (test(labels)) sum += Number(value);
      }
      return sum;
    };
    const cache = (what) => sum("done_total", (labels) => labels.includes('part="cache"') && labels.includes(`what="${what}"`));
    const hits = cache("hit") + cache("joined") + cache("stale");
    const at = { ms: Date.now(), sent: sum("bytes_sent_total"), fetched: sum("bytes_fetched_total"), hits, misses: cache("miss") };
    const before = this.#before;
    this.#before = at;
    const asked = at.hits + at.misses;
    say(this.#flow.hits, asked ? `${((100 * at.hits) / asked).toFixed(1)} %` : "–");
    say(this.#flow.sent, size(at.sent));
    if (!before || at.fetched < before.fetched) return;
    say(this.#flow.fetched, `${size(((at.fetched - before.fetched) * 1000) / (at.ms - before.ms))}/s`);
  }
}

/** A view, or the error why not. A token that is over is found out by the stream of changes. */
async function view(path, kind = "json") {
  try {
    return await (await ask(path))[kind]();
  } catch (error) {
    return error;
  }
}

/** Makes a part anew when what it shows is another, and leaves it alone while somebody reads in it. */
const shown = new WeakMap();
function put(part, value, make) {
  if (value instanceof Error) {
    shown.delete(part);
    return part.replaceChildren(el("p", { class: "muted" }, value.message));
  }
  const text = JSON.stringify(value);
  if (shown.get(part) === text) return;
  shown.set(part, text);
  const open = part.querySelector("details")?.open;
  part.replaceChildren(...[make(value)].flat());
  const details = part.querySelector("details");
  if (details && open) details.open = true;
}

function flow(part) {
  const curve = svg("polyline", { class: "curve", points: "" });
  const said = Object.fromEntries(["rate", "lately", "hits", "fetched", "sent"].map((name) => [name, el("dd", {}, "–")]));
  const words = {
    rate: "to nodes, files on their way",
    lately: "booted within a minute",
    hits: "served from the cache",
    fetched: "from upstream",
    sent: "sent since the start",
  };
  const rows = Object.entries(words).map(([name, word]) => el("div", {}, el("dt", {}, word), said[name]));
  part.append(
    svg("svg", { class: "flow", viewBox: "0 0 240 40", preserveAspectRatio: "none", "aria-hidden": "true" }, curve),
    el("dl", { class: "pairs" }, ...rows),
  );
  return { curve, ...said };
}

function percentiles({ stages }) {
  if (!stages.length) return el("p", { class: "muted" }, "Nothing booted yet.");
  // From the shortest to the longest, each ten times as long a step further.
  const from = Math.log(Math.max(1, Math.min(...stages.map((stage) => stage.p50_ms))));
  const whole = Math.log(Math.max(2, ...stages.map((stage) => stage.p99_ms))) - from || 1;
  const x = (ms) => 5 + ((Math.log(Math.max(1, ms)) - from) / whole) * 86;
  const bar = ({ stage, p50_ms, p90_ms, p99_ms }) => svg(
    "svg",
    { class: "spread", viewBox: "0 0 96 12", "aria-hidden": "true" },
    svg("line", { class: "tail", x1: x(p50_ms), x2: x(p99_ms), y1: 6, y2: 6 }),
    svg("line", { class: `near ${stageOf(stage).phase}`, x1: x(p50_ms), x2: x(p90_ms), y1: 6, y2: 6 }),
    svg("circle", { class: `dot ${stageOf(stage).phase}`, cx: x(p50_ms), cy: 6, r: 3.5 }),
  );
  const rows = stages.map((stage) => [
    stageOf(stage.stage).title,
    count(stage.count),
    time(stage.p50_ms),
    time(stage.p90_ms),
    time(stage.p99_ms),
    bar(stage),
  ]);
  return table("Time of each stage", ["Stage", "Nodes", "50 %", "90 %", "99 %", "Spread"], rows);
}

function statusList(status, objects) {
  const pairs = [
    ["bootd", `${status.version}, up ${time(status.uptime_s * 1000)}`],
    ["Inventory", status.inventory],
    ["Cache", status.cache || "keeps nothing"],
  ];
  if (objects?.objects?.length) {
    const sums = {};
    for (const { state } of objects.objects) sums[state] = (sums[state] ?? 0) + 1;
    pairs.push(["Objects", Object.entries(sums).map(([state, sum]) => `${count(sum)} ${state}`).join(", ")]);
  }
  if (status.boot_files) pairs.push(["Boot files", status.boot_files]);
  for (const mirror of status.mirrors ?? []) pairs.push(["Upstream", mirror]);
  const warnings = status.warnings.map((text) => el("li", {}, text));
  return [
    warnings.length ? el("ul", { class: "warnings", "aria-label": "Warnings" }, ...warnings) : el("p", { class: "good" }, "All is as it should be."),
    el("dl", { class: "pairs" }, ...pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
  ];
}

function pluginTable(plugins) {
  if (!plugins.length) return el("p", { class: "muted" }, "No plugins.");
  const state = (plugin) => el("span", { class: `state ${plugin.state === "running" ? "good" : "wrong"}` }, plugin.state);
  const rows = plugins.map((plugin) => [plugin.name, state(plugin), el("span", { class: "path" }, plugin.text)]);
  return table("Plugins", ["Plugin", "State", "What it says"], rows);
}

function leases({ leases }) {
  if (!leases.length) return el("p", { class: "muted" }, "No address of a pool is in use.");
  const sums = {};
  for (const { state } of leases) sums[state] = (sums[state] ?? 0) + 1;
  const words = Object.entries(sums).map(([state, sum]) => `${count(sum)} ${state}`).join(", ");
  const rows = leases.slice(0, MOST).map((lease) => [
    lease.ip,
    lease.mac ?? "",
    lease.state,
    lease.expires_in_s ? time(lease.expires_in_s * 1000) : "",
    lease.hostname ?? "",
  ]);
  const rest = leases.length - rows.length;
  return [
    el("p", {}, words),
    el(
      "details",
      {},
      el("summary", {}, "Addresses"),
      table("Leases of the pools", ["Address", "Holder", "State", "Ends in", "Name"], rows),
      rest ? el("p", { class: "muted" }, `and ${count(rest)} more; see bootd leases`) : null,
    ),
  ];
}
