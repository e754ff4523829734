"use strict";
/* The graph as SVG, in one of the views that Python has laid out. It is drawn once for each view; moving in time only
   changes classes. */

class Picture {
  constructor(place, onChoose, onView) {
    this.place = place;
    this.onChoose = onChoose;  // called with a box that was pressed
    this.onView = onView;      // called with the name of a view that was asked for
    this.zoom = 0;             // 0: not chosen yet
  }

  /** Draw another view. */
  draw(view) {
    this.view = view;
    this.boxOf = new Map();  // which box shows an item
    view.boxes.forEach(box => box.items.forEach(item => this.boxOf.set(item, box)));
    this.svg = shape("svg", {
      viewBox: `0 0 ${view.width} ${view.height}`, role: "group", "aria-label": `${view.boxes.length} boxes` });
    this.svg.append(shape("defs", {}, shape("marker", {
      id: "tip", viewBox: "0 0 8 8", refX: 7.5, refY: 4, markerWidth: 6, markerHeight: 6, orient: "auto",
      markerUnits: "userSpaceOnUse" }, shape("path", { class: "tip", d: "M0,0L8,4L0,8z" }))));
    this.frames(view);
    this.wires(view);
    for (const box of view.boxes) this.svg.append(this.box(box));
    this.place.replaceChildren(this.svg);
    this.resize();
  }

  /** As large as chosen; at first so that it fits, but not so small that nobody can read it. */
  resize() {
    const fits = (this.place.clientWidth - 4) / this.view.width;
    const scale = this.zoom || Math.min(1.25, Math.max(0.75, fits));
    this.svg.setAttribute("width", Math.round(scale * this.view.width));
    this.svg.setAttribute("height", Math.round(scale * this.view.height));
    this.scale = scale;
  }

  zoomBy(factor) {
    this.zoom = Math.min(3, Math.max(0.2, this.scale * factor));
    this.resize();
  }

  frames(view) {
    for (const frame of view.frames) {
      const close = () => this.onView(frame.close);
      this.svg.append(shape("g", {
        class: "frame", tabindex: 0, role: "button", "aria-label": `fold ${frame.title}`, onclick: close,
        onkeydown: event => pressed(event) && close() },
        shape("rect", { x: frame.x, y: frame.y, width: frame.w, height: frame.h, rx: 8 })));
    }
  }

  wires(view) {
    this.drawn = view.lines.map(line => {
      const dashed = view.boxes[line.from].kind === "input" ? " dashed" : "";
      const wire = shape("path", { class: `wire${dashed}`, d: line.d, "marker-end": line.ends && "url(#tip)" });
      this.svg.append(wire);
      return wire;
    });
    for (const frame of view.frames) {  // above the lines, on a ground of its own
      const text = `▾ ${frame.title}`;
      this.svg.append(shape("g", { class: "frame", "aria-hidden": "true", onclick: () => this.onView(frame.close) },
        shape("rect", {
          class: "title", x: frame.x + 5, y: frame.y + 3, width: 6.9 * text.length + 6, height: 16, rx: 3 }),
        shape("text", { x: frame.x + 8, y: frame.y + 15 }, text)));
    }
  }

  box(box) {
    const choose = () => this.onChoose(box);
    const group = shape("g", {
      class: `box ${box.kind}`, tabindex: 0, role: "button", onclick: choose,
      onkeydown: event => pressed(event) && choose(), "--fill": `var(--${box.kind})` });
    for (const d of box.copies > 1 ? [6, 3, 0] : [0]) {
      group.append(shape("rect", { x: box.x + d, y: box.y + d, width: box.w, height: box.h, rx: 5 }));
    }
    group.append(shape("text", { class: "s", x: box.x + box.w - 8, y: box.y + 15, "text-anchor": "end" }, box.shape));
    box.lines = [["t", box.title], ...box.texts].map(([style, text], i) => {
      const line = shape("text", { class: style, x: box.x + 8, y: box.y + 15 + 14 * i }, text);
      group.append(line);
      return { style, text, line };
    });
    const badge = shape("g", { class: "badge" },
      shape("rect", { x: box.x + box.w - 15, y: box.y + box.h - 9, width: 24, height: 16, rx: 8 }),
      shape("text", { x: box.x + box.w - 3, y: box.y + box.h + 3 }, "+="));
    group.append(badge);
    Object.assign(box, { group, badge });
    return group;
  }

  /** Show the moment `now`: {item, way, targets, added}. `known` and `told` say which items have value and gradient. */
  show(now, known, told) {
    for (const box of this.view.boxes) {
      const here = now.item !== null && box.items.includes(now.item);
      const other = !here && now.targets.some(item => box.items.includes(item));
      const classes = { now: here, forward: here && now.way === "forward", backward: here && now.way === "backward",
        read: other && now.way === "forward", reached: other && now.way === "backward", later: !box.items.some(known) };
      for (const [name, on] of Object.entries(classes)) box.group.classList.toggle(name, Boolean(on));
      const result = Math.max(...box.items), leaves = box.items.filter(item => data.items[item].kind === "leaf");
      let grads = 0;
      for (const { style, text, line } of box.lines) {
        if (style === "v") line.classList.toggle("on", known(result));
        if (style === "g") {  // of a folded module the first is that of its result, the second that of its parameters
          const all = box.items.length > 1 && (grads++ || text.includes("of parameters")) ? leaves : [result];
          line.classList.toggle("on", all.every(told));
        }
      }
      box.badge.classList.toggle("on", now.added.some(item => box.items.includes(item)));
      const shown = box.lines.filter(({ style, line }) => !"vg".includes(style) || line.classList.contains("on"));
      box.group.setAttribute("aria-label", `${shown.map(({ text }) => text).join(", ")}, shape ${box.shape}`
        + (box.open === null ? "" : ", folded"));
    }
    this.light(now);
  }

  /** Colour the arrows in use: from the inputs to the operation, or the same arrows backwards. */
  light(now) {
    const here = now.item === null ? null : this.boxOf.get(now.item);
    const others = new Set(now.targets.map(item => this.boxOf.get(item)));
    const number = this.view.boxes.indexOf(here);
    this.view.lines.forEach((line, i) => {
      const used = here !== null && others.has(this.view.boxes[line.from]) && line.to.includes(number);
      this.drawn[i].classList.toggle("forward", used && now.way === "forward");
      this.drawn[i].classList.toggle("backward", used && now.way === "backward");
    });
    if (here) this.bring(here);
  }

  /** Scroll the picture, and it alone, until a box is in sight. */
  bring(box) {
    const { place, scale } = this, margin = 24;
    const left = place.scrollWidth > place.clientWidth ? (this.svg.getBoundingClientRect().left
      - place.getBoundingClientRect().left + place.scrollLeft) : 0;
    const [x, y, w, h] = [left + box.x * scale, box.y * scale, box.w * scale, box.h * scale];
    const into = (at, size, from, room) => {
      if (at - margin < from) return Math.max(0, at - margin);
      return at + size + margin > from + room ? at + size + margin - room : from;
    };
    place.scrollLeft = into(x, w, place.scrollLeft, place.clientWidth);
    place.scrollTop = into(y, h, place.scrollTop, place.clientHeight);
  }

  choose(box) {
    for (const other of this.view.boxes) other.group.classList.toggle("chosen", other === box);
  }
}

/** Whether a key presses a button. */
function pressed(event) {
  if (event.key !== "Enter" && event.key !== " ") return false;
  event.preventDefault();
  event.stopPropagation();
  return true;
}
