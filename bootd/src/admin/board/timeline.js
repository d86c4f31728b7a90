// One node's attempts: the newest as a picture, with what is wrong in words, and the same as a table.
//
// The dialog is the browser's own: Escape closes it, the focus stays inside and goes back to where it came from.

import { el, svg, stageOf, table, time, size } from "./words.js";

/** Milliseconds between two marks of the axis. */
const MARKS = [100, 200, 500, 1e3, 2e3, 5e3, 10e3, 20e3, 30e3, 60e3, 120e3, 300e3, 600e3, 1800e3, 3600e3, 4 * 3600e3, 24 * 3600e3];
const ROW = 38;
const TOP = 6;

const STATES = { "under-way": "under way", stuck: "stuck", booted: "booted", "given-up": "given up" };
const ENDS = { open: "goes on", offered: "offered, not taken", done: "done", failed: "failed" };

export class TimelineDialog {
  #dialog;
  #ask;
  #who = null;
  #timeline = null;
  #number = null;
  #due = 0;
  #width = 0;

  /** `ask(who)` gives its timeline; `closed()`: nobody looks any more. */
  constructor(dialog, { ask, closed }) {
    this.#dialog = dialog;
    this.#ask = ask;
    dialog.addEventListener("close", () => {
      // The event comes later: another node may be shown by now.
      if (dialog.open) return;
      this.#who = null;
      closed();
    });
    // A click beside it.
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    new ResizeObserver(() => this.#timeline && dialog.open && dialog.clientWidth !== this.#width && this.#show()).observe(dialog);
  }

  get who() {
    return this.#who;
  }

  open(who) {
    if (this.#who === who) return;
    this.#who = who;
    this.#number = null;
    this.#timeline = null;
    this.#fill(el("p", { class: "muted" }, "…"));
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#load();
  }

  close() {
    if (this.#dialog.open) this.#dialog.close();
  }

  /** Something of this node changed: it is looked at again, once a second at most. */
  changed(who) {
    if (who !== this.#who || this.#due) return;
    this.#due = setTimeout(() => {
      this.#due = 0;
      if (this.#who) this.#load();
    }, 1000);
  }

  async #load() {
    const who = this.#who;
    try {
      const timeline = await this.#ask(who);
      if (this.#who !== who) return;
      this.#timeline = timeline;
      this.#show();
    } catch (error) {
      if (this.#who === who) this.#fill(el("p", { class: "wrong" }, error.message));
    }
  }

  /** The head, and what is below it; the focus stays where it was. */
  #fill(...below) {
    const focused = this.#dialog.contains(document.activeElement) ? document.activeElement.id : "";
    const close = el("button", { id: "timeline-close", type: "button", "aria-label": "Close the timeline", "aria-keyshortcuts": "Escape" }, "×");
    close.addEventListener("click", () => this.close());
    const title = el("h2", { id: "timeline-title" }, this.#who);
    this.#dialog.replaceChildren(el("div", { class: "line" }, title, close), ...below);
    (document.getElementById(focused) ?? close).focus({ preventScroll: true });
  }

  #show() {
    const { attempts, now_ms: now, mac } = this.#timeline;
    if (!attempts.length) return this.#fill(el("p", {}, "Nothing was heard of it."));
    const attempt = attempts.find((attempt) => attempt.number === this.#number) ?? attempts.at(-1);
    const scroll = this.#dialog.scrollTop;
    const isOpen = this.#dialog.querySelector("details")?.open;
    this.#width = this.#dialog.clientWidth;
    this.#fill(
      this.#choice(attempts, attempt),
      outcome(attempt, now),
      picture(attempt, now, this.#width),
      facts(attempt, mac),
      steps(attempt),
    );
    this.#dialog.querySelector("details").open = isOpen ?? false;
    this.#dialog.scrollTop = scroll;
  }

  #choice(attempts, shown) {
    const options = attempts.toReversed().map((attempt) => {
      const state = STATES[attempt.state] ?? attempt.state;
      const option = el("option", { value: attempt.number }, `attempt ${attempt.number}, ${clock(attempt.began_ms)}, ${state}`);
      option.selected = attempt === shown;
      return option;
    });
    const select = el("select", { id: "timeline-attempt", "aria-label": "Attempt" }, ...options);
    select.addEventListener("change", () => {
      this.#number = Number(select.value);
      this.#show();
    });
    return el("p", {}, select);
  }
}

function outcome(attempt, now) {
  const took = time(attempt.heard_ms - attempt.began_ms);
  const words = {
    booted: `Booted in ${took}.`,
    stuck: `Stuck; heard last ${time(now - attempt.heard_ms)} ago.`,
    "under-way": `Under way for ${time(now - attempt.began_ms)}.`,
    "given-up": `Given up after ${took}: its node began anew.`,
  };
  const said = attempt.diagnosis;
  return el(
    "div",
    { class: `outcome ${said ? "wrong" : attempt.state}` },
    el("p", {}, el("strong", {}, words[attempt.state] ?? attempt.state)),
    said ? el("p", {}, said.text) : null,
    said ? el("p", { class: "muted" }, `${said.name}, found ${clock(said.at_ms)}`) : null,
  );
}

/** Bars on an axis of time: a row for each step, and one for the step that did not come. */
function picture(attempt, now, outer) {
  const width = Math.max(240, outer - 48);
  const { began_ms: began, diagnosis: said } = attempt;
  const ended = (step) => step.ended_ms ?? (attempt.state === "under-way" && step.end === "open" ? now : step.heard_ms);
  const missing = said && !attempt.steps.some((step) => step.stage === said.stage) ? said : null;
  const last = Math.max(attempt.heard_ms, said?.at_ms ?? 0, ...attempt.steps.map(ended));
  const whole = Math.max(last - began, 100);
  const x = (at) => ((Math.max(at, began) - began) / whole) * width;
  const rows = attempt.steps.length + (missing ? 1 : 0);
  const bottom = TOP + rows * ROW;
  const state = STATES[attempt.state] ?? attempt.state;
  const title = `Attempt ${attempt.number}: ${attempt.steps.length} steps in ${time(last - began)}, ${state}. The table below says the same.`;
  const height = bottom + 22;
  const drawing = svg("svg", { class: "picture", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  const marks = [];
  const between = MARKS.find((mark) => whole / mark <= width / 90) ?? whole;
  for (let at = 0; at <= whole; at += between) {
    const place = Math.min(width - 0.5, (at / whole) * width + 0.5);
    const anchor = at === 0 ? "start" : place > width - 24 ? "end" : "middle";
    marks.push(place);
    drawing.append(svg("text", { class: "small", x: place, y: bottom + 15, "text-anchor": anchor }, at ? time(at).replace(".0 ", " ") : "0"));
  }
  // Marks are cut into the tracks, and not through the words between them.
  const track = (top) => [
    svg("rect", { class: "track", x: 0, y: top + 18, width, height: 10, rx: 2 }),
    svg("path", { class: "mark", d: marks.map((place) => `M${place} ${top + 18}v10`).join("") }),
  ];
  attempt.steps.forEach((step, row) => {
    const top = TOP + row * ROW;
    const stage = stageOf(step.stage);
    const to = ended(step);
    const kind = step.end === "failed" ? "stuck" : stage.phase;
    const long = Math.max(3, x(to) - x(step.began_ms));
    const left = Math.min(x(step.began_ms), width - long);
    drawing.append(
      heading(stage.title, measures(step, to).join(" · ") + (step.end === "failed" ? " · failed" : ""), top, width),
      ...track(top),
      svg("rect", { class: `bar ${kind} ${step.end}`, x: left, y: top + 18, width: long, height: 10, rx: 2 }),
    );
  });
  if (missing) {
    const top = TOP + attempt.steps.length * ROW;
    const from = x(attempt.heard_ms);
    drawing.append(
      heading(stageOf(missing.stage).title, "did not come", top, width),
      ...track(top),
      svg("line", { class: "missing", x1: from, x2: width, y1: top + 23, y2: top + 23 }),
    );
  }
  return el("figure", {}, drawing);
}

function heading(left, right, top, width) {
  return svg(
    "g",
    {},
    svg("text", { class: "name", x: 0, y: top + 12 }, left),
    svg("text", { class: "small", x: width, y: top + 12, "text-anchor": "end" }, right),
  );
}

/** How long, how much, how fast, how often. */
function measures(step, to = step.ended_ms ?? step.heard_ms) {
  const took = to - step.began_ms;
  const parts = [time(took)];
  if (step.bytes) parts.push(step.of && step.of !== step.bytes ? `${size(step.bytes)} of ${size(step.of)}` : size(step.bytes));
  if (step.bytes && took > 0) parts.push(`${size((step.bytes * 1000) / took)}/s`);
  if (step.tries > 1) parts.push(`${step.tries} tries`);
  return parts;
}

/** What the node said of itself. */
function facts(attempt, mac) {
  const hints = attempt.hints ?? {};
  const known = [
    ["Hardware address", mac],
    ["Address", attempt.ip],
    ["Relay", attempt.relay],
    ["Architecture", hints.arch],
    ["Vendor class", hints.vendor_class],
    ["Machine id", hints.machine_id],
    ["User agent", hints.agent],
  ];
  const rows = known.filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
  return el("dl", {}, ...rows);
}

function steps(attempt) {
  const rows = attempt.steps.map((step) => {
    const took = (step.ended_ms ?? step.heard_ms) - step.began_ms;
    return [
      stageOf(step.stage).title,
      `+${time(step.began_ms - attempt.began_ms)}`,
      time(took),
      step.bytes ? size(step.bytes) : "",
      step.bytes && took > 0 ? `${size((step.bytes * 1000) / took)}/s` : "",
      String(step.tries),
      ENDS[step.end] ?? step.end,
      el("span", { class: "path" }, step.what ?? ""),
    ];
  });
  const whole = table(`Steps of attempt ${attempt.number}`, ["Step", "Began", "Took", "Bytes", "Rate", "Tries", "Outcome", "What"], rows);
  return el("details", {}, el("summary", { id: "timeline-steps" }, "As a table"), whole);
}

function clock(ms) {
  const when = new Date(ms);
  const text = when.toLocaleTimeString("en-GB");
  return when.toDateString() === new Date().toDateString() ? text : `${when.toLocaleDateString("en-CA")} ${text}`;
}
