// Items' images as URLs of blobs, for the token cannot travel with <img>. Few are fetched at once.

import { picture } from "./api.js";

const MAX_CONCURRENT = 4;
const KEPT = 300;
const urls = new Map(); // "size id" -> promise of a URL, the longest unused first
const waiting = [];
let busy = 0;

/** A promise of a URL that <img> can show. Rejects with a Problem. */
export function pictureUrl(id, size) {
  const key = `${size} ${id}`;
  const found = urls.get(key) ?? queued(() => picture(id, size)).then((data) => URL.createObjectURL(data));
  urls.delete(key);
  urls.set(key, found);
  found.catch(() => urls.delete(key));
  for (const [old, url] of urls) {
    if (urls.size <= KEPT) break;
    urls.delete(old);
    url.then(URL.revokeObjectURL, () => {});
  }
  return found;
}

/** Puts an item's image into <img>, or says beside it why not. */
export async function show(image, id, size) {
  image.classList.add("loading");
  image.dataset.item = id;
  try {
    const url = await pictureUrl(id, size);
    if (image.dataset.item !== id) return;
    image.src = url;
    await image.decode().catch(() => {});
  } catch (problem) {
    if (image.dataset.item !== id) return;
    image.removeAttribute("src");
    image.title = problem.message;
    image.classList.add("missing");
  } finally {
    image.classList.remove("loading");
  }
}

function queued(work) {
  return new Promise((resolve, reject) => {
    waiting.push(() => work().then(resolve, reject).finally(next));
    if (busy < MAX_CONCURRENT) busy++, waiting.shift()();
  });
}

function next() {
  const following = waiting.shift();
  if (following) following();
  else busy--;
}
