// The page: what is looked at is in the address after "#", which no server sees, so links and "back" work.

import { Failed, ask, token } from "./api.js";
import { button, byId, bytes, count, counted, duration, element, figure, fillFacts, fillTable, percent, time } from "./dom.js";
import { drawActivity, drawMap, drawQuality, showAll } from "./plots.js";

const SUGGESTIONS = 20;
const WATCH_MS = 5_000;

const DISTANCES = { cosine: "1 − cosine", l2: "squared Euclidean distance", ip: "1 − dot product" };

// What is shown. Each change of the address is a turn; answers to an earlier turn are dropped.
const shown = { space: null, version: null, partition: null, metric: null, map: null, moments: [], lost: false, turn: 0 };
let matchTimer = 0;
let watchTimer = 0;

// --- what is looked at ---

const looked = () => {
  const values = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(["space", "version", "partition", "key"].map((name) => [name, values.get(name)]));
};

const address = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return `#${new URLSearchParams(given)}`;
};

const go = (changes) => {
  location.hash = address({ ...looked(), ...changes });
};

// --- errors, and who one is ---

function say(text) {
  byId("alert").hidden = !text;
  byId("alert").textContent = text;
}

/** Do something; what fails is said, or leads to the question who one is. */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    if (error instanceof Failed && error.status === 401) signIn(error.message);
    else say(error.message);
  }
}

function signIn(why) {
  say(token.get() ? why : "");
  token.forget();
  // Whoever comes next may see less.
  Object.assign(shown, { space: null, map: null, turn: shown.turn + 1 });
  byId("space").hidden = true;
  byId("spaces-list").replaceChildren();
  byId("activity").open = false;
  byId("main").hidden = true;
  byId("sign-out").hidden = true;
  byId("hub-facts").textContent = "";
  byId("sign-in").hidden = false;
  byId("token").value = "";
  byId("token").focus();
}

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = byId("token").value.trim();
  if (!/^[\x21-\x7e]+$/.test(given)) {
    say("That is no key and no token: it has other characters than letters, digits and signs.");
    return;
  }
  token.set(given);
  attempt(start);
});

byId("sign-out").addEventListener("click", () => {
  token.forget();
  // All that was shown goes with the page.
  location.replace(location.pathname);
  location.reload();
});

// --- the hub and its spaces ---

async function start() {
  const hub = await ask("/api/hub");
  say("");
  byId("sign-in").hidden = true;
  byId("main").hidden = false;
  byId("sign-out").hidden = !token.get();
  byId("hub-facts").textContent = [
    `release ${hub.release}`,
    hub.read_only ? "read-only" : null,
    hub.info ? `${counted(hub.info.rows, "row")}, ${bytes(hub.info.disk_bytes)}` : null,
    hub.principal ? `you are ${hub.principal}` : null,
  ].filter(Boolean).join(" · ");
  byId("activity").hidden = !hub.watches;
  await listSpaces(null);
  await show();
}

// --- what the server does ---

/** Look at what the server does, and again after a while as long as it is looked at. */
async function watch() {
  clearTimeout(watchTimer);
  if (!byId("activity").open || document.hidden || byId("main").hidden) return;
  try {
    describeActivity(await ask("/api/activity"));
    if (shown.lost) say("");
    shown.lost = false;
  } catch (error) {
    shown.lost = true;
    throw error;
  } finally {
    watchTimer = setTimeout(() => attempt(watch), WATCH_MS);
  }
}

function describeActivity(found) {
  const facts = [
    [found.uptime_seconds === null ? "–" : duration(found.uptime_seconds), "up"],
    [found.memory_bytes === null ? "–" : bytes(found.memory_bytes), "memory"],
    [bytes(found.disk_free_bytes), "disk free"],
    [`${figure(found.sync_p50_ms)} ms`, "sync, median"],
    [`${figure(found.sync_p99_ms)} ms`, "sync, 99th percentile"],
  ];
  fillFacts(byId("activity-facts"), facts);
  const names = found.methods.map((one) => `${one.service}/${one.method}`);
  const chosen = names.includes(byId("method").value) ? byId("method").value : names[0];
  byId("method").replaceChildren(
    ...found.methods.map((one, i) => element("option", { value: names[i] }, methodName(one))),
  );
  if (chosen) byId("method").value = chosen;
  fillTable(byId("methods"), [
    ["method", false, methodName],
    ["calls", true, (one) => count(one.calls)],
    ["errors", true, (one) => count(one.errors)],
    ["in progress", true, (one) => count(one.in_progress)],
    ["median, ms", true, (one) => figure(one.p50_ms)],
    ["99th percentile, ms", true, (one) => figure(one.p99_ms)],
  ], found.methods);
  fillTable(byId("recalls"), [
    ["space", false, (one) => one.space],
    ["version", false, (one) => one.version],
    ["recall", true, (one) => one.recall.toFixed(3)],
  ], found.recalls);
  byId("recalls-part").hidden = found.recalls.length === 0;
  shown.moments = found.moments;
  attempt(plotActivity);
}

const methodName = (one) => (one.service.startsWith("ehub.v1.") ? one.method : `${one.method} (${one.service})`);
const plotActivity = () => drawActivity(byId("calls-plot"), byId("method-plot"), shown.moments, byId("method").value);

byId("activity").addEventListener("toggle", () => attempt(watch));
byId("method").addEventListener("change", () => attempt(plotActivity));
document.addEventListener("visibilitychange", () => attempt(watch));

async function listSpaces(after) {
  const match = byId("spaces-match").value;
  const found = await ask("/api/spaces", { match: match || null, after });
  if (match !== byId("spaces-match").value) return;
  const rows = found.spaces.map((one) => {
    const facts = `${counted(one.rows, "row")} · ${one.dims} dims · ${one.metric}`;
    const versions = one.versions > 1 ? ` · ${one.versions} versions` : "";
    const link = element("a", { href: address({ space: one.name }) }, element("b", {}, one.name));
    link.append(element("span", { class: "soft" }, facts + versions));
    link.dataset.space = one.name;
    return element("li", {}, link);
  });
  if (after === null) byId("spaces-list").replaceChildren();
  byId("spaces-list").append(...rows);
  byId("spaces-total").textContent = `(${count(found.total)})`;
  byId("spaces-none").hidden = found.total > 0;
  byId("spaces-none").textContent = match ? "No space has that in its name." : "There is no space yet, or none that you may see.";
  byId("spaces-more").hidden = found.after === null;
  byId("spaces-more").onclick = () => attempt(() => listSpaces(found.after));
  markCurrent();
  if (!match && after === null && !looked().space && found.spaces.length) {
    history.replaceState(null, "", address({ space: found.spaces[0].name }));
  }
}

function markCurrent() {
  for (const link of byId("spaces-list").querySelectorAll("a")) {
    if (link.dataset.space === looked().space) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

byId("spaces-form").addEventListener("submit", (event) => event.preventDefault());
byId("spaces-match").addEventListener("input", () => {
  clearTimeout(matchTimer);
  matchTimer = setTimeout(() => attempt(() => listSpaces(null)), 200);
});

// --- a space ---

/** Show what the address says; only what has changed is asked for. */
async function show() {
  const turn = ++shown.turn;
  const now = looked();
  markCurrent();
  say("");
  if (now.space === null) {
    byId("space").hidden = true;
    shown.space = null;
    return;
  }
  const isOther = now.space !== shown.space || now.version !== shown.version;
  if (isOther) {
    byId("space").hidden = true;
    shown.space = null;
    const found = await ask("/api/space", { space: now.space, version: now.version });
    if (turn !== shown.turn) return;
    describe(found, now);
  }
  if (isOther || now.partition !== shown.partition) {
    forgetRows();
    Object.assign(shown, { space: now.space, version: now.version, partition: now.partition, map: null });
    byId("partition").value = now.partition ?? "";
    const map = await ask("/api/map", rowsAsked());
    if (turn !== shown.turn) {
      shown.space = null;
      return;
    }
    shown.map = map;
    describeMap(map);
  }
  await focusOn(now.key, turn);
}

const rowsAsked = () => ({ space: shown.space, version: shown.version, partition: shown.partition });

function describe(found, now) {
  const version = found.versions.find((one) => one.name === found.version);
  shown.metric = version.metric;
  byId("space").hidden = false;
  byId("space-name").textContent = found.name;
  document.title = `${found.name} – Embeddinghub`;
  const named = (one) => (one.aliases.length ? `${one.name} (${one.aliases.join(", ")})` : one.name);
  byId("version").replaceChildren(
    ...found.versions.map((one) => element("option", { value: one.name }, named(one))),
  );
  byId("version").value = found.version;
  byId("partition").replaceChildren(
    element("option", { value: "" }, "all rows"),
    ...found.partitions.map((one) => element("option", { value: one.name }, one.name)),
  );
  byId("partition").disabled = found.partitions.length === 0;
  const index = found.index;
  const facts = [
    [count(version.rows), "rows"],
    [count(version.dims), "dims"],
    [version.metric, "metric"],
    [version.key_type, "keys"],
    ...(index ? [[count(index.rows_indexed), "rows indexed"], [bytes(index.bytes), "index"], [count(index.ef || null), "ef by default"]] : []),
  ];
  fillFacts(byId("facts"), facts);
  describeLists(found);
  if (now.space !== shown.space) byId("space-name").focus({ preventScroll: true });
}

function describeLists(found) {
  fillTable(byId("versions"), [
    ["version", false, (one) => one.name],
    ["aliases", false, (one) => one.aliases.join(", ") || "–"],
    ["rows", true, (one) => count(one.rows)],
    ["dims", true, (one) => count(one.dims)],
    ["metric", false, (one) => one.metric],
    ["model", false, (one) => (one.model ? [one.model.provider, one.model.name, one.model.revision].filter(Boolean).join(" ") : "–")],
    ["created", false, (one) => time(one.created)],
    ["state", false, (one) => (one.frozen ? "frozen" : "open")],
  ], found.versions);
  const more = found.partitions_total - found.partitions.length;
  byId("partitions-words").textContent = found.partitions.length
    ? (more > 0 ? `The ${found.partitions.length} largest; ${count(more)} more are not listed.` : "")
    : "No rows are in partitions.";
  fillTable(byId("partitions"), [
    ["partition", false, (one) => one.name],
    ["rows", true, (one) => count(one.rows)],
  ], found.partitions);
  byId("tags-words").textContent = found.tags.length ? "" : "This version has no tags.";
  fillTable(byId("tags"), [
    ["tag", false, (one) => one.name],
    ["made", false, (one) => time(one.created)],
    ["message", false, (one) => one.message || "–"],
  ], found.tags);
}

byId("version").addEventListener("change", () => go({ version: byId("version").value, partition: null, key: null }));
byId("partition").addEventListener("change", () => go({ partition: byId("partition").value || null, key: null }));

// --- the map ---

function forgetRows() {
  byId("quality").hidden = true;
  byId("quality-words").textContent = "";
  byId("key").value = "";
  byId("key-list").replaceChildren();
  describeNeighbors(null);
  byId("map-words").textContent = "…";
  byId("key-form").hidden = byId("map-and-list").hidden = true;
}

function describeMap(map) {
  byId("map-words").textContent = mapWords(map);
  byId("key-form").hidden = byId("map-and-list").hidden = map.keys.length === 0;
  byId("measure").disabled = map.keys.length < 2;
  byId("quality-words").textContent = map.keys.length < 2 ? "That needs two rows at least." : "";
}

function mapWords(map) {
  if (map.keys.length === 0) return "There are no rows to show.";
  if (map.rows === 1) return "There is one row.";
  const among = map.keys_seen < map.rows ? `, drawn among the first ${count(map.keys_seen)}` : "";
  const which = map.keys.length < map.rows
    ? `A sample of ${count(map.keys.length)} of ${count(map.rows)} rows${among}`
    : `All ${count(map.rows)} rows`;
  const shares = map.shares.map(percent).join(" and ");
  return `${which}, in the two directions in which they vary most (${shares} of the variance). What lies together here may be apart in the others.`;
}

async function focusOn(key, turn) {
  let focus = null;
  if (key !== null && shown.map.keys.length) {
    byId("key").value = key;
    focus = await ask("/api/neighbors", { ...rowsAsked(), key, map: shown.map.id });
    if (turn !== shown.turn) return;
  }
  describeNeighbors(focus);
  hover(null);
  if (!shown.map.keys.length) return;
  await drawMap(byId("map"), shown.map, focus, (chosen) => go({ key: chosen }), hover);
}

function describeNeighbors(focus) {
  byId("neighbors-title").textContent = focus ? `Nearest to ${focus.key}` : "Neighbors";
  byId("neighbors-words").textContent = focus
    ? (focus.neighbors.length ? `Nearest first, by ${DISTANCES[shown.metric]}.` : "There are no other rows.")
    : "Find a key, or choose a point on the map.";
  const rows = (focus ? focus.neighbors : []).map((one) =>
    element("li", {}, button({}, () => go({ key: one.key }),
      element("span", { class: "key" }, one.key),
      element("span", { class: "number" }, figure(one.distance)))),
  );
  byId("neighbors-list").replaceChildren(...rows);
}

function hover(key, event) {
  const label = byId("hover");
  label.hidden = key === null;
  if (key === null) return;
  label.textContent = key;
  label.style.left = `${Math.min(event.clientX + 14, window.innerWidth - 340)}px`;
  label.style.top = `${event.clientY + 14}px`;
}

byId("key").addEventListener("input", () => {
  const typed = byId("key").value.toLowerCase();
  const alike = shown.map ? shown.map.keys.filter((one) => one.toLowerCase().includes(typed)) : [];
  byId("key-list").replaceChildren(...alike.slice(0, SUGGESTIONS).map((one) => element("option", { value: one })));
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = byId("key").value;
  if (key === looked().key) attempt(show);
  else go({ key: key || null });
});
byId("map-reset").addEventListener("click", () => attempt(() => showAll(byId("map"))));

// --- recall and latency ---

byId("measure").addEventListener("click", () => attempt(async () => {
  const asked = JSON.stringify(rowsAsked());
  byId("measure").disabled = true;
  byId("quality-words").textContent = "Measuring…";
  try {
    const curve = await ask("/api/quality", rowsAsked());
    if (asked === JSON.stringify(rowsAsked())) await describeQuality(curve);
  } finally {
    byId("measure").disabled = !shown.map || shown.map.keys.length < 2;
    if (byId("quality").hidden) byId("quality-words").textContent = "";
  }
}));

async function describeQuality(curve) {
  byId("quality-words").textContent = `Around ${counted(curve.queries, "row")}; one search at a time, in the server. An exact search takes ${figure(curve.exact_ms)} ms.`;
  byId("quality").hidden = false;
  fillTable(byId("quality-table"), [
    ["ef", true, (one) => count(one.ef)],
    [`recall@${curve.k}`, true, (one) => one.recall.toFixed(3)],
    ["median, ms", true, (one) => figure(one.p50_ms)],
    ["95th percentile, ms", true, (one) => figure(one.p95_ms)],
    ["slowest, ms", true, (one) => figure(one.max_ms)],
  ], curve.points);
  await drawQuality(byId("recall-plot"), byId("latency-plot"), curve);
}

window.addEventListener("hashchange", () => attempt(show));
attempt(start);
