// What plotly draws. No text of the hub is given to it: it would read tags in it.

const INK = "#1f2933";
const ROWS = "#5b7a99";
const NEAR = "#c2571a";
const BLUE = "#1d4f86";
const HERE = "#a61b1b";
const LAYOUT = {
  font: { family: 'system-ui, "Segoe UI", "DejaVu Sans", sans-serif', size: 13, color: INK },
  margin: { l: 56, r: 16, t: 62, b: 48 },
  paper_bgcolor: "#ffffff",
  plot_bgcolor: "#ffffff",
};
const CONFIG = { displayModeBar: false, responsive: true, showTips: false };
// Marks of a logarithmic axis: 1, 2 and 5 of each power of ten.
const STEPS = [-3, -2, -1, 0, 1, 2, 3, 4].flatMap((power) => [1, 2, 5].map((n) => Number(`${n}e${power}`)));
const GRID = { gridcolor: "#e3e8ed", linecolor: "#7b8794", showline: true, zeroline: false };

let loading = null;

/** Plotly, loaded when it is first needed: it is large. */
function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/plotly.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("The script for plots could not be loaded."));
    document.head.append(script);
  });
  return loading;
}

const points = (at, marker) => ({
  type: "scatter",
  mode: "markers",
  hoverinfo: "none",
  x: at.map((one) => one[0]),
  y: at.map((one) => one[1]),
  marker,
});

/** Lines from one point to others, as one trace with gaps. */
const rays = (from, to) => ({
  type: "scatter",
  mode: "lines",
  hoverinfo: "skip",
  x: to.flatMap((one) => [from[0], one[0], null]),
  y: to.flatMap((one) => [from[1], one[1], null]),
  line: { color: NEAR, width: 1 },
});

/**
 * The map: a sample of rows, and a key with its neighbors where they are known.
 * `onKey(key)` is called for a click, `onHover(key, event)` while the pointer is on a row (null: on none).
 */
export async function drawMap(target, map, focus, onKey, onHover) {
  const { newPlot } = await plotly();
  const near = focus ? focus.neighbors.filter((one) => one.at) : [];
  const here = focus && focus.at ? [focus.at] : [];
  const size = map.keys.length > 500 ? 6 : 9;
  const traces = [
    points(map.keys.map((_, i) => [map.x[i], map.y[i]]), { color: ROWS, size, opacity: focus ? 0.35 : 0.6 }),
    ...(here.length ? [rays(here[0], near.map((one) => one.at))] : []),
    points(near.map((one) => one.at), { color: NEAR, size: 11, line: { color: "#fff", width: 1.5 } }),
    points(here, { color: HERE, size: 15, symbol: "diamond", line: { color: "#fff", width: 1.5 } }),
  ];
  const keys = [map.keys, ...(here.length ? [[]] : []), near.map((one) => one.key), focus ? [focus.key] : []];
  const keyOf = (event) => keys[event.points[0].curveNumber][event.points[0].pointNumber];
  const axis = { ...GRID, showticklabels: false, ticks: "", title: { standoff: 8 } };
  const direction = (n) => ({ ...axis, title: { text: `direction ${n}` } });
  const layout = {
    ...LAYOUT,
    margin: { l: 40, r: 12, t: 12, b: 44 },
    showlegend: false,
    hovermode: "closest",
    hoverdistance: 12,
    xaxis: direction(1),
    // One unit is as long up as across.
    yaxis: { ...direction(2), scaleanchor: "x", scaleratio: 1 },
    uirevision: map.id,
  };
  const view = target.layout && target.layout.uirevision === map.id ? target.layout : null;
  if (view) {
    layout.xaxis.range = view.xaxis.range;
    layout.yaxis.range = view.yaxis.range;
  }
  await newPlot(target, traces, layout, CONFIG);
  target.on("plotly_click", (event) => onKey(keyOf(event)));
  target.on("plotly_hover", (event) => onHover(keyOf(event), event.event));
  target.on("plotly_unhover", () => onHover(null));
}

/** Show the whole map again. */
export async function showAll(target) {
  const { relayout } = await plotly();
  if (target.layout) await relayout(target, { "xaxis.autorange": true, "yaxis.autorange": true });
}

const line = (name, x, y, color, dash) => ({
  type: "scatter",
  mode: "lines+markers",
  name,
  x,
  y,
  line: { color, width: 2, dash },
  marker: { size: 6 },
  hovertemplate: `${name}: %{y:.4g}<extra></extra>`,
});

const titled = (title, xaxis, yaxis, showlegend) => ({
  ...LAYOUT,
  title: { text: title, font: { size: 14 } },
  xaxis: { ...GRID, ...xaxis },
  yaxis: { ...GRID, ...yaxis },
  showlegend,
  legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom" },
});

/** Recall and latency by ef, side by side. */
export async function drawQuality(recall, latency, curve) {
  const { newPlot } = await plotly();
  const efs = curve.points.map((one) => one.ef);
  const of = (name, value, color, dash) => line(name, efs, curve.points.map(value), color, dash);
  const xaxis = { type: "log", title: { text: "ef (candidates kept)" }, tickvals: efs, ticktext: efs.map(String) };
  const lowest = Math.min(...curve.points.map((one) => one.recall));
  await newPlot(
    recall,
    [of("recall", (one) => one.recall, BLUE, "solid")],
    titled(`Recall@${curve.k}`, xaxis, { range: [Math.min(0.9, lowest) - 0.02, 1.01], tickformat: ".2f" }, false),
    CONFIG,
  );
  await newPlot(
    latency,
    [
      of("median", (one) => one.p50_ms, BLUE, "solid"),
      of("95th percentile", (one) => one.p95_ms, NEAR, "dash"),
      { ...of("exact search", () => curve.exact_ms, INK, "dot"), mode: "lines" },
    ],
    titled("Latency of one search", xaxis, { type: "log", title: { text: "ms" }, tickvals: STEPS, ticktext: STEPS.map(String) }, true),
    CONFIG,
  );
}

/** Calls a second, and the latency of one method, over time. */
export async function drawActivity(calls, latency, moments, method) {
  const { react } = await plotly();
  const times = moments.map((one) => new Date(one.at));
  const of = (name, value, color, dash) => line(name, times, moments.map(value), color, dash);
  const xaxis = { type: "date", tickformat: "%H:%M:%S", nticks: 5 };
  await react(
    calls,
    [
      of("calls", (one) => one.calls_per_second, BLUE, "solid"),
      of("errors", (one) => one.errors_per_second, NEAR, "dash"),
    ],
    titled("Calls a second", xaxis, { rangemode: "tozero" }, true),
    CONFIG,
  );
  const timed = (name) => (one) => (one.methods[method] ? one.methods[method][name] : null);
  await react(
    latency,
    [of("median", timed("p50_ms"), BLUE, "solid"), of("99th percentile", timed("p99_ms"), NEAR, "dash")],
    titled("", xaxis, { rangemode: "tozero", title: { text: "ms" } }, true),
    CONFIG,
  );
}
