"""What torch has and this package has not: one line for each, which says what to do instead.

Also what is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
from collections.abc import Callable
from typing import Any

PACKAGE = __package__

LAZY = ("distributions",)  # modules that few programs need

_COMPLEX = "there are no complex numbers; keep the real and imaginary parts as two tensors"
ABSENT = {
    "jit": "scripts and traces are not offered; run the module as it is, and save(model.state_dict(), f)",
    "fx": "graphs of modules are not offered; z2g.draw(loss) and loss.explain() show what was computed",
    "onnx": "export is not offered; save(model.state_dict(), f) writes safetensors, which other programs read",
    "export": "export is not offered; save(model.state_dict(), f) writes safetensors, which other programs read",
    "sparse": "tensors are dense; Embedding and scatter_add add gradients of rows without a matrix of zeros",
    "sparse_coo_tensor": "tensors are dense; zeros(size).index_put_(indices, values, accumulate=True) makes the same",
    "quantization": "training with rounded weights is not offered; nn.QuantizedLinear holds weights of four bits",
    "ao": "training with rounded weights is not offered; nn.QuantizedLinear holds weights of four bits",
    "fft": f"{_COMPLEX}; numpy.fft works on x.numpy()",
    "complex": _COMPLEX,
    "polar": _COMPLEX,
    "view_as_complex": f"{_COMPLEX}; for rotary positions see nn.functional.rotary_embedding",
    "view_as_real": _COMPLEX,
    "real": _COMPLEX,
    "imag": _COMPLEX,
    "stft": f"{_COMPLEX}; numpy.fft works on windows made by x.unfold(0, size, step)",
    "multiprocessing": "tensors are not shared between processes; see distributed, which goes by MPI",
    "profiler": "there is no profiler; python -m cProfile shows where the time goes, z2g.watch what the numbers do",
    "hub": "nothing is downloaded; models.Llama.from_pretrained and its like read files that are there",
    "nested": "ragged tensors are not offered; pad, and mask what was padded",
    "nn.utils.parametrizations": "see nn.utils.weight_norm and spectral_norm; an orthogonal weight is "
    "linalg.qr(self.weight).Q, computed in forward(), and nn.init.orthogonal_ starts as one",
    "nn.utils.parametrize": "compute the weight in forward(), F.linear(x, rule(self.weight)); see nn.utils.weight_norm",
    "nn.utils.prune": "multiply the weight by a mask in forward(): F.linear(x, self.weight * self.mask)",
    "masked": "masked tensors are not offered; see masked_fill and where",
    "mps": "Apple's GPUs are not offered; the CPU is",
    "xpu": "Intel's GPUs are not offered; the CPU is",
    "utils.tensorboard": "there is no SummaryWriter; z2g.watch(model) notes and draws what training does",
    "utils.cpp_extension": "operations of your own are written in Python: see autograd.Function",
    "utils.checkpoint": "recomputing instead of keeping is not offered; take smaller batches and add up gradients",
    "utils.model_zoo": "nothing is downloaded; load(f) reads safetensors files",
    "distributed.fsdp": "sharded training is not offered; see distributed.average_gradients",
    "autograd.profiler": "there is no profiler; python -m cProfile shows where the time goes",
    "autograd.forward_ad": "forward derivatives are not offered; autograd.grad gives backward ones",
}


class NotOfferedError(AttributeError, NotImplementedError):
    """Something that torch has and this package has not. An AttributeError too, so that `hasattr` answers."""


def answers(module: str) -> Callable[[str], Any]:
    """What a module answers for a name that it has not: one that is loaded now, or why there is none."""

    def answer(name: str) -> Any:
        full = f"{module}.{name}".removeprefix(f"{PACKAGE}.")
        if full in LAZY:
            return importlib.import_module(f"{PACKAGE}.{full}")
        if full in ABSENT:
            raise NotOfferedError(f"{PACKAGE}.{full}: {ABSENT[full]}")
        raise AttributeError(f"module '{module}' has no attribute '{name}'; API.md lists what is offered")

    return answer


class _Finder(importlib.abc.MetaPathFinder):
    """Answers `import tinygrad_z2g.jit` with the line above instead of a bare "No module named"."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Never finds anything: it is asked last, for modules that are not there."""
        name = fullname.removeprefix(f"{PACKAGE}.")
        if name != fullname and name in ABSENT:
            # Without the error's `name`: else `from tinygrad_z2g import jit` would end in Python's own bare line
            raise ModuleNotFoundError(f"{fullname}: {ABSENT[name]}")


sys.meta_path.append(_Finder())
