// The page: the query goes to the service, its reply to the list, the map and the comparison.

import * as api from "./api.js";
import { makeQuery } from "./query.js";
import { makeAtlas } from "./atlas.js";
import { roles } from "./columns.js";
import { makeCompare } from "./compare.js";
import { byId } from "./dom.js";
import { makeFilters } from "./filters.js";
import { makeHits } from "./hits.js";
import * as link from "./link.js";
import { Points } from "./points.js";
import { hideProblem, indexSummary, mebibytes, replySummary, showProblem } from "./messages.js";
import { tokenButton } from "./token.js";

const NUMBERS = ["top", "candidates", "expand"];
const RERANKS = ["shortlist", "both"]; // modes that have candidates
const state = { ...link.read(), image: null, url: null };
let running = new AbortController();
let followed = null; // the query that the map has turned to

try {
  await start();
} catch (problem) {
  showProblem(problem);
  byId("about").textContent = "";
}

async function start() {
  tokenButton(byId("token-button"));
  const info = await api.index();
  byId("about").textContent = indexSummary(info);
  document.title = `${info.name} · crater-ray`;
  const role = roles(info.columns);
  const points = new Points(role);

  const atlas = makeAtlas(info, role, points, {
    pick: (id) => search({ id }, true),
    hit: (id) => hits.choose(id),
    box: (box) => filters.setBox(box),
    body: (body) => remember({ body: body === role.body?.values?.[0] ? null : body }),
  });
  const filters = makeFilters(role, {
    changed: () => search(filters.read(), false),
    mapView: () => atlas.view(),
  });
  const queryCard = makeQuery(role, points, { image: (image) => search({ image }, true), item: (id) => search({ id }, true) });
  const compare = makeCompare(role, info.config, {
    step: (by) => hits.step(by),
    search: (id) => search({ id }, true),
  });
  let answers = [];
  const hits = makeHits(role, (hit, mode, place) => {
    remember({ hit: hit.id });
    atlas?.choose(hit);
    const { query } = answers.find((answer) => answer.mode === mode).reply;
    const name = query.id ?? (state.image?.name || "your image");
    compare.open({ ...query, name, url: state.url }, hit, mode, place, query.tokens);
  });

  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const typed = queryCard.typed();
    if (typed) search({ ...form(), id: typed }, true);
    else if (state.image || state.id !== null) search(form(), false);
    else showProblem(new api.Problem({ title: "No query", detail: "choose an image, a crater or an id" }));
  });
  byId("search-form").addEventListener("change", () => search(form(), false));
  byId("copy-link").addEventListener("click", copy);
  addEventListener("popstate", () => restore());

  await Promise.all([restore(), load()]);

  /** Applies changes to the state, and searches if there is a query. */
  async function search(changes, newEntry) {
    if ("image" in changes) Object.assign(state, { id: null, hit: null });
    else if ("id" in changes) Object.assign(state, { image: null, hit: null });
    Object.assign(state, changes);
    link.put(state, newEntry);
    atlas?.filter(state.filters, state.box);
    byId("candidates").disabled = !RERANKS.includes(state.mode);
    if (state.image || state.id !== null) await run(info);
  }

  /** Puts a choice into the state and the address. */
  function remember(changes) {
    Object.assign(state, changes);
    link.put(state, false);
  }

  async function run({ limits }) {
    running.abort();
    running = new AbortController();
    const { signal } = running;
    const { mode, top, candidates, expand, strict, filters: listed, box, id, image } = state;
    hideProblem();
    if (image && image.size > limits.bytes) {
      const detail = `${image.name} is ${mebibytes(image.size)}; the service takes ${mebibytes(limits.bytes)}`;
      return showProblem(new api.Problem({ title: "Too large", detail }));
    }
    if (image) state.url = queryCard.showImage(image);
    setBusy(true);
    try {
      const modes = mode === "both" ? ["shortlist", "exact"] : [mode];
      const options = { top, expand, strict, filters: listed, box };
      const query = { id, image };
      const optionsOf = (one) => ({
        ...options, mode: one, explain: one !== "shortlist-only", ...(one === "shortlist" ? { candidates } : {}),
      });
      const replies = await Promise.all(modes.map((one) => api.search(query, optionsOf(one), signal)));
      answers = replies.map((reply, number) => ({ mode: modes[number], reply }));
      show();
    } catch (problem) {
      if (signal.aborted) return;
      answers = [];
      hits.draw([], "No answer.");
      compare.clear();
      atlas?.mark(null, [], false);
      if (id !== null) byId("id").value = id; // to be corrected
      showProblem(problem);
    } finally {
      if (!signal.aborted) setBusy(false);
    }
  }

  function show() {
    const [{ reply }] = answers;
    if (reply.query.id !== null) queryCard.showItem(reply.query.id, reply.query.group, reply.query.columns);
    compare.clear();
    hits.draw(answers);
    const query = state.image ?? state.id;
    atlas?.mark(reply.query.columns, answers.map((answer) => answer.reply.hits), query !== followed);
    followed = query;
    hits.choose(state.hit);
    byId("status").textContent = answers.map((answer) => replySummary(answer.reply)).join(" · ");
  }

  /** The page as the address says. */
  async function restore() {
    running.abort();
    hideProblem();
    Object.assign(state, link.read(), { image: null, url: null });
    followed = state.body === null ? null : state.id; // the link says which body is looked at
    for (const radio of document.querySelectorAll("input[name=mode]")) radio.checked = radio.value === state.mode;
    for (const name of NUMBERS) byId(name).value = state[name];
    byId("strict").checked = state.strict;
    filters.write(state);
    atlas?.turn(state.body ?? role.body?.values?.[0] ?? null);
    atlas?.filter(state.filters, state.box);
    byId("candidates").disabled = !RERANKS.includes(state.mode);
    if (state.id !== null) return run(info);
    answers = [];
    queryCard.showNothing();
    compare.clear();
    hits.draw([]);
    atlas?.mark(null, [], false);
    byId("status").textContent = "";
  }

  async function load() {
    try {
      await points.load(() => atlas?.refresh());
      const { query } = answers[0]?.reply ?? {};
      if (query && query.id !== null) queryCard.showItem(query.id, query.group, query.columns);
    } catch (problem) {
      showProblem(problem);
    }
  }
}

/** The search options of the form. */
function form() {
  const number = (name) => (Number.isFinite(byId(name).valueAsNumber) ? byId(name).valueAsNumber : link.DEFAULTS[name]);
  const mode = document.querySelector("input[name=mode]:checked").value;
  const strict = byId("strict").checked;
  return { mode, top: number("top"), candidates: number("candidates"), expand: number("expand"), strict };
}

async function copy() {
  try {
    await navigator.clipboard.writeText(location.href);
    byId("status").textContent = state.image
      ? "Link copied. It holds the options; your image is not in it."
      : "Link copied.";
  } catch {
    byId("status").textContent = `Copy the address of this page: ${location.href}`;
  }
}

function setBusy(on) {
  byId("hits").setAttribute("aria-busy", String(on));
  if (on) byId("status").textContent = "Searching …";
}
