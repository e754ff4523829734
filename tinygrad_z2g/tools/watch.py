"""`watch`: is this network learning, and if not, where is it ill?

Around a training loop, it looks at every n-th step: at what each layer puts out, the gradient that arrives there, the
gradients of its weights, and how far the optimizer moved them. The hooks that look are on the modules only during
such a step; in all others the one thing that runs is a counter. All sizes are root mean squares, √(Σ x² / n), so that
layers of different width can be compared; they are summed in float64, as squares of small gradients vanish in float32.
It knows nothing of losses, data or optimizers: it sees a module, gradients, and weights that have moved.
"""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arrays.backend import Array, of, to_host
from ..core.modes import is_grad_enabled
from ..nn import Module, Parameter, ReLU
from ..tensor import Tensor
from .anomaly import Search
from .console import say
from .notebook import Picture, in_notebook, show
from .page.document import Page
from .page.run import run_page
from .trace import observers

VANISHING = 1e-4  # weights' gradient, against the largest of the layers behind it, in the mean square of all steps
EXPLODING = 1e4  # weights' gradient against the weights, and outputs
SMALL_UPDATE, LARGE_UPDATE = 1e-6, 0.3  # of the weights, in the largest and in the median step; usual is about 1e-3
LEAP = 2.0  # of the weights, in any one step
DEAD = 0.5  # share of a layer's units that never fire
SAMPLES = 20  # before a unit may be called dead


class watch:
    """`with z2g.watch(model) as w:` around a training loop; at its end, also by Ctrl-C, a table is printed.

        with z2g.watch(model, every=10) as w:
            for x, y in loader:
                loss = F.mse_loss(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        w.plot("watch.png")
        w.page("watch.html")

    A step begins with a call of `model` in training mode with recording on. One in `every` is looked at; only there
    a GPU is waited for. `remarks` lists the complaints: vanishing and exploding gradients and outputs, ReLU layers
    whose units give 0 for every input, parameters that no gradient ever reached or that never moved, steps far too
    long or too short for the weights, and the first NaN with the operation and the line of the program (of a step that
    was looked at: with every=1 none escapes). Layers with the same complaint share a line. `history[layer][quantity]`
    is a list of (step, value); the quantities are "output", "output gradient", "weights", "gradient", "update"
    (relative to the weights) and "dead" (share of units). Sizes are root mean squares. `note(loss=loss.item())` adds
    what the loop alone knows, for the page.

    Gradients are those that backward() delivers, before any clipping. Two calls of the model before one backward()
    count as two steps: only the second can see its gradients, so wrap both in one module, or watch with every=1. Units
    are counted as dead in `nn.ReLU` layers; the function F.relu is no layer, and is not looked at. That weights moved
    is seen by the count of in-place writes, as the optimizers make them. TypeError unless model is a Module,
    ValueError unless every >= 1.
    """

    def __init__(self, model: Module, every: int = 10):
        if not isinstance(model, Module):
            raise TypeError(f"watch: expected a Module, got {type(model).__name__}")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"watch: every must be an int >= 1, got {every!r}")
        self.model, self.every = model, every
        self.steps = self.seen = 0
        self.history: dict[str, dict[str, list[tuple[int, float]]]] = {}
        self.notes: dict[str, list[tuple[int, float | str]]] = {}
        self._first = self._heard = ""  # the first NaN; one of the last step looked at
        self._layers: dict[str, Module] = {}
        self._parameters: dict[str, dict[str, Parameter]] = defaultdict(dict)  # those of each layer, tied ones once
        known: set[int] = set()
        for name, module in model.named_modules():
            own = {n: p for n, p in module.named_parameters(recurse=False) if id(p) not in known}
            if own or not any(True for _ in module.children()):
                label = f"{name} · {type(module).__name__}" if name else type(module).__name__
                self._layers[label] = module
                self._parameters[label] = own
                known |= {id(p) for p in own.values()}
        self._reached: dict[int, int] = {}  # parameters that a gradient has reached, by id: their version at the first
        self._moved: set[int] = set()  # ids of those that have changed since
        self._stepped = False  # whether any changed in a step that was looked at
        self._order: dict[str, None] = {}  # layers as they were first called
        self._fired: dict[str, Array] = {}  # of each ReLU layer: which units ever gave more than 0
        self._samples: dict[str, int] = defaultdict(int)
        self._looking = False
        self._search = Search(self._nan)

    def __enter__(self) -> watch:
        self._entrance = self.model.register_forward_pre_hook(self._begin)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end()
        self._entrance.remove()
        say(self)

    # --- Looking at a step ----------------------------------------------------------------------------------------

    def _begin(self, model: Module, args: tuple) -> None:
        """Called before each forward pass of the model."""
        if not (model.training and is_grad_enabled()):
            return
        if self._looking:
            self._end()
        self.steps += 1
        if (self.steps - 1) % self.every:
            return
        self._looking = True
        self._squares: list[tuple[str, str, Array, int]] = []  # layer, quantity, Σ x² (still on its device), n
        self._before: dict[str, list[tuple[Parameter, Array, int]]] = defaultdict(list)
        self._handles = []
        for label, module in self._layers.items():
            self._handles.append(module.register_forward_hook(self._called(label)))
            for parameter in self._parameters[label].values():
                if parameter.requires_grad:
                    self._handles.append(parameter.register_hook(self._arrived(label, parameter)))
        self._first, self._heard = self.first_nan, ""
        if not any(isinstance(observer, Search) for observer in observers):
            observers.append(self._search)

    def _called(self, label: str) -> Any:
        def hook(module: Module, args: tuple, output: Any) -> None:
            x = output[0] if isinstance(output, tuple) and output else output
            if not isinstance(x, Tensor) or not x.is_floating_point():
                return
            self._order[label] = None
            self._note(label, "output", x.array)
            if x.requires_grad:
                self._handles.append(x.register_hook(lambda grad: self._note(label, "output gradient", grad.array)))
            if isinstance(module, ReLU) and x.ndim > 1:
                fired = (x.array > 0).any(axis=0)  # (B, ...) -> (...)
                known = self._fired.get(label)
                if known is not None and known.shape == fired.shape:
                    fired = fired | known
                self._fired[label] = fired
                self._samples[label] += x.array.shape[0]

        return hook

    def _arrived(self, label: str, parameter: Parameter) -> Any:
        def hook(grad: Tensor) -> None:
            self._note(label, "gradient", grad.array)
            self._reached.setdefault(id(parameter), parameter.memory.writes)
            if all(p is not parameter for p, _, _ in self._before[label]):
                self._before[label].append((parameter, parameter.array.copy(), parameter.memory.writes))

        return hook

    def _note(self, label: str, quantity: str, array: Array) -> None:
        self._squares.append((label, quantity, _squares(array), array.size))

    def _nan(self, message: str) -> None:
        self._heard = self._heard or f"step {self.steps}: {message}"

    @np.errstate(all="ignore")
    def _end(self) -> None:
        """Take the hooks off, and write down what was seen."""
        for own in self._parameters.values():
            self._moved |= {id(p) for p in own.values() if self._reached.get(id(p), p.memory.writes) != p.memory.writes}
        if not self._looking:
            return
        self._looking = False
        for handle in self._handles:
            handle.remove()
        if self._search in observers:
            observers.remove(self._search)
        for label, before in self._before.items():
            for parameter, old, version in before:
                self._note(label, "weights", old)
                if parameter.memory.writes != version:  # the optimizer has been here
                    self._stepped = True
                    self._note(label, "change", parameter.array - old)
        if not self._squares:
            return
        self.seen += 1
        found: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0])
        values = to_host(of(self._squares[0][2]).stack([square for _, _, square, _ in self._squares]))  # waits once
        for (label, quantity, _, n), value in zip(self._squares, values.tolist(), strict=True):
            found[label, quantity][0] += value
            found[label, quantity][1] += n
        if not all(math.isfinite(total) for (_, quantity), (total, _) in found.items() if quantity == "weights"):
            self._heard = f"before step {self.steps}, in one that was not looked at (every=1 finds the operation)"
        for (label, quantity), (total, many) in found.items():
            value = math.sqrt(total / max(many, 1))
            if quantity == "change":
                old = found[label, "weights"][0]
                if not old:
                    continue  # there is no ratio to weights that are all 0
                quantity, value = "update", math.sqrt(total / old)
            self._write(label, quantity, value)
        for label, fired in self._fired.items():
            self._write(label, "dead", 1 - float(to_host(fired).mean()))
        self._before.clear()  # copies of all weights

    def _write(self, label: str, quantity: str, value: float) -> None:
        self.history.setdefault(label, {}).setdefault(quantity, []).append((self.steps, value))

    # --- What was seen --------------------------------------------------------------------------------------------

    def _points(self, label: str, quantity: str) -> list[tuple[int, float]]:
        return self.history.get(label, {}).get(quantity, [])

    def _median(self, label: str, quantity: str) -> float | None:
        """Over all steps looked at; None if it was never seen. The last value if that is not finite."""
        values = [value for _, value in self._points(label, quantity)]
        if not values:
            return None
        return float(np.median(values)) if math.isfinite(values[-1]) else values[-1]

    @property
    def first_nan(self) -> str:
        """Step, operation and line of the first NaN; empty if there was none."""
        return self._first or self._heard

    @property
    def remarks(self) -> list[str]:
        """The complaints, each beginning with its layers if it is about layers; empty for a healthy network."""
        found = [f"first NaN: {self.first_nan}"] if self.first_nan else []
        if not self.seen:
            return [*found, "nothing seen: the model was not called in training mode inside the `with` block"]
        complaints: list[_Complaint] = []
        behind, strongest = 0.0, (0.0, "")  # the largest gradients among the layers behind this one
        for label in reversed(self._order):
            complaints += self._ill(label, behind, strongest)
            gradient = self._median(label, "gradient") or 0.0
            if math.isfinite(gradient):
                behind = max(behind, gradient)
            strongest = max(strongest, (self._strength(label), label))
        if self._reached:
            complaints += self._left_out()
        found += _merged(complaints, [*self._order, *self._layers])
        if self.steps > 1:  # before, there was nothing to compare
            found += self._standstill()
        return found

    def _strength(self, label: str) -> float:
        """Root mean square over the steps of the gradient of a layer's weights, where it was finite.

        Unlike the median, it is that of the steps in which there is something to learn: who has arrived has rounding
        errors for gradients, of one size in all layers.
        """
        values = [value for _, value in self._points(label, "gradient") if math.isfinite(value)]
        return math.hypot(*values) / math.sqrt(max(len(values), 1))

    def _ill(self, label: str, behind: float, strongest: tuple[float, str]) -> list[_Complaint]:
        """The complaints about one layer; the others are the largest gradients after it, by median and mean square."""
        seen = {q: self._median(label, q) for q in ("output", "gradient", "weights", "update", "dead")}
        wild = [quantity for quantity, value in seen.items() if value is not None and not math.isfinite(value)]
        if wild:  # an update is relative to the weights
            return [_Complaint(label, f"{', '.join(q for q in wild if q != 'update') or 'update'} not finite")]
        output, gradient, weights, update, dead = seen.values()
        found = []
        if output is not None and output > EXPLODING:
            advice = f"{output:.2g}: smaller initial weights, or normalise"
            found.append(_Complaint(label, "exploding output", advice, output))
        if dead is not None and dead > DEAD and self._samples[label] >= SAMPLES:
            units = f"{100 * dead:.0f} % of the units gave 0 for each of {self._samples[label]} inputs"
            found.append(_Complaint(label, "dead ReLU", f"{units}: smaller steps, other bias", dead))
        strength, (most, where) = self._strength(label), strongest
        if gradient == 0 and (behind or (most and not strength)):
            return [*found, _Complaint(label, f"gradient is exactly 0, that of {where} is not: nothing gets through")]
        excess = gradient / weights if gradient is not None and weights else 0.0
        exploding = excess > EXPLODING
        vanishing = gradient is not None and strength < VANISHING * most
        if exploding:
            advice = f"{excess:.1g} times the weights: clip, or start smaller"
            found.append(_Complaint(label, "exploding gradient", advice, excess))
        elif vanishing:
            share = f"{strength / most:.1g} of that of {where}"
            found.append(_Complaint(label, "vanishing gradient", share, most / strength))
        if update is not None and gradient is not None and weights is not None:  # with the first come the others
            step, longest = max(self._points(label, "update"), key=lambda point: point[1])
            if update > LARGE_UPDATE or longest > LEAP:
                much = f"{update:.2g} of the weights in the median step, {longest:.2g} in step {step}"
                found.append(_Complaint(label, "update too large", f"{much}: lower the learning rate", longest))
            elif longest < SMALL_UPDATE and gradient > SMALL_UPDATE * weights and not (exploding or vanishing):
                much = f"{longest:.2g} of the weights at most"
                found.append(_Complaint(label, "update too small", f"{much}: raise the learning rate", -longest))
        return found

    def _left_out(self) -> Iterator[_Complaint]:
        """Parameters without a gradient, and those that stayed as they were while others moved."""
        for label, own in self._parameters.items():
            names = [name for name, p in own.items() if p.requires_grad and id(p) not in self._reached]
            if names:
                yield _Complaint(label, f"no gradient ever reached {', '.join(names)}: the loss does not depend on it")
            still = [name for name, p in own.items() if id(p) in self._reached and id(p) not in self._moved]
            if still and self._moved:
                yield _Complaint(label, f"gradients arrive, but {', '.join(still)} never moved: not in the optimizer?")

    def _standstill(self) -> list[str]:
        """What keeps the whole network from being judged, or from learning."""
        if not any(p.requires_grad for p in self.model.parameters()):
            return []
        if not self._reached:
            return ["no gradient arrived in a step that was looked at: call backward() before the model's next call"]
        if not self._moved:
            return ["gradients arrive, but no weight ever moved: is optimizer.step() called, on these parameters?"]
        if not self._stepped:
            return ["the weights moved, but only in steps that were not looked at: choose another `every`"]
        return []

    def __repr__(self) -> str:
        columns = ("output", "output gradient", "weights", "gradient", "update", "dead")
        rows: list[tuple[str, ...]] = [("layer", "output", "∂L/∂output", "weights", "∂L/∂weights", "update", "dead")]
        for label in [*self._order, *(label for label in self._layers if label not in self._order)]:
            medians = [self._median(label, quantity) for quantity in columns]
            rows.append((label, *("" if m is None else f"{m:.2g}" for m in medians)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [f"watch: {self.seen} of {self.steps} steps looked at; medians of root mean squares"]
        for name, *cells in rows:
            cells = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([f"{name:<{widths[0]}}", *cells]).rstrip())
        return "\n".join(lines + [f"! {remark}" for remark in self.remarks or ["no complaints"]])

    def plot(self, path: str | Path | None = None) -> None:
        """Write a PNG: outputs, gradients and updates of each layer over the steps, in colours from first to last.

        In a notebook it is shown too, and needs no path. ImportError without matplotlib; RuntimeError if nothing has
        been seen; TypeError without a path outside of a notebook.
        """
        if path is None and not in_notebook():
            raise TypeError('watch.plot: expected a path such as "watch.png"; only in a notebook it can be left out')
        try:
            from matplotlib import colormaps
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("watch.plot: needs matplotlib: pip install matplotlib; print(w) needs nothing") from error
        if not self.seen:
            raise RuntimeError("watch.plot: nothing has been seen; call the model inside the `with` block first")
        panels = {
            "output": ("outputs", "root mean square"),
            "gradient": ("gradients of weights", "root mean square"),
            "update": ("updates of weights, one step", "update / weights"),
        }
        figure = Figure(figsize=(13, 4.5), layout="constrained")
        for axes, (quantity, (title, unit)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
            for i, label in enumerate(self._order):
                points = self._points(label, quantity)
                if points:
                    colour = colormaps["viridis"](i / max(1, len(self._order) - 1))
                    axes.plot(*zip(*points, strict=True), marker=".", linewidth=1, color=colour, label=label)
            if quantity == "update":
                axes.axhspan(SMALL_UPDATE, LARGE_UPDATE, color="0.95", label="no complaint")
                axes.axhline(1e-3, color="0.6", linestyle="--", linewidth=1, label="usual: 0.001")
                marks = axes.get_legend_handles_labels()
                axes.legend(*(m[-2:] for m in marks), frameon=True, fontsize=8, loc="upper right")
            axes.set(title=title, xlabel="step", ylabel=unit, yscale="log")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        keep = sorted({round(i * (len(labels) - 1) / 11) for i in range(12)})  # at most 12 names, from first to last
        chosen = [handles[i] for i in keep], [labels[i] for i in keep]
        shown = f"{len(keep)} of {len(labels)} layers" if len(keep) < len(labels) else "layers"
        figure.legend(*chosen, loc="outside right center", frameon=False, fontsize=8, title=f"{shown}, first to last")
        written = io.BytesIO()
        figure.savefig(written, dpi=100)
        if path is not None:
            Path(path).write_bytes(written.getvalue())
        show(Picture(written.getvalue()))

    def note(self, **values: float | str | Tensor) -> None:
        """Keep numbers (a loss) or texts (a sample) of the present step for the page: `w.note(loss=1.2, poem="...")`.

        TypeError for anything else, or if a name stands for a number once and for a text another time.
        """
        for name, value in values.items():
            if isinstance(value, Tensor):
                value = value.item()
            kept = value if isinstance(value, str) else _number(name, value)
            known = self.notes.setdefault(name, [])
            if known and type(known[0][1]) is not type(kept):
                raise TypeError(f"watch.note: {name} was {known[0][1]!r} before and is {kept!r} now; use two names")
            known.append((self.steps, kept))

    def page(self, path: str | Path | None = None, title: str = "A training run") -> Page:
        """A web page with a slider over the steps: sizes of all layers, and what `note` was given. Returns the page.

        RuntimeError if nothing has been seen; ValueError for a name that does not end in .html; OSError if the file
        cannot be written.
        """
        if not self.seen:
            raise RuntimeError("watch.page: nothing has been seen; call the model inside the `with` block first")
        order = [*self._order, *(label for label in self.history if label not in self._order)]
        history = {label: self.history[label] for label in order if label in self.history}
        summary = f"{self.seen} of {self.steps} steps looked at; {len(history)} layers"
        made = run_page(title, summary, history, self.notes, self.remarks)
        if path is not None:
            made.save(path)
        return made


def _number(name: str, value: Any) -> float:
    """A number to be noted; TypeError for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"watch.note: {name} must be a number or a text, got {type(value).__name__}")
    return float(value)


class _Complaint(NamedTuple):
    """About one layer: what is wrong, and how badly, as a text and as a number to find the worst by."""

    label: str
    what: str
    detail: str = ""
    badness: float = 0.0


def _merged(complaints: list[_Complaint], order: list[str]) -> list[str]:
    """One line for all layers, in order, with the same complaint; the detail is that of the worst."""
    lines = []
    for what in dict.fromkeys(complaint.what for complaint in complaints):
        same = sorted((c for c in complaints if c.what == what), key=lambda c: order.index(c.label))
        who = ", ".join(c.label for c in same)
        if len(same) > 2:
            who = f"{same[0].label} … {same[-1].label} ({len(same)} layers)"
        worst = max(same, key=lambda c: c.badness)
        place = f"worst in {worst.label}, " if len(same) > 1 else ""
        lines.append(f"{who}: {what}" + (f", {place}{worst.detail}" if worst.detail else ""))
    return lines


@np.errstate(all="ignore")
def _squares(array: Array) -> Array:
    """Σ x² in float64, without waiting for a GPU."""
    wide = array.astype(np.float64).ravel()
    return (wide * wide).sum()
