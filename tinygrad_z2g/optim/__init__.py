"""Optimizers: what changes the weights, given their gradients.

This file knows nothing of how: one file each.
"""

from . import lr_scheduler
from .adam import Adam, AdamW
from .muon import Muon
from .optimizer import Optimizer
from .sgd import SGD
