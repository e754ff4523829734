"""Everything around training that is not a part of a model: so far `data`."""

from . import data
