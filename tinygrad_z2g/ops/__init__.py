"""The operations on tensors, one family per file. Each is a function; `Tensor` offers most as methods too.

Those of `core.ops` are taken from there. Before anybody does, faster forms of the same name take their place, and the
casts of mixed precision are put around them.
"""

from ..core import ops
from ..fast import forms
from ..half.casting import in_float32, in_half

plain = not forms.install()
for name in ("pow", "exp", "log"):
    setattr(ops, name, in_float32(getattr(ops, name)))
