"""`Module`: a part of a model that owns parameters and smaller parts. `Parameter`: a tensor that learns.

A module finds its parameters by looking through its own attributes in the order they were set, into lists, tuples and
dicts too, unless their name begins with an underscore: `self._teacher = [teacher]` hides one. There is no registration
to forget and no `super().__init__()` that must come first: the attributes are the one register. It knows nothing of any
particular layer, and of gradients only that parameters want and keep them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from .tensor import Tensor

if TYPE_CHECKING:
    from ..nn.module import ModuleMethods, ParameterMethods
else:
    ModuleMethods = ParameterMethods = object  # attached from there

_M = TypeVar("_M", bound="Module")


class Parameter(Tensor, ParameterMethods):
    """A tensor that a module owns and an optimizer changes. It requires grad unless told otherwise."""

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True):
        if data is None:
            data = Tensor([])
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter: expected a Tensor, got {type(data).__name__}")
        self.begin(data.array)
        self.memory = data.memory  # the same memory
        self.requires_grad_(requires_grad)


class Module(ModuleMethods):
    """Base class of layers and models. Write `__init__`, which sets parameters and submodules, and `forward`."""

    training: bool = True
    _vacant: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed: what may fill the names that hold None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation. Every subclass writes its own."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(); define it to say what the module computes")

    if not TYPE_CHECKING:

        def __call__(self, *args, **kwargs):
            return self.forward(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        """A part that is new comes last. Where a parameter stands, a tensor that is none would hide that it is gone."""
        kind = self._kind(name)
        if kind is not None and not isinstance(value, TAKES[kind]):
            advice = "copy the values: `with no_grad(): module.weight.copy_(...)`" if kind == "parameter" else "del it"
            raise TypeError(
                f"{type(self).__name__}: cannot assign {type(value).__name__} as {kind} '{name}'; assign "
                + " or ".join("None" if t is type(None) else t.__name__ for t in TAKES[kind]) + f", or {advice}"
            )  # fmt: skip
        new = "parameter" if isinstance(value, Parameter) else "module" if isinstance(value, Module) else None
        if new == "parameter" and value.node is not None:
            raise ValueError(
                f"{type(self).__name__}: parameter '{name}' must be a leaf, got the result of {value.node.name}; "
                "compute it in forward()"
            )
        if new is not None and new != kind:
            self._forget(name)
            self.__dict__.pop(name, None)
        elif value is None and kind in ("parameter", "module"):
            self._reserve(name, kind)
        object.__setattr__(self, name, value)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Set `self.name`. None keeps the place for a parameter, and refuses anything else there."""
        setattr(self, name, param)
        if param is None:
            self._reserve(name, "parameter")

    def _kind(self, name: str) -> str | None:
        """What stands under this name, or may fill it: a "parameter", a "module", or nothing of the kind."""
        value = self.__dict__.get(name)
        if isinstance(value, Parameter):
            return "parameter"
        return "module" if isinstance(value, Module) else self._vacant.get(name)

    def _reserve(self, name: str, kind: str) -> None:
        """Keep the name, which holds None, for a part of this kind."""
        self.__dict__["_vacant"] = {**self._vacant, name: kind}

    def _forget(self, name: str) -> None:
        """The name is kept for nothing any more."""
        if name in self._vacant:
            self.__dict__["_vacant"] = {other: kind for other, kind in self._vacant.items() if other != name}

    def _members(self) -> list[tuple[str, Any]]:
        """Parameters, then modules among the attributes, and inside lists, tuples and dicts there, with their names."""
        parameters, modules = [], []
        for name, value in self.__dict__.items():
            if isinstance(value, Parameter):
                parameters.append((name, value))
            elif isinstance(value, Module):
                modules.append((name, value))
            elif isinstance(value, (list, tuple, dict)) and not name.startswith("_"):
                for path, member, _, _ in search(name, value):
                    (modules if isinstance(member, Module) else parameters).append((path, member))
        return parameters + modules

    def _walk(self, prefix: str = "", recurse: bool = True, seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
        """This module with the name `prefix`, then its parameters, then each part in the same way: each once.

        `recurse=False` does not enter the parts. What is in `seen`, the ids of what was met, is left out.
        """
        seen = set() if seen is None else seen
        waiting: list[tuple[str, Any]] = [(prefix, self)]
        while waiting:
            path, part = waiting.pop()
            if id(part) in seen:
                continue
            seen.add(id(part))
            yield path, part
            if isinstance(part, Module) and (recurse or part is self):  # only now: who asked may have replaced some
                waiting += [(f"{path}.{name}" if path else name, member) for name, member in reversed(part._members())]

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (part for _, part in self._walk() if isinstance(part, Module))

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """The parameters with dotted names, in order of definition: a module's own, then those of its parts.

        A parameter that is used in two places (tied weights) appears once, under its first name.
        """
        return ((name, part) for name, part in self._walk(prefix, recurse) if isinstance(part, Parameter))

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once, in order of definition."""
        return (part for _, part in self._walk("", recurse) if isinstance(part, Parameter))

    def train(self: _M, mode: bool = True) -> _M:
        """Training behaviour (dropout on) here and in all parts. Returns self."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: expected True or False, got {mode!r}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: _M) -> _M:
        """Evaluation behaviour: `train(False)`."""
        return self.train(False)


TAKES: dict[str, tuple[type, ...]] = {  # what may be assigned to a name, by what stands there
    "parameter": (Parameter, type(None)),
    "module": (Module, Parameter, type(None)),
}


def search(name: str, holder: Any, around: tuple[int, ...] = ()) -> Iterator[tuple[str, Any, Any, Any]]:
    """Parameters and modules in a list, tuple or dict, however deep: name, member, and that which holds it under a key.

    `around` are the ids of the lists that this one lies in: a list inside itself is not entered again.
    """
    for key, item in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        if isinstance(item, (Parameter, Module)):
            yield f"{name}.{key}", item, holder, key
        elif isinstance(item, (list, tuple, dict)) and id(item) not in (*around, id(holder)):
            yield from search(f"{name}.{key}", item, (*around, id(holder)))
