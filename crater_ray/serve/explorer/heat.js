// The heat-map: how much of a hit's score lies where. The contributions of its pairs of tokens sum to the score.

import { colours } from "./dom.js";
import { frameOf } from "./picture_frame.js";

const FINE = 6; // pixels of the heat-map a patch
const BLUR = 0.62; // patches, standard deviation around a token

/** Per token of one side its part of the score. (`key`: "query_token" or "gallery_token") */
export function parts(pairs, key) {
  const found = new Map();
  for (const pair of pairs) {
    found.set(pair[key], (found.get(pair[key]) ?? 0) + pair.contribution);
  }
  return found;
}

/** The largest part of the score that one token has, over several sides. */
export function most(...sides) {
  return Math.max(1e-9, ...sides.flatMap((side) => [...side.values()]));
}

/** Draws the parts of one image over it; full colour is `top`. */
export function drawHeat(canvas, image, where, share, top) {
  const context = canvas.getContext("2d");
  const box = canvas.getBoundingClientRect();
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(box.width * ratio));
  canvas.height = Math.max(1, Math.round(box.height * ratio));
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!where?.places || !share) return;
  const frame = frameOf(image, canvas);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  const painted = paint(where, share, top);
  context.drawImage(
    painted, frame.left * ratio, frame.top * ratio, frame.width * ratio, frame.height * ratio,
  );
}

function paint({ grid, places }, share, top) {
  const [width, height] = [grid.columns * FINE, grid.rows * FINE];
  const values = new Float32Array(width * height);
  const reach = Math.ceil(3 * BLUR * FINE);
  for (const [token, part] of share) {
    if (!places[token] || part <= 0) continue;
    const [x, y] = [places[token][0] * width, places[token][1] * height];
    for (let row = Math.max(0, Math.floor(y - reach)); row < Math.min(height, y + reach); row++) {
      for (let column = Math.max(0, Math.floor(x - reach)); column < Math.min(width, x + reach); column++) {
        const far = ((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2) / (FINE * BLUR) ** 2;
        values[row * width + column] += (part / top) * Math.exp(-far / 2);
      }
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const ramp = rampOf();
  values.forEach((value, pixel) => {
    const step = Math.min(255, Math.max(0, Math.round(value * 255)));
    for (let channel = 0; channel < 3; channel++) image.data[4 * pixel + channel] = ramp[4 * step + channel];
    image.data[4 * pixel + 3] = Math.round(215 * Math.min(1, (step / 255) ** 0.7));
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

/** 256 colours between those of the style sheet. */
function rampOf() {
  const ink = colours("heat-low", "heat-middle", "heat-high");
  const context = new OffscreenCanvas(256, 1).getContext("2d");
  const gradient = context.createLinearGradient(0, 0, 256, 0);
  gradient.addColorStop(0, ink["heat-low"]);
  gradient.addColorStop(0.5, ink["heat-middle"]);
  gradient.addColorStop(1, ink["heat-high"]);
  context.fillStyle = gradient;
  context.fillRect(0, 0, 256, 1);
  return context.getImageData(0, 0, 256, 1).data;
}
