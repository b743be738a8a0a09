// A query and one of its hits: both images, the matched tokens joined, and where the score comes from.

import { tokens as tokensOf } from "./api.js";
import { known } from "./columns.js";
import { byId, element, everyFrame, onScheme } from "./dom.js";
import { drawHeat, most, parts } from "./heat.js";
import { NAMES } from "./hits.js";
import { drawLines, lift } from "./lines.js";
import { show } from "./pictures.js";
import { apart, capital, kilometres, label, place, radius, score, shown } from "./format.js";

const SIZE = 512; // pixels of the images asked for
const PLACES = 200; // items whose tokens' places are remembered
const remembered = new Map();

/** `step(by)` chooses another hit, `search(id)` searches with one. */
export function makeCompare(role, config, { step, search }) {
  const stage = byId("stage");
  const images = [byId("query-image"), byId("hit-image")];
  const heats = [...stage.querySelectorAll("canvas.heat")];
  const strongest = byId("strongest");
  let now = null; // {query, hit, wheres, pairs}
  let leaving = new AbortController();

  const redraw = everyFrame(() => {
    if (!now) return;
    const { wheres, pairs } = now;
    const ready = images.map((image) => image.naturalWidth > 0);
    const shares = [parts(pairs, "query_token"), parts(pairs, "gallery_token")];
    const top = most(...shares);
    heats.forEach((canvas, side) => {
      const on = byId("show-heat").checked && wheres[side] && ready[side];
      drawHeat(canvas, images[side], wheres[side], on ? shares[side] : null, top);
    });
    const lines = byId("show-lines").checked && ready.every(Boolean) ? Number(strongest.value) : 0;
    drawLines(stage, images, wheres, pairs, lines, point);
    byId("legend-most").textContent = `${top.toFixed(4)} of the score`;
    stage.dataset.drawn = String(byId("lines").childElementCount); // for whoever waits for them
  });

  new ResizeObserver(redraw).observe(stage);
  onScheme(redraw);
  for (const image of images) image.addEventListener("load", redraw);
  for (const id of ["show-heat", "show-lines"]) byId(id).addEventListener("change", redraw);
  strongest.addEventListener("input", () => {
    byId("strongest-count").value = strongest.value;
    redraw();
  });
  byId("previous").onclick = () => step(-1);
  byId("next").onclick = () => step(1);

  function point(pair) {
    lift(pair);
    byId("sum").textContent = pair ? describePair(pair) : sum(now, config);
  }

  function clear() {
    leaving.abort();
    now = null;
    byId("compare-body").hidden = true;
    byId("compare-empty").hidden = false;
    byId("compare-which").textContent = "";
    for (const id of ["previous", "next"]) byId(id).disabled = true;
  }

  /** query: {id, url, name, columns, where}; hit of a reply; mode; {row, of}. */
  async function open(query, hit, mode, { row, of }, width) {
    leaving.abort();
    leaving = new AbortController();
    const { signal } = leaving;
    const pairs = hit.explanation ?? [];
    now = { wheres: [query.where, null], pairs, width, hit, mode };
    byId("compare-empty").hidden = true;
    byId("compare-body").hidden = false;
    byId("compare-which").textContent = `hit ${row + 1} of ${of}, ${NAMES[mode].toLowerCase()}`;
    byId("previous").disabled = row === 0;
    byId("next").disabled = row === of - 1;
    if (pairs.length) strongest.max = String(pairs.length); // a lower one would lower its value for good
    byId("strongest-count").value = strongest.value;
    if (query.id !== null) show(images[0], query.id, SIZE);
    else {
      images[0].dataset.item = "";
      images[0].src = query.url;
    }
    images[0].alt = `Query: ${query.name}`;
    images[1].alt = `Hit: ${hit.id}`;
    show(images[1], hit.id, SIZE);
    facts(query, hit, role, search);
    table(pairs, point);
    byId("sum").textContent = sum(now, config);
    redraw();
    byId("compare-note").textContent = "";
    if (mode === "shortlist-only") return;
    byId("compare-note").textContent = "Finding where the tokens lie …";
    try {
      const wheres = await Promise.all([
        query.where ?? (query.id === null ? null : placesOf(query.id, signal)),
        placesOf(hit.id, signal),
      ]);
      if (signal.aborted) return;
      now.wheres = wheres;
      const unknown = wheres.some((where) => !where?.places);
      byId("compare-note").textContent = unknown
        ? `The index's tokens (${config.rerank}) have no places: nothing can be joined.`
        : "";
    } catch (problem) {
      if (signal.aborted) return;
      byId("compare-note").textContent = `Where the tokens lie is unknown: ${problem.message}`;
    }
    redraw();
  }

  clear();
  return { open, clear };
}

async function placesOf(id, signal) {
  if (!remembered.has(id)) {
    const { where } = await tokensOf(id, signal);
    remembered.set(id, where);
    if (remembered.size > PLACES) remembered.delete(remembered.keys().next().value);
  }
  return remembered.get(id);
}

function sum({ hit, pairs, width, mode }, config) {
  if (mode === "shortlist-only") {
    return `Score ${score(hit.score)}: the cosine of one vector of each image (${config.shortlist}); tokens have no part in it.`;
  }
  const how = {
    maxsim: `the mean of ${width} tokens' best similarities`,
    chamfer: "the mean of both images' tokens' best similarities",
    mutual: `the mean similarity of ${pairs.length} pairs of tokens that are each other's nearest`,
    consistent: `of ${pairs.length} pairs of tokens that agree on one geometry`,
    mean_token: "how alike the means of all tokens are",
  }[config.scoring];
  if (!pairs.length) return `Score ${score(hit.score)}: ${how}; no pairs of tokens make it up.`;
  const share = pairs.slice(0, 10).reduce((total, one) => total + one.contribution, 0) / hit.score;
  const best = Math.min(10, pairs.length);
  return `Score ${score(hit.score)}: ${how}; the ${best} strongest bring ${(100 * share).toFixed(0)}\u00a0% of it.`;
}

function describePair(pair) {
  return `Token ${pair.query_token} of the query and ${pair.gallery_token} of the hit: similarity ` +
    `${pair.similarity.toFixed(3)}, ${pair.contribution.toFixed(4)} of the score.`;
}

function table(pairs, point) {
  const head = ["#", "Query token", "Hit token", "Similarity", "Of the score"];
  const rows = pairs.map((pair, number) => {
    const cells = [
      number + 1, pair.query_token, pair.gallery_token,
      pair.similarity.toFixed(4), pair.contribution.toFixed(5),
    ];
    const row = element("tr", {}, cells.map((cell) => element("td", {}, cell)));
    row.addEventListener("pointerenter", () => point(pair));
    row.addEventListener("pointerleave", () => point(null));
    return row;
  });
  const cells = head.map((name) => element("th", { scope: "col" }, name));
  byId("pairs-table").replaceChildren(
    element("thead", {}, element("tr", {}, cells)), element("tbody", {}, rows),
  );
}

/** Facts about both, side by side. */
function facts(query, hit, role, search) {
  const [ofQuery, ofHit] = [known(query.columns ?? {}, role), known(hit.columns, role)];
  const named = new Set([role.lat, role.lon, role.body, role.diameter].filter(Boolean).map((one) => one.name));
  const rows = [["", query.name, hit.id]];
  if (role.body) rows.push(["Body", capital(ofQuery.body) || "–", capital(ofHit.body) || "–"]);
  if (role.lat) rows.push(["Place", place(ofQuery.lat, ofQuery.lon) || "–", place(ofHit.lat, ofHit.lon) || "–"]);
  if (role.diameter) rows.push(["Diameter", kilometres(ofQuery.diameter) || "–", kilometres(ofHit.diameter) || "–"]);
  for (const [name, value] of Object.entries(hit.columns)) {
    const own = query.columns?.[name] ?? null;
    if (!named.has(name) && (value !== null || own !== null)) rows.push([capital(label(name)), shown(own), shown(value)]);
  }
  const body = radius(ofHit.body);
  if (body && ofQuery.body === ofHit.body && Number.isFinite(ofQuery.lat)) {
    rows.push(["Apart", "", kilometres(apart(ofQuery, ofHit, body))]);
  }
  const again = element("button", { type: "button", class: "quiet", onclick: () => search(hit.id) }, "Search with this hit");
  const made = rows.map(([name, ...values], number) =>
    element("tr", {}, element("th", { scope: "row" }, name), values.map((value) =>
      element(number ? "td" : "th", number ? {} : { scope: "col" }, value))),
  );
  const caption = element("caption", { class: "hidden" }, "Query and hit compared");
  byId("facts").replaceChildren(caption, element("tbody", {}, made), element("tfoot", {}, element("tr", {},
    element("td", {}), element("td", {}), element("td", {}, again))));
}
