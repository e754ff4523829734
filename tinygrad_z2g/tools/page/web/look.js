"use strict";
/* What the model does at one letter: what it expects next, where its heads look, what it would say after each block.

   The network is run once more on the letters up to this one, and tells what happened to the last of them. */

const SHOWN = 8;     // likeliest letters
const TOGETHER = 16; // heads in one heat map, before a block must be chosen

class Look {
  constructor(writer, page) {
    this.writer = writer;
    this.page = page;     // told which letters the chosen head looks at
    this.head = null;     // its number among all heads
    const { layers, heads } = network.config;
    const all = layers * heads <= TOGETHER ? [element("option", { value: "" }, "all")] : [];
    const blocks = Array.from({ length: layers }, (_, l) => element("option", { value: l }, String(l + 1)));
    $("block").append(...all, ...blocks);
    if (!all.length) $("block").value = layers - 1;
    $("block").addEventListener("change", () => this.drawHeads());
  }

  /** Look at letter number i. */
  at(i) {
    this.i = i;
    this.notes = { streams: [], looks: [] };
    this.window = this.writer.window(i + 1);
    const p = softmax(network.forward(this.window, network.start(), false, this.notes));
    this.drawNext(p);
    this.drawHeads();
    this.drawLens();
  }

  drawNext(p) {
    const next = this.writer.ids[this.i + 1], here = sign(letters[this.writer.ids[this.i]]);
    const ranked = Array.from(p.keys()).sort((a, b) => p[b] - p[a] || a - b);
    const shown = ranked.slice(0, SHOWN);
    if (next !== undefined && !shown.includes(next)) shown.push(next);
    const rows = shown.map(id => element("tr", { class: id === next && "came" },
      element("td", { class: "letter sign", "aria-label": spoken(letters[id]) }, sign(letters[id])),
      element("td", {}, element("div", { class: "bar", "--p": p[id] })),
      element("td", { class: "percent number" }, percent(p[id]))));
    const came = next === undefined ? "Nothing follows yet."
      : `“${sign(letters[next])}” came: number ${ranked.indexOf(next) + 1} of ${p.length}, `
        + `${digits(-Math.log2(p[next]), 3)} bits.`;
    $("next-hint").textContent = `After letter ${this.i + 1}, “${here}”. ${came}`;
    $("next").replaceChildren(element("tbody", {}, ...rows));
  }

  drawHeads() {
    if (!this.notes) return;
    const { heads } = network.config, block = $("block").value;
    const chosen = this.notes.looks.map((looks, k) => ({ looks, k }))
      .filter(({ k }) => block === "" || Math.floor(k / heads) === Number(block));
    const header = this.window.map(id => element("th", { scope: "col" }, sign(letters[id])));
    const rows = chosen.map(({ looks, k }) => {
      const name = `${Math.floor(k / heads) + 1} · ${k % heads + 1}`, largest = Math.max(...looks);
      const button = element("button", {
        type: "button", "aria-pressed": String(k === this.head),
        "aria-label": `block ${Math.floor(k / heads) + 1}, head ${k % heads + 1}: ${this.most(looks)}`,
        onclick: () => this.choose(k === this.head ? null : k),
      }, name);
      const cells = Array.from(looks, (p, s) => element("td", {
        "--p": p / largest, title: `${spoken(letters[this.window[s]])}: ${percent(p)}` }));
      return element("tr", {}, element("th", { scope: "row" }, button), ...cells);
    });
    $("heads").replaceChildren(
      element("thead", {}, element("tr", {}, element("th", {}, ""), ...header)), element("tbody", {}, ...rows));
    $("heads-scroll").scrollLeft = $("heads-scroll").scrollWidth;  // the letter itself is at the right end
    this.mark();
  }

  /** In words: the letters that a head takes most of. */
  most(looks) {
    const order = Array.from(looks.keys()).sort((a, b) => looks[b] - looks[a]).slice(0, 3);
    return order.map(s => `${spoken(letters[this.window[s]])} ${percent(looks[s])}`).join(", ");
  }

  /** Frame in the text what one head looks at. */
  choose(k) {
    this.head = k;
    for (const [i, button] of $("heads").querySelectorAll("button").entries()) {
      const shown = $("block").value === "" ? i : Number($("block").value) * network.config.heads + i;
      button.setAttribute("aria-pressed", String(shown === k));
    }
    this.mark();
  }

  mark() {
    const looks = this.head === null ? null : this.notes.looks[this.head];
    this.page.frame(this.i + 1 - this.window.length, looks);
  }

  drawLens() {
    const rows = this.notes.streams.map((stream, l) => {
      const p = softmax(network.predict(stream, 1));
      const best = Array.from(p.keys()).sort((a, b) => p[b] - p[a]).slice(0, 5);
      const cells = best.map(id => element("td", { "--p": p[id] },
        element("span", { class: "sign", "aria-label": spoken(letters[id]) }, sign(letters[id])),
        element("span", { class: "number" }, ` ${percent(p[id])}`)));
      return element("tr", {}, element("th", { scope: "row" }, l ? `after block ${l}` : "letter alone"), ...cells);
    });
    $("lens").replaceChildren(element("tbody", {}, ...rows));
  }
}

/** A probability for reading. */
function percent(p) {
  if (p >= 0.0995) return `${(100 * p).toFixed(0)} %`;
  return p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`;
}
