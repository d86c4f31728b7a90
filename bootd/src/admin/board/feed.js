// What bootd says: its views, and the stream of changes. It knows nothing of the page.
//
// The token goes into a header, never into an address, and is kept for the tab only. The stream is begun before all boots are asked for, so that
// nothing is missed between; what is older than what is known already is dropped by who takes it. A stream that is silent is dead: bootd gives a
// sign every 15 s.

const KEY = "bootd-token";
const SILENCE = 40_000;
const LONGEST_WAIT = 30_000;
/** Milliseconds after which all boots are asked for again: nodes come into the inventory and leave it. */
const ANEW = 60_000;

/** bootd wants a token, or another one. */
export class Refused extends Error {}

export function keepToken(token) {
  sessionStorage.setItem(KEY, token.trim());
}

/** There is no such thing. */
export class Unknown extends Error {}

/** A view's answer. */
export async function ask(path, signal) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { headers, cache: "no-store", signal });
  if (response.ok) return response;
  if (response.status === 404) throw new Unknown(`bootd has no ${path}`);
  const why = await detail(response);
  if (response.status === 401 || response.status === 403) throw new Refused(token ? why : "");
  throw new Error(why);
}

async function detail(response) {
  const text = (await response.text()).slice(0, 300);
  try {
    const said = JSON.parse(text);
    return said.detail || said.error || said.title || text;
  } catch {
    return text.trim() || `status ${response.status}`;
  }
}

/**
 * Follows bootd until it wants a token: `told.whole(boots)`, then `told.change(summary)` for each, `told.link(state, text)` when the connection
 * comes or goes, `told.sign()` whenever something arrives. It sets `told.again`, which asks for all boots once more.
 */
export async function follow(told) {
  for (let failures = 0; ; failures++) {
    const begun = Date.now();
    let why;
    try {
      await connection(told);
      why = "bootd ended the stream";
    } catch (error) {
      if (error instanceof Refused) throw error;
      why = error.name === "AbortError" ? "nothing is heard" : error.message;
    }
    if (Date.now() - begun > LONGEST_WAIT) failures = 0;
    // Many boards that lost one bootd do not come back at once.
    const wait = Math.min(LONGEST_WAIT, 1000 * 2 ** failures) * (0.75 + Math.random() / 2);
    told.link("lost", why, Date.now() + wait);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function connection(told) {
  const stop = new AbortController();
  let silence, anew, failed;
  const sign = () => {
    clearTimeout(silence);
    silence = setTimeout(() => stop.abort(), SILENCE);
    told.sign();
  };
  // What comes before all boots do.
  let held = [];
  let asking = false;
  const whole = async () => {
    if (asking || stop.signal.aborted) return;
    asking = true;
    held ??= [];
    try {
      const boots = await (await ask("/admin/boots", stop.signal)).json();
      told.whole(boots);
      held.forEach(told.change);
      held = null;
      told.link("live");
    } catch (error) {
      failed = error;
      stop.abort();
    }
    asking = false;
  };
  told.again = whole;
  try {
    sign();
    const stream = await ask("/admin/boots/changes", stop.signal);
    whole();
    anew = setInterval(() => document.hidden || whole(), ANEW);
    for await (const [kind, data] of events(stream.body, sign)) {
      if (kind === "missed") whole();
      else if (kind !== "boot") continue;
      else if (held) held.push(JSON.parse(data));
      else told.change(JSON.parse(data));
    }
  } catch (error) {
    throw failed ?? error;
  } finally {
    clearTimeout(silence);
    clearInterval(anew);
    stop.abort();
  }
}

/** The events of a stream of them, as [type, data]. */
async function* events(body, sign) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    sign();
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      let kind = "message";
      let data = "";
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) kind = line.slice(7);
        else if (line.startsWith("data: ")) data += line.slice(6);
      }
      if (data) yield [kind, data];
    }
  }
}
