"""How the rest of the package adds to the classes of the core, from outside. It knows nothing of what is added."""

from __future__ import annotations

from types import FunctionType

_OWN = {"__annotations__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__parameters__", "__qualname__",
        "__slots__", "__static_attributes__", "__weakref__"}  # fmt: skip


def attach(home: type, more: type) -> None:
    """Give the class `home` all that the class `more` defines, in place of what it had under the same names."""
    for name, value in vars(more).items():
        if name not in _OWN and not (name == "__hash__" and value is None):  # as Python notes beside an `__eq__`
            if isinstance(value, FunctionType) and value.__qualname__ == f"{more.__qualname__}.{value.__name__}":
                value.__qualname__ = f"{home.__qualname__}.{value.__name__}"  # as help() and errors name it
            setattr(home, name, value)
