// The page: what is asked goes to the service, what it answers goes to the list, the map and the comparison.

import * as api from "./api.js";
import { makeAsked } from "./asked.js";
import { makeAtlas } from "./atlas.js";
import { roles } from "./columns.js";
import { makeCompare } from "./compare.js";
import { byId } from "./dom.js";
import { makeFilters } from "./filters.js";
import { makeHits } from "./hits.js";
import * as link from "./link.js";
import { Points } from "./points.js";
import { about, complain, mebibytes, quiet, told } from "./said.js";
import { tokenButton } from "./token.js";

const NUMBERS = ["top", "candidates", "expand"];
const state = { ...link.read(), image: null, url: null };
let running = new AbortController();
let followed = null; // the query that the map has turned to

try {
  await start();
} catch (problem) {
  complain(problem);
  byId("about").textContent = "";
}

async function start() {
  tokenButton(byId("token-button"));
  const info = await api.index();
  byId("about").textContent = about(info);
  document.title = `${info.name} · crater-ray`;
  const role = roles(info.columns);
  const points = new Points(role);

  const atlas = makeAtlas(info, role, points, {
    pick: (id) => ask({ id }, true),
    hit: (id) => hits.choose(id),
    box: (box) => filters.setBox(box),
    body: (body) => settle({ body: body === role.body?.values?.[0] ? null : body }),
  });
  const filters = makeFilters(role, {
    changed: () => ask(filters.read(), false),
    mapView: () => atlas.view(),
  });
  const asked = makeAsked(role, points, { image: (image) => ask({ image }, true), item: (id) => ask({ id }, true) });
  const compare = makeCompare(role, info.config, {
    step: (by) => hits.step(by),
    ask: (id) => ask({ id }, true),
  });
  let answers = [];
  const hits = makeHits(role, (hit, mode, place) => {
    settle({ hit: hit.id });
    atlas?.choose(hit);
    const { query } = answers.find((answer) => answer.mode === mode).reply;
    const name = query.id ?? (state.image?.name || "your image");
    compare.open({ ...query, name, url: state.url }, hit, mode, place, query.tokens);
  });

  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const typed = asked.typed();
    if (typed) ask({ ...form(), id: typed }, true);
    else if (state.image || state.id !== null) ask(form(), false);
    else complain(new api.Problem({ title: "Nothing is asked", detail: "choose an image, a crater or an id" }));
  });
  byId("ask").addEventListener("change", () => ask(form(), false));
  byId("copy-link").addEventListener("click", copy);
  addEventListener("popstate", () => restore());

  await Promise.all([restore(), load()]);

  /** Takes what has changed into the state, and searches if there is a query. */
  async function ask(changes, fresh) {
    if ("image" in changes) Object.assign(state, { id: null, hit: null });
    else if ("id" in changes) Object.assign(state, { image: null, hit: null });
    Object.assign(state, changes);
    link.put(state, fresh);
    atlas?.filter(state.filters, state.box);
    byId("candidates").disabled = state.mode === "exact";
    if (state.image || state.id !== null) await run(info);
  }

  /** Keeps what was chosen in the address. */
  function settle(changes) {
    Object.assign(state, changes);
    link.put(state, false);
  }

  async function run({ limits }) {
    running.abort();
    running = new AbortController();
    const { signal } = running;
    const { mode, top, candidates, expand, strict, filters: listed, box, id, image } = state;
    quiet();
    if (image && image.size > limits.bytes) {
      const detail = `${image.name} is ${mebibytes(image.size)}; the service takes ${mebibytes(limits.bytes)}`;
      return complain(new api.Problem({ title: "Too large", detail }));
    }
    if (image) state.url = asked.showImage(image);
    busy(true);
    try {
      const modes = mode === "both" ? ["shortlist", "exact"] : [mode];
      const options = { top, expand, strict, explain: true, filters: listed, box };
      const query = { id, image };
      const of = (one) => ({ ...options, mode: one, ...(one === "shortlist" ? { candidates } : {}) });
      const replies = await Promise.all(modes.map((one) => api.search(query, of(one), signal)));
      answers = replies.map((reply, number) => ({ mode: modes[number], reply }));
      show();
    } catch (problem) {
      if (signal.aborted) return;
      answers = [];
      hits.draw([], "No answer.");
      compare.clear();
      atlas?.mark(null, [], false);
      if (id !== null) byId("id").value = id; // to be corrected
      complain(problem);
    } finally {
      if (!signal.aborted) busy(false);
    }
  }

  function show() {
    const [{ reply }] = answers;
    if (reply.query.id !== null) asked.showItem(reply.query.id, reply.query.group, reply.query.columns);
    compare.clear();
    hits.draw(answers);
    const query = state.image ?? state.id;
    atlas?.mark(reply.query.columns, answers.map((answer) => answer.reply.hits), query !== followed);
    followed = query;
    hits.choose(state.hit);
    byId("status").textContent = answers.map((answer) => told(answer.reply)).join(" · ");
  }

  /** The page as the address says. */
  async function restore() {
    running.abort();
    quiet();
    Object.assign(state, link.read(), { image: null, url: null });
    followed = state.body === null ? null : state.id; // the link says which body is looked at
    for (const radio of document.querySelectorAll("input[name=mode]")) radio.checked = radio.value === state.mode;
    for (const name of NUMBERS) byId(name).value = state[name];
    byId("strict").checked = state.strict;
    filters.write(state);
    atlas?.turn(state.body ?? role.body?.values?.[0] ?? null);
    atlas?.filter(state.filters, state.box);
    byId("candidates").disabled = state.mode === "exact";
    if (state.id !== null) return run(info);
    answers = [];
    asked.showNothing();
    compare.clear();
    hits.draw([]);
    atlas?.mark(null, [], false);
    byId("status").textContent = "";
  }

  async function load() {
    try {
      await points.load(() => atlas?.refresh());
      const { query } = answers[0]?.reply ?? {};
      if (query && query.id !== null) asked.showItem(query.id, query.group, query.columns);
    } catch (problem) {
      complain(problem);
    }
  }
}

/** What the form says of how to search. */
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

function busy(on) {
  byId("hits").setAttribute("aria-busy", String(on));
  if (on) byId("status").textContent = "Searching …";
}
