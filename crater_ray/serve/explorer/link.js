// The query as the page's address, so that a link restores it. An image cannot travel in a link.

const MODES = ["shortlist", "shortlist-only", "exact", "both"];
export const DEFAULTS = {
  id: null, mode: "shortlist", top: 10, candidates: 200, expand: 0, strict: false, filters: [], box: null, hit: null, body: null,
};

/** The address of a state, without the defaults. */
export function address(state) {
  const params = new URLSearchParams();
  const { box, filters } = state;
  for (const name of ["id", "mode", "top", "candidates", "expand", "body", "hit"]) {
    if (state[name] !== DEFAULTS[name] && state[name] !== "") params.set(name, state[name]);
  }
  if (state.strict) params.set("strict", "1");
  if (filters.length) params.set("filters", JSON.stringify(filters));
  if (box) params.set("box", [box.west, box.south, box.east, box.north].join(","));
  const text = params.toString();
  return location.pathname + (text ? `?${text}` : "");
}

/** The state of the page's address. What does not parse is the default; the service checks the rest. */
export function read() {
  const params = new URLSearchParams(location.search);
  const mode = params.get("mode");
  return {
    id: params.get("id"),
    mode: MODES.includes(mode) ? mode : DEFAULTS.mode,
    top: numberOf(params.get("top"), DEFAULTS.top),
    candidates: numberOf(params.get("candidates"), DEFAULTS.candidates),
    expand: numberOf(params.get("expand"), DEFAULTS.expand),
    strict: params.get("strict") === "1",
    filters: filtersOf(params.get("filters")),
    box: boxOf(params.get("box")),
    hit: params.get("hit"),
    body: params.get("body"),
  };
}

/** Puts a state into the address: as a new entry of the history, or in place of this one. */
export function put(state, newEntry) {
  const next = address(state);
  if (next === location.pathname + location.search) return;
  history[newEntry ? "pushState" : "replaceState"](null, "", next);
}

function numberOf(text, otherwise) {
  return /^\d{1,6}$/.test(text ?? "") ? Number(text) : otherwise;
}

function filtersOf(text) {
  try {
    const found = JSON.parse(text ?? "[]");
    return Array.isArray(found) ? found.filter((one) => one && typeof one === "object") : [];
  } catch {
    return [];
  }
}

function boxOf(text) {
  const numbers = (text ?? "").split(",").map(Number);
  if (!text || numbers.length !== 4 || !numbers.every(Number.isFinite)) return null;
  const [west, south, east, north] = numbers;
  return { west, south, east, north };
}
