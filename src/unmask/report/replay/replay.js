// A replay file: its films stand in it as data.

import { el } from "./dom.js";
import { Film } from "./film.js";
import { caption, Player } from "./player.js";

export function replay(node, recordings) {
  const films = recordings.map((recording) => new Film(recording));
  const player = new Player({ stages: films.length });
  node.append(player.node, el("p", { class: "made" }, [...new Set(films.map(caption))].join(" · ")));
  player.load(films);
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) player.timeline.play();
  return player;
}

const data = document.getElementById("recordings");
if (data) replay(document.querySelector("main"), JSON.parse(data.textContent));
