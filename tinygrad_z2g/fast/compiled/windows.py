"""What convolution's and pooling's windows saw, added to where it came from, one row after the other.

It knows nothing of threads: the callers are threads already, each with a few examples.
"""

from __future__ import annotations

from ...arrays.backend import Array
from .. import reference
from .jit import called
from .layout import fits


@called
def _add_windows(out, seen, stride, dilation):
    """out[i, t · stride + k · dilation] += seen[i, k, t], along two axes: out (N, H, W), seen (N, J, K, H', W')."""
    for i in range(seen.shape[0]):
        for j in range(seen.shape[1]):
            for k in range(seen.shape[2]):
                for s in range(seen.shape[3]):
                    row = out[i, s * stride[0] + j * dilation[0], k * dilation[1] :]
                    one = seen[i, j, k, s]
                    if stride[1] == 1:  # the compiler can take many at a time
                        for t in range(one.size):
                            row[t] += one[t]
                    else:
                        for t in range(one.size):
                            row[t * stride[1]] += one[t]


def add_windows(out: Array, seen: Array, stride: tuple[int, ...], dilation: tuple[int, ...]) -> None:
    """See `reference.add_windows`."""
    if not fits(out, seen):
        reference.add_windows(out, seen, stride, dilation)
        return
    if len(stride) == 1:  # an axis of size 1 before it
        out, seen = out[:, :, None], seen[:, :, None, :, None]  # (N, C, 1, L), (N, C, 1, K, 1, L')
        stride, dilation = (1, *stride), (1, *dilation)
    _add_windows(
        out.reshape(-1, *out.shape[2:]), seen.reshape(-1, *seen.shape[2:]), tuple(map(int, stride)),
        tuple(map(int, dilation)),
    )  # fmt: skip
