"""What earlier steps have written, for those that build on it or compare with it."""

import importlib
from types import ModuleType


def step(name: str) -> ModuleType:
    """The definitions of a script; its `main` does not run. (A name that begins with a digit takes this instead of
    `import`.)"""
    return importlib.import_module(name)
