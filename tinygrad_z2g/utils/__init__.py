"""Everything around training that is not a part of a model: so far `data`.

This file knows nothing of it.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from ..absent import answers as _answers
from . import data as data

if not _TYPE_CHECKING:  # to a type checker a name that is not there is a mistake
    __getattr__ = _answers(__name__)
