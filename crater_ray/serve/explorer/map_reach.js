// What a pixel of the map means: a hit, a crater, a corner of a box.

import { pixels, toPlace, toScreen } from "./projection.js";

export const NEAR = 10; // pixels between a pointer and what it means

/** The hit whose mark is under a pixel; the chosen one lies on top. */
export function hitAt({ view, size, hits, chosen }, x, y) {
  const near = (hit) => {
    const [across, down] = toScreen(view, size, hit.lon, hit.lat);
    return Math.hypot(across - x, down - y) <= (hit.id === chosen ? 14 : 10);
  };
  return hits.find((hit) => hit.id === chosen && near(hit)) ?? hits.find(near) ?? null;
}

/** The crater nearest to a pixel, of those of the body that pass the filters; null: none in reach. */
export function craterAt({ view, size, points, body, radius, passes }, x, y, reach) {
  let [best, least] = [null, Infinity];
  for (const item of points?.marks ?? []) {
    if (points.body[item] !== body || !passes(item)) continue;
    const [across, down] = toScreen(view, size, points.lon[item], points.lat[item]);
    const distance = Math.hypot(across - x, down - y);
    const rim = radius ? pixels(view, points.diameter[item], radius) / 2 : 0;
    if (distance < least && distance <= Math.max(reach, Math.min(rim || 0, 60))) [best, least] = [item, distance];
  }
  return best;
}

/** The box between two pixels, as the API has it. */
export function boxBetween({ view, size }, first, second) {
  const [west, east] = [Math.min(first.x, second.x), Math.max(first.x, second.x)];
  const [north, south] = [Math.min(first.y, second.y), Math.max(first.y, second.y)];
  const [upper, lower] = [toPlace(view, size, west, north), toPlace(view, size, east, south)];
  const tidy = (value) => Math.round(value * 100) / 100;
  return {
    west: tidy(upper.lon), east: tidy(lower.lon),
    south: tidy(Math.max(-90, lower.lat)), north: tidy(Math.min(90, upper.lat)),
  };
}
