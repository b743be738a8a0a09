// What the map looks like: base map, graticule, craters, box, query and hits. Draws, and knows nothing else.

import { colours } from "./dom.js";
import { pixels, toPlace, toScreen } from "./projection.js";
import { eastward } from "./format.js";

const STEPS = [60, 30, 15, 10, 5, 2, 1, 0.5];

/** Draws a scene: {view, size, base, points, body, radius, passes, box, query, hits, chosen, cross}. */
export function draw(context, scene) {
  const ink = colours(
    "map", "map-line", "map-text", "map-halo", "map-shade", "mark", "mark-off", "query", "hit", "hit-ink", "halo",
  );
  const { size } = scene;
  context.fillStyle = ink.map;
  context.fillRect(0, 0, size.width, size.height);
  if (scene.base) drawBase(context, scene, ink);
  drawGraticule(context, scene, ink);
  if (scene.points) drawCraters(context, scene, ink);
  if (scene.box) drawBox(context, scene, ink);
  for (const hit of [...scene.hits].reverse()) drawHit(context, scene, hit, ink);
  if (scene.query) drawQuery(context, scene, ink);
  if (scene.cross) drawCross(context, size, ink);
}

function drawBase(context, { view, size, base }, ink) {
  const { image, west, east, south, north } = base;
  const top = size.height / 2 - (north - view.lat) * view.scale;
  const width = (east - west) * view.scale;
  const first = size.width / 2 + (west - view.lon) * view.scale;
  const turn = 360 * view.scale;
  context.imageSmoothingEnabled = view.scale * (east - west) < 12 * image.width;
  for (let left = first - turn * Math.ceil((first + width) / turn); left < size.width; left += turn) {
    // one pixel more hides the seam between two turns
    context.drawImage(image, left, top, width + 1, (north - south) * view.scale);
  }
  context.fillStyle = ink["map-shade"];
  context.fillRect(0, 0, size.width, size.height);
}

function drawGraticule(context, { view, size }, ink) {
  const step = STEPS.find((degrees) => degrees * view.scale <= 160) ?? STEPS.at(-1);
  const [first, last] = [toPlace(view, size, 0, 0), toPlace(view, size, size.width, size.height)];
  const labels = [];
  context.strokeStyle = ink["map-line"];
  context.lineWidth = 1;
  context.beginPath();
  const west = view.lon - size.width / view.scale / 2;
  for (let lon = Math.ceil(west / step) * step; (lon - west) * view.scale < size.width; lon += step) {
    const x = Math.round((lon - west) * view.scale) + 0.5;
    context.moveTo(x, 0);
    context.lineTo(x, size.height);
    labels.push([degrees(eastward(lon), "E", "W"), x + 3, size.height - 5]);
  }
  for (let lat = Math.ceil(Math.max(-90, last.lat) / step) * step; lat <= Math.min(90, first.lat); lat += step) {
    const y = Math.round(size.height / 2 - (lat - view.lat) * view.scale) + 0.5;
    context.moveTo(0, y);
    context.lineTo(size.width, y);
    if (y > 14 && y < size.height - 20) labels.push([degrees(lat, "N", "S"), 4, y - 3]);
  }
  context.stroke();
  context.font = "11px system-ui, sans-serif";
  context.strokeStyle = ink["map-halo"];
  context.fillStyle = ink["map-text"];
  context.lineWidth = 3;
  context.lineJoin = "round";
  for (const label of labels) {
    context.strokeText(...label);
    context.fillText(...label);
  }
}

function degrees(value, positive, negative) {
  const rounded = Math.round(value * 10) / 10;
  if (rounded === 0 || Math.abs(rounded) === 180) return `${Math.abs(rounded)}°`;
  return `${Math.abs(rounded)}° ${rounded > 0 ? positive : negative}`;
}

function drawCraters(context, { view, size, points, body, radius, passes }, ink) {
  const many = points.marks.length > 20_000 && view.scale < 12;
  const dots = many ? 1.5 : points.marks.length > 2_000 ? 3 : 4;
  for (const within of [false, true]) {
    context.fillStyle = within ? ink.mark : ink["mark-off"];
    const path = new Path2D();
    for (const item of points.marks) {
      if (points.body[item] !== body || passes(item) !== within) continue;
      const [x, y] = toScreen(view, size, points.lon[item], points.lat[item]);
      const across = radius ? pixels(view, points.diameter[item], radius) : NaN;
      const margin = across > 6 ? across / 2 : 3;
      if (x < -margin || y < -margin || x > size.width + margin || y > size.height + margin) continue;
      if (across > 9 && !many) {
        path.moveTo(x + across / 2, y);
        path.arc(x, y, across / 2, 0, 2 * Math.PI);
      } else context.fillRect(x - dots / 2, y - dots / 2, dots, dots);
    }
    for (const [style, width] of [[within ? ink["map-halo"] : null, 3.5], [context.fillStyle, 1.5]]) {
      if (!style) continue;
      context.strokeStyle = style;
      context.lineWidth = width;
      context.stroke(path);
    }
  }
}

function drawBox(context, { view, size, box }, ink) {
  const width = (box.east - box.west >= 360 ? 360 : (((box.east - box.west) % 360) + 360) % 360) * view.scale;
  const top = size.height / 2 - (box.north - view.lat) * view.scale;
  const turn = 360 * view.scale;
  const first = size.width / 2 + (box.west - view.lon) * view.scale;
  context.strokeStyle = ink.query;
  context.lineWidth = 1.5;
  context.setLineDash([6, 4]);
  for (let left = first - turn * Math.ceil((first + width) / turn); left < size.width; left += turn) {
    context.strokeRect(left, top, width, (box.north - box.south) * view.scale);
  }
  context.setLineDash([]);
}

function drawHit(context, { view, size, chosen }, hit, ink) {
  const [x, y] = toScreen(view, size, hit.lon, hit.lat);
  const large = hit.id === chosen;
  context.beginPath();
  context.arc(x, y, large ? 13 : 9, 0, 2 * Math.PI);
  context.fillStyle = hit.hollow ? ink.halo : ink.hit;
  context.strokeStyle = hit.hollow ? ink.hit : ink.halo;
  context.lineWidth = large ? 3 : 1.5;
  context.fill();
  context.stroke();
  context.fillStyle = hit.hollow ? ink.hit : ink["hit-ink"];
  context.font = `600 ${large ? 13 : 10}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(String(hit.rank), x, y + 0.5);
  context.textAlign = "start";
  context.textBaseline = "alphabetic";
}

function drawQuery(context, { view, size, query }, ink) {
  const [x, y] = toScreen(view, size, query.lon, query.lat);
  for (const [style, width] of [[ink.halo, 6], [ink.query, 3]]) {
    context.beginPath();
    context.strokeStyle = style;
    context.lineWidth = width;
    context.arc(x, y, 16, 0, 2 * Math.PI);
    for (const [across, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 16 * across, y + 16 * down);
      context.lineTo(x + 23 * across, y + 23 * down);
    }
    context.stroke();
  }
}

function drawCross(context, { width, height }, ink) {
  for (const [style, thick] of [[ink.halo, 4], [ink.query, 1.5]]) {
    context.beginPath();
    context.strokeStyle = style;
    context.lineWidth = thick;
    context.moveTo(width / 2 - 12, height / 2);
    context.lineTo(width / 2 + 12, height / 2);
    context.moveTo(width / 2, height / 2 - 12);
    context.lineTo(width / 2, height / 2 + 12);
    context.stroke();
  }
}
