"""Where torch keeps `Parameter`: `from tinygrad_z2g.nn.parameter import Parameter`. It stands in `module.py`."""

from .lazy import UninitializedParameter
from .module import Parameter

__all__ = ["Parameter", "UninitializedParameter"]
