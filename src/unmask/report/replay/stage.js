// The text of one film: a span a token, made once. A frame touches only what changed in it.

import { END, word } from "./film.js";
import { el, percent, shown } from "./dom.js";

const STOPS = 16; // as unmask.report.ramp has them

export class Stage {
  // options: label, selectable (tokens can be chosen: events "choose" with {first, past, keep} in detail).
  constructor({ label = "The text", selectable = false } = {}) {
    this.node = el("div", {
      class: "stage", role: "listbox", "aria-label": label, "aria-multiselectable": selectable,
      "aria-orientation": "horizontal",
    });
    this.card = new Card();
    this.frame = el("div", { class: "stage-frame" }, this.node, this.card.node);
    this.selectable = selectable;
    this.film = null;
    this.spans = [];
    this.#listen();
  }

  // reserve: a masked token takes the room of the text that will stand there, so that nothing moves in a replay.
  load(film, { reserve = false } = {}) {
    this.film = film;
    this.card.hide();
    this.spans = film.tokens.map((token, i) => {
      const span = el("span", { class: "token", role: "option", tabindex: i ? -1 : 0, "aria-selected": "false" });
      span.append("", el("span", { class: "body" }, "")); // white space in front, then what the tint lies under
      span.dataset.i = i;
      return span;
    });
    this.looks = new Array(this.spans.length).fill("");
    this.node.replaceChildren(...this.spans);
    this.k = -1;
    this.reserve(reserve);
  }

  reserve(on) {
    this.final = on && this.film.commits && this.film.last >= 0 ? [...this.film.row(this.film.last)] : null;
    if (this.k >= 0) this.show(this.k);
  }

  show(k) {
    const { film } = this;
    const row = film.row(k);
    const end = row.findIndex((text, i) => text === END && !film.tokens[i].given);
    this.k = k;
    for (let i = 0; i < row.length; i++) {
      const masked = row[i] === null;
      const text = masked ? this.final?.[i] ?? null : row[i];
      const settled = film.settledAt(i);
      const look = film.tokens[i].given ? "given" : masked ? "mask" : settled <= k ? "final" : "draft";
      const tail = end >= 0 && i > end ? " after" : "";
      const fresh = look === "final" && settled === k && k < film.last ? " fresh" : "";
      const key = `${look}${tail}${fresh}|${text}`;
      if (key !== this.looks[i]) {
        this.looks[i] = key;
        this.#paint(i, `token ${look}${tail}${fresh}`, text, look === "final" ? film.share(i) : null);
      }
    }
    if (this.card.at !== null) this.#explain(this.card.at);
  }

  #paint(i, name, text, share) {
    const span = this.spans[i];
    const bare = text === null ? " nothing" : text === END ? " end" : text === "" ? " part" : "";
    span.className = name + bare + (span.classList.contains("chosen") ? " chosen" : "");
    const plain = text === null || text === END ? "" : text;
    const body = plain.trimStart();
    span.firstChild.data = plain.slice(0, plain.length - body.length);
    span.lastChild.firstChild.data = body;
    if (share === null) delete span.dataset.stop;
    else span.dataset.stop = Math.min(STOPS - 1, Math.floor(share * STOPS));
  }

  choose(positions) {
    this.spans.forEach((span, i) => {
      span.classList.toggle("chosen", positions.has(i));
      span.setAttribute("aria-selected", positions.has(i));
    });
  }

  #index(target) {
    const span = target.closest?.(".token");
    return span && this.node.contains(span) ? Number(span.dataset.i) : null;
  }

  #listen() {
    const { node } = this;
    node.addEventListener("pointerover", (event) => {
      const i = this.#index(event.target);
      if (i !== null && event.pointerType !== "touch") this.#explain(i);
    });
    node.addEventListener("pointerleave", () => {
      const i = this.#index(document.activeElement);
      if (i === null) this.card.hide();
      else this.#explain(i);
    });
    node.addEventListener("focusin", (event) => this.#explain(this.#index(event.target)));
    node.addEventListener("focusout", () => this.card.hide());
    node.addEventListener("click", (event) => {
      const i = this.#index(event.target);
      if (i === null || !document.getSelection().isCollapsed) return;
      this.#focus(i);
      this.#offer(...word(this.film.row(this.k), i), false);
    });
    node.addEventListener("pointerup", () => setTimeout(() => this.#dragged()));
    node.addEventListener("keydown", (event) => this.#key(event));
  }

  #key(event) {
    const i = this.#index(event.target);
    if (i === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = {
      ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: this.spans.length - 1,
      ArrowDown: this.#below(i, 1), ArrowUp: this.#below(i, -1),
    }[event.key];
    if (to !== undefined) {
      const next = Math.min(Math.max(to, 0), this.spans.length - 1);
      this.#focus(next);
      if (event.shiftKey) {
        const row = this.film.row(this.k);
        const [a, b] = [word(row, Math.min(i, next)), word(row, Math.max(i, next))];
        this.#offer(a[0], b[1], true);
      }
    } else if (event.key === " " || event.key === "Enter") {
      this.#offer(...word(this.film.row(this.k), i), false);
    } else if (event.key === "Escape") {
      this.card.hide();
      this.node.dispatchEvent(new CustomEvent("clear"));
    } else return;
    event.preventDefault();
  }

  // The token under (or over) position i, on the next line that has one.
  #below(i, direction) {
    const here = this.spans[i].getBoundingClientRect();
    for (let j = i + direction, best = null; ; j += direction) {
      const rect = this.spans[j]?.getBoundingClientRect();
      if (!rect || (best !== null && Math.abs(rect.top - best.top) > 4)) return best === null ? i : best.j;
      if (Math.abs(rect.top - here.top) <= 4 || rect.width === 0) continue;
      const away = Math.abs(rect.left - here.left);
      if (best === null || away < best.away) best = { j, away, top: rect.top };
    }
  }

  #focus(i) {
    this.node.querySelector('[tabindex="0"]')?.setAttribute("tabindex", -1);
    this.spans[i].setAttribute("tabindex", 0);
    this.spans[i].focus({ preventScroll: false });
  }

  #offer(first, past, keep) {
    if (this.selectable) this.node.dispatchEvent(new CustomEvent("choose", { detail: { first, past, keep } }));
  }

  // A selection made with the mouse, as words.
  #dragged() {
    const selection = document.getSelection();
    if (!this.selectable || selection.isCollapsed || !this.node.contains(selection.anchorNode)) return;
    const inside = this.spans.flatMap((span, i) => (selection.containsNode(span, true) ? [i] : []));
    if (!inside.length) return;
    const row = this.film.row(this.k);
    this.#offer(word(row, inside[0])[0], word(row, inside.at(-1))[1], true);
  }

  #explain(i) {
    if (i === null) return;
    const { film, k } = this;
    this.card.show(i, this.spans[i], describe(film, k, i, film.row(k)[i]));
    this.spans[i].setAttribute("aria-label", summary(film, k, i, film.row(k)[i]));
  }
}

// What is known of position i in frame k: a heading, a line, and rows of [text, p].
function describe(film, k, i, text) {
  const token = film.tokens[i];
  const settled = film.settledAt(i);
  if (token.given) return { head: text, line: "given", rows: [] };
  if (text === null) return { head: null, line: "not written yet", rows: [] };
  if (settled > k) return { head: text, line: "not final yet", rows: [] };
  const frame = film.frames[settled];
  const line = `${film.commits ? "final after" : "unchanged since"} step ${frame.step}, t = ${frame.t.toFixed(2)}`;
  if (token.p === null || token.p === undefined) return { head: text, line, rows: [] };
  const others = (token.alternatives ?? []).filter(([other]) => other !== text || text === "");
  const rows = [[text, token.p, true], ...others.map(([other, p]) => [other, p, false])];
  return { head: text, line, rows: rows.sort((a, b) => b[1] - a[1]) };
}

function summary(film, k, i, text) {
  const { line, rows } = describe(film, k, i, text);
  const named = text === null ? "masked" : text === END ? "end of text" : shown(text);
  return [named, line, ...rows.map(([other, p]) => `${other === END ? "end of text" : shown(other)} ${percent(p)}`)].join(", ");
}

class Card {
  constructor() {
    this.at = null;
    this.node = el("div", { class: "card", hidden: true, "aria-hidden": "true" });
  }

  show(i, span, { head, line, rows }) {
    this.at = i;
    const bars = rows.map(([text, p, own]) => {
      const bar = el("i", { class: "bar" });
      bar.style.setProperty("--p", p);
      const name = el("span", { class: "alternative" }, text === END ? "end of text" : shown(text));
      return el("li", { class: own ? "own" : null }, name, bar, el("span", { class: "p" }, percent(p)));
    });
    this.node.replaceChildren(
      el("p", {}, head === null ? null : el("b", {}, head === END ? "end of text" : shown(head.trim() || head)), " ", el("span", {}, line)),
      ...(bars.length ? [el("ul", {}, ...bars)] : []),
    );
    this.node.hidden = false;
    const box = span.getClientRects()[0] ?? span.getBoundingClientRect();
    const frame = this.node.parentNode.getBoundingClientRect();
    const left = Math.min(Math.max(box.left - frame.left, 0), Math.max(frame.width - this.node.offsetWidth, 0));
    const below = box.bottom + 8 + this.node.offsetHeight < innerHeight || box.top < this.node.offsetHeight + 8;
    const top = below ? box.bottom - frame.top + 8 : box.top - frame.top - this.node.offsetHeight - 8;
    this.node.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  hide() {
    this.at = null;
    this.node.hidden = true;
  }
}
