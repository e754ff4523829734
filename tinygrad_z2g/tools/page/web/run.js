"use strict";
/* The page of a training run: everything shown was seen by `watch`, or noted by the program. */

const QUANTITIES = { "output": "output", "output gradient": "∂L/∂output", "weights": "weights",
  "gradient": "∂L/∂weights", "update": "update / weights", "dead": "dead units" };

const series = [...Object.values(data.numbers), ...Object.values(data.texts),
  ...data.layers.flatMap(layer => Object.values(layer.sizes))];
const steps = [...new Set(series.flatMap(points => points.map(([step]) => step)))].sort((a, b) => a - b);
const state = { at: steps.length - 1, layer: null, charts: [] };

/** The last of these points at or before a step; null if there is none. */
function lastBefore(points, step) {
  const before = (points || []).filter(([at]) => at <= step);
  return before.length ? before.at(-1) : null;
}

/** A colour for each layer, from the first to the last. */
function tint(i) {
  return `hsl(${260 - 230 * i / Math.max(1, data.layers.length - 1)} 75% var(--light))`;
}

function drawLayers() {
  const quantity = $("quantity").value;
  const lines = data.layers.map(({ name, sizes }, i) => ({ name, points: sizes[quantity] || [], tint: tint(i) }));
  const label = `${QUANTITIES[quantity]} of ${lines.length} layers over the steps`;
  state.layers = new Chart(lines, label, quantity !== "dead", steps);
  state.layers.choose(state.layer);
  $("layers-chart").replaceChildren(state.layers.svg);
  goTo(state.at);
}

function drawTable(step) {
  const quantity = $("quantity").value;
  const columns = Object.keys(QUANTITIES).filter(name => data.layers.some(layer => layer.sizes[name]));
  const sizes = data.layers.map(layer => lastBefore(layer.sizes[quantity], step)?.[1]);
  const powers = sizes.map(size => (size > 0 ? Math.log10(size) : NaN));
  const known = powers.filter(Number.isFinite), low = Math.min(...known) - 1, high = Math.max(...known);
  const rows = data.layers.map((layer, i) => {
    const choose = () => {
      state.layer = state.layer === layer.name ? null : layer.name;
      state.layers.choose(state.layer);
      drawTable(steps[state.at]);
      $("table").querySelectorAll("button")[i].focus();
    };
    const cells = columns.map(name => {
      const point = lastBefore(layer.sizes[name], step);
      return element("td", { class: "number" }, point ? digits(point[1], 2) : "");
    });
    const bar = Number.isFinite(powers[i])
      ? element("div", { class: "bar", "--p": (powers[i] - low) / (high - low), "--tint": tint(i) }) : "";
    const pressed = String(layer.name === state.layer);
    const button = element("button", { type: "button", "aria-pressed": pressed, "--tint": tint(i), onclick: choose },
      layer.name);
    return element("tr", {}, element("th", { scope: "row" }, button), element("td", {}, bar), ...cells);
  });
  const heads = ["layer", QUANTITIES[quantity], ...columns.map(name => QUANTITIES[name])];
  $("table").replaceChildren(
    element("thead", {}, element("tr", {}, ...heads.map(name => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...rows));
}

function drawNoted() {
  for (const [name, points] of Object.entries(data.numbers)) {
    const chart = new Chart([{ name, points }], `${name} over the steps`, false, steps);
    const value = element("output", { class: "number" });
    state.charts.push({ chart, value, points });
    $("noted").append(element("h2", {}, `${name}: `, value), chart.svg);
  }
}

function drawTexts(step) {
  $("texts").replaceChildren(...Object.entries(data.texts).flatMap(([name, points]) => {
    const point = lastBefore(points, step);
    const when = point ? `, of step ${point[0]}` : ": none yet";
    return [element("h2", {}, `${name}${when}`), element("pre", {}, point ? point[1] : "")];
  }));
}

/** Go to the look number `at`. */
function goTo(at) {
  state.at = Math.min(steps.length - 1, Math.max(0, at));
  const step = steps[state.at];
  $("time").value = state.at;
  $("time").setAttribute("aria-valuetext", `step ${step}`);
  $("at").textContent = `step ${step} of ${steps.at(-1)}`;
  state.layers.at(step);
  for (const { chart, value, points } of state.charts) {
    chart.at(step);
    value.textContent = digits(lastBefore(points, step)?.[1] ?? "");
  }
  drawTable(step);
  drawTexts(step);
}

function open() {
  $("title").textContent = data.title;
  $("summary").textContent = data.summary;
  const remarks = data.remarks.length ? data.remarks : ["no complaints"];
  $("remarks").append(...remarks.map(remark => element("li", {}, remark)));
  $("time").max = steps.length - 1;
  for (const [name, text] of Object.entries(QUANTITIES)) {
    if (data.layers.some(layer => layer.sizes[name])) $("quantity").append(element("option", { value: name }, text));
  }
  if ([...$("quantity").options].some(option => option.value === "gradient")) $("quantity").value = "gradient";
  $("quantity").addEventListener("change", drawLayers);
  $("time").addEventListener("input", () => goTo(Number($("time").value)));
  $("back").addEventListener("click", () => goTo(state.at - 1));
  $("forth").addEventListener("click", () => goTo(state.at + 1));
  drawNoted();
  drawLayers();
}

open();
