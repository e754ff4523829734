"""Writes random programs in torch's words, for `against_torch.py`: a line at a time, from templates with holes.

A `Writer` sees the variables of the library that counts as right, so that each line fits what is there: `{x}` is a
float tensor of the program, `{dim}` one of the dimensions of the x just chosen, and so on; each hole is a row of
CHOICES or the method of `Writer` with that name. One line in ten is then spoiled (a number, a name or an argument
changed), for what must be refused.
"""

from __future__ import annotations

import ast
import itertools
import math
import random
import re
from collections.abc import Callable
from typing import Any

from .program_lines import CHOICES, LAYERS, MODULES, SHAPES, TENSORS, TRAINING


class UnfitError(Exception):
    """A hole for which the program has nothing yet."""


class Writer:
    """Writes one program. `names` are the variables of the library that counts as right, as far as it has run."""

    def __init__(self, rng: random.Random, names: dict[str, Any]):
        self.rng, self.names = rng, names
        self.family = rng.choices([TENSORS, MODULES, TRAINING], [6, 3, 3])[0]
        mixed = ["float32", "float64", "float16", "int64", "bool"]
        self.types = rng.choice([["float64"], ["float64"], ["float32"], mixed])
        self.counter = itertools.count()
        self.x_name = ""

    def start(self) -> list[str]:
        """The first lines: something to work with."""
        literal = "{new} = torch.tensor({literal}, dtype=torch.{float}, requires_grad=True)"
        first = {id(TENSORS): [literal] * 3, id(MODULES): MODULES[0][1][:1] + MODULES[0][1]}
        lines = first.get(id(self.family), ["{new} = torch.tensor({literal}, requires_grad=True)"] * 2)
        return [self.fill(line) for line in lines[:3]]

    def line(self) -> str:
        """The next line."""
        while True:
            _, lines = self.rng.choices(self.family, [weight for weight, _ in self.family])[0]
            try:
                line = self.fill(self.rng.choice(lines))
            except UnfitError:
                continue
            return self.spoiled(line) if self.rng.random() < 0.1 else line

    def end(self) -> list[str]:
        """The last line: gradients through all that is left."""
        live = [n for n in self.tensors() if self.names[n].requires_grad and self.names[n].is_floating_point()]
        return [f"({' + '.join(f'{n}.square().sum()' for n in live)}).backward()"] if live else []

    def fill(self, template: str) -> str:
        def hole(match: re.Match) -> str:
            if match[0] in ("{{", "}}"):
                return match[0][0]
            found = self.pick(match[1]) if match[1] in CHOICES else str(getattr(self, match[1])())
            fresh.setdefault("new", found) if match[1] == "new" else None
            return fresh["new"] if match[1] == "new" else found

        fresh: dict[str, str] = {}
        return re.sub(r"\{\{|\}\}|\{(\w+)\}", hole, template)

    def spoiled(self, line: str) -> str:
        """The line with one number, name or argument changed."""
        tree = ast.parse(line)
        variables = [n for n in self.names if re.fullmatch(r"v\d+", n)]
        spots = [
            n
            for n in ast.walk(tree)
            if (isinstance(n, ast.Constant) and not isinstance(n.value, str))
            or (isinstance(n, ast.Call) and (n.args or n.keywords))
            or (isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and n.id in variables)
        ]
        if not spots:
            return line
        spot = self.rng.choice(spots)
        if isinstance(spot, ast.Call):
            where = self.rng.choice([part for part in (spot.args, spot.keywords) if part])
            where.pop(self.rng.randrange(len(where)))
        elif isinstance(spot, ast.Name):
            spot.id = self.rng.choice([*variables, "(None)", "(2)", "(True)"])
        else:
            spot.value = self.rng.choice([-3, -2, -1, 0, 1, 2, 3, 5, 1.5, True, None])
        return ast.unparse(tree)

    # --- What there is ---------------------------------------------------------------------------------------------

    def some(self, wanted: Callable[[Any], bool]) -> str:
        """The name of a variable, one of the last more often."""
        fit = [n for n, value in self.names.items() if re.fullmatch(r"v\d+", n) and wanted(value)]
        if not fit:
            raise UnfitError
        return fit[-1 - int(len(fit) * self.rng.random() ** 2)]

    def tensors(self) -> list[str]:
        return [n for n, value in self.names.items() if n[0] == "v" and self.is_tensor(value)]

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, self.names["torch"].Tensor)

    def x(self) -> str:
        self.x_name = self.some(lambda v: self.is_tensor(v) and v.dtype not in (self.names["torch"].bool,))
        return self.x_name

    @property
    def chosen(self) -> Any:
        if self.x_name not in self.names:  # a line that was dropped made it, or nothing was chosen yet
            raise UnfitError
        return self.names[self.x_name]

    def shape(self) -> tuple[int, ...]:
        return tuple(self.chosen.shape)

    def fitting(self, wanted: Callable[[tuple], bool], otherwise: tuple | None = None) -> str:
        """A tensor whose shape is wanted, of x's type; or else a literal of the shape `otherwise`."""
        dtype = self.chosen.dtype
        try:
            return self.some(lambda v: self.is_tensor(v) and v.dtype == dtype and wanted(tuple(v.shape)))
        except UnfitError:
            if otherwise is None:
                raise
            return f"torch.tensor({self.literal(otherwise)}, dtype=torch.{str(dtype).removeprefix('torch.')})"

    def any(self) -> str:
        return self.some(self.is_tensor)

    def same(self) -> str:
        return self.fitting(lambda s: s == self.shape(), self.shape())

    def other_tensor(self) -> str:
        mine = self.shape()

        def broadcasts(s: tuple) -> bool:
            return len(s) <= len(mine) and all(a in (1, b) for a, b in zip(s[::-1], mine[::-1], strict=False))

        return self.fitting(broadcasts, mine[1:])

    def other(self) -> str:
        return self.pick("number") if self.rng.random() < 0.3 else self.other_tensor()

    def last(self) -> str:
        return self.fitting(lambda s: s == self.shape()[-1:], self.shape()[-1:])

    def like_last(self) -> str:
        n = (*self.shape(), 1)[len(self.shape()) - 1]
        return self.fitting(lambda s: len(s) == 2 and s[1] == n, (n, n))

    def product(self) -> str:
        inner = self.shape()[-1:]
        otherwise = (*self.shape()[:-2], *inner, 2) if inner else (2,)
        return self.fitting(lambda s: inner in (s[-2:-1], s), otherwise)

    def like_classes(self) -> str:
        return self.fitting(lambda s: s == self.shape()[1:2], self.shape()[1:2])

    def filters(self) -> str:
        channels = (*self.shape(), 1, 1)[len(self.shape()) - 2] if len(self.shape()) > 1 else 1
        return self.fitting(lambda s: len(s) == 3 and s[1] == channels, (2, channels, self.rng.choice([1, 2])))

    def filters2(self) -> str:
        channels = self.shape()[-3] if len(self.shape()) > 2 else 1
        return self.fitting(lambda s: len(s) == 4 and s[1] == channels, (1, channels, 2, 2))

    # --- Numbers, shapes and dimensions ----------------------------------------------------------------------------

    def new(self) -> str:
        taken = [n for n in self.names if re.fullmatch(r"v\d+", n)]
        return self.rng.choice(taken) if len(taken) > 6 and self.rng.random() < 0.5 else f"v{next(self.counter)}"

    def pick(self, hole: str) -> str:
        return self.rng.choice(CHOICES[hole].split())

    def literal(self, shape: tuple[int, ...] | None = None) -> str:
        """Nested lists of eighths, all different, so that simple arithmetic is exact and nothing ties."""
        shape = self.rng.choice(SHAPES) if shape is None else shape
        if math.prod(shape) > 64:
            raise UnfitError
        items: list[Any] = [n / 8 for n in self.rng.sample(range(-24, 40), math.prod(shape))]
        if 0 in shape and len(shape) > 1:
            return str([[] for _ in range(shape[0])])
        for size in shape[:0:-1]:
            items = [items[i : i + size] for i in range(0, len(items), size)]
        return str(items if shape else items[0])

    def float(self) -> str:
        return self.rng.choice(self.types)

    def p(self) -> str:
        if self.family is TRAINING:
            return self.some(lambda v: self.is_tensor(v) and v.is_leaf)
        return self.rng.choice(["1", "2", "float('inf')"])

    def extreme(self) -> str:
        return "max" if self.distinct() and self.rng.random() < 0.5 else "min"

    def arg(self) -> str:
        return "arg" + self.extreme()

    def distinct(self) -> bool:
        """Whether no two numbers of x are equal: of equal ones torch may name any. Else the line is not written."""
        numbers = self.chosen.detach().flatten().tolist()
        if len(set(numbers)) < len(numbers):
            raise UnfitError
        return True

    def dim(self) -> int:
        n = max(1, len(self.shape()))
        return self.rng.randrange(-n, n)

    def dims(self) -> str:
        order = self.rng.sample(range(len(self.shape())), self.rng.randint(0, len(self.shape())))
        return "".join(f"{d}, " for d in order)

    def new_dim(self) -> int:
        return self.rng.randint(-len(self.shape()) - 1, len(self.shape()))

    def order(self) -> str:
        return ", ".join(map(str, self.rng.sample(range(len(self.shape())), len(self.shape()))))

    def row(self) -> int:
        return self.rng.choice([0, 0, 1, -1])

    def sizes(self) -> str:
        return str(self.rng.choice(SHAPES))

    def size(self) -> str:
        return self.factors(math.prod(self.shape()))

    def size_of_dim(self) -> str:
        return self.factors(self.rng.choice(self.shape() or (1,)))

    def factors(self, n: int) -> str:
        """Sizes whose product is n, one of them perhaps -1."""
        sizes, rest = [], n
        while rest > 1 and len(sizes) < 3:
            sizes.append(self.rng.choice([d for d in range(1, rest + 1) if rest % d == 0]))
            rest //= sizes[-1]
        sizes.append(rest)
        if self.rng.random() < 0.4:
            sizes[self.rng.randrange(len(sizes))] = -1
        return ", ".join(map(str, sizes)) + ("," if len(sizes) == 1 else "")

    def wider(self) -> str:
        front = self.rng.choice([(), (), (2,)]) if self.shape() else (2,)
        return ", ".join(str(2 if n == 1 else self.rng.choice([n, -1])) for n in (*front, *self.shape())) + ","

    def repeats(self) -> str:
        return ", ".join(self.pick("small") for _ in self.shape() or (1,))

    def index(self) -> str:
        """An index for x: numbers, slices, None, ..., lists, masks."""
        parts = []
        for size in self.shape()[: self.rng.randint(0, len(self.shape()))]:
            k = self.rng.randrange(-size, size) if size else 0
            parts.append(self.rng.choice([k, k, ":", "1:", ":-1", "::2", "None", [k, 0], f"torch.tensor([{k}, {k}])"]))
        if self.rng.random() < 0.2 or not parts:
            parts.insert(self.rng.randint(0, len(parts)), "...")
        return ", ".join(map(str, parts))

    def mask(self) -> str:
        return self.rng.choice([f"{self.x_name} > {self.pick('number')}", f"({self.x_name} < 1)"])

    def ids(self) -> str:
        """Ids for gather and its kin: of x's shape, all within the smallest dimension."""
        low = min(self.shape(), default=1) or 1
        return f"torch.tensor({self.integers(self.shape(), low)}, dtype=torch.int64).reshape({self.shape()})"

    def classes(self) -> str:
        """A class for each row of x; one class if x is one row."""
        shape = self.shape()
        if not shape:
            raise UnfitError
        return f"torch.tensor({self.integers(shape[:1] if len(shape) > 1 else (), shape[:2][-1])}, dtype=torch.int64)"

    def integers(self, shape: tuple[int, ...], below: int) -> str:
        numbers = [self.rng.randrange(max(1, below)) for _ in range(math.prod(shape))]
        return str(numbers if shape else numbers[0])

    def reduction_arg(self) -> str:
        return self.rng.choice(["", "", ", reduction='sum'", ", reduction='none'"])

    # --- Modules, optimizers, schedulers -----------------------------------------------------------------------------

    def m(self) -> str:
        return self.some(lambda v: isinstance(v, self.names["nn"].Module))

    def layer(self) -> str:
        return self.rng.choice(LAYERS)

    def layers(self) -> str:
        return ", ".join(self.layer() for _ in range(self.rng.randint(0, 3)))

    def key(self) -> str:
        names = ["a", "b", "fc", "0", "1", "2", "weight", "rest", "rest.0", "a.b", "", "training", "forward"]
        return repr(self.rng.choices(names, [4, 3, 3, 4, 3, 1, 1, 1, 0.5, 0.5, 0.3, 0.3, 0.3])[0])

    def junk(self) -> str:
        return self.rng.choice(["3", "None", "torch.ones(2)", "nn.Parameter(torch.ones(2))", "'text'", "nn.ReLU()"])

    def i(self) -> int:
        return self.rng.choice([0, 0, 1, -1, 2])

    def state(self) -> str:
        return self.some(lambda v: isinstance(v, dict))

    def three(self) -> str:
        return f"torch.tensor({self.literal((3, 2, 2))})"

    def pads(self) -> str:
        shape = self.rng.choice([(2, 3), (3, 2), (3, 3), (2, 2), (2,), (4, 3, 3)])
        return f"torch.tensor({self.literal(shape)}){self.rng.choice(['', ' > 1', ' > 3'])}"

    def opt(self) -> str:
        return self.some(lambda v: hasattr(v, "param_groups"))

    def sched(self) -> str:
        return self.some(lambda v: hasattr(v, "get_last_lr"))

    def params(self) -> str:
        a, b = self.p(), self.p()
        groups = f"[{{'params': [{a}]}}, {{'params': [{b}], 'lr': {self.pick('rate')}}}]"
        return self.rng.choice([f"[{a}]", f"[{a}, {b}]", groups])

    def loss_of(self) -> str:
        return f"({self.p()}.square().sum() + ({self.p()} * {self.pick('number')}).sum())"
