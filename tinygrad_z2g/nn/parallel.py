"""Wrappers for several GPUs, of which torch programs speak. It knows nothing of GPUs: there is one at most here.

Several processes share the work in another way: `distributed`, by MPI.
"""

from __future__ import annotations

from typing import Any, NoReturn

from .module import Module


class DataParallel(Module):
    """The module, run as it is: in torch it would run on a part of the batch on each GPU, with the same results. Its
    parameters have names that begin with `module.`, as there."""

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0):
        self.module, self._settings = module, (device_ids, output_device, dim)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes."""
        return self.module(*args, **kwargs)


class DistributedDataParallel:
    """Not offered: call `distributed.average_gradients(model)` after backward, and `broadcast_parameters` before."""

    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            "DistributedDataParallel: is not offered; call distributed.broadcast_parameters(model) at first and "
            "distributed.average_gradients(model) after each backward()"
        )
