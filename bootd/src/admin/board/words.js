// Names, numbers and elements that the parts of the page share. Whatever comes from a node becomes text, never markup.

/** The stages in their order: name in JSON, what is shown, and the phase, which has a colour. */
export const STAGES = [
  ["firmware-dhcp", "Firmware address", "firmware"],
  ["loader", "Loader", "firmware"],
  ["ipxe-dhcp", "iPXE address", "ipxe"],
  ["script", "Boot script", "ipxe"],
  ["kernel", "Kernel", "files"],
  ["initramfs", "Initramfs", "files"],
  ["os-dhcp", "System address", "system"],
  ["root", "Root image", "system"],
  ["meta-data", "Meta-data", "cloud"],
  ["cloud-config", "Cloud-config", "cloud"],
  ["phone-home", "Phone-home", "cloud"],
].map(([name, title, phase], number) => ({ name, title, phase, number }));

const BY_NAME = new Map(STAGES.map((stage) => [stage.name, stage]));

/** A stage by its name; one of a newer bootd, too. */
export const stageOf = (name) => BY_NAME.get(name) ?? { name, title: name ?? "", phase: "firmware", number: 0 };

/** What a cell can be, in the order of the legend. */
export const KINDS = [
  ["stuck", "stuck"],
  ["firmware", "firmware"],
  ["ipxe", "iPXE"],
  ["files", "kernel, initramfs"],
  ["system", "system, root"],
  ["cloud", "cloud-init"],
  ["booted", "booted"],
  ["given-up", "given up"],
  ["unseen", "not seen"],
];

/** Which of these an attempt is. */
export function kindOf(summary) {
  if (!summary) return "unseen";
  return summary.state === "under-way" ? stageOf(summary.stage).phase : summary.state;
}

/** "1.2 s", "3 min 4 s", "2 h 10 min". */
export function time(ms) {
  if (ms < 0) return "0 s";
  if (ms < 995) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 59.5) return `${Math.round(s)} s`;
  const min = Math.round(s / 60);
  if (s < 600 && Math.floor(s % 60)) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (min < 60) return `${min} min`;
  if (min < 60 * 48) return `${Math.floor(min / 60)} h ${min % 60} min`;
  return `${Math.round(min / 60 / 24)} days`;
}

/** "34 MB". */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) {
    bytes /= 1000;
    unit++;
  }
  return `${bytes < 9.95 && unit > 0 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

export const count = (number) => number.toLocaleString("en");

/** An element with attributes and children; texts are texts. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same of SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A table: its heads, and rows of texts or elements; the first cell is a row's head. */
export function table(caption, heads, rows) {
  const cells = (row) => row.map((cell, at) => (at ? el("td", {}, cell) : el("th", { scope: "row" }, cell)));
  return el(
    "div",
    { class: "table" },
    el(
      "table",
      {},
      el("caption", { class: "unseen-text" }, caption),
      el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cells(row)))),
    ),
  );
}

/** Sets a text only where it differs, so that what did not change is left alone. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
