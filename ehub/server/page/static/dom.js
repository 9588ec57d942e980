// Elements and figures. Text becomes text nodes alone, so whatever a key has in it is shown as it is.

export const byId = (id) => document.getElementById(id);

/** An element with attributes (null: without) and children, each an element or text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** A button that does something. */
export function button(attributes, act, ...children) {
  const made = element("button", { type: "button", ...attributes }, ...children);
  made.addEventListener("click", act);
  return made;
}

/** A table: columns are [title, whether it has numbers, a row's text]. */
export function fillTable(table, columns, rows) {
  const kind = (isNumber) => (isNumber ? "number" : null);
  const head = columns.map(([title, isNumber]) => element("th", { scope: "col", class: kind(isNumber) }, title));
  const body = rows.map((row) =>
    element("tr", {}, ...columns.map(([, isNumber, text]) => element("td", { class: kind(isNumber) }, text(row)))),
  );
  table.replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  table.hidden = rows.length === 0;
}

/** A list of figures: pairs of value and name. */
export function fillFacts(list, facts) {
  list.replaceChildren(
    ...facts.map(([value, name]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
}

const whole = new Intl.NumberFormat("en");

/** A count; a dash where nothing is known. */
export const count = (value) => (value === null ? "–" : whole.format(value));

/** A count with its noun. */
export const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

/** A figure to a few digits. */
export const figure = (value) => (value === null ? "–" : String(Number(value.toPrecision(4))));

export const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

export function bytes(size) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (size >= 1024 && at < units.length - 1) {
    size /= 1024;
    at += 1;
  }
  return `${size.toFixed(at && size < 10 ? 1 : 0)} ${units[at]}`;
}

/** How long something has gone on. */
export function duration(seconds) {
  const [size, unit] = [[86_400, "d"], [3_600, "h"], [60, "min"]].find(([size]) => seconds >= 2 * size) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${unit}`;
}

/** A time of the server's (UTC, ISO 8601) to the minute. */
export const time = (text) => (text ? `${text.slice(0, 16).replace("T", " ")} UTC` : "–");
