// Messages: what is served, how a search went, what went wrong.

import { Problem } from "./api.js";
import { byId } from "./dom.js";
import { count, milliseconds } from "./format.js";

/** One line about the index. */
export function indexSummary({ name, version, items, shards, config }) {
  const missing = shards.answered < shards.total ? `, ${shards.answered} of ${shards.total} shards answer` : "";
  return `${name}, version ${version}: ${count(items, "view")}, ${config.k} tokens each (${config.backbone}, ` +
    `${config.rerank}, ${config.codec})${missing}`;
}

/** One line about a reply. */
export function replySummary({ hits, mode, shards, seconds, index }) {
  const stages = Object.entries(seconds).filter(([stage]) => stage !== "total" && stage !== "describe");
  const parts = stages.map(([stage, time]) => `${stage} ${milliseconds(time)}`).join(", ");
  return `${count(hits.length, "hit")}, ${mode} in ${milliseconds(seconds.total)} ` +
    `(${parts}); ${shards.answered} of ${count(shards.total, "shard")}, version ${index.version}`;
}

/** Hides the error. */
export function hideProblem() {
  byId("problem").hidden = true;
  byId("problem").textContent = "";
}

/** Shows an error until the next search. */
export function showProblem(problem) {
  const known = problem instanceof Problem;
  if (!known) console.error(problem);
  const words = known ? `${problem.title}: ${problem.detail || "the service says no more"}` : `The page failed: ${problem}`;
  const after = problem.seconds ? ` Try again in ${count(problem.seconds, "second")}.` : "";
  const request = problem.request ? ` (request ${problem.request})` : "";
  byId("problem").textContent = words + after + request;
  byId("problem").hidden = false;
  byId("status").textContent = "";
}

export function mebibytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
