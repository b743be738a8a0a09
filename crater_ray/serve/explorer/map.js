// The map of one body: moved by mouse, finger, wheel and keys. Reports what is picked, and draws.

import { byId, everyFrame, onScheme } from "./dom.js";
import { draw } from "./map_drawing.js";
import { boxBetween, craterAt, hitAt, NEAR } from "./map_reach.js";
import { bounded, holding, panned, seen, toPlace, toScreen, whole, zoomed } from "./projection.js";
import { kilometres, place } from "./format.js";

const KEYS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** `handlers` are pick(item), hit(id), box(box). Returns what the page does with the map. */
export function makeMap(handlers) {
  const canvas = byId("map");
  const context = canvas.getContext("2d");
  const scene = {
    view: null, size: { width: 1, height: 1 }, base: null, points: null, body: 0, radius: null,
    passes: () => true, box: null, query: null, hits: [], chosen: null, cross: false,
  };
  const pointers = new Map();
  let press = null;
  let boxing = false;

  const redraw = everyFrame(() => {
    if (!scene.view) return; // not laid out yet
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(scene.size.width * ratio), Math.round(scene.size.height * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    draw(context, scene);
    canvas.dataset.drawn = String(Number(canvas.dataset.drawn ?? 0) + 1);
  });

  const look = (view) => {
    scene.view = bounded(view, scene.size);
    scaleBar(scene);
    redraw();
  };

  new ResizeObserver(([entry]) => {
    const { width, height } = entry.contentRect;
    if (!width || !height) return;
    const wider = width / scene.size.width; // the same degrees stay in view
    scene.size = { width, height };
    look(scene.view ? { ...scene.view, scale: scene.view.scale * wider } : whole(scene.size));
  }).observe(canvas);
  onScheme(redraw);

  const at = (event) => {
    const frame = canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    const [x, y] = at(event);
    pointers.set(event.pointerId, [x, y]);
    press = { x, y, moved: false, box: boxing || event.shiftKey };
    scene.cross = false;
  });

  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    const before = pointers.get(event.pointerId);
    if (!before) return hover(x, y);
    if (Math.hypot(x - press.x, y - press.y) > 4) press.moved = true;
    if (press.box) {
      scene.box = boxBetween(scene, press, { x, y });
      redraw();
    } else if (pointers.size === 1) {
      if (press.moved) look(panned(scene.view, scene.size, x - before[0], y - before[1]));
    } else if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const times = Math.hypot(x - other[0], y - other[1]) / Math.hypot(before[0] - other[0], before[1] - other[1]);
      look(zoomed(scene.view, scene.size, (x + other[0]) / 2, (y + other[1]) / 2, times || 1));
    }
    pointers.set(event.pointerId, [x, y]);
  });

  const release = (event) => {
    if (!pointers.delete(event.pointerId) || pointers.size) return;
    if (press.box && press.moved) handlers.box(scene.box);
    else if (!press.moved && event.type === "pointerup") choose(...at(event));
    press = null;
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => showPosition(""));

  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      look(zoomed(scene.view, scene.size, ...at(event), 2 ** (-event.deltaY / (event.deltaMode ? 8 : 240))));
    },
    { passive: false },
  );

  canvas.addEventListener("keydown", (event) => {
    const { width, height } = scene.size;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (KEYS[event.key]) {
      const [across, down] = KEYS[event.key];
      look(panned(scene.view, scene.size, (across * width) / 10, (down * height) / 10));
    } else if (event.key === "+" || event.key === "=") look(zoomed(scene.view, scene.size, width / 2, height / 2, 1.5));
    else if (event.key === "-") look(zoomed(scene.view, scene.size, width / 2, height / 2, 1 / 1.5));
    else if (event.key === "Home") look(whole(scene.size));
    else if (event.key === "Enter") choose(width / 2, height / 2, Infinity);
    else return;
    event.preventDefault();
    scene.cross = true;
    if (event.key !== "Enter") hover(width / 2, height / 2, Infinity);
    redraw();
  });
  canvas.addEventListener("focus", () => {
    scene.cross = canvas.matches(":focus-visible");
    redraw();
  });
  canvas.addEventListener("blur", () => {
    scene.cross = false;
    redraw();
  });

  const middle = (times) => () => look(zoomed(scene.view, scene.size, scene.size.width / 2, scene.size.height / 2, times));
  byId("zoom-in").onclick = middle(1.6);
  byId("zoom-out").onclick = middle(1 / 1.6);
  byId("zoom-whole").onclick = () => look(whole(scene.size));
  byId("zoom-hits").onclick = () => look(holding([scene.query, ...scene.hits].filter(Boolean), scene.size));
  const boxButton = byId("draw-box");
  boxButton.onclick = () => setBoxing(!boxing);

  function setBoxing(on) {
    boxing = on;
    boxButton.setAttribute("aria-pressed", String(on));
    canvas.classList.toggle("boxing", on);
  }

  function hover(x, y, reach = NEAR) {
    const hit = hitAt(scene, x, y);
    const item = hit ? null : craterAt(scene, x, y, reach);
    canvas.classList.toggle("pointing", hit !== null || item !== null);
    const { lat, lon } = toPlace(scene.view, scene.size, x, y);
    const here = Math.abs(lat) <= 90 ? place(lat, lon) : "";
    if (hit) showPosition(`Hit ${hit.rank}: ${hit.id}`);
    else if (item === null) showPosition(here);
    else showPosition(`${scene.points.ids[item]} ${kilometres(scene.points.diameter[item])}, ${here}`);
  }

  function choose(x, y, reach = NEAR) {
    const hit = reach === NEAR ? hitAt(scene, x, y) : null;
    const item = hit ? null : craterAt(scene, x, y, reach);
    if (hit) handlers.hit(hit.id);
    else if (item !== null) handlers.pick(item);
  }

  return {
    /** Changes what is drawn, by the names of the scene. */
    set(changes) {
      Object.assign(scene, changes);
      if ("box" in changes) setBoxing(false);
      byId("zoom-hits").disabled = !scene.query && !scene.hits.length;
      if (scene.view) scaleBar(scene);
      redraw();
    },
    /** Moves to places that are not all in sight. */
    hold(places) {
      const inside = ([x, y]) => x > 0 && y > 0 && x < scene.size.width && y < scene.size.height;
      if (scene.view && !places.every((one) => inside(toScreen(scene.view, scene.size, one.lon, one.lat))))
        look(holding(places, scene.size));
    },
    seen: () => seen(scene.view, scene.size),
  };
}

function showPosition(text) {
  byId("map-here").textContent = text;
}

/** At most 140 pixels, of 1, 2 or 5 times a power of ten, at the equator. */
function scaleBar({ view, radius }) {
  const bar = byId("scale");
  bar.hidden = !radius;
  if (!radius) return;
  const kilometre = (view.scale * 180) / (Math.PI * radius);
  const most = 140 / kilometre;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].find((times) => times * power <= most) * power;
  bar.textContent = kilometres(length);
  bar.style.width = `${length * kilometre}px`;
}
