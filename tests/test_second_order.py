"""Derivatives of derivatives: walks that are recorded (`create_graph=True`), and walks through those.

The judge of every operation is `check_grad_twice` of `numeric.py`, which measures second derivatives with plain walks.
"""

from __future__ import annotations

import contextlib
import gc
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from numeric import check_grad_twice, cotangents, host, leaves
from op_table import TABLE, Op
from strategies import SEEDS, Case
from test_ops import bind

import tinygrad_z2g as z2g
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g import Tensor, gradgradcheck, nn
from tinygrad_z2g.autograd import Function, grad
from tinygrad_z2g.engine import record
from tinygrad_z2g.gradcheck import GradcheckError
from tinygrad_z2g.gradcheck.cases import cases

FEW = settings(max_examples=max(3, settings().max_examples // 15))


# --- Every operation, every layer ---------------------------------------------------------------------------------


@pytest.mark.parametrize("op", TABLE, ids=lambda op: op.name)
def test_second_derivatives(op: Op) -> None:
    """Of every row of the table, over its random shapes."""

    @FEW
    @given(op.cases, SEEDS)
    def check(case: Case, seed: int) -> None:
        note(f"To see it again, in tests/: from test_second_order import *; twice({op.name!r}, {case}, {seed})")
        check_grad_twice(bind(op, case), case.inputs, seed)

    check()


def twice(name: str, case: Case, seed: int) -> None:
    """One example of `test_second_derivatives` once more."""
    check_grad_twice(bind(next(op for op in TABLE if op.name == name), case), case.inputs, seed)
