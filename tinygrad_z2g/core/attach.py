"""How the rest of the package adds to the classes of the core: from outside, once, when it is imported.

The classes here have what a GPT needs. What torch offers beyond that stands in classes elsewhere, whose methods are set
on the same class: `nn.Module` is `core.module.Module`, with the methods of `nn/module.py`.
"""

from __future__ import annotations

BOOKKEEPING = {"__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__",
               "__firstlineno__", "__static_attributes__"}  # fmt: skip


def attach(home: type, more: type) -> None:
    """Give `home` all that class `more` defines. A method that `home` has already is replaced by the wider one."""
    for name, value in vars(more).items():
        if name not in BOOKKEEPING:
            setattr(home, name, value)
