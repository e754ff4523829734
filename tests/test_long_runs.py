"""Many steps, many threads, and Ctrl-C at any moment."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.models import GPT, GPTConfig

PACKAGE = str(Path(z2g.__file__).parent)


def trainer(seed=0):
    """A small GPT and a function that trains it for one step."""
    z2g.manual_seed(seed)
    model = GPT(GPTConfig(vocab_size=16, context=8, layers=2, heads=2, width=16, dropout=0.1))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    ids = z2g.randint(0, 16, (4, 9))

    def step():
        _, loss = model(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return model, optimizer, step


# --- Leaks --------------------------------------------------------------------------------------------------------


def alive():
    """How many container objects there are, and how many bytes the data of all arrays take."""
    numbers = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    statistics = tracemalloc.take_snapshot().filter_traces([numbers]).statistics("filename")
    return len(gc.get_objects()), sum(entry.size for entry in statistics)


def test_steps_leave_nothing_behind(device):
    """Without the garbage collector: after 20 more steps there are as many objects and as much data as before."""
    _, _, step = trainer()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(5):
            step()
        objects, size = alive()
        for _ in range(20):
            step()
        objects_later, size_later = alive()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert abs(objects_later - objects) < 15 and abs(size_later - size) <= size / 100


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the size of a process so")
def test_2000_steps_take_no_more_memory_than_100():
    _, _, step = trainer()

    def resident():
        return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])

    gc.collect()
    gc.disable()
    try:
        sizes = {}
        for i in range(1, 2001):
            step()
            if i in (100, 2000):
                sizes[i] = resident()
    finally:
        gc.enable()
    assert sizes[2000] <= sizes[100] * 1.01, sizes


CASES = {
    "as it comes": ({}, None, 1), "left alone": ({"TINYGRAD_Z2G_MALLOPT": "0"}, None, 0), "ulimit -v": ({}, 2**33, 0),
}  # fmt: skip


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="only Linux has such pages")
@pytest.mark.parametrize("case", CASES)
def test_one_gib_asks_for_huge_pages(case):
    """What malloc will hand out next; unless told otherwise, or where addresses are short."""
    environment, limit, blocks = CASES[case]
    code = rf"""
        import re, resource
        if {limit}:
            resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
        import numpy as np, tinygrad_z2g
        a = np.ones(10**7)  # may be where the rest is, and NumPy asks for what is as large as this
        regions = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", open("/proc/self/smaps").read())
        sizes = [int(re.search(r"Size: +(\d+) kB", r)[1]) for r in regions if re.search("VmFlags:.* hg", r)]
        print(len([size for size in sizes if size > 2**20 - 100]))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(PACKAGE).parent), **environment},
    )  # fmt: skip
    assert run.stdout == f"{blocks}\n"


# --- Threads ------------------------------------------------------------------------------------------------------


def regression(seed, steps=30):
    """Weights after training a small net on data of its own; every second step measures under no_grad."""
    rng = np.random.default_rng(seed)
    x, y = (z2g.tensor(rng.standard_normal((16, n)).astype(np.float32)) for n in (3, 1))
    weights = [z2g.tensor(rng.standard_normal(s).astype(np.float32), requires_grad=True) for s in ((3, 8), (8, 1))]
    optimizer = optim.Adam(weights, lr=0.01)
    for i in range(steps):
        if i % 2:
            with z2g.no_grad():
                assert not (x @ weights[0]).requires_grad
        loss = nn.functional.mse_loss((x @ weights[0]).tanh() @ weights[1], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [w.detach().cpu().numpy() for w in weights]


def test_8_threads_train_8_models(device):
    alone = [regression(seed) for seed in range(8)]
    together = [None] * 8

    def work(seed):
        together[seed] = regression(seed)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for ours, expected in zip(together, alone, strict=True):
        assert ours is not None and all(np.array_equal(a, b) for a, b in zip(ours, expected, strict=True))


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


class InterruptAfter:
    """Raises KeyboardInterrupt as the package calls its n-th function: there Python looks for a pressed Ctrl-C."""

    def __init__(self, n):
        self.left = n

    def __call__(self, frame, event, arg):
        if PACKAGE in frame.f_code.co_filename:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def interrupted(step, n):
    """Run a step that is interrupted at its n-th call; whether it was."""
    before = sys.gettrace()
    sys.settrace(InterruptAfter(n))
    try:
        step()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("make", [optim.AdamW, optim.Adam, lambda p, lr: optim.SGD(p, lr, 0.9, weight_decay=0.1)])
def test_ctrl_c_at_any_moment_of_a_step_leaves_each_parameter_whole(make):
    """Every parameter is as before or as after the step, never in between; and training goes on."""
    z2g.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    x = z2g.randn(5, 3)
    start = {name: p.detach().cpu().numpy().copy() for name, p in model.named_parameters()}

    def fresh():
        with z2g.no_grad():
            for name, p in model.named_parameters():
                p.copy_(z2g.tensor(start[name]))
                p.grad = None
        optimizer = make(model.parameters(), lr=0.1)

        def step():
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    fresh()()
    end = {name: p.detach().cpu().numpy().copy() for name, p in model.named_parameters()}
    n, moments = 1, 0
    while True:
        step = fresh()
        if not interrupted(step, n):
            break
        moments += 1
        for name, p in model.named_parameters():
            now = p.detach().cpu().numpy()
            assert np.array_equal(now, start[name]) or np.array_equal(now, end[name]), (n, name)
        step()
        assert all(np.isfinite(p.detach().cpu().numpy()).all() for p in model.parameters())
        n += 1
    assert moments > 50
