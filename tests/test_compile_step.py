"""`z2g.cuda.compile_step`: replayed steps are ordinary steps, to the last bit, and whatever a replay would get wrong is
seen or refused. On the fake, whose captures compute nothing and whose launches repeat what was recorded (fakegraph.py);
with a card (`-m gpu`) the first tests run on it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import operator
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cuda_on_cpu
import fakecuda
import fakecupy
import fakegraph
import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g import fast, nn, optim
from tinygrad_z2g.arrays.random import Generator
from tinygrad_z2g.fast import updates
from tinygrad_z2g.fast.forms import PLAIN
from tinygrad_z2g.gpu import capture as cuda
from tinygrad_z2g.gpu import replay, steps
from tinygrad_z2g.gpu.kernels import products
from tinygrad_z2g.half import scaler as amp
from tinygrad_z2g.models import GPT, GPTConfig
from tinygrad_z2g.nn import functional as F
from tinygrad_z2g.optim import lr_scheduler

pytestmark = pytest.mark.skipif(not cuda_on_cpu.available(), reason="no g++")
with_products = pytest.mark.fast  # a plain product is CuPy's, which may not be asked for in a capture
CALLS = 5  # two ordinary ones, the capture, two replays


class Training:
    """A small model with all that changes from step to step; `step(x, y)` trains it."""

    def __init__(self, kind: str = "adamw"):
        z2g.manual_seed(1)
        if kind == "gpt":
            self.net: Any = GPT(GPTConfig(vocab_size=7, context=4, layers=1, heads=2, width=8, dropout=0.3))
        else:
            self.net = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Dropout(0.5), nn.LayerNorm(6), nn.Linear(6, 3))
        params = self.net.parameters()
        if kind.startswith("sgd"):
            self.optimizer: Any = optim.SGD(params, lr=0.1, momentum=0.9 if kind == "sgd momentum" else 0.0)
        else:
            self.optimizer = (optim.Adam if kind == "adam" else optim.AdamW)(params, lr=0.1, weight_decay=0.1)
        self.scheduler = lr_scheduler.CosineAnnealingLR(self.optimizer, 2 * CALLS)
        self.half = kind == "autocast"
        self.inside = kind == "scheduler inside"  # of the step

    def __call__(self, x: z2g.Tensor, y: z2g.Tensor) -> tuple[z2g.Tensor, z2g.Tensor]:
        self.optimizer.zero_grad()
        with amp.autocast("cuda", enabled=self.half):
            out = self.net(x)
        out = out[0] if isinstance(out, tuple) else out
        loss = F.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), 0.5)
        self.optimizer.step()
        if self.inside:
            self.scheduler.step()
        return loss, norm

    def batch(self, i: int) -> tuple[z2g.Tensor, z2g.Tensor]:
        rng = np.random.default_rng(i)
        if isinstance(self.net, GPT):
            return z2g.tensor(rng.integers(0, 7, (2, 4))), z2g.tensor(rng.integers(0, 7, (2, 4)))
        return z2g.tensor(rng.standard_normal((5, 4)).astype(np.float32)), z2g.tensor(rng.integers(0, 3, 5))

    def run(self, step: Callable, calls: int = CALLS, start: int = 0) -> list[list[float]]:
        """The losses and norms of some steps."""
        found = []
        for i in range(start, start + calls):
            found.append([value.item() for value in step(*self.batch(i))])
            if not self.inside:
                self.scheduler.step()
        return found

    def state(self) -> list[Any]:
        """All that a checkpoint has, as host values."""
        saved = self.optimizer.state_dict()
        arrays = [*self.net.state_dict().values()]
        for values in saved["state"].values():
            arrays += values.values()
        groups = [{k: v for k, v in group.items() if k != "params"} for group in saved["param_groups"]]
        numbers = z2g.random.default_generator.get_state()["calls"], self.scheduler.state_dict()["last_epoch"]
        return [*(a.tolist() if isinstance(a, z2g.Tensor) else a for a in arrays), groups, numbers]


def ordinary(kind: str = "adamw") -> tuple[list, list]:
    return on(type(z2g.zeros(1).array), kind)


@functools.cache
def on(place: type, kind: str) -> tuple[list, list]:
    training = Training(kind)
    return training.run(training), training.state()


def compiled(kind: str = "adamw", calls: int = CALLS) -> tuple[list, list]:
    training = Training(kind)
    return training.run(cuda.compile_step(training.__call__), calls), training.state()


@pytest.fixture(autouse=True)
def fast_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A captured step takes the fast forms of the updates in any case: under TINYGRAD_Z2G_PLAIN=1, too, ordinary steps
    are the same to the last bit if they take them as well."""
    for kind, update in updates.UPDATES.items():
        monkeypatch.setattr(kind, "_update", update)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("TINYGRAD_Z2G_DEVICE", "cuda")
    with fakecupy.installed() as cupy:
        yield cupy


# --- Replays are ordinary steps ----------------------------------------------------------------------------------


@with_products
@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd", "sgd momentum", "scheduler inside", "gpt", "autocast"])
def test_replayed_steps_are_ordinary_steps(device: str, kind: str) -> None:
    """Losses, norms, weights, averages, counts: equal. (On a card two ways of multiplying may round differently.)"""
    (losses, state), (expected_losses, expected) = compiled(kind), ordinary(kind)
    if device == "cuda" and not isinstance(z2g.zeros(1).array, fakecupy.ndarray):
        np.testing.assert_allclose(losses, expected_losses, rtol=1e-3)
    else:
        assert losses == expected_losses and state == expected
    assert len({loss for loss, _ in losses}) == CALLS


@with_products
def test_a_replay_launches_two_things_and_waits_for_nothing(fake: Any) -> None:
    training = Training()
    step = cuda.compile_step(training)
    batches = [training.batch(i) for i in range(CALLS)]
    for x, y in batches[:3]:
        step(x, y)
    for counter in (fakecupy.launches, fakecupy.synchronisations, fakecupy.uploads):
        counter.reset()
    step(*batches[3])
    assert fakecupy.launches.count == 2 + 2  # the arguments, the numbers, the graph
    assert fakecupy.synchronisations.count == fakecupy.uploads.count == 0


def unchanged(ordinary: Callable, self: Any, *args: Any) -> Any:
    return ordinary(self, *args)


WRONG: dict[str, tuple[str, Any, Any, Any]] = {
    "the key of the masks": ("adamw", steps.INSTEAD, (Generator, "next_key"), unchanged),
    "the learning rate of SGD": ("sgd", steps.INSTEAD, (optim.SGD, "_update"), unchanged),
    "Adam's learning rate and step": ("adamw", steps.INSTEAD, (optim.Adam, "_update"), unchanged),
    "Adam's step": ("adamw", replay.Recording, "replays", property(lambda self: 0, lambda self, value: None)),
    "the scheduler": ("scheduler inside", steps.INSTEAD, (lr_scheduler.LRScheduler, "step"), unchanged),
    "what is counted": ("adamw", replay.Recording, "add", lambda self, work, undo: None),
    "the numbers' places": ("adamw", fast, "set_numbers", lambda places, values: None),
    "the arguments": ("adamw", cuda.CompiledStep, "_take", None),
}


@with_products
@pytest.mark.parametrize("name", WRONG)
def test_what_is_baked_in_is_seen(fake: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kind, where, attribute, wrong = WRONG[name]
    expected = ordinary(kind)
    if wrong is None:
        take = cuda.CompiledStep._take
        wrong = lambda self, tensors: self._graph or take(self, tensors)  # noqa: E731
    if isinstance(where, dict):
        monkeypatch.setitem(where, attribute, wrong)
    else:
        monkeypatch.setattr(where, attribute, wrong, raising=False)
    losses, state = compiled(kind)
    assert losses[: cuda.WARM_UP] == expected[0][: cuda.WARM_UP]
    assert (losses, state) != expected


@with_products
def test_what_comes_back_is_overwritten_by_the_next_call(fake: Any) -> None:
    training = Training()
    step = cuda.compile_step(training)
    batches = [training.batch(i) for i in range(CALLS)]
    for batch in batches[:3]:
        loss, _ = step(*batch)
    kept, before = loss.clone(), loss.item()
    assert not loss.requires_grad and loss.is_leaf
    watched = (loss * z2g.ones((), requires_grad=True)).sum()
    later, _ = step(*batches[3])
    assert kept.item() == before != later.item() == loss.item()
    with pytest.raises(RuntimeError, match="modified"):
        watched.backward()


@with_products
@pytest.mark.parametrize("change", ["load_state_dict", "betas", "requires_grad", "data", "a checkpoint of the model"])
def test_what_was_replaced_is_captured_anew(fake: Any, change: str) -> None:
    """Replays after a change are what ordinary steps after it are."""
    results = []
    for compile_it in (False, True):
        training = Training()
        step = cuda.compile_step(training) if compile_it else training
        training.run(step, 1)
        saved, weights = training.optimizer.state_dict(), training.net.state_dict()
        for values in saved["state"].values():
            values.update({name: v.clone() for name, v in values.items() if name != "step"})
        weights = {name: value.clone() for name, value in weights.items()}
        training.run(step, 3, start=1)
        graph = step._graph if compile_it else None
        if change == "load_state_dict":
            training.optimizer.load_state_dict(saved)
        elif change == "betas":
            training.optimizer.param_groups[0]["betas"] = (0.5, 0.6)
        elif change == "requires_grad":
            training.net[0].weight.requires_grad_(False)
        elif change == "data":
            training.net[0].weight.data = training.net[0].weight.detach() * 2
        else:
            training.net.load_state_dict(weights)
        results.append((training.run(step, 5, start=4), training.state()))
        if compile_it:  # weights are loaded into the memory that is there
            assert (step._graph is graph) == (change == "a checkpoint of the model")
    assert results[0] == results[1]


def test_two_optimizers_and_no_arguments(fake: Any) -> None:

    def run(wrap: Callable) -> tuple:
        z2g.manual_seed(0)
        a, b = (z2g.randn(3, requires_grad=True) for _ in range(2))
        first, second = optim.Adam([a], lr=0.1), optim.SGD([b], lr=0.1)

        @wrap
        def step() -> None:
            for optimizer in (first, second):
                optimizer.zero_grad()
            ((a * b).sum() ** 2).backward()
            first.step()
            second.step()

        for _ in range(CALLS):
            assert step() is None
        return a.tolist(), b.tolist(), first.state[a]["step"]

    assert run(cuda.compile_step) == run(lambda fn: fn)


@pytest.mark.parametrize("clears", [True, False])
def test_gradients_may_be_cleared_outside(fake: Any, clears: bool) -> None:
    """What fn clears itself does not matter; what it adds to is noticed when it is gone."""

    def run(wrap: Callable) -> list:
        w = z2g.ones(2, requires_grad=True)
        optimizer, found = optim.SGD([w], lr=0.1), []

        @wrap
        def step(x: z2g.Tensor) -> None:
            if clears:
                optimizer.zero_grad()
            (w * w * x).sum().backward()
            optimizer.step()

        for i in range(9):
            if i in (5, 6):
                optimizer.zero_grad()
            step(z2g.full((2,), float(i)))
            found.append(w.grad.tolist())
        return [found, w.tolist()]

    assert run(cuda.compile_step) == run(lambda fn: fn)


def test_gradients_may_accumulate(fake: Any) -> None:
    """A step without zero_grad adds to the gradients that lie there."""
    results = []
    for wrap in (lambda fn: fn, cuda.compile_step):
        w = z2g.ones(2, requires_grad=True)
        step = wrap(lambda x, w=w: (w * x).sum().backward())
        for i in range(CALLS):
            step(z2g.full((2,), float(i)))
        results.append(w.grad.tolist())
    assert results[0] == results[1] == [10.0, 10.0]


@pytest.mark.parametrize("cleared", [1, 2])
@pytest.mark.parametrize("optimizer", ["outside", "none"])
def test_the_optimizer_may_step_outside(fake: Any, optimizer: str, cleared: int) -> None:
    """A replay leaves every leaf its gradient, whoever reads and clears it, each time or every other time."""

    def run(wrap: Callable) -> list:
        w, spare, found = z2g.ones(2, requires_grad=True), z2g.ones(2, requires_grad=True), []
        adam = optim.Adam([w], lr=0.1) if optimizer == "outside" else None

        @wrap
        def step(x: z2g.Tensor) -> z2g.Tensor:
            inside = z2g.zeros(2, requires_grad=True)  # a leaf that nobody else sees
            loss = ((w + inside) * w * x).sum()
            loss.backward()
            return loss

        for i in range(9):
            if i % cleared == 0:
                w.grad = None
            if i == 7:
                w.data = w.detach() * 3  # replaced: noticed
            found.append([step(z2g.full((2,), float(i))).item(), w.grad.tolist(), spare.grad])
            if adam is not None:
                adam.step()
        if cleared == 1 and wrap is cuda.compile_step:
            assert step._graph is None and step._calls == 2  # i = 7 and 8: until then it was replayed
        return [found, w.tolist()]

    assert run(cuda.compile_step) == run(lambda fn: fn)


def test_a_leaf_outside_the_optimizers_is_put_back(fake: Any) -> None:
    """A capture that fails leaves its gradient what it was, whether fn cleared it or made the first one."""
    w, late, calls = z2g.ones(2, requires_grad=True), z2g.ones(2, requires_grad=True), []

    @cuda.compile_step
    def step(x: z2g.Tensor) -> None:
        w.grad = None
        calls.append(1)
        (w * x * (late if len(calls) > cuda.WARM_UP else 1.0)).sum().backward()
        if len(calls) > cuda.WARM_UP:
            x.sum().item()

    for _ in range(cuda.WARM_UP):
        step(z2g.full((2,), 3.0))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot be captured"):
            step(z2g.full((2,), 4.0))
        assert w.grad.tolist() == [3.0, 3.0] and late.grad is None


def test_on_the_cpu_it_is_the_function() -> None:
    calls = []
    step = cuda.compile_step(lambda *xs: calls.append(xs) or 3)
    x = z2g.ones(2)
    assert step(x) == 3 and step(z2g.ones(4, dtype=z2g.float64)) == 3 and len(calls) == 2 and calls[0][0] is x


# --- What cannot be captured is refused, and nothing is lost -----------------------------------------------------


class Unknown(optim.SGD):
    def _update(self, params: list[z2g.Tensor], group: dict[str, Any]) -> None:
        super()._update(params, group)


def with_gradient(x: z2g.Tensor) -> z2g.Tensor:
    w = z2g.ones(4, requires_grad=True)
    (w * x).sum().backward()
    return w


REFUSED: dict[str, Callable[[z2g.Tensor], Any]] = {
    "item": lambda x: x.sum().item(),
    "if": lambda x: x if x.sum() > 0 else -x,
    "print": lambda x: repr(x),
    "mask": lambda x: x[x > 0],
    "data": lambda x: x + z2g.tensor([1.0, 2.0, 3.0, 4.0]),
    "noise": lambda x: x + z2g.randn(4),
    "a list of indices": lambda x: x[[0, 1]],
    "LSTM": lambda x: nn.LSTM(4, 4)(x[None])[0].sum(),
    "GradScaler, scale": lambda x: amp.GradScaler().scale(x.sum()),
    "GradScaler, unscale_": lambda x: amp.GradScaler().unscale_(optim.SGD([with_gradient(x)])),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_captured_is_refused_and_undone(fake: Any, name: str) -> None:
    """Even after the optimizer has stepped: the state is that after two ordinary calls, and one may go on with it."""
    training = Training("scheduler inside")
    layers = nn.LSTM(4, 4)

    def train(x: z2g.Tensor, y: z2g.Tensor) -> Any:
        result = training(x, y)
        (REFUSED[name] if name != "LSTM" else lambda x: layers(x[None])[0].sum())(x)
        return result

    step = cuda.compile_step(train)
    training.run(step, 2)
    before, grads = training.state(), [p.grad.tolist() for p in training.net.parameters()]
    with pytest.raises(RuntimeError, match=r"^compile_step: train cannot be captured .*item\(\)"):
        step(*training.batch(2))
    assert training.state() == before and [p.grad.tolist() for p in training.net.parameters()] == grads
    assert not replay.capturing() and not fakegraph.capturing() and fakegraph._pinned[0](8) is None
    if name != "noise":
        training.run(training, 3, start=2)
        assert training.state() == ordinary("scheduler inside")[1]


def test_a_plain_product_is_refused_with_the_reason(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_Z2G_PLAIN", "1")
    x, step = z2g.ones(2, 2), cuda.compile_step(lambda x: PLAIN.matmul(x, x))
    for _ in range(cuda.WARM_UP):
        assert step(x).tolist() == [[2, 2], [2, 2]]
    with pytest.raises(RuntimeError, match=r"cuBLAS.* unset TINYGRAD_Z2G_PLAIN$"):
        step(x)


def test_optimizers_that_would_repeat_themselves_are_refused(fake: Any) -> None:
    def trained(make: Callable, twice: bool = False, late: bool = False) -> None:
        w, v = (z2g.ones(2, requires_grad=True) for _ in range(2))
        optimizer, calls = make([w, v]), []

        def train() -> None:
            optimizer.zero_grad()
            calls.append(1)
            (w * w + v * v if late and len(calls) > cuda.WARM_UP else w * w).sum().backward()
            for _ in range(1 + twice):
                optimizer.step()

        step = cuda.compile_step(train)
        for _ in range(3):
            step()

    trained(optim.Adam)
    for arguments, message in (
        ((lambda ps: Unknown(ps, lr=0.1),), "Unknown: a captured step would repeat"),
        ((optim.Adam, True), "step each optimizer once"),
        ((optim.Adam, False, True), "has its first gradient while"),
    ):
        with pytest.raises(RuntimeError, match=message):
            trained(*arguments)


@with_products
def test_wrong_arguments_are_refused_before_anything_happens(fake: Any) -> None:
    training = Training()
    step = cuda.compile_step(training)
    x, y = training.batch(0)
    training.run(step, 4)
    before = training.state()
    for args, kind, message in (
        ((x[:3], y[:3]), RuntimeError, r"expected \[\(\(5, 4\), 'float32'\), .*\(drop_last=True"),
        ((x.double(), y), RuntimeError, "float64"),
        ((x,), RuntimeError, "got arguments"),
        ((x, 3), TypeError, "expected tensors, got int"),
        ((x.clone().requires_grad_(), y), RuntimeError, "requires grad"),
        ((x.cpu(), y), RuntimeError, "expected all on the CPU, or on the current card"),
        ((x.to("cuda:1"), y.to("cuda:1")), RuntimeError, "arguments on cuda:1"),
    ):
        with pytest.raises(kind, match=message):
            step(*args)
    assert training.state() == before
    with pytest.raises(TypeError, match="returned float, expected tensors"):
        cuda.compile_step(lambda x: 1.0)(x)
    inner = cuda.compile_step(lambda x: x + 1)
    with pytest.raises(RuntimeError, match="inside another one"):
        cuda.compile_step(lambda x: inner(x))(x)


def test_without_arguments_the_parameters_say_where(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the default device: a model on the card is captured, one on the CPU is not, in training or without."""
    for default in ("cpu", "cuda"):
        monkeypatch.setenv("TINYGRAD_Z2G_DEVICE", default)
        for place, captured in (("cuda", True), ("cpu", False)):
            w = z2g.ones(2, requires_grad=True, device=place)
            sgd = optim.SGD([w], lr=0.25)

            @cuda.compile_step
            def train(w: z2g.Tensor = w, sgd: Any = sgd) -> None:
                sgd.zero_grad()
                (w * w).sum().backward()
                sgd.step()

            @cuda.compile_step
            def look(w: z2g.Tensor = w) -> z2g.Tensor:
                return w * 2

            for i in range(CALLS):
                train()
                assert look().tolist() == [2 * 0.5 ** (i + 1)] * 2
            assert [step._graph is not None for step in (train, look)] == [captured] * 2
    u, v = (z2g.ones(2, requires_grad=True, device=place) for place in ("cuda", "cpu"))
    both = cuda.compile_step(lambda x: (v.sum().backward(), u.sum().backward(), x)[2])
    for _ in range(cuda.WARM_UP):
        both(z2g.ones(2, device="cuda"))
    with pytest.raises(RuntimeError, match="results on cpu, expected"):
        both(z2g.ones(2, device="cuda"))


def test_a_step_belongs_to_its_card(fake: Any) -> None:
    x, y, nothing = z2g.ones(2), z2g.ones(2, device="cuda:1"), cuda.compile_step(lambda: None)
    step = cuda.compile_step(lambda x: x + 1)
    step(x)
    nothing()
    cuda.set_device(1)
    try:
        for call in (lambda: step(y), nothing):
            with pytest.raises(RuntimeError, match=r"cuda:1.*cuda:0"):
                call()
    finally:
        cuda.set_device(0)
    assert step(x).tolist() == [2, 2]


def test_a_failing_call_is_waited_for(fake: Any) -> None:
    """What it has launched is done when the error, or Ctrl-C, arrives: others read the weights from another stream."""

    @cuda.compile_step
    def step(x: z2g.Tensor) -> None:
        fakecupy.synchronisations.reset()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step(z2g.ones(2))
    assert fakecupy.synchronisations.count == 1


def test_a_full_card_ends_the_capture(fake: Any) -> None:
    """The pool must not do what it does elsewhere: free what the graph uses, and try again."""
    step, freed = cuda.compile_step(lambda x: x + 1), fakegraph._default.freed
    step(z2g.ones(2))
    assert step._pool.limit == 0 and fakegraph._default.freed == freed + 1
    with pytest.raises(fakecupy.CUDARuntimeError, match="out of memory"):
        step._pool.allocator(8)
    full = cuda.compile_step(lambda x: step._pool.allocator(8) if replay.capturing() else None)
    with pytest.raises(RuntimeError, match=r"cannot be captured \(MemoryError: .*8 bytes"):
        for _ in range(3):
            full(z2g.ones(2))


def test_a_step_that_is_dropped_gives_its_memory_back(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When neither the graph nor what it returned is in that memory any more."""
    alive: list[bool] = []
    held: list[Any] = []
    monkeypatch.setattr(
        fakegraph.MemoryPool, "free_all_blocks", lambda pool: alive.extend(ref() is not None for ref in held)
    )
    step = cuda.compile_step(lambda x: x + 1)
    for _ in range(3):
        step(z2g.ones(2))
    held += map(weakref.ref, (step._graph, step._captured["outputs"]))
    del step
    assert alive == [False, False]


def test_one_capture_at_a_time(fake: Any) -> None:
    """Threads share cuBLAS's handle, whose stream a capture sets."""
    inside: list[int] = [0, 0]

    def fn(x: z2g.Tensor) -> z2g.Tensor:
        if replay.capturing():
            inside[0] += 1
            inside[1] = max(inside)
            time.sleep(0.05)
            inside[0] -= 1
        return x + 1

    def work() -> None:
        step, x = cuda.compile_step(fn), z2g.ones(2)
        for _ in range(3):
            step(x)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == [0, 1] and replay.active == 0


@with_products
def test_there_is_an_end_to_the_places(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PLACES", 2)
    with pytest.raises(RuntimeError, match="2 numbers that change"):
        compiled("adamw")


# --- The fake captures as CuPy does ------------------------------------------------------------------------------


@contextlib.contextmanager
def captured(cupy: Any, pool: Any = None) -> Iterator[list]:
    stream, graphs = cupy.cuda.Stream(non_blocking=True), []
    pool = pool or cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc), stream:
        stream.begin_capture()
        try:
            yield graphs
        finally:
            with contextlib.suppress(fakecupy.CUDARuntimeError):
                graphs += [stream.end_capture(), pool]


def test_a_capture_computes_nothing_and_a_launch_all(fake: Any) -> None:
    a, b, ids = fake.ones(3, np.float32), fake.zeros(3, np.float32), fake.asarray(np.array([2, 0]))
    with captured(fake) as graphs:
        c = a * 2
        b += c
        d = b[ids] + c.sum()
        b[ids] = d
        e = fake.zeros(2, np.float32)
        fake.add.at(e, ids % 2, d)
        view = b[1:]
    assert b.get().tolist() == [0, 0, 0] and np.isnan(c.get()).all() and view.base is b
    for expected in ([8, 2, 8], [16, 4, 16]):
        graphs[0].launch()
        assert b.get().tolist() == expected and d.get().tolist() == [expected[0]] * 2 and e.get()[1] == 0
        assert view.get().tolist() == expected[1:]
    a *= 10  # read anew
    ids[...] = 1
    with pytest.raises(fakecupy.FakeError, match="duplicate"):
        graphs[0].launch()


def test_what_cupy_refuses_in_a_capture(fake: Any) -> None:
    a, b = fake.ones((2, 2), np.float32), fake.ones((3, 2, 2), np.float32)
    for call, kind in (
        (lambda: a @ a, NotImplementedError),
        (lambda: fake.vdot(a, a), NotImplementedError),
        (lambda: fake.random.default_rng(0).random(3), NotImplementedError),
        (lambda: a.get(), fakecupy.CUDARuntimeError),
        (lambda: a[a > 0], fakecupy.CUDARuntimeError),
        (lambda: fake.cuda.Device().synchronize(), fakecupy.CUDARuntimeError),
        (lambda: fake.asarray(np.ones(3)), fakecupy.FakeError),
        (lambda: products.own_cublas(fake), RuntimeError),
        (lambda: fakecuda.gemmStridedBatchedEx(*[0] * 23), NotImplementedError),
    ):
        with pytest.raises(kind), captured(fake):
            call()
    assert (a @ a).get().tolist() == [[2, 2], [2, 2]] and fast.bmm(b, b).get().sum() == 24
    with pytest.raises(RuntimeError, match="legacy"):
        fake.cuda.Stream.null.begin_capture()
    stream = fake.cuda.Stream()
    with stream, pytest.raises(fakecupy.FakeError, match="default pool"):
        stream.begin_capture()
        a + a
    stream._calls = None


def test_a_graph_needs_its_pool(fake: Any) -> None:
    a = fake.ones(3)
    with captured(fake) as graphs:
        a + 1
    graphs[0].launch()
    graphs.pop()
    with pytest.raises(fakecupy.FakeError, match="is gone"):
        graphs[0].launch()


def test_cupy_has_what_the_captures_use() -> None:
    """Needs CuPy, no card."""
    cupy = pytest.importorskip("cupy")
    for name in (
        "Stream.begin_capture", "Stream.end_capture", "Stream.synchronize", "Graph.launch", "MemoryPool.malloc",
        "MemoryPool.set_limit", "MemoryPool.free_all_blocks", "Memory", "MemoryPointer",
        "using_allocator", "set_pinned_memory_allocator", "runtime.runtimeGetVersion", "device.get_cublas_handle",
    ):  # fmt: skip
        assert callable(operator.attrgetter(name)(cupy.cuda))
    assert callable(cupy.get_default_pinned_memory_pool().malloc)
    assert callable(cupy.get_default_memory_pool().free_all_blocks)


# --- cuBLAS without CuPy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 2, 3, 4), (4, 5)), ((1, 4), (4, 1))])
def test_captured_products(fake: Any, shapes: tuple, dtype: Any) -> None:
    """By our own handle: GemmEx for one, GemmStridedBatchedEx for many; transposed operands are read where they lie."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    x, y = fake.asarray(a), fake.asarray(np.ascontiguousarray(b.swapaxes(-1, -2))).swapaxes(-1, -2)
    own, workspace = products.own_cublas(fake), fake.zeros(64, np.uint8)
    recording = replay.Recording(fake)
    with captured(fake) as graphs, replay.watched(recording):
        recording.capturing = True
        own.use(fake.cuda.get_current_stream(), workspace)
        z = (fast.product if a.ndim == b.ndim == 2 else fast.bmm)(x, y)
    near = 10 * np.finfo(dtype).eps
    for factor in (1, 3):
        graphs[0].launch()
        np.testing.assert_allclose(z.get(), factor * (a @ b), rtol=near, atol=near)
        x *= 3
    products._own.clear()


@with_products
def test_a_wrong_call_of_the_library_is_seen(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gemm = products.SIGNATURES["cublasGemmEx"]
    for wrong in ({"cublasGemmEx": gemm[:-1]}, {"cublasSetStream_v2": [ctypes.c_int, ctypes.c_void_p]}):
        monkeypatch.setattr(products, "SIGNATURES", products.SIGNATURES | wrong)
        products._own.clear()
        with pytest.raises(RuntimeError, match="argtypes"):
            compiled("sgd", 3)
        monkeypatch.undo()
        monkeypatch.setenv("TINYGRAD_Z2G_DEVICE", "cuda")
    products._own.clear()
    monkeypatch.setattr(products.OwnCublas, "use", lambda self, stream, workspace: None)
    with pytest.raises(RuntimeError, match=r"workspace|stream"):
        compiled("sgd", 3)
    library = fakecuda.Library()
    library.cublasSetStream_v2.argtypes, library.cublasSetStream_v2.restype = [ctypes.c_void_p] * 2, ctypes.c_int
    assert library.cublasSetStream_v2(7, 8) == 1
    with pytest.raises(ctypes.ArgumentError):
        library.cublasSetStream_v2(7, 2**64)


def cublas_wheels() -> list[Path]:
    """The folders nvidia/... of the wheels that pip has put here."""
    found = importlib.util.find_spec("nvidia")
    return [] if found is None else [Path(place) for place in found.submodule_search_locations]


def test_the_real_library_has_these_functions() -> None:
    libraries = [path for place in cublas_wheels() for path in place.glob("**/libcublas.so.*")]
    if not libraries:
        pytest.skip("no cuBLAS: pip install nvidia-cublas")
    with contextlib.suppress(OSError):  # found by itself, where the wheel knows its way
        ctypes.CDLL(str(next(libraries[0].parent.glob("libcublasLt.so.*"))), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(libraries[0]))
    assert all(hasattr(library, name) for name in products.SIGNATURES)
    assert not hasattr(library, "cublasThereIsNoSuchThing")


C_TYPES = {
    "int": ctypes.c_int, "long long int": ctypes.c_longlong, "size_t": ctypes.c_size_t,
    "cublasHandle_t": ctypes.c_void_p, "cudaStream_t": ctypes.c_void_p, "cublasOperation_t": ctypes.c_int,
    "cudaDataType": ctypes.c_int, "cublasComputeType_t": ctypes.c_int, "cublasGemmAlgo_t": ctypes.c_int,
    "cublasHandle_t*": ctypes.POINTER(ctypes.c_void_p), "const void*": ctypes.c_void_p, "void*": ctypes.c_void_p,
}  # fmt: skip


def test_the_signatures_are_those_of_the_header() -> None:
    headers = [path for place in cublas_wheels() for path in place.glob("**/cublas_api.h")]
    if not headers:
        pytest.skip("no cuBLAS: pip install nvidia-cublas")
    text = headers[0].read_text(encoding="utf-8")
    for name, types in products.SIGNATURES.items():
        (declared,) = re.findall(rf"CUBLASWINAPI {name}\((.*?)\);", text, re.S)
        kinds = [re.sub(r"\s*\w+$", "", part.strip()).replace(" *", "*") for part in declared.split(",")]
        assert [C_TYPES[kind] for kind in kinds] == types, name
        assert fakecuda.PROTOTYPES[name] == tuple(types)
