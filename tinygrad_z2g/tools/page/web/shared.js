"use strict";
/* What all pages use: the data that Python left in the page, elements, numbers as text, coloured tables.

   Text always enters the page as a text node, never as HTML: whatever it holds, it is shown and not obeyed. */

const data = JSON.parse(document.getElementById("data").textContent);

/** The element with this id. */
function $(id) {
  return document.getElementById(id);
}

/** An HTML element. Attributes whose names begin with "on" are listeners; those of "--" are CSS variables. */
function element(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** An SVG element. */
function shape(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function furnish(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) made.style.setProperty(name, value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter(child => child !== null));
  return made;
}

/** A number with four digits, as Python's f"{x:.4g}" writes it. What is not finite comes as text already. */
function digits(x, n = 4) {
  if (typeof x === "string") return x;
  if (!Number.isFinite(x)) return String(x);
  const power = x === 0 ? 0 : Number(x.toExponential(n - 1).split("e")[1]);
  if (power < -4 || power >= n) {
    const [head, tail] = x.toExponential(n - 1).split("e");
    const sign = tail[0] === "-" ? "-" : "+";
    return `${String(Number(head))}e${sign}${tail.slice(1).padStart(2, "0")}`;
  }
  return String(Number(x.toPrecision(n)));
}

/** The numbers of a tensor as a table: warm above zero, cool below, strongest at the largest size.

    `numbers` is what tables.py wrote: rows of numbers, null where the middle is left out. */
function numberTable(numbers, caption) {
  const flat = numbers.rows.flat().filter(x => typeof x === "number");
  const largest = Math.max(...flat.map(Math.abs), 0) || 1;
  const cell = x => {
    if (x === null) return element("td", { class: "gap" }, "…");
    if (typeof x === "string") return element("td", { class: "wild" }, x);
    const tone = x > 0 ? "var(--warm)" : "var(--cool)";
    return element("td", { "--tone": tone, "--size": Math.abs(x) / largest }, digits(x));
  };
  const body = numbers.rows.map(row => element("tr", {}, ...row.map(cell)));
  const table = element("table", { class: "numbers", "aria-label": caption }, element("tbody", {}, ...body));
  return element("div", {}, element("div", { class: "faint" }, caption), element("div", { class: "scroll" }, table));
}

/** Run `act` once nothing has called this for `ms` milliseconds; `now()` does what is still waiting, at once. */
function afterwards(ms, act) {
  let timer = 0;
  const run = () => {
    timer = 0;
    act();
  };
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(run, ms);
  };
  later.now = () => {
    if (!timer) return;
    clearTimeout(timer);
    run();
  };
  return later;
}
