// Simple cylindrical: degrees to pixels of a canvas and back. Plain functions of plain numbers.
// A view is {lon, lat, scale}: the degrees in the middle, and CSS pixels a degree.

import { eastward } from "./format.js";

export const CLOSEST = 400; // pixels a degree

/** The view in which the body is as wide as the canvas. */
export function whole({ width }) {
  return { lon: 0, lat: 0, scale: width / 360 };
}

/** As near to a view as there is: no further out than the whole body, the poles at the edge at most. */
export function bounded(view, size) {
  const scale = Math.min(CLOSEST, Math.max(size.width / 360, view.scale));
  const half = size.height / scale / 2;
  const lat = half >= 90 ? 0 : Math.min(90 - half, Math.max(half - 90, view.lat));
  return { lon: eastward(view.lon), lat, scale };
}

/** [x, y] of a place; of the body's many turns the one nearest to the middle. */
export function toScreen(view, size, lon, lat) {
  return [size.width / 2 + eastward(lon - view.lon) * view.scale, size.height / 2 - (lat - view.lat) * view.scale];
}

/** {lon, lat} of a pixel; lat is beyond ±90 off the body. */
export function toPlace(view, size, x, y) {
  return {
    lon: eastward(view.lon + (x - size.width / 2) / view.scale),
    lat: view.lat - (y - size.height / 2) / view.scale,
  };
}

/** The same place under the pixel, some times closer. */
export function zoomed(view, size, x, y, times) {
  const [across, down] = [x - size.width / 2, y - size.height / 2];
  const scale = Math.min(CLOSEST, Math.max(size.width / 360, view.scale * times));
  const moved = 1 / view.scale - 1 / scale;
  return bounded({ lon: view.lon + across * moved, lat: view.lat - down * moved, scale }, size);
}

export function panned(view, size, x, y) {
  return bounded({ ...view, lon: view.lon - x / view.scale, lat: view.lat + y / view.scale }, size);
}

/** The box that is seen, as the API has it: {west, south, east, north}. */
export function seen(view, size) {
  const [across, down] = [size.width / view.scale / 2, size.height / view.scale / 2];
  const all = across >= 180;
  return {
    west: all ? -180 : eastward(view.lon - across),
    east: all ? 180 : eastward(view.lon + across),
    south: Math.max(-90, view.lat - down),
    north: Math.min(90, view.lat + down),
  };
}

/** The view that holds all of some places, with room around them. */
export function holding(places, size) {
  if (!places.length) return whole(size);
  const middle = places[0].lon;
  const lons = places.map((one) => eastward(one.lon - middle));
  const lats = places.map((one) => one.lat);
  const [west, east, south, north] = [Math.min(...lons), Math.max(...lons), Math.min(...lats), Math.max(...lats)];
  const across = Math.max(6, 1.25 * (east - west));
  const down = Math.max(6, 1.35 * (north - south));
  const scale = Math.min(size.width / across, size.height / down);
  return bounded({ lon: middle + (west + east) / 2, lat: (south + north) / 2, scale }, size);
}

/** Pixels across a crater; NaN where the body or the diameter is not known. */
export function pixels(view, diameterKm, radiusKm) {
  return (diameterKm / radiusKm) * (180 / Math.PI) * view.scale;
}
