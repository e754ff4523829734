"""The engine on one page: the same values and gradients as the real engine, and the same manners."""

import ast
import gc
import importlib.util
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ANY

import tinygrad_z2g as z2g

PAGE = Path(__file__).parent.parent / "examples" / "00_one_page.py"
spec = importlib.util.spec_from_file_location("one_page", PAGE)
page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page)

# (operation, the largest |x| that it is given, the number of operands). Larger arguments are halved first, in both
# engines: at 1 - tanh²(20) the last bit of tanh is all that is left, and no two libraries agree on that one.
OPERATIONS = {
    "add": (lambda x, y: x + y, 64, 2),
    "add a number": (lambda x: 3 + x + 0.5, 64, 1),
    "sub": (lambda x, y: x - y, 64, 2),
    "sub from a number": (lambda x: 1 - x, 64, 1),
    "mul": (lambda x, y: x * y, 8, 2),
    "mul by a number": (lambda x: 2 * (x * -0.75), 64, 1),
    "neg": (lambda x: -x, 64, 1),
    "div": (lambda x, y: x / (y * y + 1), 8, 2),
    "div by a number": (lambda x: x / 3, 64, 1),
    "div a number": (lambda x: 2 / (x * x + 0.5), 8, 1),
    "square": (lambda x: x**2, 8, 1),
    "cube": (lambda x: x**3, 4, 1),
    "root": (lambda x: (x * x + 1) ** 0.5, 8, 1),
    "exp": (lambda x: x.exp(), 2, 1),
    "tanh": (lambda x: x.tanh(), 2, 1),
}
NAMES = [name for name, (_, _, arity) in OPERATIONS.items() for _ in range(4 if arity == 2 else 1)]


@st.composite
def programs(draw):
    """Leaves, and lines (operation, operand, operand); an operand is a value so far, counted from the youngest."""
    leaves = draw(st.lists(st.sampled_from(ANY), min_size=2, max_size=4))
    lines = []
    for n in range(len(leaves), len(leaves) + draw(st.sampled_from([6, 3, 12, 1, 9]))):
        operand = st.integers(0, min(n - 1, 2)) | st.integers(0, n - 1)  # mostly young ones: old ones lead nowhere
        lines.append((draw(st.sampled_from(NAMES)), draw(operand), draw(operand)))
    return leaves, lines


def run(leaves, lines, number):
    """All values of a program; `number` gives the plain number that a leaf or a result holds."""
    values = list(leaves)
    for name, *operands in lines:
        operation, most, arity = OPERATIONS[name]
        xs = [values[-1 - age] for age in operands[:arity]]
        for i, x in enumerate(xs):
            while abs(number(x)) > most:
                x = x * 0.5
            xs[i] = x
        values.append(operation(*xs))
    return values


def paths(root):
    """Σ over all paths to x of |product of the local derivatives|, for each x: what a gradient is made of.

    Two paths may cancel, and then no digit of their sum is left to compare; this is the size of the parts.
    """
    sizes = {root: 1.0}
    for x in sorted(reachable(root), key=lambda x: -x.number):
        for y, rule in x.edges:
            sizes[y] = sizes.get(y, 0.0) + sizes[x] * abs(rule(1.0))
    return sizes


def reachable(root):
    """`root` and everything it was computed from."""
    found, waiting = {root}, [root]
    while waiting:
        new = {y for y, _ in waiting.pop().edges} - found
        found |= new
        waiting += new
    return found


def compare(program):
    """The worst difference between the two engines, in units of the tolerance."""
    leaves, lines = program
    ours = run([page.Scalar(x) for x in leaves], lines, lambda x: x.value)
    real = run([z2g.tensor(x, dtype=z2g.float64, requires_grad=True) for x in leaves], lines, lambda x: x.item())
    sizes = paths(ours[-1])
    worst = max(abs(x.value - y.item()) / max(1, abs(y.item())) for x, y in zip(ours, real, strict=True))
    ours[-1].backward()
    real[-1].backward()
    for x, y in zip(ours[: len(leaves)], real, strict=False):
        expected = 0.0 if y.grad is None else y.grad.item()
        worst = max(worst, abs(x.grad - expected) / sizes.get(x, 1.0) if x.grad != expected else 0.0)
    return worst


@settings(max_examples=max(300, settings().max_examples))
@given(programs())
def test_both_engines_agree(program):
    assert compare(program) < 1e-12


def test_what_is_drawn():
    """A comparison proves something if most programs reach several leaves, and use a number twice."""
    shared = reached = 0

    @settings(max_examples=100, derandomize=True, database=None)
    @given(programs())
    def look(drawn):
        nonlocal shared, reached
        root = run([page.Scalar(x) for x in drawn[0]], drawn[1], lambda x: x.value)[-1]
        nodes = reachable(root)
        inputs = [id(y) for x in nodes for y, _ in x.edges]
        shared += len(set(inputs)) < len(inputs)
        reached += sum(not x.edges for x in nodes) > 1

    look()
    assert shared > 50
    assert reached > 40


@pytest.mark.parametrize("used", [2, 1000])
def test_a_number_used_many_times(used):
    x = page.Scalar(3)
    sum(x * x for _ in range(used)).backward()
    assert x.grad == 2 * 3 * used


def test_a_long_chain():
    """Neither the walk nor the end of the graph uses the call stack."""
    for walked in (True, False):
        x = page.Scalar(1)
        y = x
        for _ in range(100_000):
            y = y + x
        if walked:
            y.backward()
            assert x.grad == 100_001
        del y


def test_a_thousand_diamonds():
    """Each node is visited once, not once for each of 2^1000 paths."""
    x = page.Scalar(1)
    y = x
    for _ in range(1000):
        y = (y + y) * 0.5
    y.backward()
    assert x.grad == 1


@pytest.mark.parametrize("walked", [True, False])
def test_no_cycle_holds_the_graph(walked):
    gc.disable()
    try:
        x = page.Scalar(0.5)
        middle = x.exp()
        result = (middle * middle).tanh() ** 2 / middle - x
        alive = [weakref.ref(middle), weakref.ref(result)]
        if walked:
            result.backward()
            del middle
            assert alive[0]() is None  # freed by the walk, though the result is still there
        else:
            del middle
        del result
        assert [ref() for ref in alive] == [None, None]
    finally:
        gc.enable()


def test_a_second_backward_is_an_error():
    x = page.Scalar(3)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match="used up by an earlier backward"):
        y.backward()
    assert x.grad == 6
    (x * 2).backward()  # a new graph adds to what is there
    assert x.grad == 8


def test_it_is_one_page_of_plain_python():
    source = PAGE.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 100
    imported = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert {alias.name for node in imported for alias in node.names} <= sys.stdlib_module_names


def test_the_demo_learns():
    done = subprocess.run([sys.executable, "-W", "error", PAGE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("result: dx=7.0 dy=2.0 loss=")
    assert float(last.rpartition("=")[2]) < 1e-3
    assert last in page.__doc__
