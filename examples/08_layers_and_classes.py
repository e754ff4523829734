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
from common import pictures

NODES = 100
RATE = 3e-6  # both as in step 07
RATES = [3e-7, 3e-6, 3e-5, 3e-4]  # to try


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
        self.layers = [
            Linear(inputs, nodes, 3, rng),
            Sine(),
            Linear(nodes, nodes, 1, rng),
            Sine(),
            Linear(nodes, nodes, 1, rng),
            Sine(),
            Linear(nodes, 1, 1, rng),
        ]

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
    """The loss before each step of the same net as step 07 wrote it, without classes."""
    step_07 = common.step("07_backprop_by_hand")
    weights = step_07.initial_weights(seed)
    losses = []
    for _ in range(steps):
        loss, gradients = step_07.backward(weights, x, t)
        losses.append(loss)
        for W, gradient in zip(weights, gradients, strict=True):
            W -= RATE * gradient
    return losses


def turn_knobs(x: np.ndarray, t: np.ndarray, seed: int, early: int, late: int) -> dict[tuple, tuple[float, float]]:
    """{(nodes, rate): (loss early, loss late)}: what three numbers change that used to be fixed."""
    print(f"the knobs: loss after {early} and {late} iterations, for learning rates {RATES}")
    knobs = {}
    for nodes in (10, 30, 100):
        for rate in RATES:
            history = Net(2, nodes, seed).train(x, t, rate, late)
            knobs[nodes, rate] = history[early], history[late]
        print(f"{nodes:4d} nodes" + "".join("{:12.2f} {:8.2f}".format(*knobs[nodes, rate]) for rate in RATES))
    return knobs


def grid(n: int) -> np.ndarray:
    """n x n points of the square from -1 to 1."""
    return np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, n)]), axis=-1).reshape(-1, 2)  # (n, n, 2) -> (n², 2)


def bias(x: np.ndarray) -> np.ndarray:
    """The inputs with a column of ones."""
    return np.column_stack([x, np.ones(len(x))])  # (N, n) -> (N, n + 1)


def other_data() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A bump over a line, and two patterns in a square: inputs and targets."""
    line = np.linspace(-1, 1, 31)[:, None]  # (31, 1)
    square = grid(10)  # (100, 2)
    return {
        "bump": (line, np.exp(-20 * line**2)),
        "exclusive or": (square, np.sign(square[:, :1] * square[:, 1:])),
        "ripples": (square, np.cos(6 * np.linalg.norm(square, axis=1, keepdims=True))),  # (100, 2) -> (100, 1)
    }


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

    early = steps // 16
    late = steps // 4
    knobs = turn_knobs(x, t, args.seed, early, late)

    data = other_data()
    nets = {}
    left = {}  # of the loss of the best line or plane
    for name, (x, t) in data.items():
        nets[name] = Net(x.shape[1] + 1, NODES, args.seed)
        loss = nets[name].train(bias(x), t, 1e-4, late)[-1]
        left[name] = loss / float(np.linalg.lstsq(bias(x), t, rcond=None)[1][0])  # second result: Σ (y - t)² of a line
        print(f"{name}: loss {loss:.4f}, {left[name]:.2%} of that of the best line or plane")

    dense = np.linspace(-1, 1, 81)
    found = {name: net.forward(bias(dense if name == "bump" else grid(81))) for name, net in nets.items()}
    pictures.layers_and_classes(args, data, dense, found)
    if steps >= 8000:
        small, _, good, large = (knobs[NODES, rate][1] for rate in RATES)
        few = knobs[10, RATE][1]
        before, after = knobs[NODES, RATE]
        most = max(left.values())
        rates = f"rate 3e-7, 3e-5, 3e-4: loss {small:.0f}, {good:.2f}, {large:.0f}"
        common.claim(100 * good < min(small, large), rates)
        common.claim(after < few / 5, f"nodes: loss {few:.0f} with 10, {after:.0f} with {NODES}")
        common.claim(after < before / 5, f"iterations: loss {before:.0f} after {early}, {after:.0f} after {late}")
        common.claim(most < 0.1, f"1-D or 2-D, the same classes: at most {most:.1%} of the loss of a line is left")
    common.result(loss=f"{losses[-1]:.4f}", same=same, **{name.split()[0]: f"{left[name]:.4f}" for name in left})


if __name__ == "__main__":
    main()
