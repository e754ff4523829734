"use strict";
/* Letters and positions in the plane. Where they stand was found in Python (the two directions in which their vectors
   differ most); here labels are moved apart until they can be read, each with a line to where it belongs. */

const WIDE = 460, HIGH = 400, EDGE = 26;

/** Coordinates in pixels, x to y in proportion. */
function toPixels(points) {
  const xs = points.map(p => p[0]), ys = points.map(p => p[1]);
  const [left, low] = [Math.min(...xs), Math.min(...ys)];
  const width = Math.max(...xs) - left, height = Math.max(...ys) - low;
  const scale = Math.min((WIDE - 2 * EDGE) / (width || 1), (HIGH - 2 * EDGE) / (height || 1));
  const [x0, y0] = [(WIDE - scale * width) / 2, (HIGH - scale * height) / 2];
  return points.map(([x, y]) => [x0 + scale * (x - left), HIGH - y0 - scale * (y - low)]);
}

/** Push labels apart until no two are nearer than `gap`, nor covers a point, or patience ends. */
function spread(points, gap) {
  const placed = points.map(([x, y], i) => [x + 1e-3 * (i % 7), y - 9 + 1e-3 * (i % 11)]);  // never quite the same
  for (let round = 0; round < 200; round++) {
    let moved = false;
    for (let i = 0; i < placed.length; i++) {
      for (let j = 0; j < i; j++) {
        const dx = placed[i][0] - placed[j][0], dy = placed[i][1] - placed[j][1], far = Math.hypot(dx, dy);
        if (far >= gap) continue;
        const push = (gap - far) / 2 / (far || 1);
        placed[i] = [placed[i][0] + dx * push, placed[i][1] + dy * push];
        placed[j] = [placed[j][0] - dx * push, placed[j][1] - dy * push];
        moved = true;
      }
    }
    for (const p of placed) {
      for (const [x, y] of points) {
        const dx = p[0] - x, dy = p[1] - y, far = Math.hypot(dx, dy);
        if (far >= 8.9) continue;
        p[0] += dx * (9 - far) / 2 / (far || 1);
        p[1] += dy * (9 - far) / 2 / (far || 1);
        moved = true;
      }
      p[0] = Math.min(WIDE - 8, Math.max(8, p[0]));
      p[1] = Math.min(HIGH - 8, Math.max(8, p[1]));
    }
    if (!moved) break;
  }
  return placed;
}

function drawMaps() {
  for (const id of ["letters-map", "places-map"]) $(id).setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
  const points = toPixels(data.map.letters), labels = spread(points, letters.length > 150 ? 9 : 15);
  for (const [i, [x, y]] of points.entries()) {
    const [u, v] = labels[i];
    $("letters-map").append(shape("g", { "data-letter": i }, shape("line", { x1: x, y1: y, x2: u, y2: v }),
      shape("circle", { cx: x, cy: y, r: 2 }), shape("text", { x: u, y: v + 4 }, sign(letters[i]))));
  }
  $("letters-map").setAttribute("aria-label", `Map of ${letters.length} letters: which are alike to the model`);
  const places = toPixels(data.map.places), every = Math.max(1, Math.ceil(places.length / 16));
  const marks = places.map((p, i) => [p, i]).filter(([, i]) => i % every === 0 || i === places.length - 1);
  $("places-map").append(shape("polyline", { points: places.map(p => p.join(",")).join(" ") }));
  $("places-map").append(...places.map(([x, y]) => shape("circle", { cx: x, cy: y, r: 2 })));
  const at = spread(marks.map(([p]) => p), 15);
  $("places-map").append(...marks.map(([, i], k) => shape("text", { x: at[k][0], y: at[k][1] + 3, class: "small" },
    String(i + 1))));
  $("places-map").setAttribute("aria-label", `Map of ${places.length} positions, joined in their order`);
  const what = network.config.rotary
    ? "Each letter is a vector; a position is the angles by which it turns queries and keys."
    : `Each letter and each position is a vector of ${network.config.width} numbers.`;
  $("map-hint").textContent = what + ` Here they lie in the plane in which they differ most; it holds `
    + `${percent(data.map.shares[0])} of the variance of the letters and ${percent(data.map.shares[1])} of that of the `
    + "positions. Letters that the model treats alike lie together.";
}

/** Point out one letter in the map. */
function pointOut(id) {
  for (const g of $("letters-map").querySelectorAll("g.now")) g.classList.remove("now");
  const g = $("letters-map").querySelector(`g[data-letter="${id}"]`);
  if (g) {
    g.classList.add("now");
    g.parentNode.append(g);  // the last one drawn lies on top
  }
}
