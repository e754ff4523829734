"""Switches of torch's libraries: they can be set, and change nothing; NumPy and CuPy have none of them.

`backends.cudnn.deterministic = True` and its like stand at the head of many programs. What a program asks about a
library that is not here (`mps`, `mkldnn`) is answered with no. It knows nothing of how anything is computed.
"""

# isort: off
from . import cuda as cuda, cudnn as cudnn, mkl as mkl, mkldnn as mkldnn, mps as mps, openmp as openmp
