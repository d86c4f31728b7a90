// The list of those who lag behind: who is stuck, then who is under way, the longest first; with a filter, of all nodes that it finds.
//
// The first 200 are in the page, and how many more there are is said. While the pointer or the focus is in the list its order stays as it is, so
// that nobody chooses what has just moved under the finger.

import { el, kindOf, KINDS, stageOf, say, size, time, count } from "./words.js";

const MOST = 200;
const ORDER = { stuck: 0, "under-way": 2, "given-up": 3, booted: 4 };
const WORDS = new Map(KINDS);

export class Stragglers {
  #list;
  #more;
  #filter;
  #now;
  #rows = new Map();
  onfilter = () => {};

  constructor({ list, more, filter, now }) {
    this.#list = list;
    this.#more = more;
    this.#filter = filter;
    this.#now = now;
    filter.addEventListener("input", () => this.onfilter());
    filter.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && filter.value) {
        filter.value = "";
        this.onfilter();
      }
    });
  }

  /** The nodes of this kind; again: no filter. */
  find(kind) {
    const word = WORDS.get(kind) ?? kind;
    this.#filter.value = this.#filter.value === word ? "" : word;
    this.onfilter();
  }

  show(nodes) {
    const wanted = this.#filter.value.trim().toLowerCase();
    const found = [];
    for (const node of nodes.values()) {
      const open = node.summary && (node.summary.state === "stuck" || node.summary.state === "under-way");
      if (wanted ? matches(node, wanted) : open) found.push(node);
    }
    found.sort((a, b) => rank(a) - rank(b) || since(a) - since(b));
    const first = found.slice(0, MOST);
    const held = this.#list.matches(":hover") || this.#list.contains(document.activeElement);
    this.#place(first, held);
    const rest = found.length - first.length;
    const none = wanted ? "no node is like that" : nodes.size ? "nobody lags behind" : "no nodes yet";
    say(this.#more, found.length ? (rest ? `and ${count(rest)} more` : "") : none);
  }

  /** The times go on. */
  tick() {
    for (const row of this.#rows.values()) row.times(this.#now());
  }

  #place(nodes, held) {
    const wanted = new Set(nodes.map((node) => node.who));
    for (const [who, row] of this.#rows) {
      if (wanted.has(who) || (held && row.element.contains(document.activeElement))) continue;
      row.element.remove();
      this.#rows.delete(who);
    }
    let before = null;
    for (const node of nodes) {
      let row = this.#rows.get(node.who);
      if (!row) {
        row = new Row(node.who);
        this.#rows.set(node.who, row);
        if (held) this.#list.append(row.element);
      }
      row.show(node, this.#now());
      if (held) continue;
      const place = before ? before.nextSibling : this.#list.firstChild;
      if (place !== row.element) this.#list.insertBefore(row.element, place);
      before = row.element;
    }
  }
}

class Row {
  #mark = el("span", { class: "cell", "aria-hidden": "true" });
  #stage = el("span", { class: "stage" });
  #time = el("span", { class: "time" });
  #text = el("span", { class: "text" });
  #summary = null;

  constructor(who) {
    const name = el("span", { class: "who" }, who);
    const link = el("a", { href: `#node=${encodeURIComponent(who)}` }, this.#mark, name, this.#stage, this.#time, this.#text);
    this.element = el("li", {}, link);
  }

  show({ summary }, now) {
    this.#summary = summary;
    const kind = kindOf(summary);
    this.#mark.className = `cell ${kind}${summary?.diagnosis && kind !== "stuck" ? " late" : ""}`;
    const state = WORDS.get(kind);
    const stage = summary?.stage ? stageOf(summary.stage).title : "";
    say(this.#stage, summary?.state === "under-way" || !stage ? stage || state : `${state}${kind === "booted" ? "" : ` at ${stage}`}`);
    say(this.#text, summary?.text ?? progress(summary));
    this.times(now);
  }

  times(now) {
    const summary = this.#summary;
    if (!summary) return say(this.#time, "");
    const over = summary.state === "booted" || summary.state === "given-up";
    say(this.#time, time((over ? summary.heard_ms : now) - summary.began_ms));
  }
}

/** What is on its way, or comes next. */
function progress(summary) {
  if (!summary) return "";
  if (summary.bytes) {
    const parts = [summary.of ? `${size(summary.bytes)} of ${size(summary.of)}` : size(summary.bytes)];
    if (summary.rate) parts.push(`${size(summary.rate)}/s`);
    return parts.join(", ");
  }
  return summary.next ? `next: ${stageOf(summary.next).title}` : "";
}

const since = ({ summary }) => summary?.began_ms ?? 0;

function rank({ summary }) {
  if (!summary) return 5;
  const late = summary.state === "under-way" && summary.diagnosis;
  return late ? 1 : (ORDER[summary.state] ?? 2);
}

function matches({ who, summary }, wanted) {
  const kind = kindOf(summary);
  if ((WORDS.get(kind) ?? kind).toLowerCase() === wanted) return true;
  const texts = [who, WORDS.get(kind)];
  if (summary) texts.push(summary.mac, summary.ip, summary.stage, stageOf(summary.stage).title, summary.diagnosis, summary.text);
  return texts.some((text) => text?.toLowerCase().includes(wanted));
}
