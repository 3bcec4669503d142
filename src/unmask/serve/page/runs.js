// One text written by one model, as a film that grows while it is written.

import { Film, END } from "../../report/replay/film.js";
import { before, escaped, flexible, gapOf, rightwards, withGap } from "./gaps.js";
import { tried } from "./trial.js";
import { events } from "./wire.js";

// ask: {text, length, steps, rule, temperature, top_p, seed}. onframe(film): there is a new frame. ontrial(): lengths of
// gaps are tried first.
export async function write(model, ask, { signal, onframe, ontrial = () => {} }) {
  const { temperature, top_p, steps, rule } = ask;
  const diffusion = model.kind === "diffusion";
  let trial = null;
  let body = {
    template: (diffusion ? withGap : rightwards)(ask.text, ask.length), model: model.id, temperature, top_p, seed: ask.seed,
    stream: true, diffusing: true, alternatives: 3,
  };
  if (diffusion && rule) body.rule = rule;
  if (diffusion && steps) body.steps = steps;
  if (diffusion && flexible(body.template)) {
    ontrial();
    ({ body, trial } = await tried(body, signal));
  }
  let film = null;
  for await (const event of events("/v1/infill", body, signal)) {
    if (event.object === "infill.frame") {
      film ??= begun({ model: model.id, rule: event.rule, steps: body.steps, temperature, top_p, seed: body.seed }, event);
      film.trial = trial;
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
