// A run as it was recorded: unmask.sampling.recording.Recording.as_json(), and what follows from it.

export const END = "<|endoftext|>";

export class Film {
  constructor({ facts = {}, commits = true, tokens = [], frames = [] }) {
    this.facts = facts;
    this.commits = commits; // tokens are final when they are first seen
    this.tokens = tokens; // {given, committed_at, p, alternatives: [[text, p], ...]}
    this.frames = []; // {step, t, nfe, seconds, changes: [[position, text or null], ...]}
    this.lastChange = new Array(tokens.length).fill(0);
    this.frameOfStep = new Map();
    this.kept = { frame: -1, row: new Array(tokens.length).fill(null) };
    frames.forEach((frame) => this.add(frame));
  }

  add(frame) {
    const k = this.frames.push(frame) - 1;
    if (!this.frameOfStep.has(frame.step)) this.frameOfStep.set(frame.step, k);
    for (const [i] of frame.changes) this.lastChange[i] = k;
  }

  get last() {
    return this.frames.length - 1;
  }

  // The text at each position in frame k, null where it is masked. The array is the film's own: do not keep it.
  row(k) {
    if (k < this.kept.frame) this.kept = { frame: -1, row: this.kept.row.fill(null) };
    for (let j = this.kept.frame + 1; j <= k; j++) {
      for (const [i, text] of this.frames[j].changes) this.kept.row[i] = text;
    }
    this.kept.frame = k;
    return this.kept.row;
  }

  // The frame from which position i keeps its token: Infinity while that is open, -1 where it was given.
  settledAt(i) {
    const token = this.tokens[i];
    if (token.given) return -1;
    if (!this.commits) return this.lastChange[i];
    return token.committed_at === null ? Infinity : this.frameOfStep.get(token.committed_at) ?? Infinity;
  }

  // How far the run was, 0 to 1, when position i settled; null where it did not, or was given.
  share(i) {
    const k = this.settledAt(i);
    return k < 0 || k === Infinity ? null : 1 - this.frames[k].t;
  }

  // How many tokens were written by frame k.
  written(k) {
    let count = 0;
    for (let i = 0; i < this.tokens.length; i++) if (!this.tokens[i].given && this.settledAt(i) <= k) count++;
    return count;
  }

  // Tokens a second up to frame k; null before there is anything to divide.
  rate(k) {
    const { seconds } = this.frames[k];
    const count = this.written(k);
    return seconds > 0 && count > 0 ? count / seconds : null;
  }

  // What it says in the end, up to the end of text. `said` is what the server said it is, where there is no end in it.
  get text() {
    const row = this.frames.length ? this.row(this.last) : [];
    const end = row.findIndex((text, i) => text === END && !this.tokens[i].given);
    return end < 0 ? this.said ?? row.join("") : row.slice(0, end).join("");
  }

  asJSON() {
    const { facts, commits, tokens, frames } = this;
    return { format: 1, facts, commits, tokens, frames };
  }
}

// The word around position i, [first, past the last]: tokens up to the next one that begins with white space.
export function word(row, i) {
  const begins = (j) =>
    j === 0 || row[j] === END || row[j - 1] === END || /^\s/.test(row[j] ?? "") || /\s$/.test(row[j - 1] ?? "");
  let first = i;
  while (!begins(first)) first--;
  let past = i + 1;
  while (past < row.length && (!begins(past) || row[past] === "")) past++;
  return [first, past];
}
