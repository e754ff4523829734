"""Helpers around layers: gradients of a whole model, sequences of different lengths in one batch.

This file knows nothing of how they work: it gathers what the files beside it offer.
"""

from ..reparametrized import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm
from . import rnn
from .gradients import clip_grad_norm_, clip_grad_value_, parameters_to_vector, vector_to_parameters
