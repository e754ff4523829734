"""Settings for all tests: one BLAS thread per worker, Hypothesis profiles, the `device` fixture, no leaking state."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores; must be set before NumPy is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Python is started hundreds of times: in 0.15 s, without bytecode 0.48

import contextlib
import gc
import runpy
import shutil
import signal
import sys
import tempfile
import types

import fakecupy
import pytest
from example_modules import importable
from hypothesis import HealthCheck, settings

import tinygrad_z2g as z2g
from tinygrad_z2g import fast

sys.dont_write_bytecode = False


def take_loops_from(n: int) -> None:
    """Compiled loops take every float32 array of n numbers. (Each routine made by `either` has its own limit.)"""
    fast.LARGE = fast.FEW = fast.MANY = n
    for routine in vars(fast).values():
        names = routine.__code__.co_freevars if isinstance(routine, types.FunctionType) else ()
        if "least" in names:
            routine.__closure__[names.index("least")].cell_contents = n


if "LOOPS_FROM" in os.environ:
    take_loops_from(int(os.environ["LOOPS_FROM"]))

settings.register_profile("dev", max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile(
    "ci", max_examples=30, deadline=None, derandomize=True, database=None, print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
settings.register_profile("few", settings.get_profile("ci"), max_examples=8)  # for what is run a second time
settings.register_profile(
    "thorough", max_examples=1000, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config):
    """The workers share what Hypothesis draws (`drawn.py`), in a folder that goes when the run ends."""
    if "DRAWN_EXAMPLES" not in os.environ:
        folder = os.environ["DRAWN_EXAMPLES"] = tempfile.mkdtemp()
        config.add_cleanup(lambda: (os.environ.pop("DRAWN_EXAMPLES"), shutil.rmtree(folder)))


@pytest.hookimpl(hookwrapper=True)
def pytest_collection(session):
    """What is collected stays until the end: the search for cycles need not pass over it again and again, which was a
    third of the time of collection and 8 % of that of test_second_order.py."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config, items):
    """Left out of the list, instead of being skipped one by one (without a GPU 3,000 cases), are the tests of what is
    not there: a GPU; the compiled loops or the fast forms, if switched off."""
    missing = {
        "fast": os.environ.get("TINYGRAD_Z2G_PLAIN") == "1",
        "compiled": os.environ.get("TINYGRAD_Z2G_COMPILED") == "0",
        "gpu": not z2g.cuda.is_available(),
    }
    kept, gone = [], []
    for item in items:
        (gone if any(missing.get(mark.name) for mark in item.iter_markers()) else kept).append(item)
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = kept


@pytest.fixture(params=["cpu", "fake", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """Runs a test on NumPy, on the strict fake CuPy and on a real GPU; new tensors go there by default.

    The value is the device's name for z2g: "cpu" or "cuda".
    """
    with contextlib.ExitStack() as stack:
        if request.param == "fake":
            stack.enter_context(fakecupy.installed())
        name = "cpu" if request.param == "cpu" else "cuda"
        monkeypatch.setenv("TINYGRAD_Z2G_DEVICE", name)
        yield name


@pytest.fixture
def run_here(monkeypatch, tmp_path):
    """A function that runs an example in this very process: CuPy can be exchanged, and no process need be started."""
    interrupt = signal.getsignal(signal.SIGINT)

    def run_here(script, *flags):
        flags = ["--quick", "--no-plot", "--out", str(tmp_path), *map(str, flags)]
        monkeypatch.setattr(sys, "argv", [str(script), *flags])
        if "--plot" in flags:
            sys.argv = [flag for flag in sys.argv if "plot" not in flag]
        runpy.run_path(str(script), run_name="__main__")

    with importable():
        yield run_here
    signal.signal(signal.SIGINT, interrupt)


@pytest.fixture
def drawn(monkeypatch):
    """The matplotlib figures that the test saves."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (save(self, *a, **k), figures.append(self))[0])
    return figures


@pytest.fixture
def kernel(monkeypatch):
    """As in a notebook: a stand-in for IPython with a kernel, which keeps what was displayed in `shown`."""
    ipython = types.ModuleType("IPython")
    ipython.shown = []
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    ipython.display = types.SimpleNamespace(display=ipython.shown.append)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    return ipython


@pytest.fixture
def card():
    """CuPy itself; the test is skipped where there is no GPU for it."""
    cupy = pytest.importorskip("cupy")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"no usable GPU: {error}")
    return cupy


@pytest.fixture(autouse=True)
def clean_state():
    """Each test starts from one seed; a test that leaves recording off or another default dtype behind fails."""
    z2g.manual_seed(0)
    yield
    left_off, dtype = not z2g.is_grad_enabled(), z2g.get_default_dtype()
    z2g.set_grad_enabled(True)
    z2g.set_default_dtype(z2g.float32)
    assert not left_off, "the test left gradient recording switched off"
    assert dtype == z2g.float32, f"the test left {dtype} as default dtype"
