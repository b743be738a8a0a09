// The service's HTTP interface (docs/architecture.md, "serve"). Every failure is a Problem, in words.

import { askToken, storedToken } from "./token.js";

const ATTEMPTS = 3; // while the service is busy

export class Problem extends Error {
  constructor({ title, status = 0, detail = "", request_id: request = null }, seconds = null) {
    super(detail || title);
    Object.assign(this, { title, status, detail, request, seconds });
  }
}

/** What is served: version, columns, index config, limits, base maps. */
export const index = async () => (await request("v1/index")).json();

export const item = async (id) => (await request(`v1/items/${segment(id)}`, { retry: true })).json();

/** Where the gallery tokens of an item lie. */
export const tokens = async (id, signal) =>
  (await request(`v1/items/${segment(id)}/tokens`, { retry: true, signal })).json();

export const picture = async (id, size) =>
  (await request(`v1/items/${segment(id)}/image?size=${size}`, { retry: true })).blob();

/** The base map of a body, or of an index that names none. */
export const basemap = async (body) =>
  (await request(body === null ? "v1/basemap" : `v1/basemap?${new URLSearchParams({ body })}`, { retry: true })).blob();

/** One page of items: {columns, rows, total, next}. */
export async function items({ columns, limit, cursor = null, filters = null, signal }) {
  const params = new URLSearchParams({ columns: columns.join(","), limit });
  if (cursor) params.set("cursor", cursor);
  if (filters) params.set("filters", JSON.stringify(filters));
  return (await request(`v1/items?${params}`, { retry: true, signal })).json();
}

/** Hits of an item ({id}) or of an image ({image}: a Blob). */
export async function search(query, options, signal) {
  if (query.id !== null) {
    const body = JSON.stringify({ ...options, id: query.id });
    const headers = { "Content-Type": "application/json" };
    return (await request("v1/search", { method: "POST", body, headers, signal })).json();
  }
  const body = new FormData();
  body.append("image", query.image, "query");
  body.append("request", JSON.stringify(options));
  return (await request("v1/search", { method: "POST", body, signal })).json();
}

function segment(id) {
  return encodeURIComponent(id);
}

async function request(path, { retry = false, ...options } = {}) {
  for (let attempt = 1; ; attempt++) {
    const token = storedToken();
    const headers = new Headers(options.headers);
    if (token) headers.set("Authorization", `Bearer ${token}`);
    const reply = await fetched(path, { ...options, headers });
    if (reply.ok) return reply;
    // another request may have been given a token while this one was under way
    if (reply.status === 401 && (storedToken() !== token || (await askToken(token !== null)))) continue;
    const problem = await read(reply);
    if (!retry || attempt >= ATTEMPTS || ![429, 503].includes(reply.status)) throw problem;
    await new Promise((resolve) => setTimeout(resolve, 1000 * (problem.seconds ?? 1) * attempt));
  }
}

async function fetched(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "No answer", detail: "the service cannot be reached; is it still running?" });
  }
}

async function read(reply) {
  const seconds = Number(reply.headers.get("Retry-After")) || null;
  try {
    return new Problem(await reply.json(), seconds);
  } catch {
    return new Problem({ title: reply.statusText || "Error", status: reply.status }, seconds);
  }
}
