"""Settings for all tests: one BLAS thread per worker, Hypothesis profiles, the `device` fixture, no leaking state."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores; must be set before NumPy is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import contextlib
import sys
import types

import fakecupy
import pytest
from hypothesis import HealthCheck, settings

import tinygrad_z2g as z2g
from tinygrad_z2g import fast

fast.LARGE = int(os.environ.get("LOOPS_FROM", fast.LARGE))  # 1: compiled loops take every float32 array

settings.register_profile("dev", max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile(
    "ci", max_examples=15, deadline=None, derandomize=True, database=None, print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
settings.register_profile("few", settings.get_profile("ci"), max_examples=8)  # for what is run a second time
settings.register_profile(
    "thorough", max_examples=1000, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(config, items):
    """Where no GPU answers, its 3,000 cases are left out of the list instead of being skipped one by one; and where the
    operations are plain, those that ask for more."""
    without = [] if z2g.cuda.is_available() else ["gpu"]
    without += ["fast"] if os.environ.get("TINYGRAD_Z2G_PLAIN") == "1" else []
    if left_out := [item for item in items if any(map(item.get_closest_marker, without))]:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not any(map(item.get_closest_marker, without))]


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
