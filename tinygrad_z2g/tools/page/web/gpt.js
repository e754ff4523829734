"use strict";
/* The page of a model: buttons, fields, the text with its colours, and one letter of it that is looked at. */

const writer = new Writer();
let dice = new Dice(data.settings.seed);

const page = {
  chosen: -1,

  /** Show letter number i, which is new or whose surprise has become known. */
  show(i) {
    const letter = letters[writer.ids[i]], bits = writer.bits[i];
    let span = $("text").children[i];
    if (!span) {
      span = element("span", { role: "option", id: `letter-${i}`, "aria-selected": "false" }, letter);
      if (letter === "\n") span.className = "break";
      if (i < writer.given) span.classList.add("given");
      $("text").append(span);
    }
    if (bits !== null) span.style.setProperty("--bits", Math.min(bits, 8).toFixed(2));
    const told = bits === null ? "" : `, ${digits(bits, 2)} bits`;
    span.setAttribute("aria-label", spoken(letter) + told);
    span.title = sign(letter) + told;
  },

  /** All letters anew. */
  restart() {
    $("text").replaceChildren();
    this.chosen = -1;
    writer.ids.forEach((_, i) => this.show(i));
  },

  /** Look at letter number i. */
  choose(i) {
    const span = $("text").children[i];
    if (!span || i === this.chosen) return;
    this.unchoose();
    this.chosen = i;
    span.classList.add("chosen");
    span.setAttribute("aria-selected", "true");
    $("text").setAttribute("aria-activedescendant", span.id);
    look.at(i);
    pointOut(writer.ids[i]);
  },

  unchoose() {
    for (const span of $("text").querySelectorAll(".chosen")) {
      span.classList.remove("chosen");
      span.setAttribute("aria-selected", "false");
    }
  },

  /** Frame the letters from number `from` on by how much of each a head takes; none if `looks` is null. */
  frame(from, looks) {
    for (const span of $("text").querySelectorAll(".looked")) span.classList.remove("looked");
    if (!looks) return;
    const largest = Math.max(...looks);
    looks.forEach((p, s) => {
      const span = $("text").children[from + s];
      span.classList.add("looked");
      span.style.setProperty("--look", (p / largest).toFixed(2));
    });
  },

  tally() {
    const { bits, count } = writer.measure();
    if (!count) {
      $("bits").textContent = "";
      return;
    }
    const bytes = Math.ceil(bits / 8);
    const letters = count === 1 ? "1 letter takes" : `${count} letters take`;
    $("bits").textContent = `${(bits / count).toFixed(2)} bits per letter. Packed with this model's help, without `
      + `loss, ${letters} about ${bytes} ${bytes === 1 ? "byte" : "bytes"}.`;
  },
};
const look = new Look(writer, page);

/** The number in a field, brought into its range. */
function setting(id, low, high = Infinity) {
  const value = Number($(id).value);
  const kept = Math.min(high, Math.max(low, Number.isFinite(value) ? value : low));
  return id === "temperature" ? kept : Math.floor(kept);
}

/** The letters that were typed; null, with a word why, if they cannot be used. */
function typed() {
  $("trouble").textContent = "";
  try {
    const ids = encode($("beginning").value);
    if (ids.length) return ids;
    $("trouble").textContent = "Type at least one letter, or a line break, for the model to go on with.";
  } catch (error) {
    $("trouble").textContent = error.message;
  }
  return null;
}

/** Show the beginning with its colours. Returns whether there is one. */
function begin() {
  const ids = typed();
  writer.stop();
  if (!ids) return false;
  writer.begin(ids);
  page.restart();
  page.tally();
  return true;
}

/** The letters that `begin` had to leave out are measured when there is time. */
async function measureRest() {
  await writer.measureRest(i => page.show(i));
  page.tally();
}

/** Write letters after those that are there. */
async function goOn() {
  typing.now();  // or it would be looked at a moment later, and end the writing
  if (!writer.ids.length && !begin()) return;
  busy(true);
  const box = $("text"), given = writer.ids.length;
  const { written, first, total, stopped } = await writer.write(
    setting("letters", 1, 5000), setting("temperature", 0), setting("top-k", 0), dice,
    i => {
      page.show(i);
      box.scrollTop = box.scrollHeight;
    });
  busy(false);
  const rate = 1000 * written / Math.max(total, 1);
  $("speed").textContent = `first letter after ${first.toFixed(0)} ms, ${rate.toFixed(0)} letters per second`;
  if (stopped && !writer.ids[given]) return;  // another text has begun meanwhile
  $("said").textContent = `Written: ${writer.ids.slice(given).map(id => letters[id]).join("")}`;
  page.tally();
  page.choose(writer.ids.length - 1);
  if (!stopped) await measureRest();
}

/** Begin anew: the seed too. */
async function write() {
  typing.now();
  dice = new Dice(setting("seed", 0, Number.MAX_SAFE_INTEGER));
  if (begin()) await goOn();
}

/** The beginning was changed: show it, and look at its last letter. */
function changed() {
  if (!begin()) return;
  page.choose(writer.ids.length - 1);
  measureRest();
}

const typing = afterwards(150, changed);

function busy(yes) {
  for (const id of ["write", "more"]) $(id).disabled = yes;
  $("stop").disabled = !yes;
}

/** Keys that move along the text. */
function move(event) {
  const last = writer.ids.length - 1, here = page.chosen;
  const to = {
    ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: last, PageDown: here + 40, PageUp: here - 40,
  }[event.key];
  if (to === undefined || last < 0) return;
  event.preventDefault();
  page.choose(Math.min(last, Math.max(0, to)));
  $("text").children[page.chosen].scrollIntoView({ block: "nearest" });
}

function letterUnder(event) {
  const span = event.target.closest("#text > span");
  return span ? Array.prototype.indexOf.call($("text").children, span) : -1;
}

function open() {
  const { settings, config } = data;
  $("title").textContent = data.title;
  $("facts").textContent = `A GPT with ${data.parameters.toLocaleString("en")} weights, trained with tinygrad_z2g and `
    + `run by this page alone: ${config.layers} blocks of ${config.heads} heads, ${config.width} numbers per letter, `
    + `${letters.length} different letters, of which it sees the last ${config.context}.`;
  $("beginning").value = settings.prompt;
  $("temperature").max = Math.max(1.5, settings.temperature);
  $("temperature").value = settings.temperature;
  $("top-k").value = settings.top_k || 0;
  $("seed").value = settings.seed;
  $("letters").value = settings.tokens;
  const warmth = () => { $("temperature-shown").textContent = Number($("temperature").value).toFixed(2); };
  warmth();
  $("temperature").addEventListener("input", warmth);
  $("beginning").addEventListener("input", typing);
  $("write").addEventListener("click", write);
  $("more").addEventListener("click", goOn);
  $("stop").addEventListener("click", () => writer.stop());
  $("text").addEventListener("keydown", move);
  $("text").addEventListener("pointerover", event => page.choose(letterUnder(event)));
  $("text").addEventListener("click", event => page.choose(letterUnder(event)));
  drawMaps();
  changed();
}

open();
