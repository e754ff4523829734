"""Optimizers: what changes the weights, given their gradients.

This file knows nothing of how: one file each.
"""

# isort: off
from . import lr_scheduler, swa_utils
from .adam import Adam, AdamW
from .adaptive import ASGD, Adadelta, Adagrad, Adamax, NAdam, RAdam, RMSprop, Rprop
from .lbfgs import LBFGS
from .muon import Muon
from .optimizer import Optimizer
from .sgd import SGD

from ..fast import updates as _updates  # puts the fast forms in their places
