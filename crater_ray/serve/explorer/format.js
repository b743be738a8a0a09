// Numbers and places as a reader of the page wants them.

const RADIUS_KM = {
  mercury: 2439.7, venus: 6051.8, moon: 1737.4, mars: 3389.5, ceres: 469.7, vesta: 262.7, phobos: 11.1,
  io: 1821.6, europa: 1560.8, ganymede: 2631.2, callisto: 2410.3, mimas: 198.2, enceladus: 252.1,
  tethys: 531.1, dione: 561.4, rhea: 763.5, titan: 2574.7, iapetus: 734.3, pluto: 1188.3, charon: 606,
};
const RADIANS = Math.PI / 180;

/** Mean radius of a body in km, null for one that is not known. */
export function radius(body) {
  return RADIUS_KM[String(body ?? "").toLowerCase()] ?? null;
}

/** 4.09° N 10.47° E, of degrees. */
export function place(lat, lon) {
  if (!Number.isFinite(lat) || !Number.isFinite(lon)) return "";
  const east = eastward(lon);
  const [down, across] = [Math.abs(lat).toFixed(2), Math.abs(east).toFixed(2)];
  return `${down}°\u00a0${lat < 0 ? "S" : "N"} ${across}°\u00a0${east < 0 ? "W" : "E"}`;
}

/** Degrees east, -180 to 180. */
export function eastward(lon) {
  return ((((lon + 180) % 360) + 360) % 360) - 180;
}

/** 43.9 km */
export function kilometres(value) {
  if (!Number.isFinite(value)) return "";
  const digits = value >= 100 ? 0 : value >= 1 ? 1 : 3;
  return `${value.toLocaleString("en", { maximumFractionDigits: digits })} km`;
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

export function score(value) {
  return value.toFixed(4);
}

export function milliseconds(seconds) {
  const value = seconds * 1000;
  return value >= 1000 ? `${seconds.toFixed(1)} s` : `${value >= 10 ? value.toFixed(0) : value.toFixed(1)} ms`;
}

export function capital(text) {
  const words = String(text ?? "");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A column's name as a label: diameter_km is "diameter, km". */
export function label(name) {
  return name.replace(/_(km|m|deg)$/, ", $1").replaceAll("_", " ");
}

/** Kilometres between two places of one body, along the surface. */
export function apart(first, second, radiusKm) {
  const [a, b] = [first.lat * RADIANS, second.lat * RADIANS];
  const across = Math.sin(((second.lon - first.lon) * RADIANS) / 2) ** 2;
  const sine = Math.sin((b - a) / 2) ** 2 + Math.cos(a) * Math.cos(b) * across;
  return 2 * radiusKm * Math.asin(Math.min(1, Math.sqrt(sine)));
}

/** What a value of any column looks like. */
export function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? String(value) : value.toLocaleString("en", { maximumFractionDigits: 4 });
}
