"""Distributions: densities against their formulas in NumPy, sums to 1, samples against means, divergences against
sums."""

import math

import numpy as np
import pytest
from numeric import check_grad, host

import tinygrad_z2g as z2g
from tinygrad_z2g import distributions as D

T = z2g.tensor
DOUBLE = {"dtype": z2g.float64}


def double(*values):
    return T(values if len(values) > 1 else values[0], **DOUBLE)


def gamma(x):
    return math.gamma(x)


CONTINUOUS = {  # a distribution, its density, where it lives
    "Normal": (lambda: D.Normal(double(0.5), double(2.0)),
               lambda x: np.exp(-((x - 0.5) ** 2) / 8) / (2 * math.sqrt(2 * math.pi)), (-16, 17)),
    "LogNormal": (lambda: D.LogNormal(double(0.1), double(0.5)),
                  lambda x: np.exp(-((np.log(x) - 0.1) ** 2) / 0.5) / (0.5 * x * math.sqrt(2 * math.pi)), (1e-6, 40)),
    "Uniform": (lambda: D.Uniform(double(-1.0), double(3.0)), lambda x: np.full_like(x, 0.25), (-1 + 1e-9, 3 - 1e-9)),
    "Exponential": (lambda: D.Exponential(double(1.5)), lambda x: 1.5 * np.exp(-1.5 * x), (0, 25)),
    "Laplace": (lambda: D.Laplace(double(0.5), double(0.75)),
                lambda x: np.exp(-np.abs(x - 0.5) / 0.75) / 1.5, (-20, 21)),
    "Gamma": (lambda: D.Gamma(double(2.5), double(1.5)),
              lambda x: 1.5**2.5 * x**1.5 * np.exp(-1.5 * x) / gamma(2.5), (1e-9, 30)),
    "Chi2": (lambda: D.Chi2(double(5.0)), lambda x: x**1.5 * np.exp(-x / 2) / (2**2.5 * gamma(2.5)), (1e-9, 80)),
    "Beta": (lambda: D.Beta(double(2.0), double(3.5)),
             lambda x: x * (1 - x) ** 2.5 * gamma(5.5) / (gamma(2.0) * gamma(3.5)), (1e-9, 1 - 1e-9)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTINUOUS)
def test_density_moments_entropy(name):
    """log_prob is the formula; it integrates to 1, to the mean, the variance, the entropy and to cdf."""
    make, density, (low, high) = CONTINUOUS[name]
    p = make()
    x = np.linspace(low, high, 400_001)
    found = np.exp(host(p.log_prob(T(x))))
    np.testing.assert_allclose(found, density(x), rtol=1e-9, atol=1e-300)

    def integral(f):
        return np.trapezoid(f, x)

    assert integral(found) == pytest.approx(1, abs=1e-5)
    mean = integral(x * found)
    assert p.mean.item() == pytest.approx(mean, abs=2e-5)
    assert p.variance.item() == pytest.approx(integral((x - mean) ** 2 * found), rel=1e-4)
    assert p.stddev.item() == pytest.approx(math.sqrt(p.variance.item()))
    surprise = np.where(found > 0, found * np.log(found + 1e-300), 0)
    assert p.entropy().item() == pytest.approx(-integral(surprise), abs=1e-4)
    assert p.perplexity().item() == pytest.approx(math.exp(p.entropy().item()))
    if name in ("Gamma", "Chi2", "Beta"):
        with pytest.raises(NotImplementedError, match="cdf"):
            p.cdf(T(1.0))
        return
    at = x[250_000]
    share = p.cdf(double(float(at)))
    assert share.item() == pytest.approx(np.trapezoid(found[:250_001], x[:250_001]), abs=1e-5)
    assert p.icdf(share).item() == pytest.approx(at, rel=1e-6)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_samples(device, name):
    p = CONTINUOUS[name][0]()
    z2g.manual_seed(1)
    drawn = p.sample((4000,))
    assert drawn.shape == (4000,) and drawn.dtype == z2g.float64 and not drawn.requires_grad
    assert drawn.device == p.mean.device
    assert host(drawn).mean() == pytest.approx(p.mean.item(), abs=5 * p.stddev.item() / math.sqrt(4000))
    z2g.manual_seed(1)
    assert np.array_equal(host(p.sample((4000,))), host(drawn))
    if not p.has_rsample:
        with pytest.raises(NotImplementedError, match="sample"):
            p.rsample()


def test_gradients_reach_the_parameters_through_samples():
    def seeded(kind):
        def f(a, b):
            z2g.manual_seed(3)
            return kind(a, b).rsample((2,))

        return f

    a, b = np.array([0.5, -0.25]), np.array([1.5, 0.75])
    kinds = D.Normal, D.LogNormal, D.Laplace, lambda a, b: D.Uniform(a, a + b), lambda a, b: D.Exponential(a * a + b)
    for kind in kinds:
        check_grad(seeded(kind), [a, b])


@pytest.mark.parametrize("kind, arrays, value", [
    (D.Normal, [[0.5, 1.0], [1.5, 0.5]], [0.3, 2.0]), (D.Laplace, [[0.5, 1.0], [1.5, 0.5]], [0.3, 2.0]),
    (D.Gamma, [[0.5, 2.0], [1.5, 0.5]], [0.3, 2.0]), (D.Beta, [[0.5, 2.0], [1.5, 0.5]], [0.3, 0.6]),
    (D.Dirichlet, [[0.5, 2.0, 1.0]], [0.3, 0.6, 0.1]), (D.Categorical, [[0.5, 2.0, 1.0]], 1),
    (lambda x: D.Categorical(logits=x), [[0.5, 2.0, -1.0]], 1), (D.Bernoulli, [[0.25, 0.75]], [1.0, 0.0]),
    (lambda x: D.Bernoulli(logits=x), [[0.25, -0.75]], [1.0, 0.0]), (D.Poisson, [[0.5, 2.0]], [1.0, 3.0]),
    (D.Geometric, [[0.25, 0.75]], [2.0, 0.0]), (D.Exponential, [[0.5, 2.0]], [1.0, 3.0]),
])  # fmt: skip
def test_gradients_of_log_prob_and_entropy(kind, arrays, value):
    value = T(np.array(value))
    arrays = [np.array(a) for a in arrays]
    check_grad(lambda *xs: kind(*xs).log_prob(value), arrays)
    if kind in (D.Normal, D.Laplace):  # whose entropy does not depend on where they are
        check_grad(lambda b: kind(0.0, b).entropy(), arrays[1:])
    elif kind is not D.Poisson:
        check_grad(lambda *xs: kind(*xs).entropy(), arrays)


def test_categorical(device):
    weights = double(1.0, 3.0, 4.0)
    p = D.Categorical(weights)
    np.testing.assert_allclose(host(p.probs), [0.125, 0.375, 0.5])
    np.testing.assert_allclose(host(p.log_prob(T([2, 0]))), np.log([0.5, 0.125]))
    assert p.entropy().item() == pytest.approx(-sum(q * math.log(q) for q in (0.125, 0.375, 0.5)))
    q = D.Categorical(logits=z2g.zeros(2, 3, 4))
    assert q.batch_shape == (2, 3) and q.sample((5,)).shape == (5, 2, 3) and q.sample().dtype == z2g.int64
    counts = np.bincount(host(p.sample((8000,))), minlength=3) / 8000
    np.testing.assert_allclose(counts, [0.125, 0.375, 0.5], atol=0.03)
    assert p.expand((4,)).batch_shape == (4,) and p.mode.item() == 2 and math.isnan(p.mean.item())
    hot = D.OneHotCategorical(weights)
    drawn = hot.sample((6,))
    assert drawn.shape == (6, 3) and drawn.sum(-1).tolist() == [1] * 6
    assert hot.log_prob(double(0.0, 0.0, 1.0)).item() == pytest.approx(math.log(0.5))
    many = D.Multinomial(4, weights)
    assert many.sample((3,)).sum(-1).tolist() == [4] * 3
    expected = math.factorial(4) / (1 * 1 * 2 * 2) * 0.375**2 * 0.5**2
    assert many.log_prob(double(0.0, 2.0, 2.0)).item() == pytest.approx(math.log(expected))


def test_counts(device):
    p = D.Bernoulli(double(0.25))
    assert p.log_prob(double(1.0)).item() == pytest.approx(math.log(0.25)) and p.variance.item() == 0.1875
    assert host(p.sample((4000,))).mean() == pytest.approx(0.25, abs=0.04)
    assert D.Bernoulli(logits=double(0.0)).mean.item() == 0.5
    assert D.Poisson(double(2.0)).log_prob(double(3.0)).item() == pytest.approx(math.log(8 * math.exp(-2) / 6))
    assert host(D.Poisson(double(2.0)).sample((4000,))).mean() == pytest.approx(2, abs=0.15)
    g = D.Geometric(double(0.25))
    assert g.log_prob(double(2.0)).item() == pytest.approx(math.log(0.75**2 * 0.25)) and g.mean.item() == 3
    assert host(g.sample((4000,))).mean() == pytest.approx(3, abs=0.3)


def test_vectors(device):
    mean, C = np.array([0.5, -1.0]), np.array([[2.0, 0.5], [0.5, 1.0]])
    L = np.linalg.cholesky(C)
    forms = [{"covariance_matrix": T(C)}, {"precision_matrix": T(np.linalg.inv(C))}, {"scale_tril": T(L)}]
    x = np.array([[0.25, 0.75], [1.0, -2.0]])
    d = x - mean
    expected = -0.5 * (np.einsum("ni,ij,nj->n", d, np.linalg.inv(C), d) + math.log(np.linalg.det(2 * math.pi * C)))
    for form in forms:
        p = D.MultivariateNormal(T(mean), **form)
        np.testing.assert_allclose(host(p.log_prob(T(x))), expected)
        assert p.entropy().item() == pytest.approx(0.5 * math.log(np.linalg.det(2 * math.pi * math.e * C)))
        np.testing.assert_allclose(host(p.covariance_matrix), C)
        np.testing.assert_allclose(host(p.precision_matrix), np.linalg.inv(C))
        np.testing.assert_allclose(host(p.variance), [2, 1])
    drawn = host(p.sample((6000,)))
    np.testing.assert_allclose(np.cov(drawn.T), C, atol=0.15)
    rows = D.Independent(D.Normal(T(mean), T(np.array([1.0, 2.0]))), 1)
    assert rows.batch_shape == () and rows.event_shape == (2,)
    assert rows.log_prob(T(x)).shape == (2,)
    assert rows.entropy().item() == pytest.approx(D.Normal(T(mean), T(np.array([1.0, 2.0]))).entropy().sum().item())
    assert D.Dirichlet(double(1.0, 2.0, 3.0)).sample((5,)).sum(-1).tolist() == pytest.approx([1] * 5)
    assert D.Dirichlet(double(1.0, 1.0, 1.0)).log_prob(double(0.2, 0.3, 0.5)).item() == pytest.approx(math.log(2))


OTHERS = {
    "Normal": lambda: D.Normal(double(-0.5), double(1.5)), "LogNormal": lambda: D.LogNormal(double(0.3), double(0.75)),
    "Laplace": lambda: D.Laplace(double(-0.25), double(1.25)), "Gamma": lambda: D.Gamma(double(3.0), double(1.0)),
    "Beta": lambda: D.Beta(double(1.5), double(2.5)),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_divergence_is_the_integral(name):
    make, _, (low, high) = CONTINUOUS[name]
    p, q = make(), OTHERS[name]()
    x = np.linspace(low, high, 400_001)
    log_p, log_q = host(p.log_prob(T(x))), host(q.log_prob(T(x)))
    expected = np.trapezoid(np.exp(log_p) * (log_p - log_q), x)
    assert D.kl_divergence(p, q).item() == pytest.approx(expected, abs=1e-4)
    assert D.kl_divergence(p, p).item() == pytest.approx(0, abs=1e-12)


def test_divergences_of_counts_and_vectors():
    p, q = D.Categorical(double(1.0, 3.0, 4.0)), D.Categorical(double(1.0, 1.0, 2.0))
    expected = sum(a * math.log(a / b) for a, b in ((0.125, 0.25), (0.375, 0.25), (0.5, 0.5)))
    assert D.kl_divergence(p, q).item() == pytest.approx(expected)
    assert D.kl_divergence(D.Categorical(double(1.0, 1.0)), D.Categorical(double(1.0, 0.0))).item() == math.inf
    a, b = D.Bernoulli(double(0.25)), D.Bernoulli(double(0.5))
    assert D.kl_divergence(a, b).item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert D.kl_divergence(D.Bernoulli(double(0.5)), D.Bernoulli(double(1.0))).item() == math.inf
    assert D.kl_divergence(D.Uniform(0.0, 1.0), D.Uniform(-1.0, 3.0)).item() == pytest.approx(math.log(4))
    assert D.kl_divergence(D.Uniform(-1.0, 3.0), D.Uniform(0.0, 1.0)).item() == math.inf
    assert D.kl_divergence(D.Exponential(2.0), D.Exponential(1.0)).item() == pytest.approx(math.log(2) - 0.5)
    one = D.MultivariateNormal(z2g.zeros(2, **DOUBLE), z2g.eye(2, **DOUBLE))
    two = D.MultivariateNormal(z2g.ones(2, **DOUBLE), 2 * z2g.eye(2, **DOUBLE))
    assert D.kl_divergence(one, two).item() == pytest.approx(0.5 * (1 + 1 - 2 + 2 * math.log(2)))
    with pytest.raises(NotImplementedError, match="Normal and Bernoulli"):
        D.kl_divergence(D.Normal(0.0, 1.0), a)

    @D.register_kl(D.Normal, D.Laplace)
    def formula(p, q):
        return p.loc - q.loc

    assert D.kl_divergence(D.Normal(3.0, 1.0), D.Laplace(1.0, 1.0)).item() == 2
    del D.kl._formulas[D.Normal, D.Laplace]


def test_shapes_and_numbers():
    p = D.Normal(z2g.zeros(3, 1), z2g.ones(4))
    assert p.batch_shape == (3, 4) and p.event_shape == () and p.sample((2,)).shape == (2, 3, 4)
    assert p.expand((2, 3, 4)).log_prob(z2g.zeros(4)).shape == (2, 3, 4)
    assert D.Normal(0, 1).sample().shape == () and D.Normal(0.0, 1.0).sample_n(3).shape == (3,)
    assert repr(D.Normal(0.0, 1.0)) == "Normal(loc: 0.0, scale: 1.0)"


@pytest.mark.parametrize("call, words", [
    (lambda: D.Normal(0.0, -1.0), "scale to be > 0"), (lambda: D.Normal(z2g.zeros(2), T([1.0, math.nan])), "scale"),
    (lambda: D.Bernoulli(1.5), "probs"), (lambda: D.Bernoulli(), "probs or logits"),
    (lambda: D.Categorical(T([0.5]), T([0.5])), "probs or logits"), (lambda: D.Uniform(1.0, 0.0), "low < high"),
    (lambda: D.Normal(0.0, 1.0).log_prob(0.5), "Tensor"), (lambda: D.Exponential(1.0).log_prob(T(-1.0)), ">= 0"),
    (lambda: D.Categorical(z2g.ones(3)).log_prob(T(3)), "0 to 2"),
    (lambda: D.Beta(1.0, 1.0).log_prob(T(2.0)), "0 to 1"),
    (lambda: D.Normal(z2g.zeros(3), 1.0).log_prob(z2g.zeros(2)), "broadcast"),
    (lambda: D.MultivariateNormal(z2g.zeros(2), -z2g.eye(2)), "positive definite"),
    (lambda: D.MultivariateNormal(z2g.zeros(2)), "one of"),
    (lambda: D.Independent(D.Normal(0.0, 1.0), 1), "dimensions"),
    (lambda: D.Dirichlet(z2g.ones(2)).log_prob(T([0.7, 0.7])), "sum 1"),
    (lambda: D.Normal("a", 1.0), "numbers and tensors"),
])  # fmt: skip
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_checks_may_be_switched_off():
    assert D.Uniform(0.0, 1.0, validate_args=False).log_prob(T(2.0)).item() == -math.inf
    D.Distribution.set_default_validate_args(False)
    try:
        D.Normal(0.0, -1.0)
    finally:
        D.Distribution.set_default_validate_args(True)
