// The query as the page's address, so that a link restores it. An image cannot travel in a link.

const MODES = ["shortlist", "exact", "both"];
export const DEFAULTS = {
  id: null, mode: "shortlist", top: 10, candidates: 200, expand: 0, strict: false, filters: [], box: null, hit: null, body: null,
};

/** The address of a state, without what is as it always is. */
export function written(state) {
  const asked = new URLSearchParams();
  const { box, filters } = state;
  for (const name of ["id", "mode", "top", "candidates", "expand", "body", "hit"]) {
    if (state[name] !== DEFAULTS[name] && state[name] !== "") asked.set(name, state[name]);
  }
  if (state.strict) asked.set("strict", "1");
  if (filters.length) asked.set("filters", JSON.stringify(filters));
  if (box) asked.set("box", [box.west, box.south, box.east, box.north].join(","));
  const text = asked.toString();
  return location.pathname + (text ? `?${text}` : "");
}

/** The state of the page's address. What does not parse is as it always is; the service checks the rest. */
export function read() {
  const asked = new URLSearchParams(location.search);
  const mode = asked.get("mode");
  return {
    id: asked.get("id"),
    mode: MODES.includes(mode) ? mode : DEFAULTS.mode,
    top: whole(asked.get("top"), DEFAULTS.top),
    candidates: whole(asked.get("candidates"), DEFAULTS.candidates),
    expand: whole(asked.get("expand"), DEFAULTS.expand),
    strict: asked.get("strict") === "1",
    filters: list(asked.get("filters")),
    box: sides(asked.get("box")),
    hit: asked.get("hit"),
    body: asked.get("body"),
  };
}

/** Puts a state into the address: as a new entry of the history, or in place of this one. */
export function put(state, fresh) {
  const address = written(state);
  if (address === location.pathname + location.search) return;
  history[fresh ? "pushState" : "replaceState"](null, "", address);
}

function whole(text, otherwise) {
  return /^\d{1,6}$/.test(text ?? "") ? Number(text) : otherwise;
}

function list(text) {
  try {
    const found = JSON.parse(text ?? "[]");
    return Array.isArray(found) ? found.filter((one) => one && typeof one === "object") : [];
  } catch {
    return [];
  }
}

function sides(text) {
  const numbers = (text ?? "").split(",").map(Number);
  if (!text || numbers.length !== 4 || !numbers.every(Number.isFinite)) return null;
  const [west, south, east, north] = numbers;
  return { west, south, east, north };
}
