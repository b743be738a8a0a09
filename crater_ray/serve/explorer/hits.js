// The ranked views: one list, or two beside each other. A list box: arrow keys choose, and choosing shows.

import { known } from "./columns.js";
import { byId, element } from "./dom.js";
import { show } from "./pictures.js";
import { capital, count, kilometres, milliseconds, place, score } from "./format.js";

const WIDE = matchMedia("(min-width: 1100px)");
export const NAMES = { shortlist: "Shortlist", "shortlist-only": "Shortlist only", exact: "Exact" };

/** `chosen(hit, mode, place)` is called when a hit is chosen. */
export function makeHits(role, chosen) {
  const home = byId("lists");
  let lists = []; // {mode, reply, options: [element]}
  let at = null; // {list, row}

  function draw(replies, emptyText = "No query yet. Pick a crater on the map, or drop an image.") {
    home.replaceChildren();
    home.dataset.lists = String(replies.length);
    lists = replies.map(({ mode, reply }, number) => {
      const others = replies.find((one) => one.mode !== mode)?.reply.hits ?? null;
      const options = reply.hits.map((hit, row) => option(hit, reply, others, role, () => go(number, row, false)));
      const name = replies.length > 1 ? NAMES[mode] : "Hits";
      const box = element("ol", { role: "listbox", "aria-label": name, "data-mode": mode }, options);
      box.addEventListener("keydown", (event) => onKey(event, number));
      const head = element("h3", {}, NAMES[mode], element("span", {}, milliseconds(reply.seconds.total)));
      home.append(element("div", { class: "list" }, head, box));
      return { mode, reply, options };
    });
    at = null;
    byId("hits-empty").hidden = replies.some(({ reply }) => reply.hits.length);
    byId("hits-empty").textContent = replies.length ? "No item passes the filters." : emptyText;
    showSummary(replies);
  }

  function onKey(event, number) {
    const { options } = lists[number];
    const row = at?.list === number ? at.row : 0;
    const steps = { ArrowDown: row + 1, ArrowUp: row - 1, Home: 0, End: options.length - 1 };
    const sides = { ArrowRight: number + 1, ArrowLeft: number - 1 };
    if (event.key in steps) go(number, steps[event.key], true);
    else if (event.key in sides && lists.length > 1) go(sides[event.key], row, true);
    else return;
    event.preventDefault();
  }

  function go(list, row, focus) {
    if (!lists[list]?.options.length) return;
    row = Math.max(0, Math.min(lists[list].options.length - 1, row));
    at = { list, row };
    for (const { options } of lists) {
      options.forEach((one, other) => {
        one.setAttribute("aria-selected", "false");
        one.tabIndex = other === 0 ? 0 : -1;
      });
    }
    const { mode, reply, options } = lists[list];
    options[0].tabIndex = -1;
    options[row].tabIndex = 0;
    options[row].setAttribute("aria-selected", "true");
    if (focus) options[row].focus();
    if (WIDE.matches) options[row].scrollIntoView({ block: "nearest" }); // there the list scrolls by itself
    chosen(reply.hits[row], mode, { row, of: options.length });
  }

  return {
    draw,
    /** Chooses a hit by its id, else the first there is. */
    choose(id) {
      const found = lists.flatMap(({ reply }, list) => reply.hits.map((hit, row) => ({ id: hit.id, list, row })));
      const wanted = found.find((one) => one.id === id) ?? found[0];
      if (wanted) go(wanted.list, wanted.row, false);
    },
    step(by) {
      if (at) go(at.list, at.row + by, false);
    },
  };
}

function option(hit, reply, others, role, choose) {
  const { lat, lon, body, diameter } = known(hit.columns, role);
  const image = element("img", { alt: "", width: 56, height: 56 });
  show(image, hit.id, 112);
  const bar = element("span", { class: "bar-of-score", "aria-hidden": "true" });
  bar.style.width = `${Math.max(0, Math.min(1, hit.score)) * 100}%`;
  const same = reply.query.group !== null && hit.group === reply.query.group;
  const made = element(
    "li", { role: "option", "aria-selected": "false", tabindex: hit.rank === 1 ? 0 : -1, "data-id": hit.id },
    element("span", { class: "rank" }, hit.rank),
    image,
    element("strong", {}, hit.id),
    element(
      "span", { class: "what" },
      element("span", { class: "where" }, [capital(body), kilometres(diameter)].filter(Boolean).join(" · ")),
      element("span", { class: "where" }, place(lat, lon)),
      element("span", { class: "tags" }, same ? tag("same group", "same") : null, others ? otherRank(hit, others) : null),
    ),
    element("span", { class: "score" }, score(hit.score), element("span", { class: "track" }, bar)),
  );
  made.addEventListener("click", () => {
    choose();
    const compare = byId("compare");
    if (compare.getBoundingClientRect().bottom < 0) compare.scrollIntoView(); // it is above, out of sight
  });
  return made;
}

function otherRank(hit, others) {
  const found = others.find((one) => one.id === hit.id);
  if (!found) return tag("only here", "only");
  return found.rank === hit.rank ? null : tag(`there ${found.rank}`, "moved");
}

function tag(text, kind) {
  return element("span", { class: `tag ${kind}` }, text);
}

/** Shards that are missing, and how far two lists agree. */
function showSummary(replies) {
  const worst = replies.map(({ reply }) => reply.shards).find(({ answered, total }) => answered < total);
  byId("partial").hidden = !worst;
  if (worst) {
    byId("partial").textContent =
      `Only ${worst.answered} of ${count(worst.total, "shard")} answered: better hits may be missing.`;
  }
  const [first] = replies;
  byId("hits-note").textContent = first ? count(first.reply.hits.length, "view") : "";
  byId("agreement").hidden = replies.length < 2;
  if (replies.length < 2) return;
  const [one, other] = replies.map(({ reply }) => reply.hits.map((hit) => hit.id));
  const shared = one.filter((id) => other.includes(id)).length;
  const firstApart = one.findIndex((id, row) => id !== other[row]);
  const order = firstApart < 0 ? "in the same order" : `the same order in the first ${firstApart}`;
  byId("agreement").textContent = `${shared} of ${other.length} exact hits are in the two-stage list, ${order}.` +
    (shared < other.length ? " Hollow marks on the map are the others." : "");
}
