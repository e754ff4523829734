"""Operations on tensors, a family a file. It knows nothing of layers."""

from .. import fast
from ..core import engine

engine.total = fast.total  # long sums, exact to the dtype's rounding
