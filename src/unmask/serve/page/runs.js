// One text written by one model, as a film that grows while it is written.

import { Film, END } from "../../report/replay/film.js";
import { events } from "./wire.js";

// Where the gaps of a text are. An odd number of backslashes before [MASK makes it text.
export function gapsOf(text) {
  const found = [...text.matchAll(/(\\*)(\[MASK(?::[^\]]*)?\])/g)].filter(([, slashes]) => slashes.length % 2 === 0);
  return found.map(({ index, 1: slashes, 2: gap }) => ({ at: index + slashes.length, gap }));
}

const gapOf = (length) => `[MASK:${length}]`;

// A piece of a template as it stands before a gap: there, backslashes at its end count twice.
const before = (piece) => piece.replace(/\\+$/, (slashes) => slashes + slashes);

// What there is to fill: the text itself where it has gaps, else the text and a gap behind it.
const withGap = (text, length) => (gapsOf(text).length ? text : before(text) + gapOf(length));

// Plain text as a template has it, and back.
const escaped = (text) => text.replace(/(\\*)\[MASK/g, "$1$1\\[MASK");
const plain = (piece) => piece.replace(/\\+(?=\[MASK|$)/g, (slashes) => "\\".repeat(slashes.length >> 1));

// ask: {text, length, steps, rule, temperature, top_p, seed, alternatives}. onframe(film): there is a new frame.
// arrival: frames are timed by when they arrive here, not by the server's clock.
export function write(model, ask, { signal, onframe, arrival = false }) {
  const run = model.kind === "autoregressive" ? complete : infill;
  return run(model, ask, { signal, onframe, arrival });
}

async function infill(model, ask, { signal, onframe, arrival }) {
  const { temperature, top_p, seed, steps, rule } = ask;
  const facts = { model: model.id, rule: rule || undefined, steps, temperature, top_p, seed };
  const body = {
    template: withGap(ask.text, ask.length), model: model.id, temperature, top_p, seed, stream: true, diffusing: true,
    alternatives: ask.alternatives ?? 3,
  };
  if (rule) body.rule = rule;
  if (steps) body.steps = steps;
  const began = performance.now();
  let film = null;
  for await (const event of events("/v1/infill", body, signal)) {
    if (event.object === "infill.frame") {
      film ??= new Film({ facts, tokens: event.tokens.map(({ given }) => ({ given, committed_at: null, p: null, alternatives: [] })) });
      addFrame(film, event, arrival ? (performance.now() - began) / 1000 : event.seconds);
      onframe(film);
    } else if (event.object === "infill.done") film.said = event.text;
  }
  return film;
}

function addFrame(film, event, seconds) {
  const row = film.last >= 0 ? film.row(film.last) : new Array(film.tokens.length).fill(null);
  const changes = [];
  event.tokens.forEach((now, i) => {
    const token = film.tokens[i];
    const text = now.id === null && !now.given ? null : now.text;
    if (text !== row[i]) changes.push([i, text]);
    if (token.given) return;
    if (now.committed_at !== null) token.committed_at = now.committed_at;
    else if (text !== null) film.commits = false;
    if (now.p !== null && now.p !== undefined) [token.p, token.alternatives] = [now.p, now.alternatives ?? []];
  });
  film.add({ step: event.step, t: event.t, nfe: event.nfe, seconds, changes });
}

// An autoregressive model writes to the right of what stands before the first gap. A position a piece of the stream.
async function complete(model, ask, { signal, onframe }) {
  const gaps = gapsOf(ask.text);
  const prompt = gaps.length ? plain(ask.text.slice(0, gaps[0].at)) : ask.text.replace(/\\+(?=\[MASK)/g, plain);
  const length = gaps.length ? gaps.reduce((sum, { gap }) => sum + gapLength(gap), 0) : ask.length;
  const { temperature, top_p, seed } = ask;
  const body = { model: model.id, prompt, max_tokens: length, temperature, top_p, seed, stream: true, stream_options: { include_usage: true } };
  const tokens = Array.from({ length: length + 1 }, (_, i) => ({ given: i === 0, committed_at: null, p: null, alternatives: [] }));
  const film = new Film({ facts: { model: model.id, temperature, top_p, seed }, tokens });
  film.add({ step: 0, t: 1, nfe: 0, seconds: 0, changes: [[0, prompt]] });
  onframe(film);
  const began = performance.now();
  let count = 0;
  let usage = null;
  for await (const event of events("/v1/completions", body, signal)) {
    usage = event.usage ?? usage;
    const text = event.choices?.[0]?.text;
    if (!text || count === length) continue;
    count++;
    film.tokens[count].committed_at = count;
    film.add({ step: count, t: 1 - count / length, nfe: count, seconds: (performance.now() - began) / 1000, changes: [[count, text]] });
    onframe(film);
  }
  film.cut(count + 1);
  film.count = usage?.completion_tokens;
  return film;
}

const gapLength = (gap) => Number(/(\d+)\]$/.exec(gap)?.[1] ?? 1);

// The film's text with the chosen positions, and those that are still masked, as gaps, all else given. It ends where the
// text does.
export function template(film, chosen) {
  const row = film.row(film.last);
  let [out, piece, gap] = ["", "", 0];
  const close = () => {
    if (gap) out += before(escaped(piece)).replace(/ $/, "  ") + gapOf(gap); // of spaces there, the gap takes one
    if (gap) [piece, gap] = ["", 0];
  };
  for (let i = 0; i < row.length; i++) {
    if (chosen.has(i) || row[i] === null) gap++;
    else if (row[i] === END) break;
    else if (row[i] !== "" || !gap) {
      close();
      piece += row[i];
    }
  }
  close();
  return out + escaped(piece);
}
