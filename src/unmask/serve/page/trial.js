// Gaps of several lengths: the server fills all of them and chooses by the bound; what it chose is then written in view.

import { el } from "../../report/replay/dom.js";
import { laid } from "./gaps.js";
import { post } from "./wire.js";

// The request with the lengths that the server chose, and what it tried. The same seed makes the same text again.
export async function tried({ stream, diffusing, alternatives, ...asked }, signal) {
  const { seed, choices: [{ lengths, candidates, chosen, notices: own }], notices } = await post("/v1/infill", asked, signal);
  const body = { ...asked, stream, diffusing, alternatives, seed, template: laid(asked.template, lengths) };
  return { body, trial: { candidates, chosen, notices: [...notices, ...own] } };
}

const tokens = (lengths) => `${lengths.join(" and ")} ${lengths.length === 1 && lengths[0] === 1 ? "token" : "tokens"}`;
const nats = (value, error) => (value === null ? "" : `${value.toFixed(3)} ± ${error.toFixed(3)}`);

// A line that opens into the list of all that was tried, the best first.
export function tableOf({ candidates, chosen, notices }) {
  const taken = candidates[chosen];
  const inOrder = [...candidates].sort((a, b) => a.score - b.score);
  const row = (each) => el("tr", { class: each === taken ? "own" : null },
    el("td", {}, each.lengths.join(", ")), el("td", {}, nats(each.bound, each.stderr)),
    el("td", {}, each.behind === 0 ? "" : nats(each.behind, each.behind_stderr)), el("td", {}, each.text));
  const head = ["Tokens", "Bound, nats per token", "Behind the best", "Text"].map((words) => el("th", { scope: "col" }, words));
  return el("details", {},
    el("summary", {}, `${candidates.length} lengths tried, ${tokens(taken.lengths)} chosen`),
    ...notices.map((words) => el("p", {}, words)),
    el("div", { class: "wide" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...inOrder.map(row)))));
}
