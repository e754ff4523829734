"use strict";
/* The text: letters as numbers, how surprising each was, and the writing of new ones. Nothing here draws. */

const letters = data.letters;  // what each number stands for
const numberOf = new Map(letters.map((letter, i) => [letter, i]));
const network = new Network(data.config, readWeights(data.weights));

/** How a letter is shown where it stands alone. */
function sign(letter) {
  const names = { " ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍" };
  if (names[letter]) return names[letter];
  const code = letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return /\p{C}|\p{Z}/u.test(letter) ? `U+${code}` : letter;
}

/** How a letter is read out. */
function spoken(letter) {
  return { " ": "space", "\n": "line break", "\t": "tab" }[letter] || sign(letter);
}

/** The numbers of the letters of a text. RangeError names those that the model has never seen. */
function encode(text) {
  const all = Array.from(text);  // by code points, as Python counts letters
  const unknown = [...new Set(all.filter(letter => !numberOf.has(letter)))];
  if (unknown.length) {
    const shown = unknown.map(letter => `“${sign(letter)}”`).join(", ");
    throw new RangeError(`${shown} ${unknown.length > 1 ? "are" : "is"} not among the ${letters.length} letters that `
      + `this model knows: ${letters.map(sign).join(" ")}`);
  }
  return all.map(letter => numberOf.get(letter));
}

/** Let the browser draw and listen, then go on. */
function pause() {
  return new Promise(done => setTimeout(done));
}

class Writer {
  constructor() {
    this.ids = [];
    this.bits = [];  // the surprise of each letter: log2 1/p, p its probability given those before; null if not known
    this.given = 0;  // how many letters the reader typed
    this.turn = 0;   // every new task ends the one before it
  }

  /** Stop whatever is being done. */
  stop() {
    return ++this.turn;
  }

  /** The letters that the model sees when it predicts letter number i. */
  window(i) {
    return this.ids.slice(Math.max(0, i - network.config.context), i);
  }

  /** Begin anew with these letters. As far as the context reaches, one pass measures how surprising each of them is. */
  begin(ids) {
    this.stop();
    const { context, vocabulary } = network.config;
    this.ids = ids.slice();
    this.bits = ids.map(() => null);
    this.given = ids.length;
    this.cache = null;
    if (ids.length < 2) return;
    const scores = network.forward(ids.slice(0, Math.min(context, ids.length - 1)), network.start(), true);
    for (let i = 1; i < ids.length && i <= context; i++) {
      this.bits[i] = surprise(scores.subarray((i - 1) * vocabulary, i * vocabulary), ids[i]);
    }
  }

  /** Measure the typed letters beyond the context, which take a pass each. Calls `seen(i)` for each. */
  async measureRest(seen) {
    const turn = this.stop();
    for (let i = network.config.context + 1; i < this.given; i++) {
      if (this.bits[i] !== null) continue;
      this.bits[i] = surprise(network.forward(this.window(i)), this.ids[i]);
      seen(i);
      await pause();
      if (turn !== this.turn) return;
    }
  }

  /** Write `count` letters more; calls `seen(i)` after each. Resolves to the milliseconds until the first, and in all.

      Keys know their position. Once the window slides, every position changes and the cache is void. */
  async write(count, temperature, topK, dice, seen) {
    const turn = this.stop(), start = performance.now();
    let first = 0, drawn = start;
    for (let written = 0; written < count; written++) {
      const end = this.ids.length;
      const fresh = !this.cache || end > network.config.context;
      this.cache = fresh ? network.start() : this.cache;
      const scores = network.forward(fresh ? this.window(end) : this.ids.slice(-1), this.cache);
      const id = choose(scores, temperature, topK, dice);
      this.ids.push(id);
      this.bits.push(surprise(scores, id));
      seen(end);
      first = first || performance.now() - start;
      if (performance.now() - drawn > 12) {  // milliseconds: a screen is drawn every 16
        await pause();
        drawn = performance.now();
        if (turn !== this.turn) return { written: written + 1, first, total: drawn - start, stopped: true };
      }
    }
    return { written: count, first, total: performance.now() - start, stopped: false };
  }

  /** Bits in all, and over how many letters. */
  measure() {
    const known = this.bits.filter(bits => bits !== null);
    return { bits: known.reduce((sum, x) => sum + x, 0), count: known.length };
  }
}

function surprise(scores, id) {
  return -Math.log2(softmax(scores)[id]);
}
