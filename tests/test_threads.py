"""One thread for small products: the number that OpenBLAS is given, whoever is inside, and what it is afterwards."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.arrays import blas
from tinygrad_z2g.fast import loops
from tinygrad_z2g.models import GPT, GPTConfig, Llama, LlamaConfig

needs_openblas = pytest.mark.skipif(blas.get_threads is None, reason="NumPy's BLAS is not OpenBLAS")


class Library:
    """An OpenBLAS that the user lets have four threads."""

    def __init__(self) -> None:
        self.n = 4

    def get(self) -> int:
        return self.n

    def set(self, n: int) -> None:
        assert n >= 1
        self.n = n


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    loops.load()  # asks the real library where its functions are
    library = Library()
    monkeypatch.setattr(blas, "get_threads", library.get)
    monkeypatch.setattr(blas, "set_threads", library.set)
    yield library
    assert_nobody_inside()


@pytest.fixture
def two_threads() -> Iterator[None]:
    """NumPy's own OpenBLAS on two threads."""
    before = blas.get_threads()
    blas.set_threads(2)
    yield
    blas.set_threads(before)
    assert_nobody_inside()


def assert_nobody_inside() -> None:
    assert not blas._inside
    assert blas.shares()


# --- Who is alone ------------------------------------------------------------------------------------------------


def test_inside_it_is_one_and_after_it_is_the_users(library: Library) -> None:
    with blas.alone():
        assert (library.n, blas.threads(), blas.shares()) == (1, 4, False)
        with blas.alone():
            assert (library.n, blas.threads()) == (1, 4)
        assert (library.n, blas.threads(), blas.shares()) == (1, 4, False)
    assert (library.n, blas.threads(), blas.shares()) == (4, 4, True)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_after_an_error(library: Library, error: type[BaseException]) -> None:
    with pytest.raises(error), blas.alone(), blas.alone():
        raise error
    assert library.n == 4


def test_after_a_generator_that_was_given_up(library: Library) -> None:
    def numbers() -> Iterator[int]:
        with blas.alone():
            yield library.n

    steps = numbers()
    assert next(steps) == 1
    steps.close()
    assert library.n == 4


def test_interrupted_at_any_place(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may strike in `alone` itself, where Python looks for signals: as a function begins, and after each call of
    C. (`setprofile` tells of both.)"""
    left, struck, ignored = 0, 0, set()
    monkeypatch.setattr(sys, "unraisablehook", lambda what: ignored.add(what.exc_type))  # in `__del__`

    def strike(frame: Any, event: str, arg: Any) -> None:
        nonlocal left
        if frame.f_code.co_filename == blas.__file__ and event in ("call", "c_return"):
            left -= 1
            if left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    for place in range(1, 100):
        left = place
        try:
            sys.setprofile(strike)
            with blas.alone():
                pass
        except KeyboardInterrupt:
            struck += 1
        finally:
            sys.setprofile(None)
        assert (library.n, blas.shares(), len(blas._inside)) == (4, True, 0), place
        if left > 0:  # beyond the last
            break
    assert struck >= 10
    assert ignored == {KeyboardInterrupt}


def test_the_first_in_sets_it_and_the_last_out_gives_it_back(library: Library) -> None:
    """Two Python threads, the first of which leaves before the second; then the other way round."""
    for order in ((0, 1), (1, 0)):
        others, leave, seen = [], [threading.Event(), threading.Event()], []

        def inside(came: threading.Event, go: threading.Event) -> None:
            with blas.alone():
                came.set()
                go.wait(60)
                seen.append(library.n)  # noqa: B023

        for go in leave:
            came = threading.Event()
            others.append(threading.Thread(target=inside, args=(came, go)))
            others[-1].start()
            came.wait(60)
        assert (library.n, blas.threads(), blas.shares()) == (1, 4, True)  # this thread is not inside
        for i in order:
            leave[i].set()
            others[i].join()
        assert (seen, library.n) == ([1, 1], 4)


def test_nobody_comes_in_while_another_leaves(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """He would take the one thread, which is about to be given back, for the user's wish."""
    asked, answer, came, go = (threading.Event() for _ in range(4))
    seen: list[int] = []

    def slow_get() -> int:
        n = library.n
        if threading.current_thread() is first and n == 1:
            asked.set()
            answer.wait(60)
        return n

    def leave() -> None:
        with blas.alone():
            pass

    def come() -> None:
        with blas.alone():
            came.set()
            go.wait(60)
            seen.append(library.n)

    monkeypatch.setattr(blas, "get_threads", slow_get)
    first, second = threading.Thread(target=leave), threading.Thread(target=come)
    first.start()
    asked.wait(60)
    second.start()
    came.wait(0.1)  # he must not
    answer.set()
    first.join()
    go.set()
    second.join()
    assert (seen, library.n) == ([1], 4)


def test_the_users_number_is_known_while_another_leaves(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """He who asks sees one thread, and then nobody inside: that one is not the user's."""
    came, go = threading.Event(), threading.Event()

    def inside() -> None:
        with blas.alone():
            came.set()
            go.wait(60)

    def slow_get() -> int:
        n = library.n
        if threading.current_thread() is not other:
            go.set()
            other.join(0.1)
        return n

    other = threading.Thread(target=inside)
    other.start()
    came.wait(60)
    monkeypatch.setattr(blas, "get_threads", slow_get)
    assert z2g.get_num_threads() == 4
    other.join()


@needs_openblas
def test_many_threads_come_and_go(two_threads: None) -> None:
    wrong: list[Any] = []

    def work(seed: int) -> None:
        drawn = random.Random(seed)
        for _ in range(300):
            with blas.alone():
                for _ in range(drawn.randrange(3)):
                    with blas.alone():
                        pass
                if blas.get_threads() != 1 or blas.threads() != 2 or blas.shares():
                    wrong.append((blas.get_threads(), blas.threads(), blas.shares()))

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(switch)
    assert (wrong, blas.get_threads()) == ([], 2)


def test_one_thread_is_the_users_wish_and_stays(library: Library) -> None:
    library.n = 1
    with blas.alone():
        assert blas.shares()
        library.n = 3  # set by others, meanwhile
    assert library.n == 3


@pytest.mark.parametrize("n", [1, 2, 3])
@needs_openblas
def test_set_while_somebody_is_inside(two_threads: None, n: int) -> None:
    pytest.importorskip("threadpoolctl")
    with blas.alone():
        assert z2g.get_num_threads() == 2
        with blas.alone():
            z2g.set_num_threads(n)
            assert (z2g.get_num_threads(), blas.threads(), blas.get_threads()) == (n, n, 1)
        assert (z2g.get_num_threads(), blas.get_threads()) == (n, 1)
    assert z2g.get_num_threads() == blas.get_threads() == n


def test_set_by_others_while_somebody_is_inside(library: Library) -> None:
    with blas.alone():
        library.n = 2
    assert library.n == 2
    with blas.alone():
        library.n = 3
        assert blas.threads() == 3
        with blas.alone():
            assert (library.n, blas.threads()) == (1, 3)
    assert library.n == 3


def test_another_library_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "get_threads", None)
    monkeypatch.setattr(blas, "set_threads", None)
    with blas.alone(), blas.few(16, 2**16):
        assert blas.threads() is None
        assert blas.shares()
        assert not blas._inside
    assert z2g.get_num_threads() >= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@needs_openblas
def test_a_child_of_a_fork_is_not_held_up() -> None:
    """By what threads did that it does not have: they are inside, and one has the lock at most times."""
    script = """
        import os, signal, threading
        from tinygrad_z2g.arrays import blas

        signal.alarm(100)
        blas.set_threads(2)
        come, go, stop = threading.Event(), threading.Event(), False

        def stay():
            with blas.alone():
                come.set()
                go.wait()

        def hurry():
            while not stop:
                with blas._lock:
                    sum(range(2000))
                with blas.alone():
                    pass

        threads = [threading.Thread(target=stay), threading.Thread(target=hurry)]
        for thread in threads:
            thread.start()
        come.wait()
        codes = set()
        for i in range(30):
            with blas.alone():
                child = os.fork()
                if not child:
                    signal.alarm(20)
                    assert (blas.get_threads(), blas.threads(), len(blas._inside)) == (2, 2, 0)
                    with blas.alone():
                        assert (blas.get_threads(), blas.threads()) == (1, 2)
            if not child:
                assert (blas.get_threads(), blas.shares(), len(blas._inside)) == (2, True, 0)
                os._exit(0)
            codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            assert blas.get_threads() == 1
        stop = True
        go.set()
        for thread in threads:
            thread.join()
        print(codes, blas.get_threads())
    """
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(z2g.__file__).parents[1])},
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (0, "{0} 2\n"), run.stderr


# --- Where it is used --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "weights", "expected"),
    [
        (16, 4 * 96 * 96, 1), (32, 4 * 128 * 128, 1),  # a GPT of step 18, and the largest
        (33, 4 * 128 * 128, 4), (4, 4 * 256 * 256, 4), (1, 4 * 384 * 384, 4),  # a second thread pays
        (1, 4 * 128 * 128, 4), (0, 100, 4), (5, 0, 4),  # OpenBLAS takes one by itself
    ],
)  # fmt: skip
def test_few_are_those_for_which_a_second_thread_pays_little(
    library: Library, rows: int, weights: int, expected: int
) -> None:
    with blas.few(rows, weights):
        assert library.n == expected
    assert library.n == 4


def gpt(width: int) -> GPT:
    return GPT(GPTConfig(vocab_size=30, context=40, layers=2, heads=2, width=width))


def llama(width: int, hidden: int = 150) -> Llama:
    return Llama(LlamaConfig(30, context=40, layers=2, heads=2, kv_heads=1, width=width, hidden=hidden))


def noted(model: nn.Module, library: Library) -> list[tuple[int, int]]:
    """(positions, threads) of each call of its first block from now on."""
    seen: list[tuple[int, int]] = []
    model.blocks[0].register_forward_pre_hook(lambda block, args: seen.append((args[0].shape[1], library.n)))
    return seen


@pytest.mark.fast
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: gpt(64), 1), (lambda: llama(64), 1),
        (lambda: gpt(132), 4), (lambda: llama(64, 1100), 4),  # of 528 x 132 and of 1,100 x 64 weights
    ],
)  # fmt: skip
def test_a_token_of_a_small_model_takes_one_thread(library: Library, make: Callable, expected: int) -> None:
    model = make()
    seen = noted(model, library)
    prompt = z2g.zeros(16, 20, dtype=z2g.int64)
    model.generate(prompt, 3)
    assert seen == [(20, 4), (1, expected), (1, expected)]  # 320 rows of a prompt are many
    assert library.n == 4
    seen.clear()
    steps = model.stream(host(prompt).tolist())
    for _ in range(3):
        next(steps)
        assert library.n == 4  # while the stream waits
    assert seen == [(20, 4), (1, expected), (1, expected)]


@pytest.mark.fast
def test_a_large_last_layer_keeps_its_threads(library: Library) -> None:
    """It may have four times as many weights as the largest product in a block may."""
    for vocab, expected in ((4 * 2**16 // 64, 1), (5 * 2**16 // 64, 4)):
        model = GPT(GPTConfig(vocab_size=vocab, context=40, layers=1, heads=2, width=64))
        seen = noted(model, library)
        model.generate(z2g.zeros(16, 1, dtype=z2g.int64), 1)
        assert seen == [(1, expected)]


@pytest.mark.parametrize("sizes", [{}, {"width": 64, "hidden": None}, {"width": None}, {"width": [64, 32]}], ids=str)
def test_a_model_of_ones_own_needs_no_width(library: Library, sizes: dict[str, Any]) -> None:
    class Mine(z2g.models.LanguageModel):
        def __init__(self) -> None:
            self.config = type("Config", (), {"vocab_size": 3, "context": 5, **sizes})()

        def forward(self, ids: z2g.Tensor, cache: Any = None) -> tuple[z2g.Tensor, None]:
            assert library.n == 4
            return z2g.zeros(*ids.shape, 3), None

    assert Mine().generate(z2g.zeros(2, 1, dtype=z2g.int64), 2).shape == (2, 3)


@pytest.mark.fast
def test_on_a_card_nobody_is_alone(device: str, library: Library) -> None:
    model = gpt(64)
    seen = noted(model, library)
    model.generate(z2g.zeros(16, 1, dtype=z2g.int64), 1)
    assert seen == [(1, 1 if device == "cpu" else 4)]


@pytest.mark.parametrize("make", [gpt, llama])
@needs_openblas
def test_scores_are_the_same_to_the_last_bit(two_threads: None, make: Callable) -> None:
    """Whatever the number of threads: products are not even cut in other places."""
    model, found = make(96).eval(), []
    ids = z2g.tensor(np.random.default_rng(0).integers(0, 30, (16, 5)))
    for n in (1, 2):
        blas.set_threads(n)
        cache = nn.Cache()
        with z2g.no_grad():
            found.append([host(model.next_scores(ids[:, t : t + 1], cache)) for t in range(5)])
    np.testing.assert_array_equal(*found)
