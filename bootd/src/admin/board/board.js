// The board: all nodes as they boot, who lags behind, and how the box is.
//
// It keeps one record for each node and takes each change into it at once; what is on the screen follows once a frame (the rack) or twice a second
// (words and lists), so a thousand changes a second cost little. While the connection is lost it says so, and as of when it shows.

import { ask, follow, keepToken, Refused, Unknown } from "./feed.js";
import { Health } from "./health.js";
import { Rack } from "./rack.js";
import { Stragglers } from "./stragglers.js";
import { TimelineDialog } from "./timeline.js";
import { el, kindOf, KINDS, count, say, time } from "./words.js";

/** Milliseconds between two looks at words and lists. */
const LOOK = 500;
/** Between two looks at the box itself. */
const HEALTH = 5000;
/** Between two sentences for a screen reader. */
const SENTENCE = 10_000;

const page = (id) => document.getElementById(id);
const nodes = new Map();
let offset = 0;
let heardAt = 0;
let changedAt = 0;
let link = { state: "connecting" };
let changed = true;
let saidAt = 0;

/** bootd's time: that of this machine may be another. */
const now = () => Date.now() + offset;
const openNode = (who) => {
  location.hash = `node=${encodeURIComponent(who)}`;
};

const rack = new Rack(page("rack"), {
  open: openNode,
  now,
  painted: (painted) => painted.length && document.dispatchEvent(new CustomEvent("board-painted", { detail: painted })),
});
const stragglers = new Stragglers({ list: page("list"), more: page("more"), filter: page("filter"), now });
const timeline = new TimelineDialog(page("timeline"), {
  ask: async (who) => {
    try {
      return await (await ask(`/admin/boots/${encodeURIComponent(who)}`)).json();
    } catch (error) {
      throw error instanceof Unknown ? new Error("Nothing was heard of it yet.") : error;
    }
  },
  closed: () => location.hash.startsWith("#node=") && history.replaceState(null, "", location.pathname + location.search),
});
const health = new Health({
  stages: page("stages-table"),
  flow: page("flow-body"),
  health: page("health-body"),
  plugins: page("plugins-body"),
  leases: page("leases-body"),
});
const figures = new Map(KINDS.map(([kind, words]) => [kind, figure(kind, words)]));

const told = {
  whole(boots) {
    offset = boots.now_ms - Date.now();
    nodes.clear();
    for (const who of boots.unseen) nodes.set(who, { who, known: true, summary: null });
    for (const summary of boots.boots) nodes.set(summary.who, { who: summary.who, known: summary.known, summary });
    rack.set([...nodes.values()]);
    changed = true;
  },
  change(summary) {
    changed = true;
    changedAt = Date.now();
    if (summary.gone) return gone(summary.gone);
    const node = nodes.get(summary.who);
    if (!node) {
      nodes.set(summary.who, { who: summary.who, known: summary.known, summary });
      return laySoon();
    }
    const before = node.summary;
    // What waited while all boots came may be older than these.
    if (before && (summary.number < before.number || (summary.number === before.number && summary.heard_ms < before.heard_ms))) return;
    node.summary = summary;
    rack.update(node);
    timeline.changed(summary.who);
  },
  link(state, why, next) {
    link = { state, why, next };
    look();
  },
  sign() {
    heardAt = Date.now();
  },
};

function gone(who) {
  const node = nodes.get(who);
  if (!node) return;
  if (node.known) {
    node.summary = null;
    rack.update(node);
  } else {
    nodes.delete(who);
    laySoon();
  }
}

/** New cells move others: several at once. */
let laying = 0;
function laySoon() {
  laying ||= setTimeout(() => {
    laying = 0;
    rack.set([...nodes.values()]);
  }, 200);
}

function figure(kind, words) {
  const number = el("span", { class: "number" }, "0");
  const cell = el("span", { class: `cell ${kind}`, "aria-hidden": "true" });
  const button = el("button", { type: "button", class: "figure" }, cell, number, el("span", { class: "word" }, words));
  button.addEventListener("click", () => stragglers.find(kind));
  page("figures").append(el("li", {}, button));
  return { number, button };
}

/** Words and lists, twice a second. */
function look() {
  if (document.hidden) return;
  linkWords();
  stragglers.tick();
  if (!changed) return;
  changed = false;
  const sums = Object.fromEntries(KINDS.map(([kind]) => [kind, 0]));
  let rate = 0;
  let lately = 0;
  const time = now();
  for (const { summary } of nodes.values()) {
    sums[kindOf(summary)]++;
    if (!summary) continue;
    if (summary.state === "under-way" && time - summary.heard_ms < 10_000) rate += summary.rate ?? 0;
    if (summary.state === "booted" && time - summary.heard_ms < 60_000) lately++;
  }
  for (const [kind, { number, button }] of figures) {
    say(number, count(sums[kind]));
    button.classList.toggle("none", !sums[kind]);
  }
  health.moving(rate, lately);
  stragglers.show(nodes);
  sentence(sums);
  document.title = sums.stuck ? `${count(sums.stuck)} stuck – bootd` : "bootd";
}

function sentence(sums) {
  if (Date.now() - saidAt < SENTENCE) return;
  const way = ["firmware", "ipxe", "files", "system", "cloud"].reduce((sum, kind) => sum + sums[kind], 0);
  const parts = [[sums.stuck, "stuck"], [way, "under way"], [sums.booted, "booted"], [sums.unseen, "not seen"]];
  const text = parts.filter(([sum]) => sum).map(([sum, words]) => `${count(sum)} ${words}`).join(", ");
  if (text !== page("said").textContent) saidAt = Date.now();
  say(page("said"), text || "no nodes");
}

function linkWords() {
  const at = new Date(heardAt).toLocaleTimeString("en-GB");
  const next = () => `next try in ${time(Math.max(0, link.next - Date.now()))}`;
  const words = {
    connecting: () => "connecting",
    live: () => (changedAt ? `live, last change ${time(Math.max(0, Date.now() - changedAt))} ago` : "live"),
    lost: () => `connection lost (${link.why}); what is shown is of ${heardAt ? at : "nothing yet"}; ${next()}`,
    token: () => "waits for a token",
  };
  // A status that changes twice a second would never be silent: only its state is one.
  page("link").className = link.state;
  say(page("link-text"), words[link.state]());
  page("link").setAttribute("aria-live", link.state === "live" ? "off" : "polite");
  document.body.classList.toggle("stale", link.state === "lost");
}

/** The address names a node: its timeline is open. */
function atHash() {
  const named = /^#node=(.+)$/.exec(location.hash);
  if (!named || page("board").hidden) return timeline.close();
  let who = named[1];
  try {
    who = decodeURIComponent(who);
  } catch {
    // As it stands.
  }
  timeline.open(who);
}

async function run() {
  page("site").textContent = location.hostname;
  for (;;) {
    try {
      // Whether a token is wanted, before anything is shown.
      await ask("/admin/boots/stages").catch((error) => {
        if (error instanceof Refused) throw error;
      });
      page("board").hidden = false;
      page("login").hidden = true;
      atHash();
      health.look();
      await follow(told);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      await login(error.message);
    }
  }
}

function login(why) {
  told.link("token");
  timeline.close();
  page("board").hidden = true;
  page("login").hidden = false;
  page("login-why").textContent = why ? `The token is not taken: ${why}` : "This board wants a token.";
  page("token").focus();
  return new Promise((resolve) => {
    page("login").onsubmit = (event) => {
      event.preventDefault();
      keepToken(page("token").value);
      page("token").value = "";
      resolve();
    };
  });
}

addEventListener("hashchange", atHash);
addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input, select, textarea");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !timeline.who && !page("board").hidden) {
    event.preventDefault();
    page("filter").focus();
  }
});
document.addEventListener("visibilitychange", () => {
  changed = true;
  look();
  if (!document.hidden && link.state === "live") health.look();
});
setInterval(look, LOOK);
setInterval(() => !document.hidden && link.state === "live" && health.look(), HEALTH);
health.oninventory = () => told.again?.();
stragglers.onfilter = () => stragglers.show(nodes);
run();
