// Two texts of two models, told apart only by left and right, until there is a vote.

import { el, percent } from "../../report/replay/dom.js";
import { get, post } from "./wire.js";

export class Blind {
  // say(words): tell everybody. fail(error): show what went wrong.
  constructor(node, { say, fail }) {
    Object.assign(this, { node, say, fail });
  }

  // Whether this server keeps votes; what it has.
  async standing() {
    try {
      return (await get("/v1/votes")).pairs;
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  // pair: [{model, film}, {model, film}], in any order; chance puts one at the left.
  show(pair, ask) {
    const order = Math.random() < 0.5 ? pair : [...pair].reverse();
    this.sides = { left: order[0], right: order[1] };
    this.ask = ask;
    this.names = order.map((_, i) => el("h3", {}, i ? "Right" : "Left"));
    const texts = order.map(({ film }, i) => el("article", { "aria-label": i ? "Right" : "Left" }, this.names[i], el("p", { class: "plain" }, film.text)));
    const choice = (winner, words) => el("button", { type: "button", "data-winner": winner, onclick: () => this.vote(winner) }, words);
    this.choices = el(
      "div", { class: "choices", role: "group", "aria-label": "Which text is better?" },
      choice("left", "Left is better"), choice("tie", "Neither"), choice("right", "Right is better"),
    );
    this.result = el("div", { class: "result" });
    this.node.replaceChildren(el("div", { class: "panels" }, ...texts), this.choices, this.result);
    this.say("Both texts are written. Which one is better: left, right, or neither?");
  }

  async vote(winner) {
    const { left, right } = this.sides;
    const side = ({ model, film }) => ({ model: model.id, text: film.text });
    this.choices.querySelectorAll("button").forEach((button) => (button.disabled = true));
    try {
      await post("/v1/votes", { prompt: this.ask.text, left: side(left), right: side(right), winner, seed: this.ask.seed });
      await this.reveal(winner);
    } catch (error) {
      this.choices.querySelectorAll("button").forEach((button) => (button.disabled = false));
      this.fail(error);
    }
  }

  async reveal(winner) {
    const { left, right } = this.sides;
    this.names[0].replaceChildren("Left: ", el("b", {}, left.model.id));
    this.names[1].replaceChildren("Right: ", el("b", {}, right.model.id));
    this.choices.remove();
    const said = winner === "tie" ? "You found neither better." : `You chose ${this.sides[winner].model.id}.`;
    const names = new Set([left.model.id, right.model.id]);
    const pair = (await this.standing())?.find(({ a, b }) => names.has(a) && names.has(b));
    this.result.replaceChildren(el("p", {}, said), ...(pair ? standing(pair) : []));
    this.say(this.result.textContent);
  }
}

// How a pair of models stands: a sentence, and the rate with its interval as a bar.
function standing({ a, b, a_wins: won, b_wins: lost, ties, votes, win_rate: rate, interval }) {
  const counts = `Of ${votes} ${votes === 1 ? "vote" : "votes"}, ${a} has ${won}, ${b} has ${lost}, ${ties} for neither.`;
  if (rate === null) return [el("p", {}, counts)];
  const [low, high] = interval;
  const bar = el("div", { class: "interval", "aria-hidden": "true" }, el("i", { class: "range" }), el("i", { class: "point" }));
  for (const [name, value] of [["--low", low], ["--high", high], ["--rate", rate]]) bar.style.setProperty(name, value);
  const words = `${a} wins ${percent(rate)} of the votes between them, 95 % interval ${percent(low)} to ${percent(high)}.`;
  const ends = el("div", { class: "ends", "aria-hidden": "true" }, el("span", {}, `${b} wins`), el("span", {}, `${a} wins`));
  return [el("p", {}, counts), bar, ends, el("p", {}, words)];
}
