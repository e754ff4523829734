"""The engine on one page: what `core/engine.py` does with arrays, done with single numbers in plain Python.

1. Record. Each operation keeps, for every input, a rule that turns ∂L/∂result into ∂L/∂input: the chain rule with the
   local derivative filled in. A rule holds floats, never the result: nothing points forward, so there is no cycle.
2. Walk. A result is numbered when it is made, after its inputs. Highest number first visits each one after all that
   were computed from it. A heap does that: no recursion, however long the chain.
3. Add. What was used twice gets two gradients, and its gradient is their sum: the `+=` in `backward`.

    python examples/00_one_page.py

takes 0.3 seconds; its two-layer net learns XOR, which a single neuron cannot (step 02). The last line:

    result: dx=7.0 dy=2.0 loss=8.9e-06
"""

import heapq
import itertools
import math
import random

numbers = itertools.count(1)


class Scalar:
    """A number that knows how it was computed: `edges` = (input, rule), ...; none for a leaf; None once used up."""

    __slots__ = ("__weakref__", "edges", "grad", "number", "value")

    def __init__(self, value: float, edges: tuple | None = ()):
        self.value, self.grad, self.edges, self.number = float(value), 0.0, edges, next(numbers)

    def __add__(self, other):  # ∂(x + y)/∂x = ∂(x + y)/∂y = 1
        return record(self.value + plain(other), (self, lambda g: g), (other, lambda g: g))

    def __mul__(self, other):  # ∂(x y)/∂x = y, ∂(x y)/∂y = x
        x, y = self.value, plain(other)
        return record(x * y, (self, lambda g: g * y), (other, lambda g: g * x))

    def __pow__(self, n: float):  # ∂xⁿ/∂x = n xⁿ⁻¹
        x = self.value
        return record(x**n, (self, lambda g: g * n * x ** (n - 1)))

    def exp(self):  # ∂eˣ/∂x = eˣ
        y = math.exp(self.value)
        return record(y, (self, lambda g: g * y))

    def tanh(self):  # ∂tanh x/∂x = 1 - tanh² x
        y = math.tanh(self.value)
        return record(y, (self, lambda g: g * (1 - y * y)))

    __radd__, __rmul__, __neg__ = __add__, __mul__, lambda x: x * -1
    __sub__, __rsub__ = lambda x, y: x + -y, lambda x, y: -x + y
    __truediv__, __rtruediv__ = lambda x, y: x * y**-1, lambda x, y: x**-1 * y

    def backward(self) -> None:
        """Add ∂self/∂x to x.grad for every leaf x that this was computed from. The graph is used up on the way."""
        grads, waiting = {self: 1.0}, [(-self.number, self)]
        while waiting:
            x = heapq.heappop(waiting)[1]
            if x.edges is None:
                raise RuntimeError("backward: this graph was used up by an earlier backward(); compute it again")
            grad = grads.pop(x)
            for y, rule in x.edges:
                if y not in grads:
                    grads[y] = 0.0
                    heapq.heappush(waiting, (-y.number, y))
                grads[y] += rule(grad)
            if x.edges:
                x.edges = None  # frees what only this result held
            else:
                x.grad += grad


def record(value: float, *edges: tuple) -> Scalar:
    """A result with its rules. An input that is a plain number is dropped together with its rule."""
    return Scalar(value, tuple((x, rule) for x, rule in edges if isinstance(x, Scalar)))


def plain(x: Scalar | float) -> float:
    return x.value if isinstance(x, Scalar) else x


if __name__ == "__main__":
    x, y = Scalar(2), Scalar(3)
    ((x + y) * x).backward()
    print(f"L = (x + y) * x at x = 2, y = 3: dL/dx = (x + y) + x = {x.grad}, dL/dy = x = {y.grad}")
    random.seed(1)
    hidden, outer = ([[Scalar(random.gauss(0, 1)) for _ in range(n)] for _ in range(m)] for m, n in ((4, 3), (1, 5)))
    for step in range(201):
        loss = 0  # XOR, by four neurons with two weights and a bias each, and one that adds them up
        for a, b in itertools.product((0, 1), repeat=2):
            h = [(u * a + v * b + w).tanh() for u, v, w in hidden]
            loss += (sum(w * x for w, x in zip(outer[0], [*h, 1], strict=True)) - (a ^ b)) ** 2
        loss.backward()
        for weight in itertools.chain(*hidden, *outer):
            weight.value, weight.grad = weight.value - 0.05 * weight.grad, 0.0
        if step % 40 == 0:
            print(f"step {step:3d}  loss {loss.value:.7f}")
    print(f"result: dx={x.grad} dy={y.grad} loss={loss.value:.1e}")
