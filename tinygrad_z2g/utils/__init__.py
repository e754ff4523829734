"""Everything around training that is not a part of a model: so far `data`.

This file knows nothing of it.
"""

from . import data as data
