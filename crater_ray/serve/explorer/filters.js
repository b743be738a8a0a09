// The filters that the index's own columns allow, as the API has them: {filters: [...], box}.

import { byId, element } from "./dom.js";
import { capital, label, shown } from "./format.js";

const SIDES = ["west", "south", "east", "north"];
const WITHIN = { west: -180, east: 180, south: -90, north: 90 };

/** `changed` is called when a filter is. Returns read, write, setBox, range and body. */
export function makeFilters(role, { changed, mapView }) {
  const place = byId("filter-fields");
  const parts = new Map(); // column name -> {read, write}
  const shownFirst = [role.body, role.diameter].filter(Boolean);
  for (const column of shownFirst) place.append(field(column, parts));
  if (role.lat) place.append(boxField(mapView, () => done()));
  if (role.rest.length) {
    const more = element("details", { id: "more-filters" }, element("summary", {}, "Other columns"));
    more.append(...role.rest.map((column) => field(column, parts)));
    place.append(more);
  }

  function read() {
    return { filters: [...parts.values()].map((part) => part.read()).filter(Boolean), box: readBox() };
  }

  function write({ filters = [], box = null }) {
    for (const [name, part] of parts) part.write(filters.find((one) => one.column === name) ?? null);
    writeBox(box);
    showCount();
  }

  function showCount() {
    const { filters, box } = read();
    const set = filters.length + (box ? 1 : 0);
    byId("filters-set").textContent = set ? `${set} set` : "";
    byId("filters-clear").hidden = set === 0;
  }

  function done() {
    showCount();
    changed();
  }

  place.addEventListener("change", (event) => {
    event.stopPropagation();
    done();
  });
  byId("filters-clear").addEventListener("click", () => {
    write({});
    changed();
  });
  showCount();
  if (matchMedia("(max-width: 759px)").matches) byId("filters").open = false; // the map comes first
  return {
    read,
    write,
    setBox(box) {
      writeBox(box);
      done();
    },
  };
}

function field(column, parts) {
  if (column.type === "number") return rangeField(column, parts);
  const values = column.type === "boolean" ? ["true", "false"] : column.values;
  return values ? choiceField(column, values, parts) : textField(column, parts);
}

function rangeField(column, parts) {
  const name = capital(label(column.name));
  const input = (end, value) =>
    element("input", { type: "number", step: "any", placeholder: shown(value), "aria-label": `${name}, ${end}` });
  const [least, most] = [input("least", column.min), input("most", column.max)];
  parts.set(column.name, {
    read() {
      const [min, max] = [number(least), number(most)];
      return min === null && max === null ? null : tidy({ column: column.name, min, max });
    },
    write(one) {
      least.value = one?.min ?? "";
      most.value = one?.max ?? "";
    },
  });
  least.dataset.filter = `${column.name} min`;
  most.dataset.filter = `${column.name} max`;
  return element("fieldset", {}, element("legend", {}, name), element("div", { class: "range" }, least, "to", most));
}

function choiceField(column, values, parts) {
  const boxes = values.map((value) => {
    const input = element("input", { type: "checkbox", value, "data-filter": `${column.name} ${value}` });
    return [input, element("label", { class: "chip" }, input, element("span", {}, value))];
  });
  const typed = (value) => (column.type === "boolean" ? Number(value === "true") : value);
  parts.set(column.name, {
    read() {
      const chosen = boxes.filter(([input]) => input.checked).map(([input]) => typed(input.value));
      return chosen.length ? { column: column.name, any_of: chosen } : null;
    },
    write(one) {
      for (const [input] of boxes) input.checked = one?.any_of?.includes(typed(input.value)) ?? false;
    },
  });
  const labels = boxes.map(([, made]) => made);
  return element(
    "fieldset", {}, element("legend", {}, capital(label(column.name))), element("div", { class: "chips" }, labels),
  );
}

function textField(column, parts) {
  const input = element("input", { type: "text", "data-filter": column.name, placeholder: "exactly; several with ;" });
  parts.set(column.name, {
    read() {
      const wanted = input.value.split(";").map((one) => one.trim()).filter(Boolean);
      return wanted.length ? { column: column.name, any_of: wanted } : null;
    },
    write(one) {
      input.value = one?.any_of?.join("; ") ?? "";
    },
  });
  return element("label", { class: "field" }, capital(label(column.name)), input);
}

function boxField(mapView, changed) {
  const inputs = SIDES.map((side) =>
    element("label", {}, capital(side), element("input", {
      type: "number", step: "any", min: side === "south" || side === "north" ? -90 : -360,
      max: side === "south" || side === "north" ? 90 : 360, id: `box-${side}`, placeholder: WITHIN[side],
    })),
  );
  const fromMap = element("button", {
    type: "button", class: "quiet", id: "box-from-map",
    onclick() {
      writeBox(Object.fromEntries(Object.entries(mapView()).map(([side, value]) => [side, round(value)])));
      changed();
    },
  }, "What the map shows");
  return element(
    "fieldset", {}, element("legend", {}, "Latitude and longitude, °"), element("div", { class: "box" }, inputs), fromMap,
  );
}

function readBox() {
  const sides = SIDES.map((side) => [side, document.getElementById(`box-${side}`)]);
  if (!sides.every(([, input]) => input)) return null;
  if (sides.every(([, input]) => number(input) === null)) return null;
  return Object.fromEntries(sides.map(([side, input]) => [side, number(input) ?? WITHIN[side]]));
}

function writeBox(box) {
  for (const side of SIDES) {
    const input = document.getElementById(`box-${side}`);
    if (input) input.value = box?.[side] ?? "";
  }
}

function number(input) {
  return input.value.trim() === "" || !Number.isFinite(input.valueAsNumber) ? null : input.valueAsNumber;
}

function tidy(filter) {
  return Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== null));
}

function round(value) {
  return Math.round(value * 100) / 100;
}
