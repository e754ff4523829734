"use strict";
/* Rolling dice as NumPy does: the same seed gives the same numbers, and so the same poem as in Python.

   PCG64 (O'Neill 2014, pcg-random.org) is one multiplication of 128-bit numbers per step; how a seed becomes its first
   state is NumPy's SeedSequence. The first numbers after a seed are compared with NumPy's in the tests. */

const MASK32 = 0xffffffffn, MASK64 = (1n << 64n) - 1n, MASK128 = (1n << 128n) - 1n;
const PCG_MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** Four 64-bit words out of a seed >= 0, as NumPy's SeedSequence makes them. */
function seedWords(seed) {
  let factor = 0x43b0d7e5n;
  const hash = value => {
    value ^= factor;
    factor = factor * 0x931e8875n & MASK32;
    value = value * factor & MASK32;
    return value ^ value >> 16n;
  };
  const mix = (x, y) => {
    const z = x * 0xca01f9ddn - y * 0x4973f715n & MASK32;
    return z ^ z >> 16n;
  };
  const pool = [0n, 32n, 64n, 96n].map(shift => hash(seed >> shift & MASK32));
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
  }
  factor = 0x8b51f9ddn;
  const halves = Array.from({ length: 8 }, (_, i) => {
    let value = pool[i % 4] ^ factor;
    factor = factor * 0x58f38dedn & MASK32;
    value = value * factor & MASK32;
    return value ^ value >> 16n;
  });
  return [0, 2, 4, 6].map(i => halves[i] | halves[i + 1] << 32n);
}

class Dice {
  constructor(seed) {
    const [a, b, c, d] = seedWords(BigInt(seed));
    this.increment = (c << 64n | d) << 1n & MASK128 | 1n;
    this.state = 0n;
    this.step();
    this.state = this.state + (a << 64n | b) & MASK128;
    this.step();
  }

  step() {
    this.state = this.state * PCG_MULTIPLIER + this.increment & MASK128;
  }

  /** A number in [0, 1). */
  roll() {
    this.step();
    const folded = this.state >> 64n ^ this.state & MASK64, turn = this.state >> 122n;
    const word = (folded >> turn | folded << (64n - turn)) & MASK64;
    return Number(word >> 11n) / 2 ** 53;
  }
}

/** One letter by its scores, as `sample` in models/gpt.py chooses: 0 degrees takes the likeliest, 1 as learned. */
function choose(scores, temperature, topK, dice) {
  if (temperature === 0) return scores.indexOf(Math.max(...scores));
  const order = Array.from(scores.keys()).sort((i, j) => scores[j] - scores[i] || i - j);  // likeliest first
  const p = softmax(order.map(i => scores[i] / temperature)).map((x, i) => (topK && i >= topK ? 0 : x));
  const total = p.reduce((sum, x) => sum + x, 0), x = dice.roll();
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    sum += p[i] / total;
    if (sum > x) return order[i];
  }
  return order[topK ? Math.min(topK, p.length) - 1 : p.length - 1];  // the sum of all may end a rounding below 1
}
