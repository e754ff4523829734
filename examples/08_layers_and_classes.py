"""The net of step 07 as classes: every layer knows its own forward and its own backward, and nothing else.

Step 07 wrote the chain rule out for one net; another net would need it all anew. But the rules are local: on the way
back, a layer gets the gradient by its outputs and returns that by its inputs. So each kind of layer is a class with
two methods, and a net is a list of layers: the same losses to the last bit, but now nodes, learning rate, iterations
and data can be changed freely. Step 09 changes the depth; step 10 leaves the backward methods to the framework.

    python examples/08_layers_and_classes.py

takes about 8 seconds on 2 CPU cores. The last lines look like this:

    claim: iterations: loss 4993 after 500, 209 after 2000
    claim: 1-D or 2-D, the same classes: at most 4.7% of the loss of a line is left
    result: loss=0.3820 same=True bump=0.0402 exclusive=0.0471 ripples=0.0027
"""

import common
import numpy as np

NODES, RATE, RATES = 100, 3e-6, [3e-7, 3e-6, 3e-5, 3e-4]  # the first two as in step 07


class Linear:
    def __init__(self, inputs: int, outputs: int, scale: float, rng: np.random.Generator):
        self.weight = rng.standard_normal((inputs, outputs)) / np.sqrt(inputs) * scale

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x  # backward will need it
        return x @ self.weight  # (N, in) @ (in, out) -> (N, out)

    def backward(self, gradient: np.ndarray) -> np.ndarray:
        self.gradient = self.x.T @ gradient  # (in, N) @ (N, out) -> (in, out)
        return gradient @ self.weight.T  # (N, out) @ (out, in) -> (N, in)

    def update(self, rate: float) -> None:
        self.weight -= rate * self.gradient


class Sine:
    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        return np.sin(x)

    def backward(self, gradient: np.ndarray) -> np.ndarray:
        return gradient * np.cos(self.x)

    def update(self, rate: float) -> None:
        """Nothing: a sine has no weights."""


class Net:
    def __init__(self, inputs: int, nodes: int, seed: int):
        """Three layers of sines and a weighted sum, from the same random numbers as in step 07."""
        rng = np.random.default_rng(seed)
        self.layers = [Linear(inputs, nodes, 3, rng), Sine(), Linear(nodes, nodes, 1, rng), Sine()]
        self.layers += [Linear(nodes, nodes, 1, rng), Sine(), Linear(nodes, 1, 1, rng)]

    def forward(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def train(self, x: np.ndarray, t: np.ndarray, rate: float, steps: int) -> list[float]:
        """Gradient descent on the loss Σ (y - t)²; the loss before each step and at the end."""
        losses = []
        for _ in range(steps):
            y = self.forward(x)
            losses.append(float(np.sum((y - t) ** 2)))
            gradient = 2 * (y - t)
            for layer in reversed(self.layers):
                gradient = layer.backward(gradient)
                layer.update(rate)  # only now: backward needed the weights as they were
        return [*losses, float(np.sum((self.forward(x) - t) ** 2))]


def by_hand(x: np.ndarray, t: np.ndarray, seed: int, steps: int) -> list[float]:
    """Step 07 again, as short as it goes: the losses of the same net without classes. The shapes are there."""
    rng, sizes = np.random.default_rng(seed), [(2, NODES), (NODES, NODES), (NODES, NODES), (NODES, 1)]
    W1, W2, W3, W4 = (rng.standard_normal(size) / np.sqrt(size[0]) * (3 if size[0] == 2 else 1) for size in sizes)
    losses = []
    for _ in range(steps):
        h1 = np.sin(a1 := x @ W1)
        h2 = np.sin(a2 := h1 @ W2)
        h3 = np.sin(a3 := h2 @ W3)
        losses.append(float(np.sum((h3 @ W4 - t) ** 2)))
        d4 = 2 * (h3 @ W4 - t)
        d3 = d4 @ W4.T * np.cos(a3)
        d2 = d3 @ W3.T * np.cos(a2)
        d1 = d2 @ W2.T * np.cos(a1)
        for W, h, d in ((W1, x, d1), (W2, h1, d2), (W3, h2, d3), (W4, h3, d4)):
            W -= RATE * (h.T @ d)
    return losses


def grid(n: int) -> np.ndarray:
    """n x n points of the square from -1 to 1."""
    return np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, n)]), axis=-1).reshape(-1, 2)  # (n, n, 2) -> (n², 2)


def bias(x: np.ndarray) -> np.ndarray:
    """The inputs with a column of ones."""
    return np.column_stack([x, np.ones(len(x))])  # (N, n) -> (N, n + 1)


def main() -> None:
    args = common.parse(common.arguments("Layers as classes; three knobs; two data.", 8000, device=False), steps=160)
    steps = args.steps
    x = bias(np.linspace(-1, 1, 11))  # (11, 2): the points of step 07, divided by 10 as there
    t = (10 * x[:, :1]) ** 2  # (11, 1)
    losses = Net(2, NODES, args.seed).train(x, t, RATE, steps)
    for step in range(0, steps + 1, max(1, steps // 8)):
        print(f"step {step:5d}  loss {losses[step]:.4f}")
    same = losses[:-1] == by_hand(x, t, args.seed, steps)
    common.claim(same, f"the losses of all {steps} steps are those of the hand-written net, to the last bit")
    knobs, early, late = {}, steps // 16, steps // 4
    print(f"the knobs: loss after {early} and {late} iterations, for learning rates {RATES}")
    for nodes in (10, 30, 100):
        for rate in RATES:
            history = Net(2, nodes, args.seed).train(x, t, rate, late)
            knobs[nodes, rate] = history[early], history[late]
        print(f"{nodes:4d} nodes" + "".join("{:12.2f} {:8.2f}".format(*knobs[nodes, rate]) for rate in RATES))
    line, plane, dense = np.linspace(-1, 1, 31)[:, None], grid(10), np.linspace(-1, 1, 81)  # (31, 1), (100, 2), (81,)
    data = {"bump": (line, np.exp(-20 * line**2)), "exclusive or": (plane, np.sign(plane[:, :1] * plane[:, 1:]))}
    data["ripples"] = plane, np.cos(6 * np.linalg.norm(plane, axis=1, keepdims=True))  # (100, 2) -> (100, 1)
    nets, left = {}, {}
    for name, (x, t) in data.items():
        nets[name] = Net(x.shape[1] + 1, NODES, args.seed)
        loss = nets[name].train(bias(x), t, 1e-4, late)[-1]
        left[name] = loss / float(np.linalg.lstsq(bias(x), t, rcond=None)[1][0])  # second result: Σ (y - t)² of a line
        print(f"{name}: loss {loss:.4f}, {left[name]:.2%} of that of the best line or plane")
    if not args.no_plot:
        with common.picture(args.out / "08_layers_and_classes.png", columns=3, width=11, height=3.6) as axes:
            axes[0].plot(*data["bump"], "k.", label="to be learned")
            axes[0].plot(dense, nets["bump"].forward(bias(dense)), "C0", label="the net")
            axes[0].set(title="bump: one input", xlabel="x", ylabel="y", ylim=(-0.2, 1.4))
            axes[0].legend(frameon=False, fontsize=8, loc="upper left")
            for axis, name in zip(axes[1:], ("exclusive or", "ripples"), strict=True):
                y = nets[name].forward(bias(grid(81))).reshape(81, 81)  # (81², 1) -> (81, 81)
                areas = axis.contourf(dense, dense, y, levels=np.linspace(-1.5, 1.5, 7), extend="both", cmap="RdBu_r")
                same_scale = {"cmap": "RdBu_r", "vmin": -1.5, "vmax": 1.5}
                axis.scatter(*plane.T, c=data[name][1], edgecolors="black", s=18, linewidths=0.5, **same_scale)
                axis.set(title=f"{name}: two inputs", xlabel="x₁", ylabel="x₂", aspect="equal")
            axes[2].figure.colorbar(areas, ax=axes[1:], label="y: areas of the net, points to be learned")
    if steps >= 8000:
        (small, _, good, large), few = (knobs[NODES, rate][1] for rate in RATES), knobs[10, RATE][1]
        (before, after), most, best = knobs[NODES, RATE], max(left.values()), 100 * good < min(small, large)
        common.claim(best, f"rate 3e-7, 3e-5, 3e-4: loss {small:.0f}, {good:.2f}, {large:.0f}")
        common.claim(after < few / 5, f"nodes: loss {few:.0f} with 10, {after:.0f} with {NODES}")
        common.claim(after < before / 5, f"iterations: loss {before:.0f} after {early}, {after:.0f} after {late}")
        common.claim(most < 0.1, f"1-D or 2-D, the same classes: at most {most:.1%} of the loss of a line is left")
    common.result(loss=f"{losses[-1]:.4f}", same=same, **{name.split()[0]: f"{left[name]:.4f}" for name in left})


if __name__ == "__main__":
    main()
