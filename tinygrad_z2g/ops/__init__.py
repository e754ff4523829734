"""Operations on tensors, a family a file. It knows nothing of layers.

Those of `core.ops` are taken from there. Before anybody does, faster forms of the same name take their place, and the
casts of mixed precision are put around them.
"""

from ..core import ops
from ..fast import forms
from ..half import table

table.apply(vars(ops), plain=not forms.install())
