"use strict";
/* What happens in a step, in words and numbers. All of it is what `explain` told; here it is only set out. */

/** What an item is called: "3. tanh" as in the story, or the name of a leaf. */
function called(item) {
  const { kind, name, operation, number } = data.items[item];
  if (kind !== "operation") return name;
  return `${number ? `${number}. ` : ""}${operation}${name ? ` → ${name}` : ""}`;
}

/** A shape as Python writes it. */
function tuple(sizes) {
  return `(${sizes.join(", ")}${sizes.length === 1 ? "," : ""})`;
}

function shapeText(item) {
  return tuple(data.items[item].shape);
}

/** The table with this number, under a caption; without one if a line above has said what it is. */
function shown(table, caption) {
  if (table === null || table === undefined) return null;
  const numbers = data.tables[table];
  if (!numbers.rows.length) return null;
  const part = numbers.facts.match(/shown: \[[^\]]*\]/);  // of more than two dimensions one matrix is shown
  const facts = caption ? [caption, tuple(numbers.shape), numbers.facts] : [part ? part[0] : ""];
  return numberTable(numbers, facts.filter(Boolean).join(" · "));
}

function large(table) {
  return table !== null && data.tables[table].rows.flat().length > 1;
}

function code(text, kind = "") {
  return element("p", { class: `code ${kind}` }, text);
}

/** A line of the program with the expression in ‹ › marked. */
function sourceLine({ where, line, module }) {
  if (!where) return null;
  const [before, inside, after] = line.split(/[‹›]/);
  const marked = inside === undefined ? [before] : [before, element("mark", {}, inside), after];
  return element("p", { class: "code source" }, `${where}  `, ...marked, module ? `  ${module}` : "");
}

/** The gradient of an item: the parts that arrived, with += where there are several, and their sum. */
function gradient(item, label) {
  const { parts, grad } = data.items[item];
  if (!grad) return [];
  const made = [];
  if (parts.length > 1) {
    for (const [i, [text, from, table]] of parts.entries()) {
      made.push(element("p", { class: "code" }, i ? element("span", { class: "plus" }, "+= ") : `${label} = `, text,
        element("span", { class: "faint" }, `   from ${called(from)}`)));
      if (large(table)) made.push(shown(table));
    }
    made.push(code(`= ${grad.text}`));
  } else {
    made.push(code(`${label} = ${grad.text}`));
  }
  if (large(grad.table)) made.push(shown(grad.table));
  return made;
}

const panel = {
  start() {
    const given = data.items.map((_, item) => item).filter(item => data.items[item].kind !== "operation");
    return [
      element("h2", {}, "Before anything is computed"),
      element("p", {}, "These tensors are given. One step computes one operation; then the gradient comes back."),
      ...given.slice(0, 12).flatMap(item => [shown(data.items[item].value, called(item))]),
      given.length > 12 ? element("p", { class: "faint" }, `… and ${given.length - 12} more`) : null,
    ];
  },

  forward(item) {
    const told = data.items[item];
    const inputs = told.inputs.map(input => data.items[input].value !== null
      ? shown(data.items[input].value, `from ${called(input)}`) : code(`from ${called(input)} ${shapeText(input)}`));
    return [
      element("h2", {}, element("span", { class: "way forward" }, "Forward: "), `${called(item)} ${shapeText(item)}`),
      sourceLine(told),
      told.formula ? code(told.formula.split(".   ")[0]) : null,
      told.value === null ? element("p", { class: "faint" }, "Its value was not noted.") : shown(told.value, "value"),
      ...inputs,
    ];
  },

  backward(item, position) {
    const told = data.items[item];
    const sent = told.sent.flatMap(([text, target]) => {
      const { parts } = data.items[target], mine = parts.findIndex(([, from]) => from === item);
      const table = mine < 0 ? null : parts[mine][2];
      const plus = arrivedBefore(target, item, position);
      return [
        element("p", { class: "code" }, text, "   → ", plus ? element("span", { class: "plus" }, "+= ") : "",
          called(target)),
        large(table) ? shown(table) : null,
      ];
    });
    return [
      element("h2", {}, element("span", { class: "way" }, "Backward: "), `${called(item)} ${shapeText(item)}`),
      sourceLine(told),
      told.formula ? code(told.formula) : null,
      element("h3", {}, "The gradient arrives"),
      ...gradient(item, "grad"),
      told.hooks ? code("(backward() will call this tensor's hooks, which may change grad)") : null,
      told.reads.length ? element("h3", {}, "What the rule reads") : null,
      ...told.reads.flatMap(([name, text, table]) =>
        [large(table) ? shown(table, name) : code(`${name} = ${text}`)]),
      element("h3", {}, "Its parts go out"),
      ...sent,
    ];
  },

  end() {
    const leaves = data.items.map((_, item) => item).filter(item => data.items[item].kind === "leaf");
    const told = leaves.filter(item => data.items[item].grad);
    return [
      element("h2", {}, "At the end: what backward() adds to .grad"),
      ...told.slice(0, 30).flatMap(item => [element("h3", {}, `${called(item)} ${shapeText(item)}`),
        ...gradient(item, `∂L/∂${called(item)}`)]),
      told.length > 30 ? element("p", { class: "faint" }, `… and ${told.length - 30} more: press their boxes`) : null,
    ];
  },
};

/** Whether another part reached `target` before the one that `item` sends: then it is added. */
function arrivedBefore(target, item) {
  const { parts } = data.items[target];
  const mine = parts.findIndex(([, from]) => from === item);
  return mine > 0;
}

/** The numbers of one item, wherever time stands. */
function tensorPanel(item, goTo) {
  const told = data.items[item], { forwardAt, backwardAt } = goTo.times(item);
  const button = (text, at) => at === null ? null
    : element("button", { type: "button", onclick: () => goTo(at) }, text);
  return [
    element("h2", {}, `${called(item)} ${shapeText(item)}`),
    element("div", { class: "links" }, button(`computed in step ${forwardAt}`, forwardAt),
      button(`gradient in step ${backwardAt}`, backwardAt)),
    told.value === null ? element("p", { class: "faint" }, "Its value was not noted.") : shown(told.value, "value"),
    ...(told.grad ? gradient(item, "grad") : []),
  ];
}
