// The page: a text, a way to write on, and what came of it.

import { el } from "../../report/replay/dom.js";
import { Film, word } from "../../report/replay/film.js";
import { Player } from "../../report/replay/player.js";
import { get, setKey } from "./wire.js";
import { gapsOf } from "./gaps.js";
import { template, write } from "./runs.js";
import { tableOf } from "./trial.js";
import { insertGap, Settings } from "./settings.js";
import { savePicture, saveReplay } from "./files.js";
import { Blind } from "./blind.js";

const $ = (id) => document.getElementById(id);
const form = $("ask");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const MODES = { write: "Write", compare: "Compare", blind: "Write two" };

let settings = null;
let players = {};
let blind = null;
let running = null; // the AbortController of what is being written
let history = []; // films before the last redraw
let trying = false; // whether lengths of gaps are being tried
const chosen = new Set();

const mode = () => document.documentElement.dataset.mode;
const say = (words) => ($("status").textContent = words);

function fail(error) {
  if (error.name === "AbortError") return say("Stopped.");
  $("error").textContent = error.message;
  $("error").hidden = false;
}

function setMode(name) {
  document.documentElement.dataset.mode = name;
  document.querySelectorAll('[name="mode"]').forEach((radio) => (radio.checked = radio.value === name));
  $("go").textContent = MODES[name];
  settings?.fit();
  draw();
}

// What is shown below the form, in this mode.
function draw() {
  const player = players[mode()];
  $("write-view").hidden = mode() !== "write" || !players.write.panels[0].film;
  $("compare-view").hidden = mode() !== "compare" || !players.compare.panels.some((panel) => panel.film);
  $("blind-view").hidden = mode() !== "blind";
  $("take").hidden = running !== null || !player?.panels.every((panel) => panel.film?.frames.length);
  $("undo").hidden = running !== null || mode() !== "write" || !history.length;
  $("go").hidden = running !== null;
  $("stop").hidden = running === null;
  const words = countWords();
  $("choice").hidden = !words || running !== null || mode() !== "write";
  $("choice-words").textContent = `${words} ${words === 1 ? "word" : "words"} chosen`;
  drawLengths();
}

// Above the text: that lengths are being tried, or which ones were.
function drawLengths() {
  const [node, trial] = [$("lengths"), trying || players.write?.panels[0].film?.trial];
  node.hidden = mode() !== "write" || !trial;
  if (node.trial === trial) return;
  node.trial = trial;
  node.replaceChildren(...(trial ? [trying ? el("p", { class: "waiting" }, "Trying the lengths of the gaps.") : tableOf(trial)] : []));
}

// Brings what is written into view where it begins below it, on a phone for one.
function reveal(id) {
  if ($(id).getBoundingClientRect().top < 0.6 * innerHeight) return;
  $(id).scrollIntoView({ block: "start", behavior: calm.matches ? "auto" : "smooth" });
}

async function begin(task) {
  running?.abort();
  const mine = (running = new AbortController());
  $("error").hidden = true;
  draw();
  try {
    await task(mine.signal);
  } catch (error) {
    fail(error);
  }
  if (running === mine) running = null;
  draw();
}

// ---- one text

async function writeOne(ask, signal, model = settings.model) {
  const player = players.write;
  say("Writing.");
  if (model.kind === "autoregressive" && gapsOf(ask.text).length) throw new Error(`${model.id} writes only to the right: leave out the gaps, or choose a diffusion model.`);
  unchoose();
  let film = null;
  const ontrial = () => {
    trying = true;
    say("Trying the lengths of the gaps.");
    draw();
  };
  const onframe = (made) => {
    if (film !== made) {
      film = made;
      trying = false;
      player.load([film], { live: true });
      draw();
      reveal("write-view");
    } else player.extend();
  };
  try {
    film = await write(model, ask, { signal, onframe, ontrial });
  } finally {
    trying = false;
    if (film?.frames.length) {
      if (film.tokens.length !== player.panels[0].stage.spans.length) player.load([film]);
      else player.extend(true);
    }
  }
  say(`Done: ${film.text}`);
}

function submit() {
  const ask = settings.read();
  if (!ask) return;
  if (mode() === "write") {
    history = [];
    begin((signal) => writeOne(ask, signal));
  } else if (mode() === "compare") begin((signal) => compare(ask, signal));
  else begin((signal) => twoTexts(ask, signal));
}

// ---- words to write anew

function countWords() {
  const film = players.write.panels[0].film;
  if (!film || !chosen.size) return 0;
  const row = film.row(film.last);
  return new Set([...chosen].map((i) => word(row, i)[0])).size;
}

function choose({ detail: { first, past, keep } }) {
  const film = players.write.panels[0].film;
  if (running || settings.models.get(film.facts.model)?.kind !== "diffusion") return;
  const all = Array.from({ length: past - first }, (_, k) => first + k);
  const off = !keep && all.every((i) => chosen.has(i));
  all.forEach((i) => (off ? chosen.delete(i) : chosen.add(i)));
  mark();
}

function unchoose() {
  chosen.clear();
  mark();
}

function mark() {
  players.write.panels[0].stage.choose(chosen);
  draw();
}

function redraw() {
  const values = settings.read();
  const film = players.write.panels[0].film;
  const model = settings.models.get(film.facts.model);
  if (!values) return;
  const ask = { ...values, text: template(film, chosen), seed: ((film.facts.seed ?? 0) + 1) % 2 ** 31 };
  history.push(film);
  begin((signal) => writeOne(ask, signal, model));
}

function undo() {
  unchoose();
  players.write.load([history.pop()]);
  draw();
  say("The text before is back.");
}

// ---- two texts side by side: one after the other, each with the machine to itself, then both on one clock

async function compare(ask, signal) {
  const player = players.compare;
  const models = [settings.model, settings.against];
  $("compare-note").textContent = noteOn(ask, models);
  say(`Writing with ${models[0].id}, then with ${models[1].id}.`);
  const films = [null, null];
  player.load(models.map(({ id }) => new Film({ facts: { model: id } })), { live: true });
  for (const [i, model] of models.entries()) {
    const onframe = (film) => {
      if (films[i] !== film) {
        films[i] = film;
        player.set(i, film, { live: true });
        draw();
        if (i === 0) reveal("compare-view");
      }
      player.extend();
    };
    films[i] = await write(model, ask, { signal, onframe });
    player.set(i, films[i], {});
    player.extend();
  }
  const words = films.map((film) => `${film.facts.model}: ${film.written(film.last)} tokens in ${film.frames.at(-1).seconds.toFixed(2)} s`);
  const lengths = films.some(({ trial }) => trial) && "The lengths of the gaps were chosen before the clock began.";
  $("compare-note").textContent = [`${words.join("; ")}.`, lengths, noteOn(ask, models)].filter(Boolean).join(" ");
  say(`Done. ${words.join("; ")}.`);
  if (!calm.matches) player.timeline.play();
}

function noteOn(ask, models) {
  const rightwards = gapsOf(ask.text).length > 0 && models.find(({ kind }) => kind === "autoregressive");
  return rightwards ? `${rightwards.id} reads only what stands before the first gap.` : "";
}

// ---- two texts without their names

async function twoTexts(ask, signal) {
  const models = [settings.model, settings.against];
  $("blind-view").replaceChildren(el("p", { class: "waiting" }, "Writing two texts."));
  say("Writing two texts.");
  const pair = [];
  try {
    if ((await blind.standing()) === null) throw new Error("This server keeps no votes. Start it with a file for them: unmask serve --votes FILE");
    if (models[0].id === models[1].id) throw new Error("Choose two different models to tell apart.");
    const note = noteOn(ask, models);
    if (note) throw new Error(`${note} Give a text without gaps, so that both have the same to do.`);
    for (const model of models) {
      pair.push({ model, film: await write(model, ask, { signal, onframe: () => {} }) });
    }
  } catch (error) {
    $("blind-view").replaceChildren();
    throw error;
  }
  blind.show(pair, ask);
  reveal("blind-view");
}

// ---- all of it together

async function start() {
  players = { write: new Player({ selectable: true }), compare: new Player({ stages: 2 }) };
  $("write-view").append(players.write.node);
  $("compare-view").append(players.compare.node);
  blind = new Blind($("blind-view"), { say, fail });
  const { node } = players.write.panels[0].stage;
  node.addEventListener("choose", choose);
  node.addEventListener("clear", unchoose);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  form.elements.text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
  });
  const on = (id, act) => $(id).addEventListener("click", act);
  on("gap", () => insertGap(form.elements.text));
  on("stop", () => running?.abort());
  on("redraw", redraw);
  on("unchoose", unchoose);
  on("undo", undo);
  on("copy", copy);
  on("png", () => savePicture(players[mode()]));
  on("replay", () => saveReplay(players[mode()]));
  document.querySelectorAll('[name="mode"]').forEach((radio) => radio.addEventListener("change", () => setMode(radio.value)));
  $("lock").addEventListener("submit", (event) => {
    event.preventDefault();
    setKey($("lock").elements.key.value);
    open();
  });
  setMode("write");
  await open();
}

// What the server has; where it wants its key, that is asked for.
async function open() {
  $("error").hidden = true;
  try {
    settings = new Settings(form, (await get("/v1/models")).data);
    form.elements.controls.disabled = false;
    $("lock").hidden = true;
  } catch (error) {
    $("lock").hidden = error.status !== 401;
    if (error.status !== 401 || $("lock").elements.key.value) fail(error);
    else $("lock").elements.key.focus();
  }
}

async function copy() {
  const text = players[mode()].panels.map(({ film }) => film.text).join("\n---\n");
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    fail(new Error("This browser does not let the page copy: select the text and copy it."));
  }
}

start();
