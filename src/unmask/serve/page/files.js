// What can be taken away: the picture of a frame, and a replay.

import { END } from "../../report/replay/film.js";
import { caption } from "../../report/replay/player.js";

const WIDTH = 720; // of a column, in CSS pixels; the file has twice as many
const MARGIN = 48;

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const nameOf = (player, suffix) => `unmask-${player.panels[0].film.facts.seed ?? "run"}.${suffix}`;

// A replay file, made of the viewer that this page runs itself.
export function replayFile(player) {
  const text = (id) => document.getElementById(id).textContent;
  const films = player.panels.map((panel) => panel.film);
  const escaped = (words) => words.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const parts = {
    TITLE: escaped(films.map((film) => film.facts.model).join(" and ")),
    STYLE: text("viewer-style"), SCRIPT: text("viewer-script"),
    DATA: JSON.stringify(films.map((film) => film.asJSON())).replace(/</g, "\\u003c"),
  };
  return JSON.parse(text("replay-shell")).replace(/%%([A-Z]+)%%/g, (place, name) => parts[name] ?? place);
}

export const saveReplay = (player) => save(new Blob([replayFile(player)], { type: "text/html" }), nameOf(player, "html"));

export function savePicture(player) {
  return new Promise((resolve) => {
    picture(player).toBlob((blob) => {
      save(blob, nameOf(player, "png"));
      resolve();
    });
  });
}

// The frame that is shown, drawn by hand.
function picture(player) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const serif = (size) => `${size}px ${color("serif")}`;
  const sans = (size, weight = 400) => `${weight} ${size}px ${color("sans")}`;
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d");
  const columns = player.panels.map((panel, i) => {
    pen.font = serif(22);
    return { panel, frame: player.frame(i), ...placeTokens(pen, tokensOf(panel, player.frame(i)), WIDTH) };
  });
  const height = MARGIN * 2 + 36 + Math.max(...columns.map(({ lines }) => lines)) * 38 + 44;
  const width = MARGIN + columns.length * (WIDTH + MARGIN);
  [canvas.width, canvas.height] = [width * 2, height * 2];
  pen.scale(2, 2);
  pen.fillStyle = color("page");
  pen.fillRect(0, 0, width, height);
  columns.forEach(({ panel, boxes }, i) => {
    const left = MARGIN + i * (WIDTH + MARGIN);
    pen.font = sans(16, 600);
    pen.fillStyle = color("ink");
    pen.fillText(panel.name.textContent, left, MARGIN + 14);
    pen.font = sans(15);
    pen.fillStyle = color("muted");
    pen.textAlign = "right";
    pen.fillText(panel.rate.textContent, left + WIDTH, MARGIN + 14);
    pen.textAlign = "left";
    pen.font = serif(22);
    for (const box of boxes) drawBox(pen, box, left, MARGIN + 36, color);
  });
  legend(pen, MARGIN, height - MARGIN + 8, width, color, sans(14), [...new Set(columns.map(({ panel }) => caption(panel.film)))].join(" · "));
  return canvas;
}

// What the stage shows of each token: its text, its kind, and the stop of its tint.
function tokensOf({ stage }, frame) {
  const row = stage.film.row(frame);
  return stage.spans.map((span, i) => ({
    text: row[i] === END ? " [end of text] " : span.textContent || (row[i] === null ? null : ""),
    kind: ["given", "mask", "draft", "final"].find((kind) => span.classList.contains(kind)),
    stop: row[i] === END ? undefined : span.dataset.stop,
    after: span.classList.contains("after"),
  }));
}

function placeTokens(pen, tokens, width) {
  const boxes = [];
  let [x, line] = [0, 0];
  const words = [];
  tokens.forEach((token, i) => {
    const before = tokens[i - 1]?.text;
    const begins = i === 0 || token.text === null || before === null || /^\s/.test(token.text) || /\s$/.test(before ?? " ");
    if (begins) words.push([]);
    words.at(-1).push(token);
  });
  const measure = (text) => (text === null ? 38 : pen.measureText(text).width);
  for (const tokensOfWord of words) {
    const whole = tokensOfWord.reduce((sum, { text }) => sum + measure(text?.replace(/\n/g, "") ?? null), 0);
    if (x && x + whole > width) [x, line] = [0, line + 1];
    for (const token of tokensOfWord) {
      (token.text === null ? [null] : token.text.split("\n")).forEach((part, n) => {
        if (n) [x, line] = [0, line + 1];
        const pieces = part === null || measure(part) <= width ? [part] : part.split(/(?<=\s)/); // a given text of many words
        for (const piece of pieces) {
          if (x && x + measure(piece?.trimEnd() ?? null) > width) [x, line] = [0, line + 1];
          const text = x === 0 && line && !n ? piece?.trimStart() ?? null : piece;
          boxes.push({ ...token, text, x, line, width: measure(text) });
          x += measure(text);
        }
      });
    }
  }
  return { boxes, lines: line + 1 };
}

function drawBox(pen, { text, kind, stop, after, x, line, width }, left, top, color) {
  const body = text === null ? "" : text.trimStart();
  const lead = text === null ? 3 : pen.measureText(text.slice(0, text.length - body.length)).width;
  const y = top + line * 38;
  pen.globalAlpha = after ? 0.4 : 1;
  if ((kind === "mask" || stop !== undefined) && (body.trim() || text === null)) {
    pen.fillStyle = kind === "mask" ? color("mask") : color(`ramp-${stop}`);
    pen.beginPath();
    pen.roundRect(left + x + lead, y + 4, Math.max(width - lead - (text === null ? 3 : 0.5), 1), 30, 2);
    pen.fill();
  }
  if (kind !== "mask") {
    pen.fillStyle = kind === "draft" ? color("muted") : color("ink");
    pen.fillText(text, left + x, y + 26);
  }
  pen.globalAlpha = 1;
}

function legend(pen, left, y, width, color, font, words) {
  pen.font = font;
  pen.fillStyle = color("muted");
  pen.fillText(words, left, y);
  const [first, last] = ["settled first", "last"];
  const end = width - MARGIN - pen.measureText(last).width;
  pen.fillText(last, end, y);
  const begin = end - 8 - 16 * 9;
  for (let i = 0; i < 16; i++) {
    pen.fillStyle = color(`ramp-${i}`);
    pen.fillRect(begin + i * 9, y - 11, 9, 12);
  }
  pen.fillStyle = color("muted");
  pen.fillText(first, begin - 8 - pen.measureText(first).width, y);
}
