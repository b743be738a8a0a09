// Which body the map shows, on which base map, with which of the query and the hits.

import { basemap } from "./api.js";
import { known } from "./columns.js";
import { byId, element } from "./dom.js";
import { makeMap } from "./map.js";
import { MOST } from "./points.js";
import { capital, count, radius } from "./format.js";

const WIDEST = 8192; // pixels of a base map

/** `handlers` are pick(id), hit(id), box(box) and body(name). */
export function makeAtlas(info, role, points, handlers) {
  if (!role.lat) {
    byId("map-panel").hidden = true;
    document.body.classList.add("mapless");
    return null;
  }
  const bodies = role.body?.values ?? [null];
  const choice = byId("bodies");
  choice.append(...bodies.map((name) => element("option", { value: name ?? "" }, capital(name))));
  byId("bodies-field").hidden = bodies.length < 2;
  const images = new Map(); // body -> base map with its image
  let body = bodies[0];
  let passes = () => true;
  let marks = { query: null, hits: [] };

  const map = makeMap({
    pick: (item) => handlers.pick(points.ids[item]),
    hit: handlers.hit,
    box: handlers.box,
  });
  choice.addEventListener("change", () => turn(choice.value));

  function turn(name) {
    if (!bodies.includes(name)) return;
    body = name;
    choice.value = name ?? "";
    byId("map-title").textContent = name ? `Map of ${capital(name)}` : "Map";
    map.set({ body: points.bodies.indexOf(name), radius: radius(name ?? mapOf(name)?.body), base: null });
    base(name);
    refresh();
    handlers.body(name);
  }

  async function base(name) {
    const found = mapOf(name);
    if (!found) return;
    try {
      if (!images.has(name)) images.set(name, { ...found, image: await pixels(found) });
      if (body === name) map.set({ base: images.get(name) });
    } catch (problem) {
      byId("map-here").textContent = `The base map cannot be shown: ${problem.message}`;
    }
  }

  /** One that names no body is of an index of one body. */
  function mapOf(name) {
    const any = bodies.length < 2 ? info.basemaps.find((one) => name === null || one.body === null) : null;
    return info.basemaps.find((one) => one.body === name) ?? any;
  }

  function refresh() {
    const here = (one) => one !== null && (one.body ?? null) === (body ?? null) && Number.isFinite(one.lat);
    const hits = marks.hits.filter(here);
    map.set({
      points, body: points.bodies.indexOf(body), passes,
      query: here(marks.query) ? marks.query : null, hits,
    });
    const number = points.bodies.indexOf(body);
    const all = points.marks.filter((item) => points.body[item] === number);
    const passing = all.filter(passes).length;
    const some = passing < all.length ? `${passing.toLocaleString("en")} of ` : "";
    const loading = points.count < Math.min(points.total, MOST) ? ", loading …" : "";
    const cut = points.total > MOST ? `, of the first ${count(MOST, "item")}` : "";
    byId("map-count").textContent = `${some}${count(all.length, "place")}${cut}${loading}`;
    elsewhere(hits.length);
  }

  function elsewhere(here) {
    const others = new Map();
    for (const hit of marks.hits) {
      if (hit.body !== body && hit.body) others.set(hit.body, (others.get(hit.body) ?? 0) + 1);
    }
    const links = [...others].map(([name, number]) =>
      element("button", { type: "button", class: "quiet", onclick: () => turn(name) }, `${number} on ${capital(name)}`));
    byId("elsewhere").replaceChildren(...(links.length ? [`${count(here, "hit")} here, `, ...links] : []));
  }

  return {
    turn,
    refresh,
    view: map.seen,
    /** Shows only the craters that pass what the map knows of the filters; marks the box. */
    filter(filters, box) {
      const range = filters.find((one) => one.column === role.diameter?.name);
      const scale = role.diameter?.name === "diameter_m" ? 0.001 : 1;
      const [least, most] = [(range?.min ?? -Infinity) * scale, (range?.max ?? Infinity) * scale];
      const named = filters.find((one) => one.column === role.body?.name)?.any_of ?? null;
      passes = (item) =>
        (!range || (points.diameter[item] >= least && points.diameter[item] <= most)) &&
        (!named || named.includes(points.bodies[points.body[item]])) && (!box || inside(points, item, box));
      map.set({ box, passes });
      refresh();
    },
    /** Marks a query and the hits of its lists, hollow those of a second list alone; with `follow`, on their body. */
    mark(query, lists, follow) {
      const first = new Map();
      for (const [number, hits] of lists.entries()) {
        for (const { id, rank, columns } of hits) {
          if (!first.has(id)) first.set(id, { ...known(columns, role), id, rank, hollow: number > 0 });
        }
      }
      marks = { query: query ? known(query, role) : null, hits: [...first.values()] };
      const nearest = marks.query?.body ?? marks.hits[0]?.body;
      if (follow && nearest && nearest !== body) turn(nearest);
      refresh();
    },
    choose(hit) {
      const { body: name, lat, lon } = known(hit.columns, role);
      map.set({ chosen: hit.id });
      if ((name ?? null) === body && Number.isFinite(lat)) map.hold([{ lat, lon }]);
    },
  };
}

/** Decoded once; no larger than any browser draws. */
async function pixels({ body, width }) {
  const data = await basemap(body ?? null);
  return width > WIDEST
    ? createImageBitmap(data, { resizeWidth: WIDEST, resizeQuality: "high" })
    : createImageBitmap(data);
}

function inside(points, item, { west, south, east, north }) {
  const [lat, lon] = [points.lat[item], points.lon[item]];
  const width = (((east - west) % 360) + 360) % 360;
  return lat >= south && lat <= north && (east - west >= 360 || (((lon - west) % 360) + 360) % 360 <= width);
}
