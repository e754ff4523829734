"""`Module`: a part of a model that owns parameters and smaller parts. `Parameter`: a tensor that learns.

A module finds its parameters by looking through its own attributes in the order they were set, into lists, tuples and
dicts too. There is no registration to forget and no `super().__init__()` that must come first. It knows nothing of any
particular layer, and of gradients only that parameters want and keep them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ..engine import no_grad
from ..tensor import RemovableHandle, Tensor


class Parameter(Tensor):
    """A tensor that a module owns and an optimizer changes. It requires grad unless told otherwise."""

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True):
        if data is None:
            data = Tensor([])
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter: expected a Tensor, got {type(data).__name__}")
        self.begin(data.array)
        self.version = data.version  # the same memory
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` could not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of layers and models. Write `__init__`, which sets parameters and submodules, and `forward`."""

    training: bool = True
    _buffers: tuple[str, ...] = ()  # attribute names of tensors that are saved and moved but do not learn
    _transient: tuple[str, ...] = ()  # those of them that are not saved
    _forward_hooks: dict[int, Callable] = {}  # noqa: RUF012 - replaced, never changed
    _forward_pre_hooks: dict[int, Callable] = {}  # noqa: RUF012

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation. Every subclass writes its own."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(); define it to say what the module computes")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._forward_pre_hooks and not self._forward_hooks:
            return self.forward(*args, **kwargs)
        for hook in list(self._forward_pre_hooks.values()):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **kwargs)
        for hook in list(self._forward_hooks.values()):
            changed = hook(self, args, result)
            if changed is not None:
                result = changed
        return result

    # --- Parts ---------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(self.__dict__.get(name), Parameter) and not (value is None or isinstance(value, Parameter)):
            raise TypeError(
                f"{type(self).__name__}: cannot assign {type(value).__name__} as parameter '{name}', which would stop "
                "learning; assign a Parameter, or copy the values: `with no_grad(): module.weight.copy_(...)`"
            )
        object.__setattr__(self, name, value)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names; those in lists and dicts as `layers.0`."""
        for name, member in self._members():
            if isinstance(member, Module):
                yield name, member

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        for _, module in self.named_children():
            yield module

    def named_modules(self, memo: set | None = None, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, with dotted names; the module itself has the name `prefix`."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        memo.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(memo, _join(prefix, name))

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """The parameters with dotted names, in order of definition: a module's own, then those of its parts.

        A parameter that is used in two places (tied weights) appears once, under its first name.
        """
        seen = set()
        for name, parameter in self._tensors(prefix, recurse, parameters=True):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once, in order of definition."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """The buffers with dotted names."""
        yield from self._tensors(prefix, recurse, parameters=False)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Set `self.name`, a tensor that moves with the module but does not learn; saved too if `persistent`."""
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"register_buffer: '{name}' must be a Tensor or None, got {type(tensor).__name__}")
        self._buffers = (*(b for b in self._buffers if b != name), name)
        self._transient = tuple(b for b in self._transient if b != name) + (() if persistent else (name,))
        setattr(self, name, tensor)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Set `self.name`: the same as assigning it."""
        setattr(self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Set `self.name`: the same as assigning it."""
        setattr(self, name, module)

    register_module = add_module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of this dotted name. AttributeError if there is none."""
        for name, parameter in self._tensors("", True, parameters=True):
            if name == target:
                return parameter
        raise AttributeError(f"{type(self).__name__} has no parameter '{target}'")

    def get_submodule(self, target: str) -> Module:
        """The module of this dotted name, "" for this one. AttributeError if there is none."""
        for name, module in self.named_modules():
            if name == target:
                return module
        raise AttributeError(f"{type(self).__name__} has no module '{target}'")

    def _members(self) -> Iterator[tuple[str, Any]]:
        """Parameters and modules among the attributes, and inside lists, tuples and dicts there."""
        for name, value in vars(self).items():
            yield from _search(name, value)

    def _tensors(self, prefix: str, recurse: bool, parameters: bool) -> Iterator[tuple[str, Any]]:
        """Named parameters, or named buffers, with repetitions of tied ones."""
        modules = self.named_modules(prefix=prefix) if recurse else [(prefix, self)]
        for path, module in modules:
            if parameters:
                found = [(name, member) for name, member in module._members() if isinstance(member, Parameter)]
            else:
                found = [(name, getattr(module, name)) for name in module._buffers]
            for name, tensor in found:
                if tensor is not None:
                    yield _join(path, name), tensor

    # --- State ---------------------------------------------------------------------------------------------------

    def state_dict(self, prefix: str = "") -> OrderedDict[str, Tensor]:
        """Every parameter and saved buffer by name, sharing memory with the module. Tied ones under each name."""
        members = dict(self._members())
        own = {name: member for name, member in members.items() if isinstance(member, Parameter)}
        own |= {name: getattr(self, name) for name in self._buffers if name not in self._transient}
        state = OrderedDict((_join(prefix, name), t.detach()) for name, t in own.items() if t is not None)
        for name, child in self.named_children():
            state.update(child.state_dict(_join(prefix, name)))
        return state

    def load_state_dict(self, state_dict: dict[str, Tensor], strict: bool = True) -> IncompatibleKeys:
        """Copy the tensors of `state_dict` into the parameters and buffers of the same names.

        The Parameter objects stay, so optimizers that hold them go on working. RuntimeError names every missing,
        unexpected (both only if `strict`) and wrongly shaped key; then nothing has been changed.
        """
        own = self.state_dict()
        # A tied tensor has two names but one memory, and files made by torch hold it only once
        found = {id(tensor.version) for name, tensor in own.items() if name in state_dict}
        missing = [name for name, tensor in own.items() if name not in state_dict and id(tensor.version) not in found]
        unexpected = [name for name in state_dict if name not in own]
        problems = []
        if strict and missing:
            problems.append("missing keys: " + ", ".join(missing))
        if strict and unexpected:
            problems.append("unexpected keys: " + ", ".join(unexpected))
        for name in own:
            if name in state_dict and not isinstance(state_dict[name], Tensor):
                problems.append(f"{name}: expected a Tensor, got {type(state_dict[name]).__name__}")
        for name, tensor in own.items():
            if isinstance(state_dict.get(name), Tensor) and state_dict[name].array.shape != tensor.array.shape:
                got, expected = tuple(state_dict[name].array.shape), tuple(tensor.array.shape)
                problems.append(f"size mismatch for {name}: got {got}, expected {expected}")
        if problems:
            raise RuntimeError(f"load_state_dict: does not fit {type(self).__name__}:\n  " + "\n  ".join(problems))
        with no_grad():
            for name, tensor in own.items():
                if name in state_dict:
                    tensor.copy_(state_dict[name])
        return IncompatibleKeys(missing, unexpected)

    # --- Changing all of it --------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Training behaviour (dropout on) here and in all parts. Returns self."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: expected True or False, got {mode!r}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Evaluation behaviour: `train(False)`."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Let all parameters learn, or freeze them. Returns self."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Call `fn` on every part, innermost first, then on this module. Returns self."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Module:
        """Move all parameters and buffers to a device and/or floating dtype: `to("cuda")`, `to(float64)`.

        The data inside the Parameter objects is replaced, so optimizers go on working. Integer buffers keep their
        dtype. Returns self.
        """
        for tensor in [*self.parameters(), *self.buffers()]:
            with no_grad():
                moved = tensor.detach().to(*args, **kwargs)
                if not tensor.is_floating_point():
                    moved = tensor.detach().to(moved.device)
                if moved.is_floating_point() != tensor.is_floating_point():
                    raise TypeError(f"to: a module takes floating-point dtypes, got {moved.dtype}")
                grad = None if tensor.grad is None else tensor.grad.to(moved.device, moved.dtype)
            tensor.array, tensor.grad = moved.array, None
            tensor.grad = grad
        return self

    def cpu(self) -> Module:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = "cuda") -> Module:
        """Move to a GPU."""
        return self.to(device)

    def double(self) -> Module:
        """Convert to float64."""
        return self.to(dtype="float64")

    def half(self) -> Module:
        """Convert to float16."""
        return self.to(dtype="float16")

    def float(self) -> Module:
        """Convert to float32."""
        return self.to(dtype="float32")

    def register_forward_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(module, args, output)` after each forward; what it returns, if anything, replaces the output."""
        self._forward_hooks = self._forward_hooks or {}
        return RemovableHandle(self._forward_hooks, hook)

    def register_forward_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(module, args)` before each forward; what it returns, if anything, replaces the arguments."""
        self._forward_pre_hooks = self._forward_pre_hooks or {}
        return RemovableHandle(self._forward_pre_hooks, hook)

    # --- Printing ------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the brackets when printed."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        return f"{type(self).__name__}({self.extra_repr()}\n  " + "\n  ".join(lines) + "\n)"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _search(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (Parameter, Module)):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _search(f"{name}.{i}", item)
    elif isinstance(value, dict) and not name.startswith("_"):
        for key, item in value.items():
            yield from _search(f"{name}.{key}", item)


# --- Containers --------------------------------------------------------------------------------------------------


class _Container(Module):
    """Parts under their own names or numbers, without a word for the container between: `0.weight`."""

    def __init__(self) -> None:
        self._parts: dict[str, Module] = {}

    def _members(self) -> Iterator[tuple[str, Any]]:
        yield from self._parts.items()
        yield from super()._members()

    def _check(self, module: Any) -> Module:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: {type(module).__name__} is not a Module")
        return module

    def __len__(self) -> int:
        return len(self._parts)

    def __getattr__(self, name: str) -> Module:
        parts = self.__dict__.get("_parts", {})
        if name not in parts:
            raise AttributeError(f"{type(self).__name__} has no attribute or module '{name}'")
        return parts[name]


class _Sequence(_Container):
    def append(self, module: Module) -> Any:
        """Add one at the end. Returns self."""
        self._parts[str(len(self._parts))] = self._check(module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add several at the end. Returns self."""
        for module in modules:
            self.append(module)
        return self

    def __iter__(self) -> Iterator[Module]:
        return iter(self._parts.values())

    def __getitem__(self, index: int | slice) -> Any:
        found = list(self._parts.values())[index]
        return type(self)._of(found) if isinstance(index, slice) else found

    def __setitem__(self, index: int, module: Module) -> None:
        self._parts[list(self._parts)[index]] = self._check(module)


class Sequential(_Sequence):
    """Modules called one after the other: `Sequential(Linear(2, 8), ReLU(), Linear(8, 1))`, or a dict with names."""

    def __init__(self, *modules: Any):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], dict):
            self._parts.update({name: self._check(module) for name, module in modules[0].items()})
        else:
            self.extend(modules)

    @classmethod
    def _of(cls, modules: list[Module]) -> Sequential:
        return cls(*modules)

    def forward(self, input: Any) -> Any:
        """The last module's output."""
        for module in self:
            input = module(input)
        return input


class ModuleList(_Sequence):
    """A list of modules. It computes nothing itself: loop over it in `forward`."""

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self.extend(modules)

    @classmethod
    def _of(cls, modules: list[Module]) -> ModuleList:
        return cls(modules)


class ModuleDict(_Container):
    """Modules by name: `self.layers["query"]`, or `self.layers.query`."""

    def __init__(self, modules: dict[str, Module] | None = None):
        super().__init__()
        for name, module in (modules or {}).items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        return self._parts[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self._parts[name] = self._check(module)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parts.keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._parts.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Names and modules."""
        return self._parts.items()


class Identity(Module):
    """Returns its input."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def forward(self, input: Tensor) -> Tensor:
        """x"""
        return input
