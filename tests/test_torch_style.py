"""Scripts in the manner of torch code, of which only the import lines name this package: each runs, and is right.

What they compute is computed a second time here, in plain NumPy and float64, from the same weights and data: the
forward pass written out, gradients by central differences of it (never by our own backward), optimizers by their
formulas.
"""

import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.nn import functional as F

FOLDER = Path(__file__).parent / "torch_style"


@pytest.fixture
def script(device):
    """Run a script of the folder and return what it leaves behind."""
    return lambda name: runpy.run_path(str(FOLDER / f"{name}.py"))


def test_only_import_lines_name_the_package():
    """The promise: a torch script runs when its import lines change, and nothing else."""
    paths = sorted(FOLDER.glob("*.py"))
    assert len(paths) == 19
    for path in paths:
        lines = [line for line in path.read_text().splitlines() if "tinygrad_z2g" in line]
        assert lines and all(line.startswith(("import tinygrad_z2g", "from tinygrad_z2g")) for line in lines)


# --- The second computation ---------------------------------------------------------------------------------------


def host(x):
    return np.asarray(x.detach().cpu().numpy(), dtype=np.float64 if x.is_floating_point() else np.int64)


def softmax(a):
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def cross_entropy(logits, target):
    p = softmax(logits.reshape(-1, logits.shape[-1]))
    return -np.log(p[np.arange(len(p)), target.reshape(-1)]).mean()


def layer_norm(x, w, b):
    d = x - x.mean(-1, keepdims=True)
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5) * w + b


def attend(q, k, v):
    """Position by position: each sees itself and what came before."""
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for t in range(q.shape[-2]):
        scores = np.einsum("...d,...sd->...s", q[..., t, :], k[..., : t + 1, :]) / math.sqrt(q.shape[-1])
        out[..., t, :] = np.einsum("...s,...sd->...d", softmax(scores), v[..., : t + 1, :])
    return out


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def slope(loss, arrays, direction, h=1e-5):
    """The derivative of loss(arrays) along a direction, by central differences."""
    up, down = ([a + s * h * d for a, d in zip(arrays, direction, strict=True)] for s in (1, -1))
    return (loss(up) - loss(down)) / (2 * h)


def check_gradients(loss, params, tolerance=2e-4):
    """`loss` in NumPy, of a list of arrays: its slopes along random directions are those of the params' gradients."""
    rng = np.random.default_rng(0)
    arrays, grads = [host(p) for p in params], [host(p.grad) for p in params]
    for _ in range(3):
        direction = [rng.standard_normal(a.shape) for a in arrays]
        expected = slope(loss, arrays, direction)
        found = sum((g * d).sum() for g, d in zip(grads, direction, strict=True))
        size = math.sqrt(sum((g * g).sum() for g in grads))
        assert abs(found - expected) < tolerance * max(size, 1e-3), (found, expected)
    for i, (a, g) in enumerate(zip(arrays, grads, strict=True)):  # each on its own, so that none hides
        direction = [np.zeros_like(b) for b in arrays]
        direction[i] = rng.standard_normal(a.shape)
        expected = slope(loss, arrays, direction)
        assert abs((g * direction[i]).sum() - expected) < tolerance * max(math.sqrt((g * g).sum()), 1e-2), i


# --- 1. Weights in a list -----------------------------------------------------------------------------------------


def test_hand_rolled(script):
    """All 60 steps of Adam again, with the gradients of the three layers derived by hand."""
    run = script("hand_rolled")
    w = [host(p) for p in run["start"]]
    x, y = host(run["xs"]), host(run["ys"])
    one = np.ones((len(x), 1))
    m, v = [0 * a for a in w], [0 * a for a in w]
    losses = []
    for step in range(1, 61):
        x0 = np.hstack([x, one])
        h0 = x0 @ w[0]
        x1 = np.hstack([np.maximum(h0, 0), one])
        h1 = x1 @ w[1]
        x2 = np.hstack([np.maximum(h1, 0), one])
        z = x2 @ w[2]
        losses.append(((z - y) ** 2).mean())
        dz = 2 * (z - y) / len(y)
        d1 = (dz @ w[2].T)[:, :-1] * (h1 > 0)
        d0 = (d1 @ w[1].T)[:, :-1] * (h0 > 0)
        for i, g in enumerate([x0.T @ d0, x1.T @ d1, x2.T @ dz]):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
            w[i] = w[i] - 0.01 * (m[i] / (1 - 0.9**step)) / (np.sqrt(v[i] / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(run["losses"], losses, rtol=2e-3)
    assert losses[-1] < losses[0] / 5
    for p, a in zip(run["params"], w, strict=True):
        np.testing.assert_allclose(host(p), a, atol=2e-3)


# --- 2. Attention head by head -------------------------------------------------------------------------------------


def test_characters(script):
    run = script("characters")
    xb, yb = run["batch"]()
    x, y = host(xb), host(yb)
    data = host(run["data"])
    assert x.shape == (20, run["n"])
    assert all(any((data[i : i + run["n"] + 1] == [*row, last]).all() for i in range(len(data) - run["n"]))
               for row, last in zip(x, y[:, -1], strict=True))  # fmt: skip
    assert (x[:, 1:] == y[:, :-1]).all()

    def loss(params):
        emb, pos, *rest, out = params
        heads = [rest[:3], rest[3:]]
        h = emb[x] + pos
        h = h + np.concatenate([attend(h @ q, h @ k, h @ v) for q, k, v in heads], axis=-1)
        return cross_entropy(np.tanh(h) @ out, y)

    ours = run["loss_of"](xb, yb)
    assert abs(ours.item() - loss([host(p) for p in run["params"]])) < 1e-5
    run["optimizer"].zero_grad()
    ours.backward()
    check_gradients(loss, run["params"])
    assert ours.item() < 1.3 < math.log(run["V"])
    assert len(run["written"]) == 40
    assert "".join(run["itos"][i] for i in run["s"].tolist()) == run["written"][-run["n"] :]


# --- 3. A lecture's GPT --------------------------------------------------------------------------------------------


def lecture_gpt(p, x, n_head, n_layer):
    """The logits, from a dict of arrays."""
    h = p["token_embedding_table.weight"][x] + p["position_embedding_table.weight"][: x.shape[1]]
    for i in range(n_layer):
        b = f"blocks.{i}."
        a = layer_norm(h, p[b + "ln1.weight"], p[b + "ln1.bias"])
        parts = []
        for j in range(n_head):
            q, k, v = (a @ p[f"{b}sa.heads.{j}.{n}.weight"].T for n in ("query", "key", "value"))
            parts.append(attend(q, k, v))
        h = h + np.concatenate(parts, -1) @ p[b + "sa.proj.weight"].T + p[b + "sa.proj.bias"]
        a = layer_norm(h, p[b + "ln2.weight"], p[b + "ln2.bias"])
        a = np.maximum(a @ p[b + "ffwd.net.0.weight"].T + p[b + "ffwd.net.0.bias"], 0)
        h = h + a @ p[b + "ffwd.net.2.weight"].T + p[b + "ffwd.net.2.bias"]
    return layer_norm(h, p["ln_f.weight"], p["ln_f.bias"]) @ p["lm_head.weight"].T + p["lm_head.bias"]


def test_lecture_gpt(script):
    run = script("lecture_gpt")
    model = run["model"]
    names = [name for name, _ in model.named_parameters()]
    params = [p for _, p in model.named_parameters()]
    V, C, T, L = run["vocab_size"], 16, 8, 2
    assert run["n_parameters"] == V * C + T * C + L * (4 * C * C + C + 8 * C * C + 5 * C + 4 * C) + 2 * C + C * V + V

    for name, p in run["initial"].items():
        if name.endswith("bias"):
            assert not host(p).any()
        elif "ln" not in name:
            assert 0.01 < host(p).std() < 0.03, name

    xb, yb = run["get_batch"]("val")
    x, y = host(xb), host(yb)

    def loss(arrays):
        return cross_entropy(lecture_gpt(dict(zip(names, arrays, strict=True)), x, 4, L), y)

    logits, ours = model(xb, yb)
    arrays = [host(p) for p in params]
    expected = lecture_gpt(dict(zip(names, arrays, strict=True)), x, 4, L)
    np.testing.assert_allclose(host(logits).reshape(expected.shape), expected, atol=1e-4)
    assert abs(ours.item() - loss(arrays)) < 1e-5
    run["optimizer"].zero_grad(set_to_none=True)
    ours.backward()
    check_gradients(loss, params)

    assert run["estimates"][0]["train"].item() == pytest.approx(math.log(V), abs=0.1)
    assert run["estimates"][-1]["train"].item() < 1.6
    assert len(run["written"]) == 31 and set(run["written"]) <= set(run["chars"])


# --- 4. A GPT-2 model file -----------------------------------------------------------------------------------------


def erf(a):
    return np.vectorize(math.erf)(a)


def gpt2(p, x, n_head, n_layer):
    h = p["transformer.wte.weight"][x] + p["transformer.wpe.weight"][: x.shape[1]]
    B, T, C = h.shape
    for i in range(n_layer):
        b = f"transformer.h.{i}."
        a = layer_norm(h, p[b + "ln_1.weight"], p[b + "ln_1.bias"]) @ p[b + "attn.c_attn.weight"].T
        a = a + p[b + "attn.c_attn.bias"]
        q, k, v = (a[..., j * C : (j + 1) * C].reshape(B, T, n_head, C // n_head).swapaxes(1, 2) for j in range(3))
        a = attend(q, k, v).swapaxes(1, 2).reshape(B, T, C)
        h = h + a @ p[b + "attn.c_proj.weight"].T + p[b + "attn.c_proj.bias"]
        a = (
            layer_norm(h, p[b + "ln_2.weight"], p[b + "ln_2.bias"]) @ p[b + "mlp.c_fc.weight"].T
            + p[b + "mlp.c_fc.bias"]
        )
        a = a * 0.5 * (1 + erf(a / math.sqrt(2)))
        h = h + a @ p[b + "mlp.c_proj.weight"].T + p[b + "mlp.c_proj.bias"]
    h = layer_norm(h, p["transformer.ln_f.weight"], p["transformer.ln_f.bias"])
    return h @ p["transformer.wte.weight"].T


def wave(name, shape):
    """Weights from a formula: the same numbers in every language."""
    k = np.arange(math.prod(shape)).reshape(shape)
    start = sum(map(ord, name)) % 97
    return 0.3 * np.sin(0.7 * k + start) + (1.0 if "ln" in name and name.endswith("weight") else 0)


def test_gpt2_file(script):
    run = script("gpt2_file")
    model = run["model"]
    assert model.lm_head.weight is model.transformer.wte.weight
    names = [name for name, _ in model.named_parameters()]
    assert "lm_head.weight" not in names and len(names) == 2 + 12 * 2 + 2
    assert model.get_num_params() == sum(p.numel() for p in model.parameters()) - 8 * 12
    assert host(model.transformer.h[0].mlp.c_proj.weight).std() == pytest.approx(0.02 / 2, rel=0.15)

    # Weights of another implementation, matrices stored the other way round
    foreign = {}
    for name, p in model.state_dict().items():
        a = wave("transformer.wte.weight" if name == "lm_head.weight" else name, tuple(p.shape))
        turned = any(w in name for w in ("attn.c_attn.weight", "c_proj.weight", "c_fc.weight"))
        foreign[name] = z2g.tensor((a.T if turned else a).astype(np.float32))
    model.load_foreign(foreign | {"transformer.h.0.attn.masked_bias": z2g.zeros(1)})
    arrays = {name: wave(name, tuple(p.shape)) for name, p in model.named_parameters()}

    x = np.array([[1, 5, 3, 9, 0, 2, 2, 7], [10, 4, 4, 4, 6, 8, 1, 3]])
    y = np.array([[5, 3, 9, 0, 2, 2, 7, -1], [4, 4, -1, 6, 8, 1, 3, 0]])

    def loss(values):
        logits = gpt2(dict(zip(names, values, strict=True)), x, 2, 2)
        return cross_entropy(logits[y >= 0], y[y >= 0])

    _, ours = model(z2g.tensor(x), z2g.tensor(y))
    assert abs(ours.item() - loss(list(arrays.values()))) < 1e-4
    ours.backward()
    check_gradients(loss, list(model.parameters()), tolerance=1e-3)

    # One step of AdamW: decay for the matrices only; from zero moments the step is the sign of the gradient
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.95))
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(names)
    before = {name: (host(p), host(p.grad)) for name, p in model.named_parameters()}
    optimizer.step()
    for name, p in model.named_parameters():
        a, g = before[name]
        decayed = a * (1 - 1e-3 * (0.1 if a.ndim >= 2 else 0))
        np.testing.assert_allclose(host(p), decayed - 1e-3 * g / (np.abs(g) + 1e-8), atol=2e-6)

    # Sampling among the k best: with k = 1 it is the best one, whatever the seed
    now = {name: host(p) for name, p in model.named_parameters()}
    start = np.array([[3, 1]])
    written = host(model.generate(z2g.tensor(start), 10, top_k=1))
    assert written.shape == (1, 12)
    for t in range(2, 12):
        context = written[:, max(0, t - 8) : t]
        assert written[0, t] == gpt2(now, context, 2, 2)[0, -1].argmax()
    allowed = np.argsort(gpt2(now, start, 2, 2)[0, -1])[-3:]
    seen = {int(host(model.generate(z2g.tensor(start), 1, temperature=5.0, top_k=3))[0, -1]) for _ in range(40)}
    assert seen == set(allowed.tolist())

    model.crop_block_size(4)
    assert model.transformer.wpe.weight.shape == (4, 12)
    assert host(model(z2g.tensor(x[:, :4]))[0]).shape == (2, 1, 11)


# --- 5. Images, sequences, an operation of one's own ---------------------------------------------------------------


def conv2d(x, w, b, padding):
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    H, W = (x.shape[2 + i] - w.shape[2 + i] + 1 for i in range(2))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))[:, :, :H, :W]
    return np.einsum("nchwij,ocij->nohw", windows, w) + b[:, None, None]


def network(p, x):
    x = np.maximum(conv2d(x, p["conv1.weight"], p["conv1.bias"], 0), 0)
    x = np.maximum(conv2d(x, p["conv2.weight"], p["conv2.bias"], 1), 0)
    x = x.reshape(*x.shape[:2], 3, 2, 3, 2).max((3, 5)).reshape(len(x), -1)
    x = np.maximum(x @ p["fc1.weight"].T + p["fc1.bias"], 0)
    return x @ p["fc2.weight"].T + p["fc2.bias"]


def test_images(script):
    run = script("images")
    model, names = run["model"], [name for name, _ in run["model"].named_parameters()]
    p = {name: host(q) for name, q in model.named_parameters()}
    batches = list(run["test_loader"])
    assert [len(y) for _, y in batches] == [32, 28] and len(run["train_loader"]) == 18
    x = np.concatenate([host(x) for x, _ in batches])
    y = np.concatenate([host(y) for _, y in batches])

    # What the script reports after its last epoch
    logits = network(p, x)
    assert run["results"][-1] == pytest.approx((cross_entropy(logits, y), (logits.argmax(1) == y).mean()), abs=1e-5)
    assert run["results"][-1][1] > 0.9 > run["results"][0][1]
    np.testing.assert_allclose(run["rates"], [0.1 * 0.9**epoch for epoch in range(6)])

    # The parts of the split are disjoint and complete; one loop sees every sample once, in a new order each time
    parts = [set(part.indices) for part in (run["train_set"], run["test_set"])]
    assert sorted(parts[0] | parts[1]) == list(range(240)) and not parts[0] & parts[1]
    first, second = (np.concatenate([host(y) for _, y in run["train_loader"]]) for _ in range(2))
    assert sorted(first) == sorted(second) and (first != second).any()

    def loss(arrays):
        return cross_entropy(network(dict(zip(names, arrays, strict=True)), x[:20]), y[:20])

    model.zero_grad()
    log_probabilities = model(run["test_set"][list(range(20))][0])  # dropout is off: the script ends in eval()
    F.nll_loss(log_probabilities, z2g.tensor(y[:20])).backward()
    check_gradients(loss, list(model.parameters()))


def lstm(p, x, state, layers):
    """Time step by time step, (B, T, C) -> outputs and the last state."""
    out, last = x, []
    for i in range(layers):
        h, c = (s[i] for s in state)
        rows = []
        for t in range(x.shape[1]):
            z = out[:, t] @ p[f"lstm.weight_ih_l{i}"].T + p[f"lstm.bias_ih_l{i}"]
            z = z + h @ p[f"lstm.weight_hh_l{i}"].T + p[f"lstm.bias_hh_l{i}"]
            a, f, g, o = np.split(z, 4, axis=-1)
            c = sigmoid(f) * c + sigmoid(a) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            rows.append(h)
        out = np.stack(rows, 1)
        last.append((h, c))
    return out, tuple(np.stack(s) for s in zip(*last, strict=True))


def test_sequences(script):
    run = script("sequences")
    assert run["losses"][-1] < 0.05 < run["losses"][0]
    model, names = run["model"], [name for name, _ in run["model"].named_parameters()]
    wave_, zero = run["wave"], np.zeros((2, 2, 10))
    x = host(wave_)

    def predict(p, piece, state):
        out, state = lstm(p, piece, state, 2)
        return (out / (1 + np.abs(out))) @ p["linear.weight"].T + p["linear.bias"], state

    # Two pieces: the state is carried on as a number, and no gradient passes from the second to the first
    fixed = {name: host(p) for name, p in model.named_parameters()}
    _, carried = predict(fixed, x[:, :20], (zero, zero))

    def loss(arrays):
        z, _ = predict(dict(zip(names, arrays, strict=True)), x[:, 20:40], carried)
        return ((z - x[:, 21:41]) ** 2).mean()

    _, state = model(wave_[:, :20])
    for ours, theirs in zip(state, carried, strict=True):
        np.testing.assert_allclose(host(ours), theirs, atol=1e-5)
    prediction, _ = model(wave_[:, 20:40], tuple(s.detach() for s in state))
    value = nn.MSELoss()(prediction, wave_[:, 21:41])
    assert abs(value.item() - loss(list(fixed.values()))) < 1e-6
    model.zero_grad()
    value.backward()
    check_gradients(loss, list(model.parameters()))


# --- 6. Derivatives of derivatives ---------------------------------------------------------------------------------


def test_penalty(script):
    """The critic's loss with its slope written out, ∂f/∂x = ((1 - h²) w₂) W₁, and differences of it."""
    run = script("penalty")
    assert run["costs"][-1] < -1 and np.mean(run["penalties"][-10:]) < 0.3 < run["penalties"][0]
    names = [name for name, _ in run["critic"].named_parameters()]
    real, fake, alpha = host(run["real"]), host(run["fake"]), host(run["alpha"])

    def loss(arrays):
        p = dict(zip(names, arrays, strict=True))

        def critic(x):
            return mlp({k.removeprefix("main."): v for k, v in p.items()}, x)[:, 0] + p["main.2.bias"]

        between = alpha * real + (1 - alpha) * fake
        h = np.tanh(between @ p["main.0.weight"].T + p["main.0.bias"])
        slopes = ((1 - h * h) * p["main.2.weight"]) @ p["main.0.weight"]
        penalty = 10 * ((np.sqrt((slopes**2).sum(1)) - 1) ** 2).mean()
        return critic(fake).mean() - critic(real).mean() + penalty

    net = run["critic"]
    net.zero_grad()
    ours = net(run["fake"]).mean() - net(run["real"]).mean()
    ours = ours + run["calc_gradient_penalty"](net, run["real"], run["fake"], run["alpha"])
    assert abs(ours.item() - loss([host(p) for p in net.parameters()])) < 1e-4
    ours.backward()
    check_gradients(loss, list(net.parameters()), tolerance=1e-3)


def test_maml(script):
    """The loss after an inner step whose gradients are derived by hand, and differences of that through the step."""
    run = script("maml")
    x_spt, y_spt, x_qry, y_qry = (host(a) for a in run["task"])
    assert np.mean(run["losses"][-10:]) < 0.6 * np.mean(run["losses"][:10])

    def loss(arrays):
        W1, b1, W2, b2 = arrays
        h = np.tanh(x_spt @ W1.T + b1)
        dz = 2 * (h @ W2.T + b2 - y_spt) / len(y_spt)
        dh = dz @ W2 * (1 - h * h)
        grads = [dh.T @ x_spt, dh.sum(0), dz.T @ h, dz.sum(0)]
        W1, b1, W2, b2 = (a - 0.1 * g for a, g in zip(arrays, grads, strict=True))
        return ((np.tanh(x_qry @ W1.T + b1) @ W2.T + b2 - y_qry) ** 2).mean()

    check_gradients(loss, run["params"], tolerance=1e-3)


def test_newton(script):
    """The Hessian is Xᵀ diag(p (1 - p)) X / n + 0.02; the minimum is one; each step squares the error."""
    run = script("newton")
    X, y, w = host(run["X"]), host(run["y"]), host(run["w"])
    p = sigmoid(X @ w)
    expected = X.T @ np.diag(p * (1 - p)) @ X / 40 + 0.02 * np.eye(3)
    for name in ("by_functional", "by_func"):
        np.testing.assert_allclose(host(run[name]), expected, rtol=1e-10)
    np.testing.assert_allclose(host(run["product"]), expected @ host(run["true"]), rtol=1e-10)
    assert np.abs(X.T @ (p - y) / 40 + 0.02 * w).max() < 1e-12
    assert run["norms"][-1] < 1e-12 and run["norms"][4] < 10 * run["norms"][3] ** 2


# --- Weights move both ways ----------------------------------------------------------------------------------------

# Architectures, and the names and shapes that torch gives their weights
MODELS = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2, bias=False)),
        {"0.weight": (5, 3), "0.bias": (5,), "2.weight": (2, 5)},
    ),
    "lstm": (
        lambda: nn.LSTM(3, 4, num_layers=2, batch_first=True),
        {f"{kind}_l{i}": (16,) if "bias" in kind else (16, 4 if "hh" in kind or i else 3)
         for i in range(2) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    ),
    "attention": (
        lambda: nn.MultiheadAttention(6, 2, batch_first=True),
        {"in_proj_weight": (18, 6), "in_proj_bias": (18,), "out_proj.weight": (6, 6), "out_proj.bias": (6,)},
    ),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2), nn.LayerNorm(2)
        ),
        {"0.weight": (2, 1, 3, 3), "0.bias": (2,), "3.weight": (2, 32), "3.bias": (2,),
         "4.weight": (2,), "4.bias": (2,)},
    ),
    "embedding": (
        lambda: nn.ModuleDict({"table": nn.Embedding(7, 3), "norm": nn.RMSNorm(3), "taps": nn.Conv1d(2, 4, 3)}),
        {"table.weight": (7, 3), "norm.weight": (3,), "taps.weight": (4, 2, 3), "taps.bias": (4,)},
    ),
}  # fmt: skip


def by_hand(arrays):
    """The bytes of a safetensors file: the length of the header, the header as JSON, the numbers."""
    header, blobs, start = {}, [], 0
    for name, a in arrays.items():
        blob = a.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [start, start + len(blob)]}
        blobs.append(blob)
        start += len(blob)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(blobs)


def read_by_hand(data):
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])
    header.pop("__metadata__", None)
    body = data[8 + n :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
    }


def mlp(p, x):
    return np.tanh(x @ p["0.weight"].T + p["0.bias"]) @ p["2.weight"].T


def attention(p, x):
    q, k, v = np.split(x @ p["in_proj_weight"].T + p["in_proj_bias"], 3, axis=-1)
    heads = [softmax(q[..., h] @ k[..., h].swapaxes(-1, -2) / math.sqrt(3)) @ v[..., h]
             for h in (slice(0, 3), slice(3, 6))]  # fmt: skip
    return np.concatenate(heads, -1) @ p["out_proj.weight"].T + p["out_proj.bias"]


def convolutions(p, x):
    h = np.maximum(conv2d(x, p["0.weight"], p["0.bias"], 1), 0).reshape(len(x), -1)
    return layer_norm(h @ p["3.weight"].T + p["3.bias"], p["4.weight"], p["4.bias"])


def recurrent(p, x):
    zero = np.zeros((2, len(x), 4))
    return lstm({f"lstm.{name}": a for name, a in p.items()}, x, (zero, zero), 2)[0]


OUTPUTS = {  # the input's shape, how to call our module, the same in NumPy
    "mlp": ((4, 3), lambda m, x: m(x), mlp),
    "lstm": ((2, 5, 3), lambda m, x: m(x)[0], recurrent),
    "attention": ((2, 5, 6), lambda m, x: m(x, x, x)[0], attention),
    "convolutions": ((3, 1, 4, 4), lambda m, x: m(x), convolutions),
}


@pytest.mark.parametrize("name", MODELS)
def test_weights_come_from_torch_and_go_there(device, tmp_path, name):
    """A file as torch writes it, made here by hand from formulas, loads; ours has the same names and shapes."""
    make, shapes = MODELS[name]
    arrays = {key: wave(key, shape) for key, shape in shapes.items()}
    theirs = tmp_path / "theirs.safetensors"
    theirs.write_bytes(by_hand(arrays))
    module = make()
    assert module.load_state_dict(z2g.load(theirs)) == ([], [])
    for key, p in module.state_dict().items():
        np.testing.assert_allclose(host(p), arrays[key], atol=1e-6)
    if name in OUTPUTS:
        shape, call, expected = OUTPUTS[name]
        x = np.cos(np.arange(math.prod(shape))).reshape(shape)
        found = call(module.eval(), z2g.tensor(x.astype(np.float32)))
        np.testing.assert_allclose(host(found), expected(arrays, x), atol=1e-5)
    ours = tmp_path / "ours.safetensors"
    z2g.save(module.state_dict(), ours)
    back = read_by_hand(ours.read_bytes())
    assert {key: a.shape for key, a in back.items()} == shapes
    for key, a in back.items():
        np.testing.assert_allclose(a, arrays[key], atol=1e-6)


def test_a_tied_weight_may_come_under_one_of_its_names(script):
    """Files that torch code writes hold shared memory once; which of the names it has is the writer's choice."""
    model = script("gpt2_file")["model"]
    for left_out in ("lm_head.weight", "transformer.wte.weight"):
        state = {name: z2g.full_like(p, 0.5) for name, p in model.state_dict().items() if name != left_out}
        assert model.load_state_dict(state) == ([], [])
        assert (model.lm_head.weight == 0.5).all() and (model.transformer.wte.weight == 0.5).all()
        model.lm_head.weight.data.zero_()
    with pytest.raises(RuntimeError, match=r"missing keys: transformer\.wpe\.weight"):
        model.load_state_dict({name: p for name, p in state.items() if "wpe" not in name})
