"use strict";
/* Lines over training steps, as SVG. */

const CHART = { width: 560, height: 240, left: 58, right: 12, top: 12, bottom: 28 };

/** Round numbers between low and high: about `n` of them. */
function ticks(low, high, n) {
  const rough = (high - low) / n || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(k => k * power).find(k => k >= rough);
  const found = [];
  for (let x = Math.ceil(low / step) * step; x <= high + 1e-9 * step; x += step) found.push(Number(x.toPrecision(12)));
  return found;
}

/** A chart of lines [{name, points: [[step, value]], tint}]; `log` for a scale of powers of ten.

    What is not finite, or not above 0 on that scale, is left out. */
class Chart {
  constructor(lines, label, log, steps) {
    this.log = log;
    const usable = ([, y]) => Number.isFinite(y) && (!log || y > 0);
    this.lines = lines.map(line => ({ ...line, points: line.points.filter(usable) }));
    const values = this.lines.flatMap(line => line.points.map(([, y]) => this.scale(y)));
    this.low = Math.min(...values);
    this.high = Math.max(...values);
    if (!values.length) [this.low, this.high] = [0, 1];
    if (this.high - this.low < 1e-9) [this.low, this.high] = [this.low - 0.5, this.high + 0.5];
    [this.first, this.last] = [steps[0], Math.max(steps.at(-1), steps[0] + 1)];
    const { width, height, left, right, top, bottom } = CHART;
    this.svg = shape("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    for (const y of this.marks()) {
      const at = this.y(y);
      this.svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }),
        shape("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, digits(log ? 10 ** y : y, 3)));
    }
    for (const x of ticks(this.first, this.last, 6)) {
      this.svg.append(shape("text", { x: this.x(x), y: height - bottom + 18, "text-anchor": "middle" }, String(x)));
    }
    for (const line of this.lines) {
      const at = ([x, y]) => `${this.x(x).toFixed(1)},${this.y(this.scale(y)).toFixed(1)}`;
      const points = line.points.map(at).join(" ");
      const colour = line.tint ? { "--tint": line.tint } : {};
      line.drawn = shape("polyline", { class: "line", points, ...colour }, shape("title", {}, line.name));
      this.svg.append(line.drawn);
    }
    this.cursor = shape("line", { class: "cursor", y1: top, y2: height - bottom });
    this.svg.append(this.cursor);
  }

  scale(y) {
    return this.log ? Math.log10(y) : y;
  }

  /** Where the horizontal lines are: whole powers of ten, if there are enough. */
  marks() {
    const found = ticks(this.low, this.high, 4);
    const whole = found.filter(Number.isInteger);
    return this.log && whole.length > 1 ? whole : found;
  }

  x(step) {
    const { width, left, right } = CHART;
    return left + (step - this.first) / (this.last - this.first) * (width - left - right);
  }

  y(value) {
    const { height, top, bottom } = CHART;
    return height - bottom - (value - this.low) / (this.high - this.low) * (height - top - bottom);
  }

  at(step) {
    this.cursor.setAttribute("x1", this.x(step));
    this.cursor.setAttribute("x2", this.x(step));
  }

  choose(name) {
    this.svg.classList.toggle("some", name !== null);
    for (const line of this.lines) line.drawn.classList.toggle("chosen", line.name === name);
  }
}
