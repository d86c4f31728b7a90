// The rack as cells: one canvas for all of them, since ten thousand elements would not be smooth, and one button over the cell that has the focus,
// so that the keyboard and a screen reader find their way. Only cells that changed are painted again, once a frame.
//
// A cell is filled from below as far as its node is, so its stage can be read without its colour; who is stuck has a cross.

import { el, kindOf, stageOf, STAGES, KINDS, time, count } from "./words.js";

/** Cells up to this number are so wide, with the gap. */
const PITCHES = [[48, 34], [160, 26], [600, 19], [1500, 14], [4000, 11], [Infinity, 8]];
/** A canvas may have so many pixels: phones give no more. */
const MOST_PIXELS = 8e6;
/** Stages of a node that wait for their frame. */
const MOST_STEPS = 12;
const XNAME = /^x(\d+)c(\d+)s(\d+)/;
const STRANGERS = "not in the inventory";
const KIND_WORDS = new Map(KINDS);

export class Rack {
  #root;
  #canvas = el("canvas", { "aria-hidden": "true" });
  #cursor = el("button", { id: "cursor", type: "button", tabindex: "0", "aria-keyshortcuts": "ArrowUp ArrowDown ArrowLeft ArrowRight Enter n" });
  #hint = el("div", { id: "hint", "aria-hidden": "true", hidden: "" });
  #pen;
  #scale = 1;
  #cells = [];
  #of = new Map();
  #labels = [];
  #width = 0;
  #pitch = 8;
  #dirty = new Set();
  #all = false;
  #frame = 0;
  #at = null;
  #colours = {};
  #now;
  #painted;

  /** `open(who)`: a node was chosen. `now()`: bootd's time. `painted(nodes)`: these are on the screen with the frame that comes. */
  constructor(root, { open, now, painted }) {
    this.#root = root;
    this.#now = now;
    this.#painted = painted;
    this.#pen = this.#canvas.getContext("2d");
    root.append(this.#canvas, this.#cursor, this.#hint);
    root.setAttribute("role", "group");
    new ResizeObserver(() => root.clientWidth !== this.#width && this.#lay()).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#readColours());
    matchMedia("(prefers-contrast: more)").addEventListener("change", () => this.#readColours());
    this.#cursor.addEventListener("keydown", (event) => this.#key(event));
    this.#cursor.addEventListener("click", () => this.#at && open(this.#at.node.who));
    this.#cursor.addEventListener("focus", () => this.#name());
    this.#canvas.addEventListener("click", (event) => {
      const cell = this.#under(event);
      if (!cell) return;
      this.#go(cell);
      this.#cursor.focus({ preventScroll: true });
      open(cell.node.who);
    });
    this.#canvas.addEventListener("pointermove", (event) => this.#hover(this.#under(event)));
    this.#canvas.addEventListener("pointerleave", () => this.#hover(null));
    this.#readColours();
  }

  /** Other nodes, or the first ones: `nodes` are { who, known, summary }. */
  set(nodes) {
    const same = nodes.length === this.#cells.length && nodes.every((node) => this.#of.has(node.who));
    if (same) {
      for (const node of nodes) Object.assign(this.#of.get(node.who), { node, shown: node.summary, steps: [] });
      return this.#paintAll();
    }
    const places = nodes.map((node) => ({ node, shown: node.summary, steps: [], ...placeOf(node) }));
    const names = new Intl.Collator("en", { numeric: true });
    const by = (a, b) => names.compare(a.cabinet, b.cabinet) || names.compare(a.chassis, b.chassis) || names.compare(a.node.who, b.node.who);
    places.sort((a, b) => a.order - b.order || by(a, b));
    this.#cells = places;
    this.#of = new Map(places.map((cell) => [cell.node.who, cell]));
    this.#at = this.#of.get(this.#at?.node.who) ?? places[0] ?? null;
    this.#root.setAttribute("aria-label", `Rack of ${count(places.length)} nodes`);
    this.#lay();
  }

  /** A node that changed; one that is new wants `set`. */
  update(node) {
    const cell = this.#of.get(node.who);
    if (!cell) return;
    cell.node = node;
    // Each stage has its frame, however quickly it passes.
    const last = cell.steps.at(-1);
    if (last && last.stage === node.summary?.stage) cell.steps.pop();
    if (cell.steps.length < MOST_STEPS) cell.steps.push(node.summary);
    this.#dirty.add(cell);
    this.#soon();
  }

  #readColours() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    this.#colours = Object.fromEntries(KINDS.map(([kind]) => [kind, read(`--${kind}`)]));
    for (const name of ["ink", "muted", "edge", "late", "cross"]) this.#colours[name] = read(`--${name}`);
    this.#paintAll();
  }

  #gap() {
    return this.#pitch > 20 ? 4 : this.#pitch > 10 ? 2 : 1;
  }

  /** Cabinets side by side, their chassis below each other, the nodes of a chassis in rows. */
  #lay() {
    const width = (this.#width = this.#root.clientWidth);
    if (!width || !this.#cells.length) return;
    const pitch = (this.#pitch = PITCHES.find(([most]) => this.#cells.length <= most)[1]);
    const margin = 24;
    const cabinets = [];
    for (const cell of this.#cells) {
      let cabinet = cabinets.at(-1);
      if (cabinet?.name !== cell.cabinet) cabinets.push((cabinet = { name: cell.cabinet, chassis: [], most: 0 }));
      let chassis = cabinet.chassis.at(-1);
      if (chassis?.name !== cell.chassis) cabinet.chassis.push((chassis = { name: cell.chassis, cells: [] }));
      chassis.cells.push(cell);
      cabinet.most = Math.max(cabinet.most, chassis.cells.length);
    }
    const fit = Math.max(1, Math.floor((width - margin) / pitch));
    // Whole chassis in a row or two, where that leaves room for a neighbour.
    const wanted = cabinets.length === 1 ? fit : 16;
    const most = Math.max(...cabinets.map((cabinet) => cabinet.most));
    const columns = Math.min(fit, wanted, most);
    const block = Math.max(margin + columns * pitch, 64);
    const least = pitch > 20 ? 32 : 18;
    const across = Math.max(1, Math.floor((width + least) / (block + least)));
    const gap = across > 1 && cabinets.length >= across ? Math.min(48, (width - across * block) / (across - 1)) : least;
    this.#labels = [];
    let top = 0;
    for (let first = 0; first < cabinets.length; first += across) {
      let lowest = top;
      cabinets.slice(first, first + across).forEach((cabinet, at) => {
        const left = Math.floor(at * (block + gap));
        let y = top + 20;
        this.#labels.push({ text: cabinet.name, x: left, y: top + 13, strong: true });
        for (const chassis of cabinet.chassis) {
          if (chassis.name) this.#labels.push({ text: chassis.name, x: left, y: y + Math.min(pitch, 14) / 2 + 4 });
          chassis.cells.forEach((cell, at) => {
            cell.x = left + (chassis.name ? margin : 0) + (at % columns) * pitch;
            cell.y = y + Math.floor(at / columns) * pitch;
          });
          y += Math.ceil(chassis.cells.length / columns) * pitch + (pitch > 20 ? 8 : 4);
        }
        lowest = Math.max(lowest, y);
      });
      top = lowest + 14;
    }
    const height = Math.max(top - 10, 40);
    this.#scale = Math.min(devicePixelRatio, Math.sqrt(MOST_PIXELS / (width * height)));
    this.#canvas.width = Math.round(width * this.#scale);
    this.#canvas.height = Math.round(height * this.#scale);
    this.#canvas.style.width = `${width}px`;
    this.#canvas.style.height = `${height}px`;
    this.#cursor.hidden = false;
    this.#go(this.#at);
    this.#paintAll();
  }

  #paintAll() {
    this.#all = true;
    this.#soon();
  }

  #soon() {
    this.#frame ||= requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.#frame = 0;
    const pen = this.#pen;
    pen.setTransform(this.#scale, 0, 0, this.#scale, 0, 0);
    const cells = this.#all ? this.#cells : this.#dirty;
    if (this.#all) {
      pen.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
      for (const label of this.#labels) {
        pen.fillStyle = label.strong ? this.#colours.ink : this.#colours.muted;
        pen.font = label.strong ? "600 12px system-ui, sans-serif" : "11px system-ui, sans-serif";
        pen.fillText(label.text, label.x, label.y);
      }
    }
    const edge = this.#pitch - this.#gap();
    const dirty = [...this.#dirty];
    for (const cell of dirty) cell.shown = cell.steps.length ? cell.steps.shift() : cell.node.summary;
    for (const cell of cells) this.#cell(cell, edge);
    this.#dirty.clear();
    this.#all = false;
    for (const cell of dirty.filter((cell) => cell.steps.length)) this.#dirty.add(cell);
    if (this.#dirty.size) this.#soon();
    if (this.#at && dirty.includes(this.#at) && document.activeElement === this.#cursor) this.#name();
    this.#painted(dirty.map(({ node, shown }) => ({ ...node, summary: shown })));
  }

  #cell({ shown, x, y }, edge) {
    const pen = this.#pen;
    const colours = this.#colours;
    const kind = kindOf(shown);
    const colour = colours[kind] ?? colours.edge;
    const line = edge > 12 ? 1.5 : 1;
    pen.clearRect(x - 1, y - 1, edge + 2, edge + 2);
    if (kind === "booted" || kind === "stuck") {
      pen.fillStyle = colour;
      pen.fillRect(x, y, edge, edge);
      if (kind === "stuck") this.#cross(x, y, edge);
      return;
    }
    pen.strokeStyle = colour;
    pen.lineWidth = line;
    pen.strokeRect(x + line / 2, y + line / 2, edge - line, edge - line);
    if (kind === "unseen") return;
    pen.beginPath();
    if (kind === "given-up") {
      pen.moveTo(x + line, y + edge - line);
      pen.lineTo(x + edge - line, y + line);
      return pen.stroke();
    }
    const level = Math.max(2, Math.round((edge * (stageOf(shown.stage).number + 1)) / (STAGES.length + 1)));
    pen.fillStyle = colour;
    pen.fillRect(x, y + edge - level, edge, level);
    if (shown.diagnosis) {
      pen.fillStyle = colours.late;
      pen.moveTo(x + edge, y);
      pen.lineTo(x + edge, y + edge * 0.6);
      pen.lineTo(x + edge * 0.4, y);
      pen.fill();
    }
  }

  #cross(x, y, edge) {
    const pen = this.#pen;
    const inset = Math.max(1.5, edge * 0.27);
    pen.strokeStyle = this.#colours.cross;
    pen.lineWidth = Math.max(1.2, edge * 0.11);
    pen.beginPath();
    pen.moveTo(x + inset, y + inset);
    pen.lineTo(x + edge - inset, y + edge - inset);
    pen.moveTo(x + edge - inset, y + inset);
    pen.lineTo(x + inset, y + edge - inset);
    pen.stroke();
  }

  #under(event) {
    const { left, top } = this.#canvas.getBoundingClientRect();
    const x = event.clientX - left;
    const y = event.clientY - top;
    const pitch = this.#pitch;
    return this.#cells.find((cell) => x >= cell.x && x < cell.x + pitch && y >= cell.y && y < cell.y + pitch) ?? null;
  }

  #hover(cell) {
    this.#hint.hidden = !cell;
    this.#canvas.classList.toggle("over", Boolean(cell));
    if (!cell) return;
    this.#hint.textContent = this.#words(cell.node);
    this.#hint.style.top = `${cell.y + this.#pitch + 6}px`;
    const left = Math.min(cell.x, this.#width - this.#hint.offsetWidth);
    this.#hint.style.left = `${Math.max(0, left)}px`;
  }

  #words({ who, summary }) {
    if (!summary) return `${who}: not seen yet`;
    const kind = kindOf(summary);
    const stage = stageOf(summary.stage).title;
    if (kind === "booted") return `${who}: booted in ${time(summary.heard_ms - summary.began_ms)}`;
    if (summary.text) return `${who}: ${summary.state === "stuck" ? "stuck" : "late"} at ${stage}: ${summary.text}`;
    const since = time(this.#now() - summary.began_ms);
    return kind === "given-up" ? `${who}: ${KIND_WORDS.get(kind)} at ${stage}` : `${who}: ${stage}, since ${since}`;
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const to = {
      ArrowLeft: () => this.#step(-1),
      ArrowRight: () => this.#step(1),
      ArrowUp: () => this.#across(-1),
      ArrowDown: () => this.#across(1),
      PageUp: () => this.#cabinet(-1),
      PageDown: () => this.#cabinet(1),
      Home: () => this.#cells[0],
      End: () => this.#cells.at(-1),
      n: () => this.#stuck(),
    }[event.key];
    if (!to) return;
    event.preventDefault();
    const cell = to();
    if (!cell) return;
    this.#go(cell);
    this.#cursor.scrollIntoView({ block: "nearest" });
    this.#name();
  }

  #step(by) {
    return this.#cells[this.#cells.indexOf(this.#at) + by];
  }

  /** The nearest cell above or below. */
  #across(by) {
    const { x, y } = this.#at;
    let best = null;
    let distance = Infinity;
    for (const cell of this.#cells) {
      const down = (cell.y - y) * by;
      if (down <= 0) continue;
      const far = down + Math.abs(cell.x - x) * 4;
      if (far < distance) [best, distance] = [cell, far];
    }
    return best;
  }

  #cabinet(by) {
    const here = this.#at.cabinet;
    const firsts = this.#cells.filter((cell, at) => cell.cabinet !== this.#cells[at - 1]?.cabinet);
    return firsts[firsts.findIndex((cell) => cell.cabinet === here) + by];
  }

  #stuck() {
    const at = this.#cells.indexOf(this.#at);
    const round = [...this.#cells.slice(at + 1), ...this.#cells.slice(0, at + 1)];
    return round.find((cell) => cell.node.summary?.state === "stuck");
  }

  #go(cell) {
    if (!cell) return;
    this.#at = cell;
    const edge = this.#pitch - this.#gap();
    const style = this.#cursor.style;
    style.left = `${cell.x - 3}px`;
    style.top = `${cell.y - 3}px`;
    style.width = style.height = `${edge + 6}px`;
    this.#name();
  }

  #name() {
    if (this.#at) this.#cursor.setAttribute("aria-label", this.#words(this.#at.node));
  }
}

/** Where a node belongs: by its xname, else among the others. */
function placeOf({ who, known }) {
  if (!known) return { order: 2, cabinet: STRANGERS, chassis: "" };
  const parts = XNAME.exec(who);
  if (!parts) return { order: 1, cabinet: "others", chassis: "" };
  return { order: 0, cabinet: `x${parts[1]}`, chassis: `c${parts[2]}` };
}
