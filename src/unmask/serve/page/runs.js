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

// The same for a model that writes only to the right: what stands before the first gap, and as many tokens as all gaps have.
function rightwards(text, length) {
  const gaps = gapsOf(text);
  if (!gaps.length) return withGap(text, length);
  return text.slice(0, gaps[0].at) + gapOf(gaps.reduce((sum, { gap }) => sum + Number(/(\d+)\]$/.exec(gap)?.[1] ?? 1), 0));
}

// Plain text as a template has it.
const escaped = (text) => text.replace(/(\\*)\[MASK/g, "$1$1\\[MASK");

// ask: {text, length, steps, rule, temperature, top_p, seed}. onframe(film): there is a new frame.
export async function write(model, ask, { signal, onframe }) {
  const { temperature, top_p, seed, steps, rule } = ask;
  const diffusing = model.kind === "diffusion";
  const body = {
    template: (diffusing ? withGap : rightwards)(ask.text, ask.length), model: model.id, temperature, top_p, seed,
    stream: true, diffusing: true, alternatives: 3,
  };
  if (diffusing && rule) body.rule = rule;
  if (diffusing && steps) body.steps = steps;
  let film = null;
  for await (const event of events("/v1/infill", body, signal)) {
    if (event.object === "infill.frame") {
      film ??= begun({ model: model.id, rule: event.rule, steps: body.steps, temperature, top_p, seed }, event);
      addFrame(film, event);
      onframe(film);
    } else if (event.object === "infill.done") film.said = event.text;
  }
  return film;
}

// A film before its first frame. An autoregressive model's first frame has a token: what is given stands in one before it.
function begun(facts, { step, tokens }) {
  const film = new Film({ facts, tokens: tokens.map(({ given }) => ({ given, committed_at: null, p: null, alternatives: [] })) });
  const changes = tokens.flatMap(({ given, text }, i) => (given ? [[i, text]] : []));
  if (step > 0) film.add({ step: 0, t: 1, nfe: 0, seconds: 0, changes });
  return film;
}

function addFrame(film, event) {
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
  film.add({ step: event.step, t: event.t, nfe: event.nfe, seconds: event.seconds, changes });
}

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
