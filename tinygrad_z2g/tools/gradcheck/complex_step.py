"""The complex step: a derivative without a difference, right to the last digits.

For a function that is analytic, f(x + ih) = f(x) + ih f'(x) - h² f''(x) / 2 - ..., so that

    f'(x) = Im f(x + ih) / h        (with an error of order h², and nothing is subtracted)

A central difference subtracts two nearly equal numbers, which leaves 10 of 16 digits. Here h = 10⁻⁶⁰ makes h² vanish
beside 1, and a rule that is off by 10⁻¹² of its value shows. (Squire & Trapp 1998, doi:10.1137/S003614459631241X)

Tensors hold no complex numbers, so the arrays are disguised: they hold complex128 and say float64, and the forward
code of an operation, which does not ask twice, computes with them. That works where the code is analytic. It does not
where it takes |x| or rounds (|x + ih| has no imaginary part of first order), or where it writes its result into an
array that it made before, of float64: `NOT_ANALYTIC`. Differences remain the check that needs to know nothing of the
code, and the only one on a GPU, whose arrays cannot be disguised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...core.modes import no_grad
from . import _analytic, _checked, _outputs, _place, _weights

STEP = 1e-60
NOT_ANALYTIC = {
    "abs", "floor", "ceil", "remainder", "div, rounded", "diag, vector", "erf", "F.gelu", "F.bias_gelu",
    "F.softplus", "F.l1_loss", "F.binary_cross_entropy_with_logits", "F.pad", "F.avg_pool1d", "nn.Conv1d",
    "nn.Conv2d",
    "F.max_pool2d, padded", "nn.BatchNorm2d", "nn.BatchNorm1d", "F.conv2d", "F.conv_transpose2d", "F.conv_transpose1d",
    "F.conv2d, many channels", "F.conv1d, many channels", "F.max_pool2d, large windows", "F.avg_pool2d",
    "nn.ConvTranspose2d", "nn.Conv2d, reflected",
    "F.unfold", "F.fold", "F.softsign", "F.mish", "F.logsigmoid", "F.smooth_l1_loss", "F.huber_loss",
    "F.pairwise_distance",
    "gru_scan", "lstm_scan",
    "nn.GRU", "nn.GRU, both directions, packed", "nn.LSTM",
    "nn.LSTM, both directions, packed",
    "frac", "trunc", "nan_to_num", "lgamma", "digamma", "erfinv", "atan2", "logaddexp", "fmod", "hypot",
    "diagflat", "diag_embed", "block_diag", "cdist", "logdet", "slogdet", "svdvals", "svd", "pinv", "lstsq", "cholesky",
    "eigh", "qr",
}  # fmt: skip


class Disguised(np.ndarray):
    """An array that may hold complex128 but says float64 then. What NumPy makes of such arrays is disguised too."""

    @property
    def dtype(self) -> np.dtype:
        """float64 for complex128, which is what the code that computes with it is to believe."""
        true = np.ndarray.dtype.__get__(self)
        return np.dtype(np.float64) if true.kind == "c" else true

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """As for any array, but float64 stays in disguise."""
        if self.dtype == dtype == np.float64:
            return self.copy() if kwargs.get("copy", True) else self
        return super().astype(dtype, *args, **kwargs)

    def __array_wrap__(self, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Any:
        return array.view(Disguised)  # never a scalar

    def __array_function__(self, function: Callable, types: Any, args: Any, kwargs: Any) -> Any:
        result = super().__array_function__(function, types, args, kwargs)
        return result.view(Disguised) if isinstance(result, np.ndarray) else result


def complex_step(fn: Callable[..., Any], inputs: Sequence[Any], seed: int = 0) -> tuple[float, str]:
    """The worst |analytic - measured| / max(1, |measured|) over all derivatives that `compare` checks, and where.

    `fn` and `inputs` as for `gradcheck`: float64, on the CPU, and analytic throughout.
    """
    found = _checked(fn, inputs)
    outputs = _outputs(fn(*inputs))
    weights = _weights(outputs, seed)
    gradients = _analytic(outputs, weights, [x for _, x in found])
    before = [x.array for _, x in found]
    worst = (0.0, "")
    try:
        for _, x in found:
            x.array = x.array.astype(np.complex128).view(Disguised)
        for (name, x), gradient in zip(found, gradients, strict=True):
            for index in np.ndindex(*gradient.shape):
                x.array[index] += 1j * STEP
                with no_grad():
                    outputs = _outputs(fn(*inputs))
                phi = sum((z.array.view(np.ndarray) * w).sum() for z, w in zip(outputs, weights, strict=True))
                x.array[index] = x.array[index].real
                measured = phi.imag / STEP
                error = abs(gradient[index] - measured) / max(1.0, abs(measured))
                if error != error:
                    return float(error), _place(name, index)
                if error >= worst[0]:
                    worst = float(error), _place(name, index)
    finally:
        for (_, x), array in zip(found, before, strict=True):
            x.array = array
    return worst
