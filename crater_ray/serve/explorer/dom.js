// Elements, made in one line. Text is always text: nothing here reads markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. Attributes named on… are listeners, false and null ones are left out. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An SVG element. */
export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** The element of the page with that id. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** Asks for one call of `work` a frame, however often it is asked for. */
export function everyFrame(work) {
  let pending = 0;
  return () => {
    if (!pending) pending = requestAnimationFrame(() => ((pending = 0), work()));
  };
}

/** The colours of the page's style sheet, read when asked for: they change with light and dark. */
export function colours(...names) {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Calls `work` when the colours of the page change. */
export function onScheme(work) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", work);
}
