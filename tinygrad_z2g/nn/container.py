"""Modules that hold modules: one after the other, in a list, or under names.

A container has no register of its own: what it runs, counts and numbers are the modules among its attributes, so that
no way to set, replace or delete one can leave it behind.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..core import layers
from ..core.attach import attach
from ..tensor import Tensor
from .module import Module, Parameter


class ContainerMethods:
    """Modules that are its attributes, under names or numbers, without a word for the container between: `0.weight`.

    However a module came to be an attribute, or ceased to be one, that is what the container holds.
    """

    _submodules: Any

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


class SequenceMethods(ContainerMethods):
    """What is attached to the core's `Sequence`."""

    add_module: Any
    _of: Any  # these parts under their names, in a container of this kind

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

    def __iter__(self) -> Iterator[Any]:
        modules = []  # `self._parts().values()`, 1 of 5 µs faster
        for member in self.__dict__.values():
            if isinstance(member, Module):
                modules.append(member)
            elif isinstance(member, (list, tuple, dict)):  # in which there may be modules
                return iter(self._parts().values())
        return iter(modules)

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


class SequentialMethods:
    """What is attached to `Sequential`. It runs the modules that are its attributes, in order: also those set by
    `add_module`, or in a subclass by name."""

    def __init__(self: Any, *modules: Any):
        if len(modules) == 1 and isinstance(modules[0], dict):
            for name, module in modules[0].items():
                self.add_module(name, self._check(module))
        else:
            self.extend(modules)

    def _of(self: Any, parts: list[tuple[str, Module]]) -> Sequential:
        """These parts under their names; of the same class, unless that is made in a way of its own."""
        return (type(self) if type(self).__init__ is Sequential.__init__ else Sequential)(OrderedDict(parts))

    def __add__(self: Any, other: Any) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"Sequential: only a Sequential can be added, got {type(other).__name__}")
        return Sequential(*self, *other)

    def __iadd__(self: Any, other: Any) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"Sequential: only a Sequential can be added, got {type(other).__name__}")
        return self.extend(other)


class ModuleListMethods:
    """What is attached to `ModuleList`.

    As in torch its numbers are names: without its first module, after `delattr(modules, "0")`, `modules[1]` is what it
    was, and `modules[0]` raises KeyError.
    """

    def insert(self: Any, index: int, module: Module) -> Any:
        """Add one before that of this number, and name all by their numbers; beyond the end, under this number."""
        return self._add(index, module) if index > len(self) else SequenceMethods.insert(self, index, module)

    def _name(self: Any, index: int, names: list[str]) -> str:
        SequenceMethods._name(self, index, names)  # IndexError
        return str(operator.index(index) % len(names))

    def _of(self: Any, parts: list[tuple[str, Module]]) -> ModuleList:
        modules = [module for _, module in parts]
        return (type(self) if type(self).__init__ is ModuleList.__init__ else ModuleList)(modules)

    def __add__(self: Any, other: Iterable[Module]) -> ModuleList:
        return ModuleList(self).extend(other)

    def __iadd__(self: Any, other: Iterable[Module]) -> ModuleList:
        return self.extend(other)


if TYPE_CHECKING:  # who checks types sees so what is attached

    class Sequential(SequentialMethods, SequenceMethods, layers.Sequential): ...

    class ModuleList(ModuleListMethods, SequenceMethods, layers.ModuleList): ...

else:
    Sequential, ModuleList = layers.Sequential, layers.ModuleList
    attach(layers.Sequence, ContainerMethods)
    attach(layers.Sequence, SequenceMethods)
    attach(Sequential, SequentialMethods)
    attach(ModuleList, ModuleListMethods)


class ModuleDict(ContainerMethods, Module):
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


class ParameterList(Module):
    """A list of parameters, named by their numbers. Tensors that are put in become parameters."""

    def __init__(self, values: Iterable[Any] | None = None):
        self._size = 0
        self.extend(() if values is None else values)

    def append(self, value: Any) -> ParameterList:
        """Add one at the end. Returns self."""
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add several at the end. Returns self."""
        if not isinstance(values, Iterable) or isinstance(values, Tensor):
            raise TypeError(f"ParameterList: expected several values to add, got {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def _name(self, index: int) -> str:
        number = operator.index(index)
        if not -self._size <= number < self._size:
            raise IndexError(f"ParameterList: index {index} is out of range, there are {self._size}")
        return str(number % self._size)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, str(i)) for i in range(self._size))

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return ParameterList(list(self)[index])
        return getattr(self, self._name(index))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, self._name(index), _as_parameter(value))

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)

    def extra_repr(self) -> str:
        return "".join(f"\n  ({i}): {_described(value)}" for i, value in enumerate(self)) + "\n" * bool(self._size)


class ParameterDict(Module):
    """Parameters by name: `self.scales["query"]`, or `self.scales.query`. Tensors that are put in become parameters."""

    def __init__(self, parameters: Any = None):
        self._names: dict[str, None] = {}
        self.update({} if parameters is None else parameters)

    def update(self, parameters: Any) -> None:
        """Set each of these names, from a dict or from pairs."""
        pairs = parameters.items() if isinstance(parameters, (Mapping, ParameterDict)) else parameters
        for name, value in pairs:
            self[name] = value

    def pop(self, key: str) -> Any:
        """Take out the parameter of this name."""
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Take out the last one, with its name."""
        name = next(reversed(self._names))
        return name, self.pop(name)

    def get(self, key: str, default: Any = None) -> Any:
        """The parameter of this name, or the default."""
        return getattr(self, key) if key in self._names else default

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The parameter of this name, which becomes the default if there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """A new one with these names, all of the default."""
        return ParameterDict((key, default) for key in keys)

    def clear(self) -> None:
        """Take out all."""
        for name in list(self._names):
            del self[name]

    def copy(self) -> ParameterDict:
        """Another one with the same parameters."""
        return ParameterDict(list(self.items()))

    def __getitem__(self, key: str) -> Any:
        if key not in self._names:
            raise KeyError(key)
        return getattr(self, key)

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"ParameterDict: a name is a str, got {type(key).__name__}")
        if key not in self._names and hasattr(type(self), key):
            raise KeyError(f"ParameterDict: it has a method '{key}'; choose another name")
        self._names[key] = None
        setattr(self, key, _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        del self._names[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._names)

    def __contains__(self, key: object) -> bool:
        return key in self._names

    def __or__(self, other: Any) -> ParameterDict:
        both = self.copy()
        both.update(other)
        return both

    def __ior__(self, other: Any) -> ParameterDict:
        self.update(other)
        return self

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._names.keys()

    def values(self) -> Iterable[Any]:
        """The parameters."""
        return [getattr(self, name) for name in self._names]

    def items(self) -> Iterable[tuple[str, Any]]:
        """Names and parameters."""
        return [(name, getattr(self, name)) for name in self._names]

    def extra_repr(self) -> str:
        lines = (f"\n  ({name}): {_described(value)}" for name, value in self.items())
        return "".join(lines) + "\n" * bool(self._names)


def _as_parameter(value: Any) -> Any:
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"Object of type: {type(value).__name__}"
    kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
    return f"{kind} containing: [{value.dtype} of size {'x'.join(map(str, value.shape))}]"
