"use strict";
/* Time. Step 0 shows what is given; then each operation forward, each backward, and at last what .grad receives.

   The page computes nothing: which step comes when, and what is known then, follows from the two orders that Python
   left, and everything shown is looked up. */

const forward = data.forward, backward = data.backward;
const END = forward.length + backward.length + 1;
// The step in which an item gets its value, and that in which its gradient is whole
const computedIn = new Map(forward.map((item, i) => [item, i + 1]));
const toldIn = new Map(backward.map((item, i) => [item, forward.length + i + 1]));
data.items.forEach((told, item) => {
  if (told.kind === "leaf" && told.parts.length) toldIn.set(item, toldIn.get(told.parts.at(-1)[1]));
});

const state = { at: 0, view: data.start, timer: 0, box: null, item: null };
const picture = new Picture($("picture"), chooseBox, show => setView(show, true));

/** What happens in step `at`. */
function moment(at) {
  if (at === 0 || at === END) return { item: null, way: at ? "end" : "start", targets: [], added: [] };
  if (at <= forward.length) {
    const item = forward[at - 1];
    return { item, way: "forward", targets: data.items[item].inputs, added: [] };
  }
  const item = backward[at - forward.length - 1], targets = data.items[item].sent.map(([, target]) => target);
  return { item, way: "backward", targets, added: targets.filter(target => arrivedBefore(target, item)) };
}

/** Go to a step. */
function goTo(at) {
  state.at = Math.min(END, Math.max(0, at));
  const now = moment(state.at);
  if ($("follow").checked && now.item !== null) openFor(now.item);
  picture.show(now, item => (computedIn.get(item) ?? 0) <= state.at, item => toldIn.get(item) <= state.at);
  const told = now.item === null ? panel[now.way]() : panel[now.way](now.item);
  $("panel").replaceChildren(...told.filter(part => part !== null && part !== undefined));
  $("time").value = state.at;
  const name = { start: "given", forward: "forward", backward: "backward", end: "the end" }[now.way];
  $("at").textContent = `${state.at} of ${END}, ${name}`;
  const what = now.item === null ? "" : `: ${called(now.item)}`;
  $("time").setAttribute("aria-valuetext", `step ${$("at").textContent}${what}`);
  $("jump").value = String(state.at);
  $("back").disabled = $("first").disabled = state.at === 0;
  $("step").disabled = $("last").disabled = state.at === END;
}

goTo.times = item => ({ forwardAt: computedIn.get(item) ?? null, backwardAt: toldIn.get(item) ?? null });

/** The next step, in this direction, that happens in another box. */
function nextBox(direction) {
  const boxAt = at => picture.boxOf.get(moment(at).item);
  let at = state.at + direction;
  while (at > 0 && at < END && boxAt(at) === boxAt(state.at)) at += direction;
  return at;
}

/** Show another way of folding. */
function setView(name, redraw) {
  if (!(name in data.views) || (name === state.view && !redraw)) return;
  state.view = name;
  picture.draw(data.views[name]);
  $("depth").value = name in depthNames ? name : "";
  state.box = null;
  goTo(state.at);
}

/** Open the innermost module that holds an item, if it is folded. */
function openFor(item) {
  const box = picture.boxOf.get(item);
  if (box.open === null) return;
  const names = data.items[item].calls.filter(name => name in data.views);
  if (!names.length || names.at(-1) === state.view) return;
  state.view = names.at(-1);
  picture.draw(data.views[state.view]);
  $("depth").value = "";
}

/** A box was pressed: show its numbers, or what is folded in it. */
function chooseBox(box) {
  state.box = box;
  picture.choose(box);
  if (box.items.length === 1) {
    show(box.items[0]);
    return;
  }
  const buttons = box.items.map(item => element("button", { type: "button", onclick: () => show(item) }, called(item)));
  fill([
    element("h2", {}, box.title),
    element("div", { class: "links" },
      element("button", { type: "button", class: "main", onclick: () => setView(box.open, true) }, "Open")),
    element("p", { class: "faint" }, `${box.items.length} tensors are folded in here:`),
    element("div", { class: "links" }, ...buttons.slice(0, 60)),
  ]);
}

function show(item) {
  state.item = item;
  fill(tensorPanel(item, goTo));
}

function fill(parts) {
  $("tensor").replaceChildren(...parts.filter(part => part !== null && part !== undefined));
}

function play(on) {
  clearInterval(state.timer);
  state.timer = 0;
  if (on) {
    if (state.at === END) goTo(0);
    state.timer = setInterval(() => (state.at === END ? play(false) : goTo(state.at + 1)), 1100);
  }
  $("play").textContent = on ? "Pause" : "Play";
  $("play").setAttribute("aria-pressed", String(on));
}

function keys(event) {
  if (/^(input|select|textarea)$/i.test(event.target.tagName) || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === " " && event.target.tagName === "BUTTON") return;  // it presses the button
  const to = {
    ArrowRight: event.shiftKey ? nextBox(1) : state.at + 1, ArrowLeft: event.shiftKey ? nextBox(-1) : state.at - 1,
    Home: 0, End: END,
  }[event.key];
  if (to !== undefined) goTo(to);
  else if (event.key === " ") play(!state.timer);
  else return;
  event.preventDefault();
}

/** The views that open whole levels of modules, and what they are called. */
const levels = Object.keys(data.views).filter(name => /^\d+$/.test(name));
const depthNames = Object.fromEntries(levels.map((name, i) => {
  if (i === levels.length - 1) return [name, "everything"];
  return [name, i === 0 ? "nothing" : `${i} level${i > 1 ? "s" : ""}`];
}));

function open() {
  $("title").textContent = data.title;
  $("caption").textContent = [data.caption, ...data.hints].join(". ").replace(/\.\./g, ".");
  $("time").max = END;
  const option = (value, text) => element("option", { value }, text);
  $("depth").append(...Object.entries(depthNames).map(([name, text]) => option(name, text)), option("", "one module"));
  $("depth").lastChild.hidden = true;
  $("depth").addEventListener("change", () => setView($("depth").value, true));
  const forwards = forward.map((item, i) => option(i + 1, `${i + 1}: forward ${called(item)}`));
  const backwards = backward.map((item, i) =>
    option(forward.length + i + 1, `${forward.length + i + 1}: backward ${called(item)}`));
  $("jump").append(option(0, "0: what is given"), ...forwards, ...backwards, option(END, `${END}: the end`));
  $("jump").addEventListener("change", () => goTo(Number($("jump").value)));
  $("time").addEventListener("input", () => goTo(Number($("time").value)));
  $("first").addEventListener("click", () => goTo(0));
  $("back").addEventListener("click", () => goTo(state.at - 1));
  $("step").addEventListener("click", () => goTo(state.at + 1));
  $("last").addEventListener("click", () => goTo(END));
  $("play").addEventListener("click", () => play(!state.timer));
  $("smaller").addEventListener("click", () => picture.zoomBy(1 / 1.25));
  $("larger").addEventListener("click", () => picture.zoomBy(1.25));
  $("follow").addEventListener("change", () => goTo(state.at));
  document.addEventListener("keydown", keys);
  const kinds = { operation: "operation", result: "result", parameter: "parameter", leaf: "leaf", input: "input",
    folded: "folded module" };
  const there = new Set(Object.values(data.views).flatMap(view => view.boxes.map(box => box.kind)));
  for (const [kind, text] of Object.entries(kinds).filter(([kind]) => there.has(kind))) {
    document.querySelector(".key").append(element("li", {}, element("i", { "--fill": `var(--${kind})` }), text));
  }
  fill([element("p", { class: "faint" }, "Press a box of the graph to see its numbers.")]);
  setView(data.start, true);
}

open();
