"""Optimizers: what changes the weights, given their gradients.

This file knows nothing of how: one file each.
"""

# isort: off
from . import lr_scheduler as lr_scheduler, swa_utils as swa_utils
from .adam import Adam as Adam, AdamW as AdamW
from .adaptive import (
    ASGD as ASGD, Adadelta as Adadelta, Adagrad as Adagrad, Adamax as Adamax, NAdam as NAdam, RAdam as RAdam,
    RMSprop as RMSprop, Rprop as Rprop,
)  # fmt: skip
from .lbfgs import LBFGS as LBFGS
from .muon import Muon as Muon
from .optimizer import Optimizer as Optimizer
from .sgd import SGD as SGD

from ..fast import updates as _updates  # puts the fast forms in their places
