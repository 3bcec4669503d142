// One or two films with a bar to move through them.

import { el } from "./dom.js";
import { Stage } from "./stage.js";
import { evenly, Timeline, together } from "./timeline.js";

const speed = (rate) => (rate === null ? "" : `${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s`);

// What a film says of itself: "sedd-twin, tweedie, 16 steps".
export function caption({ facts, frames }) {
  const words = [facts.model, facts.rule, `${frames.at(-1).step} steps`];
  for (const [name, key, plain] of [["temperature", "temperature", 1], ["top-p", "top_p", 1]]) {
    if (facts[key] !== undefined && facts[key] !== null && facts[key] !== plain) words.push(`${name} ${facts[key]}`);
  }
  if (facts.seed !== undefined && facts.seed !== null) words.push(`seed ${facts.seed}`);
  return words.filter(Boolean).join(", ");
}

export class Player {
  // stages: how many films side by side. selectable: as of Stage.
  constructor({ stages = 1, selectable = false } = {}) {
    this.timeline = new Timeline();
    this.panels = Array.from({ length: stages }, (_, i) => {
      const stage = new Stage({ label: stages > 1 ? `Text ${i + 1}` : "The text", selectable });
      const name = el("h3", { class: "name" });
      const rate = el("p", { class: "rate" });
      const node = el("section", { class: "panel" }, el("header", {}, name, rate), stage.frame);
      return { stage, name, rate, node, film: null };
    });
    this.#bar();
    this.node = el("div", { class: "player" }, el("div", { class: "panels" }, ...this.panels.map((p) => p.node)), this.bar);
    this.timeline.addEventListener("change", () => this.#draw());
  }

  #bar() {
    const { timeline } = this;
    this.toggle = el("button", { type: "button", class: "play", "aria-label": "Play", onclick: () => timeline.toggle() });
    this.slider = el("input", { type: "range", min: 0, max: 0, value: 0, step: 1, "aria-label": "Frame" });
    this.slider.addEventListener("input", () => {
      const { value } = this.slider;
      timeline.pause();
      timeline.seek(Number(value));
    });
    this.slider.addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      timeline.toggle();
    });
    this.where = el("span", { class: "where", "aria-hidden": "true" });
    const strip = el("span", { class: "strip", "aria-hidden": "true" });
    for (let i = 0; i < 16; i++) strip.append(el("i", { "data-stop": i }));
    const legend = el(
      "p", { class: "legend" },
      el("span", { class: "sample given" }, "given"), el("span", { class: "sample mask" }, "masked"),
      el("span", { class: "scale" }, "settled first ", strip, " last"),
    );
    this.bar = el("div", { class: "transport", role: "group", "aria-label": "Playback" }, this.toggle, this.slider, this.where, legend);
  }

  // One film a panel. live: more frames come. Films side by side run on one clock, one alone runs frame by frame.
  load(films, { live = false } = {}) {
    films.forEach((film, i) => this.set(i, film, { live }));
    this.timeline.load(this.#times());
  }

  // The film of one panel; the others stay.
  set(i, film, { live = false } = {}) {
    const panel = this.panels[i];
    this.live = live;
    panel.film = film;
    panel.name.textContent = film.facts.model ?? "";
    panel.rate.textContent = "";
    panel.stage.load(film, { reserve: !live });
  }

  // More frames have come. done: they were the last ones.
  extend(done = false) {
    if (done) this.panels.forEach((panel) => panel.stage.reserve(true));
    if (done) this.live = false;
    this.timeline.extend(this.#times());
  }

  #times() {
    const films = this.panels.map((panel) => panel.film);
    if (films.length === 1) return evenly(films[0].frames.length);
    const { times, frames } = together(films.filter(Boolean));
    this.frames = films.map((film) => (film ? frames.shift() : null));
    return times;
  }

  frame(panel) {
    return this.frames ? this.frames[panel]?.[this.timeline.index] ?? 0 : this.timeline.index;
  }

  #draw() {
    const { timeline } = this;
    this.panels.forEach((panel, i) => {
      if (!panel.film?.frames.length) return;
      panel.stage.show(this.frame(i));
      panel.rate.textContent = speed(panel.film.rate(this.frame(i)));
    });
    this.slider.max = timeline.last;
    this.slider.value = timeline.index;
    this.toggle.setAttribute("aria-label", timeline.playing ? "Pause" : "Play");
    this.toggle.classList.toggle("playing", timeline.playing);
    const words = this.#words();
    this.where.textContent = words;
    this.slider.setAttribute("aria-valuetext", words);
  }

  #words() {
    if (this.panels.length > 1) return `${(this.timeline.times[this.timeline.index] / 1000).toFixed(2)} s`;
    const { film } = this.panels[0];
    const frame = film?.frames[this.timeline.index];
    if (!frame) return "";
    const open = film.tokens.filter((token) => !token.given).length;
    const steps = this.live ? "" : ` of ${film.frames[film.last].step}`;
    return `step ${frame.step}${steps}, ${film.written(this.timeline.index)} of ${open} tokens`;
  }
}
