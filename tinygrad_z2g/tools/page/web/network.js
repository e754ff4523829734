"use strict";
/* The GPT itself: from the letters so far to a score for each letter that may come next.

   It is the forward pass of models/gpt.py, line by line, written out in loops. There are no gradients here: the
   network has been trained. A matrix (rows, columns) is one long array, row after row; all arithmetic is in double
   precision. T letters are looked at, each as C numbers, by `heads` heads of C / heads numbers each. */

/** The weights: 16-bit integers, two bytes each in base64, and for each row of a matrix the number to multiply by. */
function readWeights(stored) {
  const text = atob(stored.numbers);
  const scales = new Float32Array(bytesOf(atob(stored.scales)).buffer);
  const weights = {};
  let at = 0, row = 0;
  for (const [name, rows, columns] of stored.tensors) {
    const values = new Float64Array(rows * columns);
    for (let r = 0; r < rows; r++, row++) {
      for (let c = 0; c < columns; c++, at += 2) {
        const low = text.charCodeAt(at), high = text.charCodeAt(at + 1);
        values[r * columns + c] = ((high << 24 >> 16) | low) * scales[row];  // the shifts extend the sign
      }
    }
    weights[name] = values;
  }
  return weights;
}

function bytesOf(text) {
  return Uint8Array.from(text, c => c.charCodeAt(0));
}

/** y = x Wᵀ + b for `rows` rows of x. W has one row of numbers for each output, as in nn.Linear.

    Four rows and two outputs at a time: each number that is read takes part in several products. A third of the time
    of one output after another. */
function linear(x, rows, W, b) {
  const inputs = x.length / rows, outputs = W.length / inputs;
  const y = new Float64Array(rows * outputs);
  let r = 0;
  for (; r + 4 <= rows; r += 4) {
    const x0 = r * inputs, x1 = x0 + inputs, x2 = x1 + inputs, x3 = x2 + inputs;
    for (let o = 0; o < outputs; o += 2) {
      const w0 = o * inputs, w1 = o + 1 < outputs ? w0 + inputs : w0;  // an odd number: the last one twice
      let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
      for (let i = 0; i < inputs; i++) {
        const u = W[w0 + i], v = W[w1 + i], p = x[x0 + i], q = x[x1 + i], s = x[x2 + i], t = x[x3 + i];
        a0 += u * p; a1 += u * q; a2 += u * s; a3 += u * t;
        b0 += v * p; b1 += v * q; b2 += v * s; b3 += v * t;
      }
      const z = r * outputs + o;
      y[z] = a0; y[z + outputs] = a1; y[z + 2 * outputs] = a2; y[z + 3 * outputs] = a3;
      if (w1 !== w0) {
        y[z + 1] = b0; y[z + outputs + 1] = b1; y[z + 2 * outputs + 1] = b2; y[z + 3 * outputs + 1] = b3;
      }
    }
  }
  for (; r < rows; r++) {
    for (let o = 0; o < outputs; o++) {
      let a = 0;
      for (let i = 0; i < inputs; i++) a += W[o * inputs + i] * x[r * inputs + i];
      y[r * outputs + o] = a;
    }
  }
  if (b) for (let z = 0; z < y.length; z += outputs) for (let o = 0; o < outputs; o++) y[z + o] += b[o];
  return y;
}

/** Each row shifted to mean 0 and scaled to variance 1, then by the learned scale and shift. */
function layerNorm(x, rows, scale, shift, eps) {
  const C = x.length / rows, y = new Float64Array(x.length);
  for (let r = 0; r < rows; r++) {
    let sum = 0, squares = 0;
    for (let i = 0; i < C; i++) sum += x[r * C + i];
    const mean = sum / C;
    for (let i = 0; i < C; i++) squares += (x[r * C + i] - mean) * (x[r * C + i] - mean);
    const inverse = 1 / Math.sqrt(squares / C + eps);
    for (let i = 0; i < C; i++) y[r * C + i] = (x[r * C + i] - mean) * inverse * scale[i] + (shift ? shift[i] : 0);
  }
  return y;
}

/** x Φ(x), by the formula of GPT-2; in place. (1 + tanh u) / 2 = 1 / (1 + e^-2u), and Math.exp is the faster one. */
function gelu(x) {
  const c = Math.sqrt(2 / Math.PI);
  for (let i = 0; i < x.length; i++) {
    const u = x[i];
    x[i] = u / (1 + Math.exp(-2 * c * (u + 0.044715 * u * u * u)));
  }
  return x;
}

/** Scores as probabilities: e^x / Σ e^x. The largest is subtracted first, so that nothing overflows. */
function softmax(scores) {
  const p = new Float64Array(scores.length);
  let largest = -Infinity, sum = 0;
  for (let i = 0; i < p.length; i++) largest = Math.max(largest, scores[i]);
  for (let i = 0; i < p.length; i++) sum += p[i] = Math.exp(scores[i] - largest);
  for (let i = 0; i < p.length; i++) p[i] /= sum;
  return p;
}

class Network {
  constructor(config, weights) {
    this.config = config;
    this.weights = weights;
    this.head = weights["head.weight"] || weights["token_embedding.weight"];  // tied: one matrix for both
  }

  /** Keys and values of the letters seen so far, for each block: what attention looks back at. */
  start() {
    const { context, width, layers } = this.config;
    const room = () => Array.from({ length: layers }, () => new Float64Array(context * width));
    return { length: 0, keys: room(), values: room() };
  }

  /** The scores after the last of the letters `ids`, which follow those in the cache; with `all`, after each of them.

      `notes`, if given, is told what happens to the last letter: {streams: [], looks: []}. */
  forward(ids, cache = this.start(), all = false, notes = null) {
    const { width: C, context, layers } = this.config, T = ids.length;
    if (!T || cache.length + T > context) throw new RangeError(`1 to ${context - cache.length} letters, got ${T}`);
    const tokens = this.weights["token_embedding.weight"], places = this.weights["position_embedding.weight"];
    let x = new Float64Array(T * C);  // the residual stream: every block adds to it
    for (let t = 0; t < T; t++) {
      for (let i = 0; i < C; i++) {
        x[t * C + i] = tokens[ids[t] * C + i] + (places ? places[(cache.length + t) * C + i] : 0);
      }
    }
    notes?.streams.push(x.slice(-C));
    for (let l = 0; l < layers; l++) {
      const rows = all || l < layers - 1 ? T : 1;  // after the last block nobody looks at the other letters any more
      x = this.block(l, x, T, rows, cache, notes);
      notes?.streams.push(x.slice(-C));
    }
    cache.length += T;
    return this.predict(all ? x : x.slice(-C), all ? T : 1);
  }

  /** One block for T letters, of which the last `rows` go on. */
  block(l, x, T, rows, cache, notes) {
    const { width: C, eps } = this.config;
    const weight = name => this.weights[`blocks.${l}.${name}`];  // a bias may be missing
    const h = layerNorm(x, T, weight("norm1.weight"), weight("norm1.bias"), eps);
    const y = this.attend(l, linear(h, T, weight("attention.qkv.weight"), weight("attention.qkv.bias")), T, rows,
      cache, notes);
    const told = linear(y, rows, weight("attention.proj.weight"), weight("attention.proj.bias"));
    x = x.slice((T - rows) * C);
    for (let i = 0; i < x.length; i++) x[i] += told[i];
    const g = layerNorm(x, rows, weight("norm2.weight"), weight("norm2.bias"), eps);
    const inner = gelu(linear(g, rows, weight("mlp.0.weight"), weight("mlp.0.bias")));
    const thought = linear(inner, rows, weight("mlp.2.weight"), weight("mlp.2.bias"));
    for (let i = 0; i < x.length; i++) x[i] += thought[i];
    return x;
  }

  /** Each letter compares its query with the keys of the letters up to itself, and takes the mean of their values. */
  attend(l, qkv, T, rows, cache, notes) {
    const { width: C, heads } = this.config, size = C / heads, past = cache.length;
    const keys = cache.keys[l], values = cache.values[l], out = new Float64Array(rows * C);
    for (let t = 0; t < T; t++) {  // (T, 3C): query, key and value side by side
      if (this.config.rotary) this.turn(qkv, t, past + t);
      keys.set(qkv.subarray(t * 3 * C + C, t * 3 * C + 2 * C), (past + t) * C);
      values.set(qkv.subarray(t * 3 * C + 2 * C, t * 3 * C + 3 * C), (past + t) * C);
    }
    for (let r = 0; r < rows; r++) {
      const t = T - rows + r, seen = past + t + 1;
      for (let head = 0; head < heads; head++) {
        const from = head * size, query = t * 3 * C + from, scores = new Float64Array(seen);
        for (let s = 0, key = from; s < seen; s++, key += C) {
          let dot = 0;
          for (let i = 0; i < size; i++) dot += qkv[query + i] * keys[key + i];
          scores[s] = dot / Math.sqrt(size);
        }
        const looks = softmax(scores);
        for (let i = 0; i < size; i++) {
          let mean = 0;
          for (let s = 0, value = from + i; s < seen; s++, value += C) mean += looks[s] * values[value];
          out[r * C + from + i] = mean;
        }
        if (t === T - 1) notes?.looks.push(looks);  // in order: block after block, head after head
      }
    }
    return out;
  }

  /** Rotary positions: in each head of query and key of letter t, the pairs (i, i + size / 2) turned by an angle that
      grows with its position, for each pair at a speed of its own; in place. */
  turn(qkv, t, position) {
    const { width: C, heads, rotary: base } = this.config, size = C / heads, half = size / 2;
    for (let i = 0; i < half; i++) {
      const angle = position * base ** (-2 * i / size), cos = Math.cos(angle), sin = Math.sin(angle);
      for (let a = t * 3 * C + i; a < t * 3 * C + 2 * C; a += size) {  // the heads of the query, then of the key
        const x = qkv[a], y = qkv[a + half];
        qkv[a] = x * cos - y * sin;
        qkv[a + half] = x * sin + y * cos;
      }
    }
  }

  /** What a stream says comes next: scores (rows, V). After any block but the last this is the "logit lens". */
  predict(x, rows) {
    const h = layerNorm(x, rows, this.weights["norm.weight"], this.weights["norm.bias"], this.config.eps);
    return linear(h, rows, this.head, null);
  }
}
