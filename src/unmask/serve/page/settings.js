// The form: what is asked of which model.

import { el } from "../../report/replay/dom.js";

const NUMBERS = { steps: "steps", length: "tokens", temperature: "temperature", top_p: "top_p", seed: "seed" };

export class Settings {
  constructor(form, models) {
    this.form = form;
    this.models = new Map(models.map((model) => [model.id, model]));
    const { model, against } = form.elements;
    for (const select of [model, against]) {
      select.replaceChildren(...models.map(({ id }) => el("option", { value: id }, id)));
      select.addEventListener("change", () => this.fit());
    }
    const first = models.find(({ kind }) => kind === "diffusion") ?? models[0];
    model.value = first.id;
    against.value = (models.find(({ kind }) => kind === "autoregressive") ?? models.find(({ id }) => id !== first.id) ?? first).id;
    this.fit();
  }

  get model() {
    return this.models.get(this.form.elements.model.value);
  }

  get against() {
    return this.models.get(this.form.elements.against.value);
  }

  get twice() {
    return document.documentElement.dataset.mode !== "write";
  }

  // Rules of the chosen models; what a model does not take cannot be set.
  fit() {
    const { rule, steps, tokens } = this.form.elements;
    const used = this.twice ? [this.model, this.against] : [this.model];
    const diffusing = used.filter(({ kind }) => kind === "diffusion");
    const names = [...new Set(diffusing.flatMap(({ rules }) => rules ?? []))];
    const before = rule.value;
    rule.replaceChildren(el("option", { value: "" }, "as trained"), ...names.map((name) => el("option", { value: name }, name)));
    rule.value = names.includes(before) ? before : "";
    rule.disabled = steps.disabled = diffusing.length === 0;
    tokens.max = Math.max(...used.map(({ context }) => context ?? 1024));
  }

  // The values, or null after the browser has said what is wrong with them.
  read() {
    if (!this.form.reportValidity()) return null;
    const { elements } = this.form;
    const number = (name) => (elements[name].value === "" ? null : Number(elements[name].value));
    const values = Object.fromEntries(Object.entries(NUMBERS).map(([key, name]) => [key, number(name)]));
    values.seed ??= Math.floor(Math.random() * 2 ** 31); // one that JavaScript can tell exactly
    return { ...values, text: elements.text.value, rule: elements.rule.value };
  }
}

// A gap where the cursor is.
export function insertGap(area, length = 8) {
  const { selectionStart: start, selectionEnd: end, value } = area;
  const space = start > 0 && !/\s$/.test(value.slice(0, start)) ? " " : "";
  const gap = `${space}[MASK:${length}]`;
  area.setRangeText(gap, start, end, "end");
  area.setSelectionRange(start + gap.length - String(length).length - 1, start + gap.length - 1);
  area.focus();
}
