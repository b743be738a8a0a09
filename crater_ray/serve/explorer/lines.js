// Matched tokens, joined: from their places in the query to their places in the hit.

import { byId, drawn } from "./dom.js";
import { frameOf } from "./picture_frame.js";

/** Draws the first `number` of some pairs; `pointed(pair | null)` follows the pointer. */
export function drawLines(stage, images, wheres, pairs, number, pointed) {
  const svg = byId("lines");
  const { width, height } = stage.getBoundingClientRect();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  const [from, to] = wheres;
  if (!from?.places || !to?.places) return;
  const frames = images.map((image) => frameOf(image, stage));
  const shown = pairs.slice(0, number);
  const strengths = shown.map((pair) => pair.similarity);
  const [least, most] = [Math.min(...strengths), Math.max(...strengths)];
  for (const pair of [...shown].reverse()) {
    const ends = [
      spot(frames[0], from.places[pair.query_token]),
      spot(frames[1], to.places[pair.gallery_token]),
    ];
    if (ends.some((end) => end === null)) continue;
    const strength = most > least ? (pair.similarity - least) / (most - least) : 1;
    svg.append(joined(ends, pair, strength, pointed));
  }
}

/** Lifts one pair out of the others; null: none. */
export function lift(pair) {
  const svg = byId("lines");
  svg.classList.toggle("lifting", pair !== null);
  for (const line of svg.children) {
    line.classList.toggle("lifted", pair !== null && line.dataset.token === String(pair.query_token));
  }
}

function spot(frame, place) {
  return place ? [frame.left + place[0] * frame.width, frame.top + place[1] * frame.height] : null;
}

function joined([[x1, y1], [x2, y2]], pair, strength, pointed) {
  const ends = { x1, y1, x2, y2 };
  return drawn(
    "g",
    {
      "data-token": pair.query_token,
      opacity: 0.45 + 0.55 * strength,
      onpointerenter: () => pointed(pair),
      onpointerleave: () => pointed(null),
    },
    drawn("line", { ...ends, class: "reach" }),
    drawn("line", { ...ends, class: "under" }),
    drawn("line", { ...ends, class: "join" }),
    drawn("circle", { cx: x1, cy: y1, r: 3 }),
    drawn("circle", { cx: x2, cy: y2, r: 3 }),
  );
}
