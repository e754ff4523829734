"""`loss.explain()` tells the truth: every number is checked by hand or against the real backward pass, and nothing
that is explained changes by it. `trace` notes the right lines, and nothing when it is off."""

import contextlib
import copy
import gc
import itertools
import os
import re
import sys
import weakref

import numpy as np
import pytest
from drawn import holds
from numeric import cotangents, leaves
from op_table import TABLE
from test_ops import bind, parts

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.arrays import random
from tinygrad_z2g.autograd import Function, detect_anomaly
from tinygrad_z2g.core.engine import Node
from tinygrad_z2g.fast import forms
from tinygrad_z2g.models import GPT, GPTConfig
from tinygrad_z2g.tools.explain import story
from tinygrad_z2g.tools.folding import runs
from tinygrad_z2g.tools.trace import PACKAGE, observers

F = nn.functional
PLAIN = forms.plain()
FOR_Y = "x.swapaxes(-1, -2) @ grad" if PLAIN else "product(x.T, grad)"  # how the rules of x @ y and x Wᵀ are written
FOR_W = f"{'' if PLAIN else 'product('}grad.reshape(n, n_out).T{' @' if PLAIN else ','} x.reshape(n, n_in)"
columns = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python knows columns of expressions from 3.11 on")

# The two-layer net, in numbers that can be followed by hand
X = np.array([[1.0, 2.0], [3.0, -1.0]])
T = np.array([[1.0], [0.0]])
W1 = np.array([[0.5, -0.5, 0.25], [0.125, 0.25, 0.5]])
B1 = np.array([0.125, 0.0, -0.25])
W2 = np.array([[1.0], [-1.0], [0.5]])
B2 = np.array([0.25])


def net():
    """The net's tensors by name, recorded with their lines."""
    x, t = z2g.tensor(X), z2g.tensor(T)
    w1, b1, w2, b2 = (z2g.tensor(a, requires_grad=True) for a in (W1, B1, W2, B2))
    with z2g.trace():
        h = (x @ w1 + b1).tanh()
        y = h @ w2 + b2
        loss = ((y - t) ** 2).mean()
    return locals()


def by_hand():
    """(step, what is told of it) -> the numbers, from the formulas of calculus in NumPy."""
    h = np.tanh(X @ W1 + B1)
    d = h @ W2 + B2 - T
    dy = 2 * d / 2  # the mean over n = 2 of d²
    dh = dy @ W2.T
    da = dh * (1 - h**2)
    half = np.full((2, 1), 0.5)
    return {
        (1, "grad"): 1, (1, "n"): 2, (1, "∂L/∂x"): half,
        (2, "grad"): half, (2, "y"): 2, (2, "x"): d, (2, "∂L/∂x"): dy,
        (3, "grad"): dy, (3, "∂L/∂x"): dy,
        (4, "grad"): dy, (4, "∂L/∂x"): dy, (4, "∂L/∂y"): dy.sum(0),
        (5, "grad"): dy, (5, "x"): h, (5, "y"): W2, (5, "∂L/∂x"): dh, (5, "∂L/∂y"): h.T @ dy,
        (6, "grad"): dh, (6, "z"): h, (6, "∂L/∂x"): da,
        (7, "grad"): da, (7, "∂L/∂x"): da, (7, "∂L/∂y"): da.sum(0),
        (8, "grad"): da, (8, "x"): X, (8, "∂L/∂y"): X.T @ da,
        (0, "w1"): X.T @ da, (0, "b1"): da.sum(0), (0, "w2"): h.T @ dy, (0, "b2"): dy.sum(0),
    }  # fmt: skip


NUMBER = r"(-?[\d.]+(?:e-?\d+)?|\[[^a-zA-Z→]*\])"


def told(text):
    """(step, name) -> the numbers, for everything that a story of small tensors prints; step 0 is the end."""
    found, step = {}, None
    for line in text.splitlines():
        title = re.match(r"(?:### )?(?:(\d+)\. \w+ →|At the end)", line)
        if title:
            step = int(title.group(1) or 0)
        elif step is not None and "z/" not in line:  # the formula has no numbers of this run
            line = line.strip().removeprefix("with ").partition("   →")[0]
            slope = re.match(r"∂L/∂\w+", line)
            items = re.findall(rf"(\w+)(?: = | \(.*?\): ){NUMBER}(?=,  |$)", line)
            if slope:
                items = [(slope.group(), re.search(rf" = {NUMBER}$", line).group(1))]
            found |= {(step, name): np.array(eval(value)) for name, value in items}
    return found


def compare(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].shape == np.shape(value), key
        np.testing.assert_allclose(found[key], value, rtol=6e-4, atol=1e-12, err_msg=str(key))  # 4 digits are printed


def whole(text):
    """The lines of a level-1 story that stand for steps."""
    return [line for line in text.splitlines() if re.match(r"\s+\d+\. ", line)]


# --- The two-layer net -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [str, lambda s: s.markdown()], ids=["text", "markdown"])
def test_every_number_of_a_two_layer_net(device, form):
    tensors = net()
    compare(told(form(story(tensors["loss"], tensors))), by_hand())


def test_the_leaves_agree_with_finite_differences():
    def loss(w1, b1, w2, b2):
        return ((np.tanh(X @ w1 + b1) @ w2 + b2 - T) ** 2).mean()

    tensors = net()
    found = told(str(story(tensors["loss"], tensors)))
    values = [W1, B1, W2, B2]
    for i, name in enumerate(("w1", "b1", "w2", "b2")):
        for place in np.ndindex(values[i].shape):
            step = np.zeros_like(values[i])
            step[place] = 1e-6
            up, down = ([*values[:i], values[i] + s, *values[i + 1 :]] for s in (step, -step))
            assert found[0, name][place] == pytest.approx((loss(*up) - loss(*down)) / 2e-6, rel=1e-3)


def test_it_fits_a_screen(capsys):
    tensors = net()
    tensors["loss"].explain(tensors)
    lines = capsys.readouterr().out.splitlines()
    assert 40 <= len(lines) <= 52 and max(map(len, lines)) <= 125


@columns
def test_every_step_names_its_operation_its_line_and_its_rule():
    tensors = net()
    text = str(story(tensors["loss"], tensors))
    line = net.__code__.co_firstlineno + 5
    for step, place, source, formula, rule in [
        ("1. mean → loss ()", line + 2, "loss = ‹((y - t) ** 2).mean()›", "z = Σ x / n ", "∂L/∂x = "),
        ("3. sub → (2, 1)", line + 2, "loss = ((‹y - t›) ** 2).mean()", "z = x - y.   ∂z/∂x = 1", "∂L/∂x = grad = "),
        ("4. add → y (2, 1)", line + 1, "y = ‹h @ w2 + b2›", "∂z/∂x = 1,  ∂z/∂y = 1", "= grad, summed to (1,) = "),
        ("5. matmul → (2, 1)", line + 1, "y = ‹h @ w2› + b2", "∂L/∂y = xᵀ grad", f"∂L/∂y = {FOR_Y} = "),
        ("6. tanh → h (2, 3)", line, "h = ‹(x @ w1 + b1).tanh()›", "dz/dx = 1 - z²", "grad * (1 - z * z) = "),
        ("8. matmul → (2, 3)", line, "h = (‹x @ w1› + b1).tanh()", "∂L/∂x = grad yᵀ", f"∂L/∂y = {FOR_Y} = "),
    ]:
        chapter = next(part for part in text.split("\n\n") if part.startswith(step))
        assert f"test_explain.py:{place}  {source}\n" in chapter
        assert formula in chapter and rule in chapter
    assert "   → 5. matmul\n" in text and "   → w1\n" in text
    assert text.startswith("L = loss = ") and "trace" not in text


def test_without_trace_it_says_how_to_get_the_lines():
    text = str(story((z2g.tensor(2.0, requires_grad=True) * 3).exp()))
    assert "dz/dx = z" in text and text.splitlines()[-1].startswith("(Run the forward pass `with z2g.trace():`")


# --- Shared tensors, single paths, levels ------------------------------------------------------------------------


def diamond():
    a, b = (z2g.tensor(v, requires_grad=True) for v in ([2.0, -1.0], 3.0))
    c = a * b
    d = c + a
    loss = (c * d).sum()
    return locals()


def test_where_paths_meet_stands_the_sum(device):
    tensors = diamond()
    text = str(story(tensors["loss"], tensors))
    assert (
        "   grad = [8, -4]   from 2. mul\n"
        "       += [6, -3]   from 3. add\n"
        "        = [14, -7],  y = 3,  x = [2, -1]\n"
    ) in text  # fmt: skip
    assert (
        "   a (2,): [6, -3]   from 3. add\n"
        "        += [42, -21]   from 4. mul\n"
        "         = [48, -24]\n"
        "   b (): 35\n"
    ) in text  # fmt: skip
    short = str(story(tensors["loss"], tensors, level=1))
    assert re.search(r"^   4. mul +→ c \(2,\) +grad norm 15.65 \(\+= of 2\) +→ a, b$", short, re.M)
    assert re.search(r"^   2. mul +→ \(2,\) +grad norm 1.414 +→ 4. mul, 3. add$", short, re.M)
    assert "a (2,): norm 53.67 (+= of 2)" in short


def test_both_sides_of_one_operation():
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    text = str(story((x * x).sum(), {"x": x}))
    assert "x (2,): [1, 2]   from 2. mul\n        += [1, 2]   from 2. mul\n         = [2, 4]" in text


def test_one_path_only(device):
    tensors = net()
    text = str(story(tensors["loss"], tensors, to=tensors["b1"]))
    expected = by_hand()
    off = [(4, "∂L/∂y"), (5, "∂L/∂y"), (5, "x"), (7, "∂L/∂x"), (8, "grad"), (8, "x"), (8, "∂L/∂y")]
    off += [(0, name) for name in ("w1", "w2", "b2")]
    compare(told(text), {key: value for key, value in expected.items() if key not in off})


def test_all_paths_to_a_tensor_in_between():
    tensors = diamond()
    told_c = story(tensors["loss"], tensors, to=tensors["c"])
    assert "c (2,): [8, -4]   from 2. mul\n        += [6, -3]   from 3. add\n         = [14, -7]" in str(told_c)
    assert len(whole(str(story(tensors["loss"], tensors, to=tensors["c"], level=1)))) == 3
    assert "to (2,): " in str(story(tensors["loss"], to=tensors["c"]))
    for made, end in [
        (told_c, "∂L/∂c"),  # nothing is added to the .grad of a tensor in between
        (story(tensors["loss"], tensors, level=1, to=tensors["c"]), "∂L/∂c"),
        (story(tensors["loss"], tensors, to=tensors["a"]), "what backward() adds to .grad"),
        (story(tensors["loss"], tensors), "what backward() adds to .grad"),
    ]:
        assert [line for line in str(made).splitlines() if "At the end" in line] == [f"At the end: {end}"]


def test_what_lies_behind_to_does_not_matter():
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    h = x * 2
    h.sum().backward()
    loss = (h * 3).sum()
    with pytest.raises(RuntimeError, match="already used up at 'mul'"):
        story(loss)
    assert list(story(loss, to=h).ends.values()) == ["[3, 3]"]


def test_levels():
    w = z2g.tensor(np.arange(1.0, 21.0).reshape(4, 5), requires_grad=True)
    loss = (w * w).sum()
    one, two, three = (str(story(loss, {"w": w}, level=level)) for level in (1, 2, 3))
    norm = f"{2 * np.sqrt((np.arange(1, 21) ** 2).sum()):.4g}"
    assert ["The norm of g is √Σg²." in text.splitlines()[0] for text in (one, two, three)] == [True, True, False]
    assert len(whole(one)) == 2 and f"w (4, 5): norm {norm} (+= of 2)" in one
    assert f"= (4, 5), norm {norm}, min 2, max 40" in two and "[" not in two.replace("[[1, 2, 3", "")
    assert "= [[2, 4, 6, 8, 10], [12, 14, 16, 18, 20], [22, 24, 26, 28, 30], [32, 34, 36, 38, 40]]" in three


def test_a_long_rule_is_shown_at_level_3_alone():
    loss = z2g.tensor([1.0, 2.0], requires_grad=True).mean()
    code = f"broadcast_to(spread(grad, dims, keepdim) {'/ n' if PLAIN else '* (1 / n)'}, shape)"
    assert code not in str(story(loss)) and (code in str(story(loss, level=3)) or sys.version_info < (3, 11))


def test_markdown(capsys):
    tensors = diamond()
    tensors["loss"].explain(tensors, markdown=True)
    page = capsys.readouterr().out.rstrip("\n")
    made = story(tensors["loss"], tensors)
    assert page == made.markdown() == made._repr_markdown_() and repr(made) == str(made)
    assert "\n### 2. mul → (2,)\n\n`z = x y.   ∂z/∂x = y,  ∂z/∂y = x`\n\n```\ngrad = [1, 1]" in page
    assert page.count("```") == 2 * (4 + 1) and page.count("\n### ") == 4 + 1
    short = story(tensors["loss"], tensors, level=1).markdown()
    assert short.count("```") == 4 and len(re.findall(r"^\d\. ", short, re.M)) == 4


def test_a_notebook_shows_the_page(kernel, capsys):
    """IPython is used only where a kernel runs; the text form stays text."""
    tensors = diamond()
    tensors["loss"].explain(tensors, markdown=True)
    assert capsys.readouterr().out == ""
    (shown,) = kernel.shown
    assert shown._repr_markdown_() == story(tensors["loss"], tensors).markdown()
    tensors["loss"].explain(tensors)
    kernel.get_ipython = lambda: None  # imported, but this is a plain program
    tensors["loss"].explain(tensors, markdown=True)
    assert len(kernel.shown) == 1 and capsys.readouterr().out.count("At the end") == 2


def test_a_gradient_to_start_with():
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    assert "x (2,): [30, 300]" in str(story(x * 3, {"x": x}, gradient=z2g.tensor([10.0, 100.0])))


# --- What repeats ------------------------------------------------------------------------------------------------


def unrolled(steps):
    """A recurrent net over so many steps: per step two products, two sums, tanh."""
    w, u, b = (z2g.tensor(np.linspace(-1, 1, n).reshape(shape), requires_grad=True)
               for n, shape in ((4, (2, 2)), (6, (3, 2)), (2, (2,))))  # fmt: skip
    x, h = z2g.ones(steps, 1, 3, dtype=z2g.float64), z2g.zeros(1, 2, dtype=z2g.float64)
    for t in range(steps):
        h = (x[t] @ u + h @ w + b).tanh()
    loss = h.square().mean()
    return locals()


@pytest.mark.parametrize("traced", [False, True])
def test_of_equal_steps_the_first_and_the_last_are_told_and_the_rest_counted(traced):
    tensors = {}
    with z2g.trace() if traced else contextlib.nullcontext():
        tensors = unrolled(40)
    made = story(tensors["loss"], tensors)
    text, all_of_it = str(made), str(story(tensors["loss"], tensors, level=3))
    assert len(text.splitlines()) < 150 < 1000 < len(all_of_it.splitlines())
    step, last = r"(?m)^(\d+)\. \w+ →", len(made.steps)
    assert last == 40 * 5 + 2 and re.findall(step, all_of_it) == [str(i + 1) for i in range(last)]
    shown = [int(i) for i in re.findall(step, text)]
    ((first_out, last_out, times, each),) = re.findall(
        r"(?m)^(\d+)\. \w+ … (\d+)\. \w+\n +(\d+) times the same (\d+) steps: add, add, matmul, matmul, tanh$", text
    )
    assert shown == [*range(1, int(first_out)), *range(int(last_out) + 1, last + 1)]
    assert int(times) * int(each) == int(last_out) - int(first_out) + 1 == 37 * 5
    assert "b (2,): " in text and re.search(r"\n +… 36 more\n", text) and " more\n" not in all_of_it
    assert "explain(level=3) tells all" in text and "level=3" not in all_of_it
    for chapter in (c for c in text.partition("At the end")[0].split("\n\n") if " → " in c):
        title, *_, last_line = chapter.splitlines()  # what is told of a step is what is told of it anyway
        assert any(c.startswith(title) and last_line.rpartition(" = ")[2] in c for c in all_of_it.split("\n\n"))
    assert f"### {first_out}. " in made.markdown()


def test_what_does_not_repeat_often_is_told():
    tensors = unrolled(3)
    made = story(tensors["loss"], tensors)
    assert "the same" not in str(made) and len(re.findall(r"(?m)^\d+\. \w+ →", str(made))) == len(made.steps)


@pytest.mark.parametrize("text, expected", [
    ("abcbcbcbcd", "a 4bc d"), ("aaa", "a a a"), ("aaaa", "4a"), ("", ""), ("abab" * 3, "6ab"),
    ("aaaab" * 4, "4aaaab"), ("xabcabcabcab", "x a b c a b c a b c a b"), ("aaaabbbbb", "4a 5b"),
])  # fmt: skip
def test_runs(text, expected):
    found = runs(text)
    words = [(str(r.times) if r.times > 1 else "") + text[r.start : r.start + r.length] for r in found]
    assert " ".join(words) == expected
    assert "".join(text[r.start : r.start + r.length] * r.times for r in found) == text


# --- Which input is which ----------------------------------------------------------------------------------------


@columns
@pytest.mark.parametrize(
    "operation, expected",
    [
        (lambda x, y: x * y.detach(), "∂L/∂x = grad * y"),
        (lambda x, y: x.detach() * y, "∂L/∂y = grad * x"),
        (lambda x, y: 2 * y, "∂L/∂x = grad * y"),  # as Python calls it: y.__rmul__(2)
        (lambda x, y: x.detach() / y, "∂L/∂y = -grad * (x / y) / y"),
        (lambda x, y: x.detach() @ y, f"∂L/∂y = {FOR_Y}"),
        (lambda x, y: x.detach() ** y, "∂L/∂y = "),
        (lambda x, y: F.linear(x.detach(), y), f"∂L/∂W = {FOR_W}"),
        (lambda x, y: F.linear(x.detach(), y.detach(), x[0]), "∂L/∂b = "),
        (lambda x, y: F.layer_norm(x.detach(), [2], y[0]), "∂L/∂w = "),
        (lambda x, y: F.layer_norm(x, [2], y[0].detach()), "∂L/∂x = "),
        (lambda x, y: F.mse_loss(x.detach(), y), "∂L/∂target = (target - input) * (grad * (2 / n))"),
        (lambda x, y: F.embedding(z2g.tensor([1]), y), "∂L/∂weight = "),
        pytest.param(
            lambda x, y: F.scaled_dot_product_attention(x.detach(), y, x.detach()),
            "∂L/∂k = ",
            marks=pytest.mark.fast,  # the plain form is made of others, which tell of themselves
        ),
        (lambda x, y: z2g.where(x > 1, x.detach(), y), "∂L/∂y = where(c, 0, grad)"),
        (lambda x, y: x.reshape(4), "∂L/∂x = grad.reshape(before)"),
        (lambda x, y: x[0], "∂L/∂x = "),
        (lambda x, y: F.conv1d(x.detach()[None], y[:, :, None]), "∂L/∂W = "),
    ],
)
def test_an_input_has_the_name_of_the_docstring(operation, expected):
    x, y = (z2g.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True) for _ in range(2))
    z = operation(x, y)
    made = story(z, gradient=z2g.ones_like(z))
    assert next(iter(made.steps.values())).sent[0][0].startswith(expected)
    assert next(iter(made.steps.values())).formula


V = np.array([1.0, 2.0, 3.0, 6.0])  # its mean is 3, its deviations -2, -1, 0, 3
M = np.array([[1.0, 2.0], [3.0, 5.0]])
P = np.exp(M) / np.exp(M).sum(1, keepdims=True)
R = 1 / np.sqrt(M.var(1) + 1e-5)


@pytest.mark.parametrize(
    "operation, input, expected",
    [
        (lambda x: x * x, V, {"x": V, "y": V}),
        (lambda x: x / x, V, {"x": V, "y": V}),
        (lambda x: x**2.5, V, {"x": V, "y": 2.5}),
        (lambda x: x @ x, M, {"x": M, "y": M}),
        (lambda x: x.expand(2, 2, 2) @ x, M, {"x": np.concatenate([M, M]), "y": M}),
        pytest.param(lambda x: x @ x, V, {"x": V, "y": V}, marks=pytest.mark.fast),  # the plain form reshapes it
        (lambda x: F.linear(x, x), M, {"x": M, "W": M}),
        (lambda x: z2g.maximum(x, x.flip(0)), V, {"x": V, "y": V[::-1]}),
        (lambda x: x.masked_fill(x > 2, 0.0), V, {"m": [0, 0, 1, 1]}),
        (lambda x: F.softplus(x), V, {"slope": 1 / (1 + np.exp(-V))}),
        (lambda x: F.gelu(x - x.detach()), V, {"x": np.zeros(4)} if PLAIN else {"slope": 0.5 * np.ones(4)}),
        (lambda x: F.embedding(z2g.tensor([1, 0]), x), M, {"ids": [1, 0]}),
        (lambda x: x.var(), V, {"d": V - 3}),
        (lambda x: x.std(), V, {"d": V - 3, "z": np.sqrt(14 / 3)}),
        (lambda x: x.norm(), V, {"x": V, "z": np.sqrt(50)}),
        (lambda x: x.mean(), V, {"n": 4}),
        (lambda x: x.softmax(1), M, {"p": P}),
        (lambda x: x.log_softmax(1), M, {"z": np.log(P)}),
        (lambda x: x.logsumexp(1), M, {"x": M, "z": np.log(np.exp(M).sum(1, keepdims=True))}),
        (lambda x: F.mse_loss(x, z2g.zeros_like(x)), V, {"input": V, "target": [0, 0, 0, 0], "n": 4}),
        (
            lambda x: F.cross_entropy(x, z2g.tensor([0, 1]), z2g.tensor([3.0, 1.0], dtype=z2g.float64)),
            M,
            {"slopes": (P - np.eye(2)) * [[3], [1]], "share": 1 / 4},
        ),
        (
            lambda x: F.layer_norm(x, [2], x[0]),
            M,
            {"x": M, "w": M[0], "eps": 1e-5}
            if PLAIN
            else {"n": (M - M.mean(1, keepdims=True)) * R[:, None], "r": R, "w": M[0]},
        ),
    ],
)
def test_the_numbers_have_the_names_of_the_formula_and_its_values(operation, input, expected):
    z = operation(z2g.tensor(input, requires_grad=True))
    made = story(z, gradient=z2g.ones_like(z))
    step = next(iter(made.steps.values()))
    step.values.pop("axis", None)  # where, not what
    assert step.values.keys() == expected.keys()
    for name, value in expected.items():
        assert re.search(rf"\b{name}(\b|ᵢ)", step.formula), step.formula
        shown = np.array(eval(step.values[name], {"True": 1, "False": 0}))
        np.testing.assert_allclose(shown.ravel(), np.ravel(value), rtol=6e-4, err_msg=name)


def test_the_rule_of_cross_entropy_is_that_of_its_mean():
    made = story(F.cross_entropy(z2g.tensor(M, requires_grad=True), z2g.tensor([0, 1])))
    rule = "(p - onehot(t)) / N" if PLAIN else "w[t] (p - onehot(t)) / Σ w[t] = slopes · share"
    assert rule in " ".join(str(made).split())


@pytest.mark.parametrize("op", TABLE, ids=lambda op: op.name)
def test_every_operation_can_be_explained(op):
    """What is told of the leaves is what backward then gives them, in each form and at each level."""

    def check(case, _):
        xs = leaves(case.inputs)
        outputs = [z for z in parts(bind(op, case)(*xs)) if z.is_floating_point() and z.requires_grad]
        if not outputs or outputs[0].node is None:
            return
        seed = cotangents(outputs[:1], np.random.default_rng(0))[0]
        seed = z2g.tensor(np.asarray(seed.array if hasattr(seed, "array") else seed))
        made = [story(outputs[0], gradient=seed, level=level) for level in (1, 2, 3)]
        assert all(str(s) and s.markdown() for s in made)
        outputs[0].backward(seed)
        for s in made:
            for leaf, text in s.ends.items():
                assert text == s.show(leaf.grad.array)
            assert set(s.ends) == {x for x in xs if x.grad is not None}

    holds(op, check, 3)


# --- Nothing changes ---------------------------------------------------------------------------------------------


def graph(root):
    """Every node with its edges and what it holds, for comparison by identity."""
    found, todo = {}, [root.node]
    while todo:
        node = todo.pop()
        if isinstance(node, Node) and node not in found:
            found[node] = [id(node.edges), id(node.joint), id(node.reads), node.asked, node.number]
            found[node] += [(id(target), id(rule)) for target, rule, _ in filter(None, node.edges)]
            todo += [edge[0] for edge in node.edges if edge is not None]
    return found


def test_graph_gradients_and_random_numbers_are_as_before(device):
    torn = {}
    for explained in (False, True):
        z2g.manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.LayerNorm(4), nn.Linear(4, 1))
        loss = model(z2g.randn(5, 3)).square().mean()
        model[0].weight.grad = z2g.ones_like(model[0].weight)
        if explained:
            before = graph(loss), copy.deepcopy(random.default_generator.numpy.bit_generator.state)
            versions = [p.memory.writes for p in model.parameters()]
            for level in (1, 2, 3):
                story(loss, model, level=level)
                story(loss, model, level=level, to=model[3].bias)
            assert graph(loss) == before[0]
            assert random.default_generator.numpy.bit_generator.state == before[1]
            assert versions == [p.memory.writes for p in model.parameters()]
            assert [p.grad is None for p in model.parameters()] == [False, *[True] * 5]
        loss.backward()
        torn[explained] = [p.grad.tolist() for p in model.parameters()], z2g.rand(3).tolist()
    assert torn[False] == torn[True]


def test_hooks_are_not_called_but_mentioned():
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    calls = []
    y.register_hook(calls.append)
    x.register_hook(calls.append)
    y.retain_grad()
    text = str(story(y.sum(), {"x": x}))
    story(y.sum(), to=x)
    story(y.sum(), to=y)
    assert calls == [] and y.grad is None and x.grad is None
    assert text.count("hooks") == 1 and "x (2,): [2, 2]" in text


def test_nothing_is_kept_alive():
    gc.disable()
    try:
        tensors = diamond()
        node = weakref.ref(tensors["c"].node)
        story(tensors["loss"], tensors)
        del tensors
        assert node() is None
    finally:
        gc.enable()


def test_a_story_can_be_read_after_backward():
    tensors = diamond()
    made = [story(tensors["loss"], tensors, level=level) for level in (1, 2)]
    before = [str(s) for s in made]
    tensors["loss"].backward()
    assert [str(s) for s in made] == before


def test_a_long_chain():
    x = z2g.tensor([1.0], requires_grad=True)
    y = x
    for _ in range(3000):  # deeper than Python's recursion
        y = y * 1.0
    assert len(whole(str(story(y, {"x": x}, level=1)))) == 3000


# --- Names -------------------------------------------------------------------------------------------------------

weight_of_the_module = z2g.tensor([2.0], requires_grad=True)


def test_names(capsys):
    model = nn.Sequential(nn.Linear(2, 1))
    loss = model(z2g.ones(1, 2)).sum()
    assert "0.weight (1, 2): [[1, 1]]" in str(story(loss, model))
    assert "net.0.weight (1, 2): " in str(story(loss, {"net": model, "loss": loss, "other": 3}))
    assert "x1 (1, 2): [[1, 1]]\n   x2 (1,): [1]" in str(story(loss))
    assert "x1 (1, 2): [[1, 1]]\n   b (1,): [1]" in str(story(loss, {"_": model[0].weight, "b": model[0].bias}))
    local = z2g.tensor([4.0], requires_grad=True)
    (weight_of_the_module * local).explain()  # without names: the variables of the caller, local and global
    out = capsys.readouterr().out
    assert "weight_of_the_module (1,): [4]" in out and "local (1,): [2]" in out
    alias = weight_of_the_module
    (alias * 3).explain()
    assert "alias (1,): [3]" in capsys.readouterr().out  # the local name counts


def test_the_small_gpt(device):
    model = GPT(GPTConfig(vocab_size=11, context=8, layers=2, heads=2, width=8))
    ids = z2g.randint(0, 11, (2, 8))
    with z2g.trace():
        _, loss = model(ids, ids)
    short = story(loss, model, level=1)
    n = sum(1 for _ in model.parameters())
    text = str(short)
    assert len(text.splitlines()) == len(short.steps) + n + 3 <= 90
    assert "_, loss" in str(story(loss, model)) and "[blocks.1.mlp.2: Linear]" in str(story(loss, model))
    rows = whole(text)
    for mark in (" → ", "grad norm ", "test_explain.py:"):  # columns stand below each other
        assert len({row.index(mark) for row in rows[1:]}) == 1
    assert len({re.match(r".*?test_explain\.py:\d+  \S+ +→ ", row).end() for row in rows}) == 1
    assert max(map(len, rows)) <= 160 and "blocks.1.attention.proj → 12. reshape, .weight, .bias" in text
    path = story(loss, model, level=1, to=model.position_embedding.weight)
    assert list(path.ends) == [model.position_embedding.weight]
    loss.backward()
    for name, p in model.named_parameters():
        (line,) = [line for line in text.splitlines() if line.startswith(f"   {name} (")]
        norm = np.linalg.norm(np.asarray(p.grad.tolist()))
        assert f": norm {norm:.4g}" in line or abs(float(line.split("norm ")[1].split()[0]) / norm - 1) < 1e-3
    assert re.search(r"^   token_embedding.weight .*\(\+= of 2\)$", text, re.M)  # it is tied to the head


def test_the_parameters_of_the_own_module_have_short_names_and_no_others_have():
    model = nn.Sequential(*[nn.Linear(1, 1) for _ in range(12)])
    model[10].weight = model[1].weight
    with z2g.trace():
        loss = model(z2g.ones(1, 1)).sum()
    rows = whole(str(story(loss, model, level=1)))
    assert "10 → 4. linear, 1.weight, .bias" in rows[2]
    assert "7  → 7. linear, .weight, .bias" in rows[5]  # step 7 is not a parameter of module 7
    rows = whole(str(story(loss, {"n10": model[10], "n1": model[1]}, level=1)))
    assert re.search(r" n1 +→ 13\. linear, n10\.weight, \.bias$", rows[11])


class Cube(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x)
        return x * x * x + y

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3 * x * x, grad


def test_an_operation_of_ones_own():
    x, y = (z2g.tensor([v], requires_grad=True) for v in (2.0, 5.0))
    for to, expected in ((None, ["[12]", "[1]"]), (y, ["[1]"])):
        made = story(Cube.apply(x, y).sum(), to=to)
        assert list(made.ends.values()) == expected and "The backward of this class" in str(made)


# --- Errors ------------------------------------------------------------------------------------------------------


def test_errors():
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    for rootless in (x, z2g.tensor(1.0), (x * 2).detach()):
        with pytest.raises(RuntimeError, match="has no history"):
            rootless.explain()
    loss = (x * 2).sum()
    with pytest.raises(ValueError, match=r"level must be 1 .*got 4"):
        loss.explain(level=4)
    for wrong, kind in ((x, "Tensor"), (2, "int"), ("w", "str")):
        with pytest.raises(TypeError, match=rf"names must be .* got {kind}; to follow one tensor: explain\(to=w\)"):
            loss.explain(wrong)
    with pytest.raises(TypeError, match="`to` must be a Tensor, got str"):
        loss.explain(to="x")
    with pytest.raises(RuntimeError, match=r"no path leads from here to `to`, .* \(3,\), which does not"):
        loss.explain(to=z2g.ones(3))
    with pytest.raises(RuntimeError, match="no path leads from here"):
        loss.explain(to=x * 3)
    with pytest.raises(RuntimeError, match="no path leads from here"):
        loss.explain(to=loss)
    with pytest.raises(RuntimeError, match="scalar"):
        (x * 2).explain()
    loss.backward()
    with pytest.raises(RuntimeError, match="already used up at 'sum' by backward"):
        loss.explain()


def test_a_tensor_that_was_changed_in_place():
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    loss = (y * y).sum()
    y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.explain()


# --- Trace -------------------------------------------------------------------------------------------------------


def test_trace_notes_the_line_and_only_while_it_is_on():
    x = z2g.tensor([1.0], requires_grad=True)
    before = x * 2
    with z2g.trace():
        y = x.exp()  # this line
        with z2g.trace(False):
            quiet = x * 3
        loud = x * 4
    after = x * 5
    assert "test_explain.py" in str(y.node.site) and str(y.node.site).endswith("y = x.exp()  # this line")
    assert [hasattr(z.node, "site") for z in (before, quiet, loud, after)] == [False, False, True, False]
    assert observers == []


def test_trace_as_a_statement_and_beside_anomaly_detection():
    x = z2g.tensor([1.0, 4.0], requires_grad=True)
    try:
        z2g.trace()
        z2g.trace()
        with detect_anomaly():
            y = x.sqrt()
            loss = y.sum()
            with pytest.raises(RuntimeError, match="'log' made nan"):
                (x - 2).log()
        assert len(observers) == 1
        text = str(story(loss, {"x": x}))
    finally:
        z2g.trace(False)
    assert observers == [] and "x (2,): [0.5, 0.25]" in text
    assert "grad / (2 * z)" in text or sys.version_info < (3, 11)  # through the wrapper of anomaly detection


def test_trace_knows_the_module_and_does_not_keep_it_alive():
    class Net(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(2, 2)

        def forward(self, x):
            return self.fc(x).tanh()

    net = Net()
    with z2g.trace():
        loss = net(z2g.ones(1, 2)).sum()
    told_net = str(story(loss, {"net": net}))
    assert "[net.fc: Linear]" in told_net and "[net: Net]" in told_net
    assert told_net.count("self.fc(x)") == 2 and told_net.count("loss = ‹net(") == 1  # linear, tanh; sum
    alive = weakref.ref(net)
    del net
    gc.collect()
    assert alive() is None and "[Linear]" not in str(story(loss))


def test_a_program_beside_the_package_is_no_part_of_it():
    program = compile("y = x.exp()", f"{PACKAGE.rstrip(os.sep)}_experiments/train.py", "exec")
    space = {"x": z2g.tensor([1.0], requires_grad=True)}
    with z2g.trace():
        exec(program, space)
    assert str(space["y"].node.site).startswith(f"in {PACKAGE.rstrip(os.sep)}_experiments/train.py, line 1")


def test_the_lines_of_a_loop():
    h = z2g.tensor([0.5], requires_grad=True)
    with z2g.trace():
        for _ in itertools.repeat(None, 3):
            h = h.sin() * 2
    lines = [node.site.line for node in story(h, level=1).steps]
    assert len(lines) == 6 and len(set(lines)) == 1
