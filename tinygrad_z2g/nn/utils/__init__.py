"""Helpers around layers: gradients of a whole model, sequences of different lengths in one batch.

This file knows nothing of how they work: it gathers what the files beside it offer.
"""

# isort: off
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ...absent import answers as _answers
from ..reparametrized import (
    remove_spectral_norm as remove_spectral_norm, remove_weight_norm as remove_weight_norm,
    spectral_norm as spectral_norm, weight_norm as weight_norm,
)  # fmt: skip
from . import rnn as rnn
from .gradients import (
    clip_grad_norm_ as clip_grad_norm_, clip_grad_value_ as clip_grad_value_,
    parameters_to_vector as parameters_to_vector, vector_to_parameters as vector_to_parameters,
)  # fmt: skip

if not _TYPE_CHECKING:  # to a type checker a name that is not there is a mistake
    __getattr__ = _answers(__name__)
