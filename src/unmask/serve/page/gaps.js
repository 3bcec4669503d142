// Gaps in a text, as the template of the server has them: [MASK], [MASK:8], [MASK:4-16].

// Where the gaps of a text are. An odd number of backslashes before [MASK makes it text.
export function gapsOf(text) {
  const found = [...text.matchAll(/(\\*)(\[MASK(?::[^\]]*)?\])/g)].filter(([, slashes]) => slashes.length % 2 === 0);
  return found.map(({ index, 1: slashes, 2: gap }) => ({ at: index + slashes.length, gap }));
}

export const gapOf = (length) => `[MASK:${length}]`;

// Whether a gap may have several lengths.
export function flexible(text) {
  return gapsOf(text).some(({ gap }) => {
    const [, least, most] = /:(\d+)-(\d+)\]$/.exec(gap) ?? [];
    return Number(least) < Number(most); // NaN where there is no range
  });
}

// The text with a gap of each of these lengths; gaps side by side are one.
export function laid(text, lengths) {
  let [out, end, n] = ["", 0, 0];
  for (const { at, gap } of gapsOf(text)) {
    if (at > end || n === 0) out += text.slice(end, at) + gapOf(lengths[n++]);
    end = at + gap.length;
  }
  return out + text.slice(end);
}

// A piece of a template as it stands before a gap: there, backslashes at its end count twice.
export const before = (piece) => piece.replace(/\\+$/, (slashes) => slashes + slashes);

// Plain text as a template has it.
export const escaped = (text) => text.replace(/(\\*)\[MASK/g, "$1$1\\[MASK");

// What there is to fill: the text itself where it has gaps, else the text and a gap behind it.
export const withGap = (text, length) => (gapsOf(text).length ? text : before(text) + gapOf(length));

// The same for a model that writes only to the right: what stands before the first gap, and as many tokens as all gaps have.
export function rightwards(text, length) {
  const gaps = gapsOf(text);
  if (!gaps.length) return withGap(text, length);
  return text.slice(0, gaps[0].at) + gapOf(gaps.reduce((sum, { gap }) => sum + Number(/(\d+)\]$/.exec(gap)?.[1] ?? 1), 0));
}
