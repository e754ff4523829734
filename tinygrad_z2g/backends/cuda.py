"""Switches of products and attention on GPUs: they can be set, and change nothing."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from ..arrays.backend import is_available

matmul = SimpleNamespace(allow_tf32=False, allow_fp16_reduced_precision_reduction=True)


def is_built() -> bool:
    """Whether a GPU can be used."""
    return is_available()


@contextlib.contextmanager
def sdp_kernel(*args: Any, **kwargs: Any) -> Iterator[None]:
    """Which form of attention to take: there is one."""
    yield


def enable_flash_sdp(enabled: bool) -> None:
    """Accepted: there is one form of attention."""


def enable_mem_efficient_sdp(enabled: bool) -> None:
    """Accepted: there is one form of attention."""


def enable_math_sdp(enabled: bool) -> None:
    """Accepted: there is one form of attention."""
