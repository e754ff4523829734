"""Modules that hold modules: one after the other, in a list, or under names.

A container has no register of its own: what it runs, counts and numbers are the modules among its attributes, so that
no way to set, replace or delete one can leave it behind. It knows nothing of what they compute.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .module import Module


class _Container(Module):
    """Modules that are its attributes, under names or numbers, without a word for the container between: `0.weight`.

    However a module came to be an attribute, or ceased to be one, that is what the container holds.
    """

    def _parts(self) -> dict[str, Module]:
        parts = dict(self._submodules())
        if "." in "".join(parts):
            name = next(name for name in parts if "." in name)
            raise TypeError(
                f"{type(self).__name__}: '{name}' is a module in a plain list, so shall it run? Hide "
                f"the list with an underscore, `self._{name.partition('.')[0]}`, or hold both in a plain Module"
            )
        return parts

    def _check(self, module: Any) -> Module:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: {type(module).__name__} is not a Module")
        return module

    def __len__(self) -> int:
        return len(self._parts())


class _Sequence(_Container):
    def append(self, module: Module) -> Any:
        """Add one at the end, named by its number. Returns self."""
        return self._add(len(self), module)

    def _add(self, number: int, module: Module) -> Any:
        while str(number) in self.__dict__:  # after `delattr`, which leaves the other numbers as they are
            number += 1
        self.add_module(str(number), self._check(module))
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add several at the end. Returns self."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"{type(self).__name__}: expected modules to add, got {type(modules).__name__}")
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Add one before that of this number, and name all by their numbers. Returns self."""
        modules = list(self)
        if not -len(modules) <= index <= len(modules):
            raise IndexError(f"{type(self).__name__}: cannot insert at {index}, there are {len(modules)}")
        modules.insert(index, self._check(module))
        self._number(modules)
        return self

    def pop(self, key: int | slice) -> Any:
        """Take out one, or several as a container, and name those that remain by their numbers."""
        taken = self[key]
        del self[key]
        return taken

    def _number(self, modules: list[Module]) -> None:
        """Hold these modules and no others, named by their numbers."""
        for name in self._parts():
            delattr(self, name)
        for number, module in enumerate(modules):
            self.add_module(str(number), module)

    def _name(self, index: int, names: list[str]) -> str:
        number = operator.index(index)
        if not -len(names) <= number < len(names):
            raise IndexError(f"{type(self).__name__}: index {index} is out of range, there are {len(names)}")
        return names[number]

    def __iter__(self) -> Iterator[Module]:
        return iter(self._parts().values())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._of(list(self._parts().items())[index])
        parts = self._parts()
        name = self._name(index, list(parts))
        if name not in parts:
            raise KeyError(f"{type(self).__name__}: no module has the number {name}, those there are {list(parts)}")
        return parts[name]

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._name(index, list(self._parts())), self._check(module))

    def __delitem__(self, index: int | slice) -> None:
        parts = self._parts()
        names = list(parts)
        gone = names[index] if isinstance(index, slice) else [self._name(index, names)]
        if gone and gone[0] not in parts:
            self[index]  # KeyError
        self._number([module for name, module in parts.items() if name not in gone])


class Sequential(_Sequence):
    """Modules called one after the other: `Sequential(Linear(2, 8), ReLU(), Linear(8, 1))`, or a dict with names.

    It runs the modules that are its attributes, in order: also those set by `add_module`, or in a subclass by name.
    """

    def __init__(self, *modules: Any):
        if len(modules) == 1 and isinstance(modules[0], dict):
            for name, module in modules[0].items():
                self.add_module(name, self._check(module))
        else:
            self.extend(modules)

    def _of(self, parts: list[tuple[str, Module]]) -> Sequential:
        """These parts under their names; of the same class, unless that is made in a way of its own."""
        return (type(self) if type(self).__init__ is Sequential.__init__ else Sequential)(OrderedDict(parts))

    def __add__(self, other: Any) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"Sequential: only a Sequential can be added, got {type(other).__name__}")
        return Sequential(*self, *other)

    def __iadd__(self, other: Any) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"Sequential: only a Sequential can be added, got {type(other).__name__}")
        return self.extend(other)

    def forward(self, input: Any) -> Any:
        """The last module's output."""
        modules = []  # `self._parts().values()`, 1 of 5 µs faster
        for member in self.__dict__.values():
            if isinstance(member, Module):
                modules.append(member)
            elif isinstance(member, (list, tuple, dict)):  # in which there may be modules
                modules = list(self._parts().values())
                break
        for module in modules:
            input = module(input)
        return input


class ModuleList(_Sequence):
    """A list of modules. It computes nothing itself: loop over it in `forward`.

    As in torch its numbers are names: without its first module, after `delattr(modules, "0")`, `modules[1]` is what it
    was, and `modules[0]` raises KeyError.
    """

    def __init__(self, modules: Iterable[Module] = ()):
        self.extend(modules)

    def insert(self, index: int, module: Module) -> Any:
        """Add one before that of this number, and name all by their numbers; beyond the end, under this number."""
        return self._add(index, module) if index > len(self) else super().insert(index, module)

    def _name(self, index: int, names: list[str]) -> str:
        super()._name(index, names)  # IndexError
        return str(operator.index(index) % len(names))

    def _of(self, parts: list[tuple[str, Module]]) -> ModuleList:
        modules = [module for _, module in parts]
        return (type(self) if type(self).__init__ is ModuleList.__init__ else ModuleList)(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList(self).extend(other)

    def __iadd__(self, other: Iterable[Module]) -> ModuleList:
        return self.extend(other)


class ModuleDict(_Container):
    """Modules by name: `self.layers["query"]`, or `self.layers.query`."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None):
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Set each of these names, from a dict or from pairs."""
        for name, module in modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules:
            self[name] = module

    def pop(self, name: str) -> Module:
        """Take out the module of this name."""
        module = self[name]
        del self[name]
        return module

    def clear(self) -> None:
        """Take out all."""
        for name in self._parts():
            delattr(self, name)

    def __getitem__(self, name: str) -> Module:
        return self._parts()[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, self._check(module))

    def __delitem__(self, name: str) -> None:
        if name not in self._parts():
            raise KeyError(name)
        delattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts())

    def __contains__(self, name: object) -> bool:
        return name in self._parts()

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parts().keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._parts().values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Names and modules."""
        return self._parts().items()
