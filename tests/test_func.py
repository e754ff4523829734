"""`z2g.func` and `autograd.functional`: derivatives as functions. Every number is worked out by hand; those of the
structures and of `requires_grad` were compared with torch 2.13 once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_z2g as z2g
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g import Tensor, nn
from tinygrad_z2g.autograd import functional
from tinygrad_z2g.func import (
    functional_call,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    value_and_grad,
    vjp,
    vmap,
)


def t(values: Any) -> Tensor:
    return z2g.tensor(values, dtype=z2g.float64)


def cubes(x: Tensor) -> Tensor:
    return (x**3).sum()


def numbers(tree: Any) -> Any:
    """A tree of tensors as numbers in lists; tuples stay tuples."""
    if isinstance(tree, dict):
        return {key: numbers(value) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(numbers(part) for part in tree)
    return tree.tolist() if isinstance(tree, Tensor) else tree


# --- grad ------------------------------------------------------------------------------------------------------------


def test_grad_of_one_argument_and_of_several(device: str) -> None:
    def f(x: Tensor, y: Tensor) -> Tensor:
        return (x * x * y).sum()

    x, y = t([1.0, 2.0]), t([3.0, 5.0])
    assert numbers(grad(f)(x, y)) == [6, 20]
    assert numbers(grad(f, 1)(x, y)) == numbers(grad(f, argnums=-1)(x, y)) == [1, 4]
    assert numbers(grad(f, (0, 1))(x, y)) == ([6, 20], [1, 4])
    assert numbers(grad(f, (1,))(x, y)) == ([1, 4],)
    assert numbers(grad(lambda x, *, n: (x * n).sum())(x, n=3)) == [3, 3]
    assert x.grad is None and not x.requires_grad


def test_values_and_what_is_returned_beside_them() -> None:
    x = t([1.0, 2.0])
    assert numbers(grad_and_value(cubes)(x)) == ([3, 12], 9)
    assert numbers(value_and_grad(cubes)(x)) == (9, [3, 12])

    def f(x: Tensor) -> tuple[Tensor, dict]:
        return cubes(x), {"twice": x * 2, "name": "f"}

    aux = {"twice": [2, 4], "name": "f"}
    found = grad(f, has_aux=True)(x)
    assert numbers(found) == ([3, 12], aux) and not found[1]["twice"].requires_grad
    assert numbers(grad_and_value(f, has_aux=True)(x)) == ([3, 12], (9, aux))
    assert numbers(value_and_grad(f, has_aux=True)(x)) == ((9, aux), [3, 12])


class Point(NamedTuple):
    x: Tensor
    y: Tensor


def test_arguments_may_be_trees() -> None:
    x = t([1.0, 2.0])
    given = {"a": x, "b": [t([3.0, 4.0]), (x,)], "p": Point(x, x)}
    found = grad(lambda p: (p["a"] * p["b"][0]).sum() + p["b"][1][0].sum() + (p["p"].x * p["p"].y).sum())(given)
    assert numbers({k: found[k] for k in "ab"}) == {"a": [3, 4], "b": [[1, 2], ([1, 1],)]}
    assert isinstance(found["p"], Point) and found["p"].y.tolist() == [1, 2]


def test_an_argument_without_part_has_gradient_zero() -> None:
    assert numbers(grad(lambda x, y: y.sum(), (0, 1))(t([1.0, 2.0]), t([3.0]))) == ([0, 0], [1])
    assert numbers(grad(lambda x: t(3.0))(t([1.0, 2.0]))) == [0, 0]


def test_transforms_nest(device: str) -> None:
    f = lambda x: (x**4).sum()  # noqa: E731
    x = t([1.0, 2.0])
    second = lambda x: grad(lambda x: grad(f)(x).sum())(x)  # noqa: E731
    assert numbers(second(x)) == [12, 48]
    assert numbers(grad(lambda x: second(x).sum())(x)) == [24, 48]
    inner = grad(lambda x, y: (x * y * y).sum(), 1)  # by y first, then by x: 2 y
    assert numbers(grad(lambda x: inner(x, t([3.0, 5.0])).sum())(x)) == [6, 10]


def test_perturbations_are_not_confused() -> None:
    """d/dx (x · d/dy (x + y)) = 1 at every x: the inner derivative knows its own y (Siskind & Pearlmutter 2005)."""
    assert grad(lambda x: x * grad(lambda y: x + y)(t(1.0)))(t(1.0)).item() == 1
    assert grad(lambda x: x * grad(lambda y: x * y)(x))(t(3.0)).item() == 6  # x · x
    assert jvp(lambda x: x * jvp(lambda y: x + y, (t(1.0),), (t(1.0),))[1], (t(1.0),), (t(1.0),))[1].item() == 1


def test_histories_from_outside_go_through(device: str) -> None:
    """What f uses, and what it is given, may require grad: then so does the result, and backward reaches both."""
    w, x = t([3.0, 5.0]).requires_grad_(), t([1.0, 2.0]).requires_grad_()
    g = grad(lambda x: (x * x * w).sum())(x)
    g.sum().backward()  # Σ 2 x w
    assert w.grad.tolist() == [2, 4] and x.grad.tolist() == [6, 10]
    assert not grad(cubes)(t([1.0])).requires_grad
    assert not grad(lambda y: (x.detach() * y).sum())(t([1.0, 1.0])).requires_grad
    assert hessian(lambda x: (x**3 * w).sum())(t([1.0, 1.0])).requires_grad


def test_under_no_grad_outside_and_inside() -> None:
    x = t([2.0]).requires_grad_()
    with z2g.no_grad():
        g = grad(cubes)(x)
        assert g.tolist() == [12] and not g.requires_grad and not z2g.is_grad_enabled()

    def f(x: Tensor) -> Tensor:
        with z2g.no_grad():
            c = x * x
        return (c * x).sum()

    assert grad(f)(x).tolist() == [4]


def test_results_are_the_callers_own() -> None:
    x = t([1.0, 2.0])
    a, b = grad(lambda x, y: (x + y).sum(), (0, 1))(x, x)
    a.mul_(10)
    assert b.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="expected the function to return a Tensor without dimensions, got shape"):
        grad(lambda x: x)(x)
    with pytest.raises(RuntimeError, match="got int"):
        grad(lambda x: 3)(x)
    with pytest.raises(RuntimeError, match=r"argnums 2 does not name one of 1 positional"):
        grad(cubes, 2)(x)
    with pytest.raises(RuntimeError, match="names an argument twice"):
        grad(cubes, (0, -1))(x)
    with pytest.raises(RuntimeError, match=r"a pair \(output, aux\)"):
        grad(cubes, has_aux=True)(x)
    with pytest.raises(TypeError, match="made of Tensors, got float"):
        grad(cubes)(3.0)
    with pytest.raises(RuntimeError, match="floating-point inputs to differentiate, got int64"):
        grad(cubes)(z2g.tensor([1, 2]))


# --- Products with Jacobians -----------------------------------------------------------------------------------------


def test_vjp(device: str) -> None:
    x, y = t([1.0, 2.0]), t([3.0, 5.0])
    (product, total), pull = vjp(lambda x, y: (x * y, x.sum()), x, y)
    assert (numbers(product), numbers(total)) == ([3, 10], 3) and not product.requires_grad
    assert numbers(pull((t([1.0, 10.0]), t(100.0)))) == ([103, 150], [1, 20])
    assert numbers(pull((t([0.0, 0.0]), t(1.0)))) == ([1, 1], [0, 0])  # as often as one likes
    z, pull, aux = vjp(lambda x: (x * x, x + 1), x, has_aux=True)
    assert numbers((z, pull(t([1.0, 1.0])), aux)) == ([1, 4], ([2, 4],), [2, 3])
    assert numbers(vjp(lambda x: x, x)[1](y)) == ([3, 5],)
    with pytest.raises(RuntimeError, match=r"cotangents have the shapes \[\(\)\], expected \[\(2,\)\]"):
        pull(t(1.0))


def test_vjp_within_grad() -> None:
    """Σ vᵀ J of x³ is 3 x² v: its slope is 6 x v."""
    f = lambda x: vjp(lambda x: x**3, x)[1](t([1.0, 10.0]))[0].sum()  # noqa: E731
    assert numbers(grad(f)(t([1.0, 2.0]))) == [6, 120]


def test_jvp(device: str) -> None:
    x, y, s = t([1.0, 2.0]), t([3.0, 5.0]), t([10.0, 1.0])
    z, moved = jvp(lambda x, y: (x * y, x.sum(), 3 * y), (x, y), (s, t([0.0, 1.0])))
    assert numbers(z) == ([3, 10], 3, [9, 15]) and numbers(moved) == ([30, 5 + 2], 11, [0, 3])
    assert numbers(jvp(lambda x: (x * x, x + 1), (x,), (s,), has_aux=True)) == ([1, 4], [20, 4], [2, 3])
    assert numbers(jvp(lambda x: x, (x,), (s,))) == ([1, 2], [10, 1])
    assert numbers(jvp(lambda x: t([7.0]), (x,), (s,))) == ([7], [0])
    assert numbers(grad(lambda x: jvp(cubes, (x,), (s,))[1])(x)) == [60, 12]  # 6 x s
    assert numbers(grad(lambda s: jvp(cubes, (x,), (s,))[1])(s)) == [3, 12]  # 3 x²
    with pytest.raises(RuntimeError, match="tangents have the shapes"):
        jvp(cubes, (x,), (t(1.0),))
    with pytest.raises(RuntimeError, match="as tuples"):
        jvp(cubes, x, s)


@pytest.mark.parametrize("jacobian", [jacrev, jacfwd])
def test_jacobians_by_rows_and_by_columns(jacobian: Any, device: str) -> None:
    x, y = t([1.0, 2.0]), t([3.0, 5.0, 7.0])
    assert numbers(jacobian(lambda x: x * x.sum())(x)) == [[4, 1], [2, 5]]
    f = lambda x, y: (z2g.outer(x, y), x.sum())  # noqa: E731
    (outer_x, outer_y), (sum_x, sum_y) = jacobian(f, (0, 1))(x, y)
    assert outer_x.shape == (2, 3, 2) and outer_y.shape == (2, 3, 3)
    assert numbers(outer_x) == [[[3, 0], [5, 0], [7, 0]], [[0, 3], [0, 5], [0, 7]]]
    assert numbers(outer_y) == [np.eye(3).tolist(), (2 * np.eye(3)).tolist()]
    assert numbers((sum_x, sum_y)) == ([1, 1], [0, 0, 0])
    assert numbers(jacobian(lambda x: {"a": x * 2, "b": [x.sum()]})(x)) == {"a": [[2, 0], [0, 2]], "b": [[1, 1]]}
    assert numbers(jacobian(lambda x: (x * 2, x + 1), has_aux=True)(x)) == ([[2, 0], [0, 2]], [2, 3])
    assert jacobian(lambda x: x[:0])(x).shape == (0, 2) and jacobian(lambda x: z2g.cat([x, y]))(x[:0]).shape == (3, 0)
    assert numbers(jacobian(jacobian(lambda x: x**3))(x)) == [[[6, 0], [0, 0]], [[0, 0], [0, 12]]]
    assert numbers(jacobian(lambda x: x)(t(2.0))) == 1


def test_hessian(device: str) -> None:
    """f = x₀² x₁ + x₂³: ((2 x₁, 2 x₀, 0), (2 x₀, 0, 0), (0, 0, 6 x₂))."""
    x = t([1.0, 2.0, 3.0])
    expected = [[4, 2, 0], [2, 0, 0], [0, 0, 18]]
    f = lambda x: x[0] ** 2 * x[1] + x[2] ** 3  # noqa: E731
    assert numbers(hessian(f)(x)) == expected
    assert numbers(jacrev(grad(f))(x)) == numbers(jacfwd(jacfwd(f))(x)) == expected
    g = lambda x, y: (x * y * y).sum()  # noqa: E731
    blocks = hessian(g, (0, 1))(t([2.0]), t([3.0]))
    assert numbers(blocks) == (([[0]], [[6]]), ([[6]], [[4]]))


# --- Batches, and modules as functions -------------------------------------------------------------------------------


def test_vmap(device: str) -> None:
    A, x = t([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), t([1.0, 10.0])
    assert numbers(vmap(lambda a: a.sum())(A)) == [3, 7, 11]
    assert numbers(vmap(lambda a: a.sum(), in_dims=1)(A)) == numbers(vmap(lambda a: a.sum(), in_dims=-1)(A)) == [9, 12]
    assert numbers(vmap(z2g.dot, in_dims=(0, None))(A, x)) == [21, 43, 65]
    assert numbers(vmap(lambda a: a, out_dims=1)(A)) == A.t().tolist() == numbers(vmap(lambda a: a, out_dims=-1)(A))
    assert numbers(vmap(lambda a: (a, a.sum()), out_dims=(1, 0))(A)) == (A.t().tolist(), [3, 7, 11])
    assert numbers(vmap(lambda a: (a, x), out_dims=(0, None))(A)) == (A.tolist(), [1, 10])
    tree = vmap(lambda p, n: {"z": p["a"] * p["b"] * n}, in_dims=({"a": 0, "b": None}, None))({"a": A, "b": x}, 2)
    assert numbers(tree) == {"z": [[2, 40], [6, 80], [10, 120]]}
    assert numbers(vmap(vmap(lambda a, b: a * b, (None, 0)), (0, None))(x, t([1.0, 2.0]))) == [[1, 2], [10, 20]]
    assert numbers(vmap(grad(cubes))(A)) == (3 * np.array(A.tolist()) ** 2).tolist()
    B = A.clone().requires_grad_()
    vmap(cubes)(B).sum().backward()
    assert B.grad.tolist() == (3 * np.array(A.tolist()) ** 2).tolist()


def test_vmap_refuses_what_it_cannot_know() -> None:
    A = t([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    with pytest.raises(ValueError, match=r"expected one batch size, got \[2, 3\]"):
        vmap(z2g.dot, in_dims=(0, 1))(A, A)
    with pytest.raises(ValueError, match="no batched argument"):
        vmap(z2g.dot, in_dims=None)(A, A)
    with pytest.raises(ValueError, match="2 entries for 1 arguments"):
        vmap(cubes, in_dims=(0, 1))(A)
    with pytest.raises(ValueError, match="in_dims says 0 for a float"):
        vmap(lambda a, b: a * b)(A, 2.0)
    with pytest.raises(ValueError, match=r"in_dims says 2 for a Tensor of shape \(3, 2\)"):
        vmap(cubes, in_dims=2)(A)
    with pytest.raises(ValueError, match="does not have the structure"):
        vmap(lambda a: a, in_dims=((0, 0),))(A)
    with pytest.raises(ValueError, match=r"out_dims .* does not have the structure"):
        vmap(lambda a: a, out_dims=(0, 0))(A)
    with pytest.raises(ValueError, match="the batch is empty"):
        vmap(cubes)(A[:0])
    with pytest.raises(TypeError, match="results made of Tensors, got float"):
        vmap(lambda a: 3.0)(A)
    with pytest.raises(ValueError, match="'error', 'different' or 'same', got 'maybe'"):
        vmap(cubes, randomness="maybe")


def test_vmap_and_chance() -> None:
    A = z2g.ones(8, 50)
    for draw in (lambda a: F.dropout(a, 0.5), lambda a: a + z2g.randn(50)):
        with pytest.raises(RuntimeError, match="draws random numbers; say randomness="):
            vmap(draw)(A)
        different, same = vmap(draw, randomness="different")(A), vmap(draw, randomness="same")(A)
        assert not z2g.equal(different[0], different[1])
        assert all(z2g.equal(same[0], row) for row in same)


class Tied(nn.Module):
    """One weight in two places, one in a list, and a buffer."""

    def __init__(self) -> None:
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight
        self.scales = [nn.Parameter(z2g.ones(2)), nn.Parameter(z2g.ones(2))]
        self.register_buffer("shift", z2g.zeros(2))

    def forward(self, x: Tensor, times: float = 1.0) -> Tensor:
        return self.second(self.first(x)) * self.scales[0] * times + self.shift


def test_functional_call(device: str) -> None:
    module = Tied()
    before = dict(module.named_parameters())
    double = {"first.weight": z2g.eye(2) * 2}
    x = z2g.tensor([1.0, 10.0])
    assert functional_call(module, double, x).tolist() == functional_call(module, double, (x,)).tolist() == [4, 40]
    given = [double, {"scales.0": z2g.tensor([1.0, 3.0]), "shift": z2g.tensor([0.5, 0.5])}]
    assert functional_call(module, given, (x,), {"times": 2.0}).tolist() == [8.5, 240.5]
    apart = {**double, "second.weight": z2g.eye(2)}
    assert functional_call(module, apart, x).tolist() == [2, 20]
    with z2g.no_grad():
        module.first.weight.copy_(z2g.eye(2))
    assert functional_call(module, double, x, tie_weights=False).tolist() == [2, 20]
    assert all(before[name] is p for name, p in module.named_parameters()) and module.shift.tolist() == [0, 0]
    slopes = grad(lambda p, x: functional_call(module, p, x).sum())(double, x)
    assert slopes["first.weight"].tolist() == [[4, 40], [4, 40]]  # W W x, W = 2: twice 2 x
    assert module.first.weight.grad is None


def test_functional_call_restores_the_module_and_names_mistakes() -> None:
    module = Tied()
    weight = module.first.weight
    with pytest.raises(RuntimeError, match=r"expected \(\.\.\., in\) and \(out, in\)"):
        functional_call(module, {"first.weight": z2g.ones(3, 3)}, z2g.ones(2))
    assert module.first.weight is weight is module.second.weight
    with pytest.raises(RuntimeError, match=r"Tied has no parameters or buffers \['first.bias'\]"):
        functional_call(module, {"first.bias": z2g.ones(2)}, z2g.ones(2))
    with pytest.raises(RuntimeError, match=r"strict, and \['scales.0', 'scales.1', .*'shift'\] are not given"):
        functional_call(module, {"first.weight": weight}, z2g.ones(2), strict=True)
    with pytest.raises(ValueError, match="given in two of the dicts"):
        functional_call(module, [{"shift": z2g.ones(2)}] * 2, z2g.ones(2))
    with pytest.raises(TypeError, match="'shift' is a float, expected a Tensor"):
        functional_call(module, {"shift": 1.0}, z2g.ones(2))
    with pytest.raises(TypeError, match="expected a dict from names to Tensors, got Tensor"):
        functional_call(module, z2g.ones(2), z2g.ones(2))


def test_gradients_per_example() -> None:
    """vmap of grad of functional_call: what a loop over the examples gives."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    params = {name: p.detach() for name, p in model.named_parameters()}
    X, Y = t([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]]), t([[1.0], [0.0], [2.0]])
    loss = lambda p, x, y: F.mse_loss(functional_call(model, p, x), y)  # noqa: E731
    each = vmap(grad(loss), in_dims=(None, 0, 0))(params, X, Y)
    for i in range(3):
        model.zero_grad()
        F.mse_loss(model(X[i]), Y[i]).backward()
        for name, p in model.named_parameters():
            np.testing.assert_allclose(each[name][i].tolist(), p.grad.tolist(), rtol=1e-12)


# --- autograd.functional ---------------------------------------------------------------------------------------------


def test_functional_jacobian_and_hessian(device: str) -> None:
    x, y = t([1.0, 2.0]), t([3.0, 5.0])
    for options in ({}, {"vectorize": True}, {"strategy": "forward-mode", "vectorize": True}):
        assert numbers(functional.jacobian(lambda x: x * x.sum(), x, **options)) == [[4, 1], [2, 5]]
        both = functional.jacobian(lambda x, y: (x * y, x.sum()), (x, y), **options)
        assert numbers(both) == (([[3, 0], [0, 5]], [[1, 0], [0, 2]]), ([1, 1], [0, 0]))
    assert numbers(functional.jacobian(lambda x: x * 2, (x,))) == ([[2, 0], [0, 2]],)
    assert numbers(functional.jacobian(lambda x: (x * 2,), x)) == ([[2, 0], [0, 2]],)
    assert numbers(functional.hessian(cubes, x)) == [[6, 0], [0, 12]]
    assert numbers(functional.hessian(cubes, x, outer_jacobian_strategy="forward-mode")) == [[6, 0], [0, 12]]
    mixed = functional.hessian(lambda x, y: (x * y * y).sum(), (x[:1], y[:1]))
    assert numbers(mixed) == (([[0]], [[6]]), ([[6]], [[2]]))


def test_functional_products(device: str) -> None:
    x, y, v = t([1.0, 2.0]), t([3.0, 5.0]), t([1.0, 10.0])
    f = lambda x: x * x.sum()  # noqa: E731  J = ((4, 1), (2, 5))
    assert numbers(functional.vjp(f, x, v)) == ([3, 6], [24, 51])
    assert numbers(functional.jvp(f, x, v)) == ([3, 6], [14, 52])
    assert numbers(functional.vjp(cubes, x)) == (9, [3, 12])  # v may be left out for one number
    assert numbers(functional.jvp(lambda x: x * y, t(2.0))) == ([6, 10], [3, 5])
    assert numbers(functional.hvp(cubes, x, v)) == numbers(functional.vhp(cubes, x, v)) == (9, [6, 120])
    g = lambda x, y: (x * y * y).sum()  # noqa: E731  g_xy = 2 y, g_yy = 2 x
    assert numbers(functional.hvp(g, (x, y), (v, t([1.0, 0.0])))) == (59, ([6, 0], [6 + 2, 100]))
    with pytest.raises(RuntimeError, match="v may only be left out where it is one number"):
        functional.vjp(f, x)
    with pytest.raises(RuntimeError, match=r"v has the shapes \[\(\)\], expected \[\(2,\)\]"):
        functional.hvp(cubes, x, t(1.0))
    with pytest.raises(RuntimeError, match="one Tensor with one element"):
        functional.hvp(f, x, v)
    with pytest.raises(TypeError, match="the outputs to be a Tensor or a tuple of Tensors, got int"):
        functional.jacobian(lambda x: 3, x)
    with pytest.raises(ValueError, match="strategy is"):
        functional.jacobian(f, x, strategy="sideways")


def test_functional_create_graph() -> None:
    x = t([1.0, 2.0]).requires_grad_()
    j = functional.jacobian(lambda x: x**3, x, create_graph=True)
    j.sum().backward()
    assert x.grad.tolist() == [6, 12]
    assert not functional.jacobian(lambda x: x**3, x).requires_grad
    value, product = functional.hvp(lambda x: (x**4).sum(), x, t([1.0, 1.0]), create_graph=True)
    assert value.requires_grad and product.requires_grad
    assert z2g.autograd.grad(product.sum(), x)[0].tolist() == [24, 48]
    assert functional.hessian(lambda x: (x**4).sum(), x, create_graph=True).requires_grad
    with z2g.no_grad():
        assert functional.jacobian(lambda x: x**3, x).tolist() == [[3, 0], [0, 12]]


def test_functional_strict() -> None:
    x, y = t([1.0, 2.0]), t([3.0, 5.0])
    assert numbers(functional.jacobian(lambda x, y: x, (x, y))[1]) == [[0, 0], [0, 0]]
    with pytest.raises(RuntimeError, match="jacobian: output 0 does not depend on input 1, which strict forbids"):
        functional.jacobian(lambda x, y: x, (x, y), strict=True)
    assert numbers(functional.hvp(lambda x: x.sum(), x, y)) == (3, [0, 0])
    with pytest.raises(RuntimeError, match="the gradient of input 0 does not depend on input 0"):
        functional.hvp(lambda x: x.sum(), x, y, strict=True)
    assert numbers(functional.jacobian(lambda x: x * 2, x, strict=True)) == [[2, 0], [0, 2]]
