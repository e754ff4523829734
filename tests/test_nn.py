"""Layers against independent formulas: explicit loops in NumPy, parameter names and starting values as in torch."""

import math

import numpy as np
import pytest
from numeric import check_along, host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.fast import reference
from tinygrad_z2g.nn import functional as F


def normal(*shape, seed=0):
    """A float64 array of standard normal numbers: input data."""
    return np.random.default_rng(seed).standard_normal(shape)


def call(layer, *arrays, **kwargs):
    """layer(arrays) in float64 on the default device."""
    return layer.double()(*(z2g.tensor(a) for a in arrays), **kwargs)


def arrays_of(layer):
    """The parameters by name, as float64 arrays."""
    return {name: host(p).astype(np.float64) for name, p in layer.named_parameters()}


def close(actual, expected, tolerance=1e-10):
    actual = host(actual)
    assert actual.shape == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


# --- Linear, embedding, layer norm -------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(), (4,), (2, 4), (0,), (2, 0, 3)], ids=str)
def test_linear(device, rows, bias):
    layer, x = nn.Linear(3, 2, bias=bias), normal(*rows, 3)
    z = call(layer, x)
    p = arrays_of(layer)
    expected = np.zeros((*rows, 2))
    for at in np.ndindex(*rows):
        for o in range(2):
            expected[at][o] = sum(p["weight"][o, i] * x[at][i] for i in range(3)) + (p["bias"][o] if bias else 0)
    close(z, expected)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("rows", [5, 600], ids=["small", "large"])
def test_embedding_reads_rows(device, shape, rows):
    table = nn.Embedding(rows, 4)
    ids = np.random.default_rng(1).integers(0, rows, shape)
    close(table(z2g.tensor(ids)), arrays_of(table)["weight"][ids], 1e-7)


@pytest.mark.parametrize("rows", [5, 600], ids=["small", "large"])
def test_embedding_gradient_adds_up_over_repeated_ids(device, rows):
    table = nn.Embedding(rows, 2, dtype=z2g.float64)
    ids, w = np.array([[1, 3, 1], [1, rows - 1, 0]]), normal(2, 3, 2)
    (table(z2g.tensor(ids)) * z2g.tensor(w)).sum().backward()
    expected = np.zeros((rows, 2))
    for at in np.ndindex(ids.shape):
        expected[ids[at]] += w[at]
    close(table.weight.grad, expected)


@pytest.mark.parametrize("padding_idx", [2, -3, 0])
def test_embedding_padding_row_is_zero_and_stays_so(device, padding_idx):
    table = nn.Embedding(5, 3, padding_idx=padding_idx)
    assert (host(table.weight) == 0).all(axis=1).tolist() == [i == padding_idx % 5 for i in range(5)]
    table(z2g.arange(5)).sum().backward()
    assert (host(table.weight.grad) == 0).all(axis=1).tolist() == [i == padding_idx % 5 for i in range(5)]


@pytest.mark.parametrize("shape", [(3, 4), (2000, 100), (2, 10**6)], ids=["few", "many", "long rows"])
def test_row_sums_are_exact_to_rounding_by_either_way(shape):
    a = np.random.default_rng(0).random(shape, np.float32)
    np.testing.assert_allclose(reference.row_sums(a), a.sum(-1, np.float64, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(reference.row_dots(a, a), (a * a).sum(-1, np.float64, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (3, 4)], ids=str)
@pytest.mark.parametrize("affine", [{}, {"bias": False}, {"elementwise_affine": False}], ids=str)
def test_layer_norm(device, shape, affine):
    eps = 0.5  # large, so that a wrong place for it shows
    layer = nn.LayerNorm(shape, eps=eps, **affine).double()
    with z2g.no_grad():  # weight 1 and bias 0 would hide mistakes
        for i, p in enumerate(layer.parameters()):
            p.copy_(z2g.tensor(normal(*shape, seed=i + 1)))
    p, x = arrays_of(layer), normal(2, 3, 4)
    axes = tuple(range(-len(shape), 0))
    mean = x.mean(axis=axes, keepdims=True)
    biased_variance = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    close(call(layer, x), (x - mean) / np.sqrt(biased_variance + eps) * p.get("weight", 1) + p.get("bias", 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value, size", [(7.0, 3), (1e4, 24), (0.1, 384)])
def test_trap_26_layer_norm_of_a_constant_row_is_the_bias(device, value, size, dtype):
    """The mean must be exact: what is wrong with it is stretched by 1/√eps = 316."""
    layer = nn.LayerNorm(size).to(dtype)
    nn.init.normal_(layer.bias)
    x = z2g.full((2, size), value, dtype=dtype, requires_grad=True)
    z = layer(x)
    (z * z2g.tensor(normal(2, size)).to(dtype)).sum().backward()
    assert np.isfinite(host(x.grad)).all()
    close(z, [host(layer.bias)] * 2, 1e-6)


def test_layer_norm_refuses_mixed_dtypes():
    with pytest.raises(RuntimeError, match="dtype"):
        nn.LayerNorm(3).double()(z2g.ones(2, 3))


# --- Convolution -------------------------------------------------------------------------------------------------


def conv1d_by_hand(x, w, b, stride=1, left=0, right=0, dilation=1):
    """x (N, C, L), w (O, C, K): every output is one sum over channels and taps."""
    (N, C, L), (O, _, K) = x.shape, w.shape  # noqa: E741 - the letters of the docstring
    padded = np.zeros((N, C, left + L + right))
    padded[:, :, left : left + L] = x
    z = np.zeros((N, O, (left + L + right - dilation * (K - 1) - 1) // stride + 1))
    for n, o, t in np.ndindex(z.shape):
        taps = [(c, k) for c in range(C) for k in range(K)]
        z[n, o, t] = b[o] + sum(w[o, c, k] * padded[n, c, t * stride + k * dilation] for c, k in taps)
    return z


CONVOLUTIONS = {  # settings of the layer -> what they mean to the loop above
    "plain": ({"kernel_size": 3}, {}),
    "kernel 1": ({"kernel_size": 1}, {}),
    "kernel as long as the input": ({"kernel_size": 7}, {}),
    "stride": ({"kernel_size": 2, "stride": 3}, {"stride": 3}),
    "padding": ({"kernel_size": 3, "padding": 2}, {"left": 2, "right": 2}),
    "dilation": ({"kernel_size": 3, "dilation": 2}, {"dilation": 2}),
    "everything": (
        {"kernel_size": 3, "stride": 2, "padding": 3, "dilation": 2},
        {"stride": 2, "left": 3, "right": 3, "dilation": 2},
    ),
    "valid": ({"kernel_size": 3, "padding": "valid"}, {}),
    "same": ({"kernel_size": 3, "padding": "same"}, {"left": 1, "right": 1}),
    "same, even kernel": ({"kernel_size": 4, "padding": "same"}, {"left": 1, "right": 2}),  # the extra zero: right
    "same, dilation": ({"kernel_size": 3, "padding": "same", "dilation": 2}, {"left": 2, "right": 2, "dilation": 2}),
}


@pytest.mark.parametrize("settings, meaning", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_conv1d(device, settings, meaning, bias):
    layer, x = nn.Conv1d(2, 3, bias=bias, **settings), normal(2, 2, 7)
    z = call(layer, x)
    p = arrays_of(layer)
    close(z, conv1d_by_hand(x, p["weight"], p.get("bias", np.zeros(3)), **meaning))
    if settings.get("padding") == "same":
        assert z.shape[-1] == x.shape[-1]
    close(call(layer, x[0]), host(z)[0])  # without a batch


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("leaf", [True, False])
def test_the_gradient_of_the_kernel_has_one_by_the_input(device, padding, leaf):
    """∂/∂x Σ c ∂(Σ a conv(x, w))/∂w = ∂/∂x Σ a conv(x, c): conv is linear in w. With padding the rule reads a copy."""
    x = z2g.tensor(normal(2, 3, 5), requires_grad=True)
    w, c = (z2g.tensor(normal(4, 3, 3, seed=seed), requires_grad=True) for seed in (1, 2))
    a = z2g.tensor(normal(2, 4, 3 + 2 * padding, seed=3))
    input = x if leaf else x * x
    z = (a * F.conv1d(input, w, padding=padding)).sum()
    by_x, g = z2g.autograd.grad(z, (x, w), create_graph=True)
    z.backward(retain_graph=True)
    close(by_x, host(x.grad))
    (found,) = z2g.autograd.grad((c * g).sum(), x)
    (expected,) = z2g.autograd.grad((a * F.conv1d(x if leaf else x * x, c, padding=padding)).sum(), x)
    close(found, host(expected))


def test_a_recorded_walk_reaches_a_leaf_whose_data_were_replaced(device):
    x = z2g.tensor(normal(3), requires_grad=True)
    (expected,) = z2g.autograd.grad(F.gelu(x).sum(), x)
    z = F.gelu(x).sum()
    x.data = z2g.tensor(normal(3, seed=1))
    (found,) = z2g.autograd.grad(z, x, create_graph=True)
    close(found, host(expected))


def test_trap_29_convolution_does_not_flip_the_kernel(device):
    x, w = z2g.tensor([[[1.0, 2.0, 3.0, 4.0]]]), z2g.tensor([[[1.0, 10.0]]])
    assert F.conv1d(x, w).tolist() == [[[21.0, 32.0, 43.0]]]  # 1·1 + 10·2, ...


@pytest.mark.parametrize("dilation", [1, 2])
def test_trap_29_left_padding_sees_no_future(device, dilation):
    layer = nn.Conv1d(1, 1, 3, dilation=dilation)
    x = z2g.tensor(normal(1, 1, 8), dtype=z2g.float32)
    before = host(layer(F.pad(x, (2 * dilation, 0))))
    for t in range(8):
        changed = x.clone()
        changed[0, 0, t] = 100.0
        after = host(layer(F.pad(changed, (2 * dilation, 0))))
        assert np.array_equal(after[..., :t], before[..., :t])
        assert after[0, 0, t] != before[0, 0, t]  # the present counts
        assert after.shape == before.shape


# --- Dropout -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_trap_28_dropout_drops_a_share_p_and_scales_the_rest(device, p):
    n = 20_000
    z = host(nn.Dropout(p)(z2g.ones(100, n // 100, dtype=z2g.float64)))
    assert set(np.unique(z)) == {0.0, 1 / (1 - p)}
    assert abs((z == 0).sum() - n * p) < 5 * math.sqrt(n * p * (1 - p))  # five standard deviations of a binomial
    neighbours = ((z[:, 1:] == 0) & (z[:, :-1] == 0)).mean()  # independent: p² of the pairs
    assert abs(neighbours - p * p) < 5 * p / math.sqrt(n)


def test_trap_28_dropout_uses_one_mask_forward_and_backward(device):
    x = z2g.tensor(normal(50) + 10, requires_grad=True)
    w = normal(50, seed=1)
    z = nn.Dropout(0.4)(x)
    (z * z2g.tensor(w)).sum().backward()
    close(x.grad, w * (host(z) != 0) / 0.6)


def test_trap_28_dropout_at_the_ends_and_in_eval(device):
    x = z2g.tensor(normal(4, 5), requires_grad=True)
    close(nn.Dropout(0.0)(x), host(x))
    close(nn.Dropout(0.9).eval()(x), host(x))
    nothing = nn.Dropout(1.0)(x / 0)  # infinities too: dropped, not multiplied by 0
    close(nothing, np.zeros((4, 5)))
    nothing.sum().backward()
    assert np.isfinite(host(nn.Dropout(1.0)(x))).all()


def test_dropout_draws_anew_and_repeats_after_a_seed(device):
    x = z2g.ones(200)
    z2g.manual_seed(3)
    first, second = host(F.dropout(x)), host(F.dropout(x))
    z2g.manual_seed(3)
    assert np.array_equal(host(F.dropout(x)), first)
    assert not np.array_equal(first, second)


# --- LSTM --------------------------------------------------------------------------------------------------------


def lstm_step_by_hand(x, h, c, w_ih, w_hh, b):
    """One step for one example: gates i, f, g, o are four blocks of rows, in this order."""
    H = len(h)
    sums = w_ih @ x + w_hh @ h + b
    i, f, g, o = sigmoid(sums[:H]), sigmoid(sums[H : 2 * H]), np.tanh(sums[2 * H : 3 * H]), sigmoid(sums[3 * H :])
    c = f * c + i * g
    return o * np.tanh(c), c


def lstm_by_hand(p, x, h0, c0):
    """x (L, N, in), states (layers, N, H). Returns what nn.LSTM does."""
    steps, h, c = x, h0.copy(), c0.copy()
    for layer in range(len(h0)):
        w_ih, w_hh = p[f"weight_ih_l{layer}"], p[f"weight_hh_l{layer}"]
        b = p.get(f"bias_ih_l{layer}", 0) + p.get(f"bias_hh_l{layer}", 0)
        out = np.zeros((*steps.shape[:2], h.shape[2]))
        for t, n in np.ndindex(*out.shape[:2]):
            h[layer, n], c[layer, n] = lstm_step_by_hand(steps[t, n], h[layer, n], c[layer, n], w_ih, w_hh, b)
            out[t, n] = h[layer, n]
        steps = out
    return steps, h, c


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no state"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_lstm(device, num_layers, with_state, bias):
    layer, x = nn.LSTM(2, 3, num_layers, bias=bias), normal(5, 2, 2)
    state = [normal(num_layers, 2, 3, seed=s) * with_state for s in (1, 2)]
    out, (h, c) = call(layer, x, hx=tuple(z2g.tensor(s) for s in state) if with_state else None)
    for got, expected in zip((out, h, c), lstm_by_hand(arrays_of(layer), x, *state), strict=True):
        close(got, expected)


def test_lstm_layouts(device):
    """batch_first and inputs without a batch are the same computation, axes exchanged. States keep their layout."""
    layer, x = nn.LSTM(2, 3, num_layers=2).double(), normal(5, 4, 2)
    state = tuple(z2g.tensor(normal(2, 4, 3, seed=s)) for s in (1, 2))
    out, (h, c) = (host(layer(z2g.tensor(x), state)[0]), [host(s) for s in layer(z2g.tensor(x), state)[1]])

    first = nn.LSTM(2, 3, num_layers=2, batch_first=True).double()
    first.load_state_dict(layer.state_dict())
    got, (got_h, got_c) = first(z2g.tensor(x.swapaxes(0, 1)), state)
    close(got, out.swapaxes(0, 1))
    close(got_h, h)
    close(got_c, c)
    for one in (layer, first):
        got, (got_h, got_c) = one(z2g.tensor(x[:, 1]), tuple(s[:, 1] for s in state))
        close(got, out[:, 1])
        close(got_h, h[:, 1])
        close(got_c, c[:, 1])
    close(layer(z2g.tensor(x[:, 1]))[0], host(layer(z2g.tensor(x))[0])[:, 1])


@pytest.mark.parametrize("bias", [True, False])
def test_lstm_cell(device, bias):
    cell, x, h, c = nn.LSTMCell(2, 3, bias=bias), normal(4, 2), normal(4, 3, seed=1), normal(4, 3, seed=2)
    new_h, new_c = call(cell, x, hx=(z2g.tensor(h), z2g.tensor(c)))
    p = arrays_of(cell)
    b = p.get("bias_ih", 0) + p.get("bias_hh", 0)
    rows = [lstm_step_by_hand(x[n], h[n], c[n], p["weight_ih"], p["weight_hh"], b) for n in range(4)]
    close(new_h, [row[0] for row in rows])
    close(new_c, [row[1] for row in rows])
    one_h, one_c = call(cell, x[2], hx=(z2g.tensor(h[2]), z2g.tensor(c[2])))  # without a batch
    close(one_h, rows[2][0])
    close(one_c, rows[2][1])
    close(call(cell, x)[0], host(call(cell, x, hx=(z2g.zeros(4, 3).double(), z2g.zeros(4, 3).double()))[0]))


def test_trap_30_gate_order_is_i_f_g_o(device):
    """Large biases open or shut one gate at a time; any other order of the four blocks gives other numbers."""
    cell = nn.LSTMCell(1, 1)
    c = 0.5
    for name, value in [("weight_ih", 0), ("weight_hh", 0), ("bias_hh", 0)]:
        nn.init.constant_(getattr(cell, name), value)

    def run(i, f, g, o):
        with z2g.no_grad():
            cell.bias_ih.copy_(z2g.tensor([i, f, g, o]))
        h, new = cell(z2g.ones(1, 1), (z2g.zeros(1, 1), z2g.full((1, 1), c)))
        return h.item(), new.item()

    shut, open_ = -100.0, 100.0
    assert run(shut, open_, open_, open_) == pytest.approx((math.tanh(c), c))  # remembers, lets nothing in
    assert run(shut, shut, open_, open_) == pytest.approx((0, 0))  # forgets
    assert run(open_, shut, 0.3, open_) == pytest.approx((math.tanh(math.tanh(0.3)), math.tanh(0.3)))  # takes in g
    assert run(open_, open_, -0.3, shut) == pytest.approx((0, c + math.tanh(-0.3)))  # shows nothing


def test_trap_30_a_carried_state_continues_the_sequence_and_can_be_detached(device):
    layer, x = nn.LSTM(2, 3, num_layers=2).double(), z2g.tensor(normal(6, 2, 2), requires_grad=True)
    whole, _ = layer(x)
    first, state = layer(x[:4])
    second, _ = layer(x[4:], state)
    close(z2g.cat([first, second]), host(whole))

    second.sum().backward()
    assert np.abs(host(x.grad)[:4]).min() > 0  # the state carries gradients ...
    x.grad = None
    layer(x[4:], tuple(s.detach() for s in layer(x[:4])[1]))[0].sum().backward()
    assert (host(x.grad)[:4] == 0).all()  # ... until it is detached
    assert np.abs(host(x.grad)[4:]).min() > 0


def test_lstm_dropout_acts_between_layers_only(device):
    x = z2g.tensor(normal(4, 2, 2), dtype=z2g.float32)
    one, two = nn.LSTM(2, 3, 1, dropout=1.0), nn.LSTM(2, 3, 2, dropout=1.0)
    trained = host(one(x)[0])
    assert np.array_equal(host(one.eval()(x)[0]), trained)  # one layer: nothing between
    second = nn.LSTM(3, 3)
    second.load_state_dict({name.replace("l1", "l0"): p for name, p in two.state_dict().items() if "l1" in name})
    close(two(x)[0], host(second(z2g.zeros(4, 2, 3))[0]), 1e-6)  # all dropped: the upper layer sees zeros
    plain = nn.LSTM(2, 3, 2)
    plain.load_state_dict(two.state_dict())
    close(two.eval()(x)[0], host(plain(x)[0]), 1e-6)


@pytest.mark.parametrize("shapes", [[(1, 3), (1, 3)], [(4, 3), (1, 3)], [(4, 3), (4, 1)]], ids=str)
def test_lstm_cell_refuses_a_state_of_another_shape(shapes):
    with pytest.raises(RuntimeError, match="LSTMCell"):
        nn.LSTMCell(2, 3)(z2g.ones(4, 2), tuple(z2g.ones(*s) for s in shapes))


# --- Attention ---------------------------------------------------------------------------------------------------


def softmax_row(scores):
    e = np.exp(scores - scores.max()) if np.isfinite(scores).any() else np.zeros_like(scores)
    return e / (e.sum() or 1)


def attention_by_hand(p, q, k, v, heads, added):
    """Batch first. `added` (N, heads, L, S) is added to the scores. Returns outputs and weights (N, heads, L, S)."""
    (N, L, E), S = q.shape, k.shape[1]
    d = E // heads
    w, b = p["in_proj_weight"], p.get("in_proj_bias", np.zeros(3 * E))
    q, k, v = (x @ w[i * E : (i + 1) * E].T + b[i * E : (i + 1) * E] for i, x in enumerate((q, k, v)))
    weights, out = np.zeros((N, heads, L, S)), np.zeros((N, L, E))
    for n, h, i in np.ndindex(N, heads, L):
        part = slice(h * d, (h + 1) * d)
        scores = np.array([q[n, i, part] @ k[n, j, part] / math.sqrt(d) for j in range(S)]) + added[n, h, i]
        weights[n, h, i] = softmax_row(scores)
        out[n, i, part] = sum(weights[n, h, i, j] * v[n, j, part] for j in range(S))
    return out @ p["out_proj.weight"].T + p.get("out_proj.bias", 0), weights


N, L, S, E, HEADS = 2, 3, 4, 6, 2
FORBIDDEN = np.random.default_rng(5).random((N * HEADS, L, S)) < 0.4
FORBIDDEN[:, :, 0] = False  # every query may look somewhere
PADDED = np.array([[False, False, False, True], [False, True, True, False]])


def minus_inf(forbidden):
    return np.where(forbidden, -np.inf, 0.0)


MASKS = {  # keyword arguments of the layer -> what is added to the scores, (N, heads, L, S) after broadcasting
    "none": ({}, 0.0),
    "bool": ({"attn_mask": FORBIDDEN[0]}, minus_inf(FORBIDDEN[0])),
    "float": ({"attn_mask": normal(L, S, seed=8)}, normal(L, S, seed=8)),
    "per head": ({"attn_mask": FORBIDDEN}, minus_inf(FORBIDDEN).reshape(N, HEADS, L, S)),
    "padding": ({"key_padding_mask": PADDED}, minus_inf(PADDED)[:, None, None, :]),
    "float padding": ({"key_padding_mask": normal(N, S, seed=9)}, normal(N, S, seed=9)[:, None, None, :]),
    "both": (
        {"attn_mask": FORBIDDEN[0], "key_padding_mask": PADDED},
        minus_inf(FORBIDDEN[0] | PADDED[:, None, None, :]),
    ),
    "causal": ({"is_causal": True}, minus_inf(np.arange(S) > np.arange(L)[:, None])),
}


@pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "no weights"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "batch second"])
@pytest.mark.parametrize("masks, added", MASKS.values(), ids=MASKS)
def test_multihead_attention(device, masks, added, batch_first, need_weights):
    layer = nn.MultiheadAttention(E, HEADS, batch_first=batch_first).double()
    nn.init.normal_(layer.in_proj_bias)  # starts at 0, where a missing one would not show
    nn.init.normal_(layer.out_proj.bias)
    q, k, v = normal(N, L, E), normal(N, S, E, seed=1), normal(N, S, E, seed=2)
    expected, weights = attention_by_hand(arrays_of(layer), q, k, v, HEADS, np.broadcast_to(added, (N, HEADS, L, S)))
    inputs = [q, k, v] if batch_first else [x.swapaxes(0, 1) for x in (q, k, v)]
    masks = {name: z2g.tensor(m) if isinstance(m, np.ndarray) else m for name, m in masks.items()}
    out, got = call(layer, *inputs, need_weights=need_weights, **masks)
    close(out, expected if batch_first else expected.swapaxes(0, 1))
    if not need_weights:
        assert got is None
        return
    close(got, weights.mean(axis=1))
    close(call(layer, *inputs, average_attn_weights=False, **masks)[1], weights)


@pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "no weights"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "batch second"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_self_attention(device, bias, batch_first, need_weights):
    """One tensor as query, key and value: a shortcut in the code, so a test of its own. And without a batch."""
    layer, x = nn.MultiheadAttention(E, 3, bias=bias, batch_first=batch_first).double(), normal(N, L, E)
    expected, weights = attention_by_hand(arrays_of(layer), x, x, x, 3, np.zeros((N, 3, L, L)))
    t = z2g.tensor(x if batch_first else x.swapaxes(0, 1))
    out, _ = layer(t, t, t, need_weights=need_weights)
    close(out, expected if batch_first else expected.swapaxes(0, 1))
    one = z2g.tensor(x[1])
    out, got = layer(one, one, one, need_weights=need_weights)
    close(out, expected[1])
    if need_weights:
        close(got, weights[1].mean(axis=0))


@pytest.mark.parametrize("mask", [FORBIDDEN[0][:, :L], normal(L, L)], ids=["bool", "float"])
def test_is_causal_holds_beside_an_attn_mask(mask):
    """What a query may not see stays unseen, whatever else is asked for. (torch's answer depends on need_weights.)"""
    layer, x = nn.MultiheadAttention(E, HEADS, batch_first=True).double(), z2g.tensor(normal(N, L, E))
    weights = layer(x, x, x, attn_mask=z2g.tensor(mask), is_causal=True)[1]
    assert (np.triu(host(weights), 1) == 0).all()


@pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "no weights"])
def test_attention_dropout_acts_in_training_only(device, need_weights):
    layer = nn.MultiheadAttention(4, 2, dropout=1.0, batch_first=True)
    nn.init.normal_(layer.out_proj.bias)
    x = z2g.randn(2, 3, 4)
    close(layer(x, x, x, need_weights=need_weights)[0], np.broadcast_to(host(layer.out_proj.bias), (2, 3, 4)))
    layer.eval()
    expected, _ = attention_by_hand(arrays_of(layer), *[host(x).astype(float)] * 3, 2, np.zeros((2, 2, 3, 3)))
    close(layer(x, x, x, need_weights=need_weights)[0], expected, 1e-5)


@pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "no weights"])
def test_trap_23_a_query_that_may_look_nowhere(device, need_weights):
    """torch gives NaN here, which then spreads to every weight. We give 0 from that head, and no gradient."""
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    nn.init.normal_(layer.out_proj.bias)
    x = z2g.randn(1, 3, 4, requires_grad=True)
    mask = z2g.tensor([[False] * 3, [True] * 3, [False] * 3])
    out, weights = layer(x, x, x, attn_mask=mask, need_weights=need_weights)
    close(out[0, 1], host(layer.out_proj.bias))
    if need_weights:
        assert weights[0, 1].tolist() == [0.0] * 3
    out[0, 1].sum().backward()
    assert (host(x.grad) == 0).all()
    layer(x, x, x, attn_mask=mask, need_weights=need_weights)[0].sum().backward()
    assert all(np.isfinite(host(p.grad)).all() for p in layer.parameters())


def layer_norm_by_hand(x, weight, bias):
    mean, var = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def gelu_tanh_by_hand(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_transformer_block(device, bias):
    block, x = nn.TransformerBlock(6, 2, bias=bias).double(), normal(2, 4, 6)
    for p in block.parameters():
        nn.init.normal_(p, std=0.5)
    p = arrays_of(block)
    get = lambda name: p.get(name, 0)  # noqa: E731 - absent biases are 0
    attention = {
        "in_proj_weight": p["attention.qkv.weight"],
        "in_proj_bias": p.get("attention.qkv.bias", np.zeros(18)),
        "out_proj.weight": p["attention.proj.weight"],
        "out_proj.bias": get("attention.proj.bias"),
    }
    normed = layer_norm_by_hand(x, p["norm1.weight"], get("norm1.bias"))
    causal = np.broadcast_to(minus_inf(np.arange(4) > np.arange(4)[:, None]), (2, 2, 4, 4))
    expected = x + attention_by_hand(attention, normed, normed, normed, 2, causal)[0]
    normed = layer_norm_by_hand(expected, p["norm2.weight"], get("norm2.bias"))
    hidden = gelu_tanh_by_hand(normed @ p["mlp.0.weight"].T + get("mlp.0.bias"))
    expected = expected + hidden @ p["mlp.2.weight"].T + get("mlp.2.bias")
    close(call(block, x), expected, 1e-9)


# --- Activations and losses --------------------------------------------------------------------------------------


erf = np.vectorize(math.erf)
ACTIVATIONS = {
    "ReLU": (nn.ReLU(), lambda x: np.where(x > 0, x, 0)),
    "GELU": (nn.GELU(), lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2)))),
    "GELU tanh": (nn.GELU(approximate="tanh"), gelu_tanh_by_hand),
    "SiLU": (nn.SiLU(), lambda x: x * sigmoid(x)),
    "Tanh": (nn.Tanh(), np.tanh),
    "Sigmoid": (nn.Sigmoid(), sigmoid),
    "Softmax": (nn.Softmax(dim=0), lambda x: np.exp(x) / np.exp(x).sum(axis=0)),
    "Sine": (nn.Sine(), np.sin),
    "Sine 30": (nn.Sine(30.0), lambda x: np.sin(30 * x)),
    "Identity": (nn.Identity(1, some=2), lambda x: x),
}


@pytest.mark.parametrize("layer, formula", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations(device, layer, formula):
    x = np.concatenate([3 * normal(40), [-8.0, -1e-3, 0.0, 1e-3, 8.0]]).reshape(9, 5)
    close(call(layer, x), formula(x))
    close(layer(z2g.tensor(x).float()), formula(x.astype(np.float32)), 1e-5)


def test_gelu_far_out(device):
    """The exact GELU keeps its precision in the tail, where 1 + erf would cancel; and nothing overflows."""
    x = [-12.0, -6.0, 6.0, 12.0, 1e4, -1e4]
    z = host(nn.GELU()(z2g.tensor(x, dtype=z2g.float64)))
    np.testing.assert_allclose(z[:4], [v * math.erfc(-v / math.sqrt(2)) / 2 for v in x[:4]], rtol=1e-10)
    assert z[4:].tolist() == [1e4, 0.0]
    close(nn.GELU("tanh")(z2g.tensor(x))[4:], [1e4, 0.0])


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_s_slope_far_out(device, approximate):
    """1 or 0, as torch has it up to the numbers whose square is beyond float32."""
    x = z2g.tensor([1e12, 1e13, 1.8e19, -1e12, -1e13, -1.8e19], requires_grad=True)
    nn.functional.gelu(x, approximate).sum().backward()
    assert host(x.grad).tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss, formula", [(nn.MSELoss, np.square), (nn.L1Loss, np.abs)], ids=["MSE", "L1"])
def test_regression_losses(device, loss, formula, reduction):
    x, y = normal(3, 4), normal(3, 4, seed=1)
    expected = formula(x - y)
    close(call(loss(reduction=reduction), x, y), expected if reduction == "none" else getattr(expected, reduction)())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [True, False], ids=["weights", "equal"])
@pytest.mark.parametrize("extra", [(), (2,), (2, 3)], ids=str)
def test_cross_entropy_loss(device, extra, weighted, reduction):
    x, target = 3 * normal(5, 4, *extra), np.random.default_rng(1).integers(0, 4, (5, *extra))
    target.flat[2] = -1  # ignored
    weight = np.array([0.5, 1.0, 2.0, 0.25]) if weighted else np.ones(4)
    losses, counted = np.zeros(target.shape), np.zeros(target.shape)
    for at in np.ndindex(target.shape):
        if target[at] != -1:
            scores = x[(at[0], slice(None), *at[1:])]
            counted[at] = weight[target[at]]
            losses[at] = -counted[at] * np.log(np.exp(scores[target[at]]) / np.exp(scores).sum())
    expected = {"none": losses, "sum": losses.sum(), "mean": losses.sum() / counted.sum()}[reduction]
    loss = nn.CrossEntropyLoss(z2g.tensor(weight) if weighted else None, ignore_index=-1, reduction=reduction)
    close(call(loss, x, target), expected)


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_trap_27_an_ignored_row_may_hold_minus_infinity(loss):
    x = z2g.tensor([[-math.inf, 0.0], [-math.log(2), -math.log(2)]])
    assert loss(x, z2g.tensor([-100, 1])).item() == pytest.approx(math.log(2))


# --- Names, shapes, starting values, as in torch -----------------------------------------------------------------

SHAPES = {
    "Linear": (lambda: nn.Linear(3, 2), {"weight": (2, 3), "bias": (2,)}),
    "Linear without bias": (lambda: nn.Linear(3, 2, bias=False), {"weight": (2, 3)}),
    "Conv1d": (lambda: nn.Conv1d(3, 2, 5), {"weight": (2, 3, 5), "bias": (2,)}),
    "Conv1d without bias": (lambda: nn.Conv1d(3, 2, 5, bias=False), {"weight": (2, 3, 5)}),
    "Embedding": (lambda: nn.Embedding(7, 3), {"weight": (7, 3)}),
    "LayerNorm": (lambda: nn.LayerNorm((2, 3)), {"weight": (2, 3), "bias": (2, 3)}),
    "LayerNorm without bias": (lambda: nn.LayerNorm(3, bias=False), {"weight": (3,)}),
    "LayerNorm without parameters": (lambda: nn.LayerNorm(3, elementwise_affine=False), {}),
    "LSTMCell": (
        lambda: nn.LSTMCell(2, 3),
        {"weight_ih": (12, 2), "weight_hh": (12, 3), "bias_ih": (12,), "bias_hh": (12,)},
    ),
    "LSTM": (
        lambda: nn.LSTM(2, 3, num_layers=2),
        {
            "weight_ih_l0": (12, 2),
            "weight_hh_l0": (12, 3),
            "bias_ih_l0": (12,),
            "bias_hh_l0": (12,),
            "weight_ih_l1": (12, 3),
            "weight_hh_l1": (12, 3),
            "bias_ih_l1": (12,),
            "bias_hh_l1": (12,),
        },
    ),
    "LSTM without bias": (lambda: nn.LSTM(2, 3, bias=False), {"weight_ih_l0": (12, 2), "weight_hh_l0": (12, 3)}),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(4, 2),
        {"in_proj_weight": (12, 4), "in_proj_bias": (12,), "out_proj.weight": (4, 4), "out_proj.bias": (4,)},
    ),
    "MultiheadAttention without bias": (
        lambda: nn.MultiheadAttention(4, 2, bias=False),
        {"in_proj_weight": (12, 4), "out_proj.weight": (4, 4)},
    ),
    "Dropout": (lambda: nn.Dropout(), {}),
}


@pytest.mark.parametrize("make, expected", SHAPES.values(), ids=SHAPES)
def test_parameters_have_torchs_names_shapes_and_order(device, make, expected):
    found = {name: tuple(p.shape) for name, p in make().named_parameters()}
    assert found == expected
    assert list(found) == list(expected)
    assert list(make().state_dict()) == list(expected)
    assert all(p.dtype == z2g.float32 and p.requires_grad and p.device.type == device for p in make().parameters())


def test_layers_take_dtype_and_device():
    for make in [
        lambda **kw: nn.Linear(2, 2, **kw), lambda **kw: nn.Conv1d(2, 2, 2, **kw), lambda **kw: nn.LSTM(2, 2, **kw),
        lambda **kw: nn.Embedding(2, 2, **kw), lambda **kw: nn.LayerNorm(2, **kw), lambda **kw: nn.LSTMCell(2, 2, **kw),
        lambda **kw: nn.MultiheadAttention(2, 1, **kw),
    ]:  # fmt: skip
        assert {p.dtype for p in make(dtype=z2g.float64, device="cpu").parameters()} == {z2g.float64}


def uniform(bound):
    """The distribution function of the uniform distribution on ±bound."""
    return lambda x: np.clip((x + bound) / (2 * bound), 0, 1)


def gauss(std, mean=0.0):
    """The distribution function of the normal distribution."""
    return lambda x: 0.5 * (1 + erf((x - mean) / (std * math.sqrt(2))))


def drawn_from(samples, distribution, bound=math.inf):
    """Kolmogorov and Smirnov: the share of samples below x differs from the distribution by less than 2.2/√n."""
    x = np.sort(np.concatenate([host(s).ravel() for s in samples]).astype(np.float64))
    n = len(x)
    assert n >= 2000
    share = np.arange(n) / n
    assert np.abs(distribution(x) - share).max() < 2.2 / math.sqrt(n) + 1 / n
    assert np.abs(x).max() <= bound * (1 + 1e-6)


STARTS = {  # what is drawn from, and the largest possible value
    "Linear weight": (lambda: nn.Linear(20, 30).weight, uniform(1 / math.sqrt(20)), 1 / math.sqrt(20)),
    "Linear bias": (lambda: nn.Linear(20, 300).bias, uniform(1 / math.sqrt(20)), 1 / math.sqrt(20)),
    "Conv1d weight": (lambda: nn.Conv1d(4, 30, 5).weight, uniform(1 / math.sqrt(20)), 1 / math.sqrt(20)),
    "Conv1d bias": (lambda: nn.Conv1d(4, 300, 5).bias, uniform(1 / math.sqrt(20)), 1 / math.sqrt(20)),
    "Embedding": (lambda: nn.Embedding(30, 20).weight, gauss(1.0), math.inf),
    "LSTM weight_ih": (lambda: nn.LSTM(5, 25, 2).weight_ih_l0, uniform(1 / 5), 1 / 5),
    "LSTM weight_hh": (lambda: nn.LSTM(5, 25, 2).weight_hh_l1, uniform(1 / 5), 1 / 5),
    "LSTM bias": (lambda: nn.LSTM(5, 100).bias_hh_l0, uniform(1 / 10), 1 / 10),
    "LSTMCell": (lambda: nn.LSTMCell(5, 25).weight_ih, uniform(1 / 5), 1 / 5),
    # Glorot's bound with fan in E and fan out 3E
    "attention in": (lambda: nn.MultiheadAttention(24, 2).in_proj_weight, uniform(1 / 4), 1 / 4),
    "attention out": (lambda: nn.MultiheadAttention(25, 5).out_proj.weight, uniform(1 / 5), 1 / 5),
}


@pytest.mark.parametrize("make, distribution, bound", STARTS.values(), ids=STARTS)
def test_starting_values_are_drawn_as_torch_does(make, distribution, bound):
    drawn_from([make() for _ in range(10)], distribution, bound)


def test_starting_values_that_are_constant():
    attention, norm = nn.MultiheadAttention(4, 2), nn.LayerNorm(4)
    for p, value in [
        (attention.in_proj_bias, 0), (attention.out_proj.bias, 0), (norm.weight, 1), (norm.bias, 0),
    ]:  # fmt: skip
        assert set(p.flatten().tolist()) == {value}


def test_two_layers_differ_and_a_seed_repeats_them(device):
    z2g.manual_seed(1)
    a, b = nn.Linear(3, 4), nn.Linear(3, 4)
    z2g.manual_seed(1)
    again = nn.Linear(3, 4)
    assert np.array_equal(host(a.weight), host(again.weight))
    assert not np.array_equal(host(a.weight), host(b.weight))


WEIGHT = (30, 4, 5)  # fan in 20, fan out 150
INITS = {
    "uniform_": (lambda w: nn.init.uniform_(w, -2, 2), uniform(2), 2),
    "normal_": (lambda w: nn.init.normal_(w, 1.0, 3.0), gauss(3.0, 1.0), math.inf),
    "xavier_uniform_": (lambda w: nn.init.xavier_uniform_(w, gain=2), uniform(2 * math.sqrt(6 / 170)), math.inf),
    "xavier_normal_": (lambda w: nn.init.xavier_normal_(w), gauss(math.sqrt(2 / 170)), math.inf),
    "kaiming_uniform_": (lambda w: nn.init.kaiming_uniform_(w), uniform(math.sqrt(6 / 20)), math.inf),
    "kaiming_uniform_ √5": (lambda w: nn.init.kaiming_uniform_(w, math.sqrt(5)), uniform(math.sqrt(1 / 20)), math.inf),
    "kaiming_normal_": (
        lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="tanh"),
        gauss(5 / 3 / math.sqrt(150)),
        math.inf,
    ),
    "trunc_normal_": (
        lambda w: nn.init.trunc_normal_(w, a=-1.0, b=1.0),
        lambda x: (gauss(1.0)(x) - gauss(1.0)(-1.0)) / (gauss(1.0)(1.0) - gauss(1.0)(-1.0)),
        1,
    ),
}


@pytest.mark.parametrize("fill, distribution, bound", INITS.values(), ids=INITS)
def test_init_functions(device, fill, distribution, bound):
    w = nn.Parameter(z2g.zeros(*WEIGHT))  # a leaf that requires grad: filled all the same, without history
    draws = []
    for _ in range(4):
        assert fill(w) is w
        draws.append(host(w))
    assert w.is_leaf
    drawn_from([z2g.tensor(d) for d in draws], distribution, bound)


def test_calculate_gain():
    expected = {"linear": 1, "sigmoid": 1, "conv1d": 1, "tanh": 5 / 3, "relu": math.sqrt(2)}
    assert {name: nn.init.calculate_gain(name) for name in expected} == expected
    assert nn.init.calculate_gain("leaky_relu") == pytest.approx(math.sqrt(2 / (1 + 0.01**2)))
    assert nn.init.calculate_gain("leaky_relu", 1) == pytest.approx(1)


# --- Gradients and devices of whole layers -----------------------------------------------------------------------

LAYERS = {  # a layer, the shapes of its inputs, how it is called
    "Linear": (lambda: nn.Linear(3, 2), [(2, 2, 3)], None),
    "Conv1d": (lambda: nn.Conv1d(2, 2, 3, stride=2, padding=2, dilation=2), [(2, 2, 6)], None),
    "Conv1d same": (lambda: nn.Conv1d(2, 1, 2, padding="same"), [(2, 2, 3)], None),
    "LayerNorm": (lambda: nn.LayerNorm((2, 3)), [(2, 2, 3)], None),
    "LSTM": (
        lambda: nn.LSTM(2, 2, num_layers=2),
        [(3, 2, 2), (2, 2, 2), (2, 2, 2)],
        lambda m, x, h, c: m(x, (h, c)),
    ),
    "LSTMCell": (lambda: nn.LSTMCell(2, 2), [(2, 2), (2, 2), (2, 2)], lambda m, x, h, c: m(x, (h, c))),
    "attention with weights": (lambda: nn.MultiheadAttention(4, 2), [(2, 2, 4), (3, 2, 4), (3, 2, 4)], None),
    "attention": (
        lambda: nn.MultiheadAttention(4, 2, batch_first=True),
        [(2, 2, 4), (2, 3, 4), (2, 3, 4)],
        lambda m, q, k, v: m(q, k, v, need_weights=False, is_causal=True)[0],
    ),
    "self-attention": (lambda: nn.MultiheadAttention(4, 2, batch_first=True), [(2, 3, 4)], lambda m, x: m(x, x, x)),
    "TransformerBlock": (lambda: nn.TransformerBlock(4, 2), [(1, 3, 4)], None),
    "MLP": (lambda: nn.Sequential(nn.Linear(2, 3), nn.Sine(2.0), nn.Linear(3, 2), nn.GELU()), [(2, 2)], None),
    "losses": (
        lambda: nn.ModuleList([nn.MSELoss(), nn.L1Loss(reduction="sum"), nn.CrossEntropyLoss()]),
        [(3, 2), (3, 2)],
        lambda m, x, y: (m[0](x, y), m[1](x, y), m[2](x, z2g.tensor([0, 1, 1], device=x.device))),
    ),
    "Embedding": (
        lambda: nn.Embedding(4, 2), [(2, 3, 2)], lambda m, x: x * m(z2g.tensor([[0, 2, 0], [2, 2, 3]], device=x.device))
    ),
}  # fmt: skip


@pytest.mark.parametrize("make, shapes, how", LAYERS.values(), ids=LAYERS)
def test_gradients_of_whole_layers(device, make, shapes, how):
    layer = make().double()
    for p in layer.parameters():
        nn.init.normal_(p, std=0.7)  # zero biases and unit weights hide mistakes
    inputs = [z2g.tensor(normal(*s, seed=i), requires_grad=True) for i, s in enumerate(shapes)]
    run = how or (lambda m, *xs: m(*xs))

    def f(*xs):
        """Of the parameters too: the check moves their elements in place, where the layer finds them."""
        return run(layer, *xs[: len(inputs)])

    check_along(f, [*inputs, *layer.parameters()])
    if device == "cpu":  # once more, element by element
        assert z2g.gradcheck(f, [*inputs, *layer.parameters()])


def tensors_in(result):
    if isinstance(result, (tuple, list)):
        return [x for part in result for x in tensors_in(part)]
    return [] if result is None else [result]


@pytest.mark.parametrize("make, shapes, how", LAYERS.values(), ids=LAYERS)
def test_trap_44_layers_stay_on_their_device_and_in_their_dtype(device, make, shapes, how):
    """Nothing along the way falls back to host arrays, Python numbers or float64."""
    layer = make()
    inputs = [z2g.randn(*s, requires_grad=True) for s in shapes]
    results = tensors_in((how or (lambda m, *xs: m(*xs)))(layer, *inputs))
    sum(z.sum() for z in results).backward()
    kind = inputs[0].device
    assert kind.type == device
    for x in [*results, *(t for leaf in [*inputs, *layer.parameters()] for t in (leaf, leaf.grad))]:
        assert x.device == kind
        assert x.dtype == z2g.float32
    for leaf in [*inputs, *layer.parameters()]:
        assert leaf.grad.shape == leaf.shape


# --- Large arrays ------------------------------------------------------------------------------------------------


@pytest.fixture
def examples_apart(monkeypatch):
    """Lets the reference take small arrays for large ones, and returns the list of the shapes that it asked about."""
    asked = []
    monkeypatch.setattr(reference, "large", lambda a: asked.append(a.shape) or len(asked) == 1)
    return asked


def test_gelu_of_one_example_at_a_time_gives_the_same_bits(examples_apart):
    a = normal(3, 5, 4)
    apart = reference.gelu_tanh(a)
    assert examples_apart == [(3, 5, 4), *[(5, 4)] * 3]
    for ours, theirs in zip(apart, reference.gelu_tanh(a), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64"])
@pytest.mark.parametrize("n", [2000, 2001])
def test_relu_of_few_and_of_many_numbers(device, n, dtype):
    """Both ways of the reference, also for what is special: ±inf, NaN, integers."""
    a = np.arange(n) - n // 2
    a = a.astype(dtype)[::-1]
    if a.dtype.kind == "f":
        a[:3] = np.nan, np.inf, -np.inf
    z = z2g.tensor(a).relu()
    assert host(z).dtype == dtype and np.array_equal(host(z), np.where(a < 0, 0, a), equal_nan=a.dtype.kind == "f")


@pytest.mark.parametrize("name", ["gelu_exact", "gelu_tanh"])
def test_gelu_with_bias_of_one_example_at_a_time(name, examples_apart):
    a, b = normal(3, 5, 4), normal(4, seed=1)
    apart = getattr(reference, name)(a, b)
    assert examples_apart == ([(3, 5, 4), *[(5, 4)] * 3] if name == "gelu_tanh" else [])
    for ours, theirs in zip(apart, getattr(reference, name)(a + b), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_bias_gelu_is_gelu_of_a_linear_layer(device, approximate):
    """In float64, with what each of the three parameters receives; and with one of the two inputs without gradient."""
    rng = np.random.default_rng(0)
    x, W, b, c = (z2g.tensor(rng.standard_normal(shape)) for shape in ((2, 3, 4), (5, 4), (5,), (2, 3, 5)))
    found = []
    for fused in (False, True):
        leaves = [leaf.clone().requires_grad_() for leaf in (x, W, b)]
        *factors, bias = leaves
        if fused:
            y = F.bias_gelu(F.linear(*factors), bias, approximate)
        else:
            y = F.gelu(F.linear(*factors, bias), approximate)
        (y * c).sum().backward()
        found.append([y, *(leaf.grad for leaf in leaves)])
    for composed, ours in zip(*found, strict=True):
        np.testing.assert_allclose(host(ours), host(composed), rtol=1e-12, atol=1e-14)
    a, leaf = F.linear(x, W), b.clone().requires_grad_()
    (F.bias_gelu(a, leaf, approximate) * c).sum().backward()
    np.testing.assert_allclose(host(leaf.grad), host(found[0][3]), rtol=1e-12, atol=1e-14)
    a = a.requires_grad_()
    (F.bias_gelu(a, b, approximate) * c).sum().backward()
    np.testing.assert_allclose(host(a.grad).sum((0, 1)), host(found[0][3]), rtol=1e-12, atol=1e-14)
    assert b.grad is None


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("broadcast", ["", "k", "v", "kv"])
def test_the_rule_of_attention_for_one_example_at_a_time(dropped, broadcast, examples_apart):
    """The same bits; and keys or values that are shared by the examples are left together."""
    q, grad = normal(3, 2, 5, 4), normal(3, 2, 5, 3, seed=3)
    k, v = normal(3, 2, 6, 4, seed=1), normal(3, 2, 6, 3, seed=2)
    k, v = k[: 1 if "k" in broadcast else 3], v[: 1 if "v" in broadcast else 3]
    saved = reference.attention(q, k, v, None, True, 0.5, 0.4 if dropped else 0, 7)[1]
    apart = reference.attention_backward(grad, q, k, v, saved, 0.5)
    assert examples_apart == ([] if broadcast else [(3, 2, 5, 6), *[(2, 5, 6)] * 3])
    examples_apart.append("no more")
    for ours, theirs in zip(apart, reference.attention_backward(grad, q, k, v, saved, 0.5), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("n", [512, 513])
def test_the_gradient_of_a_table_small_or_large(device, n, dtype):
    """Both algorithms of the reference on the CPU, the kernel and what stands in for it on a GPU."""
    table = z2g.zeros(n, 2, dtype=dtype, requires_grad=True)
    rows = z2g.tensor([[1.0, 2.0], [4.0, 8.0], [16.0, 32.0], [64.0, 128.0]], dtype=dtype)
    F.embedding(z2g.tensor([n - 1, 3, n - 1, 0]), table).backward(rows)
    expected = np.zeros((n, 2))
    expected[[n - 1, 3, 0]] = [[17, 34], [4, 8], [64, 128]]
    assert np.array_equal(host(table.grad), expected)
