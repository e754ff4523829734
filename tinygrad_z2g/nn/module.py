"""What torch offers of modules beyond the core: names that are checked, buffers, hooks, saving, moving, printing.

`Module` and `Parameter` stand in `core/module.py`; the methods here are attached to them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Protocol, TypeVar

from ..arrays.checks import check_hook
from ..core.attach import attach
from ..core.modes import no_grad
from ..core.module import TAKES, Module, Parameter, search
from ..tensor import RemovableHandle, Tensor
from .backward_hooks import Watched

__all__ = ["Identity", "IncompatibleKeys", "Module", "Parameter"]


class ParameterMethods:
    """How a parameter is printed and copied."""

    def __repr__(self) -> str:
        return "Parameter containing:\n" + Tensor.__repr__(self)  # type: ignore[arg-type]  # which it is once attached

    def __deepcopy__(self, memo: dict) -> Tensor:
        copy = Tensor.__deepcopy__(self, memo)
        copy._grad = None  # a copied model starts without gradients, as in torch; other tensors keep theirs
        return copy


_F = TypeVar("_F", bound=Callable[..., Any])
_M = TypeVar("_M", bound="ModuleMethods")
_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)


class _Forward(Protocol[_P, _R]):
    """What has a forward of its own."""

    def forward(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...


def _ends(otherwise: Callable[[Any], Any]) -> Callable[[_F], _F]:
    """Let a method that calls itself on the parts of a module end where modules contain each other.

    A part is entered wherever it is met, shared ones under each name; but not inside itself, and one that has been
    seen to contain itself only once: else, of ten parts that all know each other, there would be 10! ways through.
    `otherwise` makes the result where it is not entered.
    """

    def decorate(method: _F) -> _F:
        walk = threading.local()

        @functools.wraps(method)
        def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not getattr(walk, "path", None):
                walk.path, walk.circular = [], set()  # ids of the modules we are in; of those that contain themselves
            me = id(self)
            if me in walk.path:
                walk.circular.update(walk.path[walk.path.index(me) :])
            if me in walk.circular:
                return otherwise(self)
            walk.path.append(me)
            try:
                return method(self, *args, **kwargs)
            finally:
                walk.path.pop()

        return guarded  # type: ignore[return-value]  # of the same signature

    return decorate


class _Wide:
    """A hook that hears more than the usual: the keyword arguments, or also of calls that fail."""

    def __init__(self, hook: Callable, with_kwargs: bool = True, always: bool = False):
        self.hook, self.with_kwargs, self.always = hook, with_kwargs, always

    def __call__(self, module: Module, args: tuple, kwargs: dict, *output: Any) -> Any:
        return self.hook(module, args, *([kwargs] if self.with_kwargs else []), *output)

    def tell(self, *what: Any) -> None:
        """Call the hook after an error, which is the one to be seen."""
        try:
            self(*what)
        except Exception as error:
            warnings.warn(f"a forward hook with always_call=True raised, after another error: {error}", stacklevel=3)


def _arguments(hook: Any, changed: Any, kwargs: dict) -> tuple[tuple, dict]:
    """What forward gets instead, by a pre hook."""
    if type(hook) is not _Wide:
        return changed if isinstance(changed, tuple) else (changed,), kwargs
    if not isinstance(changed, tuple) or len(changed) != 2:
        raise RuntimeError(f"forward pre hook: returned {changed!r}, expected None or a tuple (args, kwargs)")
    return changed


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` could not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class ModuleMethods:
    """What is attached to `Module`."""

    _buffers: tuple[str, ...] = ()  # attribute names of tensors that are saved and moved but do not learn
    _transient: tuple[str, ...] = ()  # those of them that are not saved
    _forward_hooks: dict[int, Callable] = {}  # noqa: RUF012 - replaced, never changed
    _forward_pre_hooks: dict[int, Callable] = {}  # noqa: RUF012
    _backward_hooks: dict[int, tuple[bool, Callable]] = {}  # noqa: RUF012 - and whether it is a pre hook

    if TYPE_CHECKING:  # model(x) has the type that forward gives

        def __call__(self: _Forward[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R: ...

        parameters: Any  # and what else is used here of the core's
        _reserve: Any
        _walk: Any

    else:

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            if not self._forward_pre_hooks and not self._forward_hooks and not self._backward_hooks:
                return self.forward(*args, **kwargs)
            result, heard = None, []
            try:
                for hook in list(self._forward_pre_hooks.values()):
                    changed = hook(self, args, kwargs) if type(hook) is _Wide else hook(self, args)
                    if changed is not None:
                        args, kwargs = _arguments(hook, changed, kwargs)
                watched = Watched(self, self._backward_hooks.values()) if self._backward_hooks else None
                args = args if watched is None else watched.entered(args)
                result = self.forward(*args, **kwargs)
                for hook in list(self._forward_hooks.values()):
                    heard.append(hook)
                    changed = hook(self, args, kwargs, result) if type(hook) is _Wide else hook(self, args, result)
                    if changed is not None:
                        result = changed
                return result if watched is None else watched.left(result)
            except Exception:
                for hook in list(self._forward_hooks.values()):
                    if type(hook) is _Wide and hook.always and hook not in heard:
                        hook.tell(self, args, kwargs, result)
                raise

    # --- Parts ---------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if "." in name and isinstance(value, (Parameter, Module)):
            self._set_in_list(name, value)
        else:
            _set(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._forget(name)

    def _kind(self, name: str) -> str | None:
        """As in the core, or a "buffer"."""
        return "buffer" if name in self._buffers else _kind(self, name)

    def _forget(self, name: str) -> None:
        """Nothing is registered under this name any more."""
        for known in ("_buffers", "_transient"):
            if name in getattr(self, known):
                self.__dict__[known] = tuple(other for other in getattr(self, known) if other != name)
        _forget(self, name)

    def _set_in_list(self, name: str, value: Any) -> None:
        """What `layers.0` names, in a list or dict of this module, becomes `value`."""
        for found, _, holder, key in self._listed():
            if found == name:
                if isinstance(holder, tuple):
                    raise TypeError(f"{type(self).__name__}: '{name}' lies in a tuple, which cannot change; use a list")
                holder[key] = value
                return
        raise KeyError(f"{type(self).__name__}: the name '{name}' contains a dot, and no list here has such a part")

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names, each once; those in lists and dicts as `layers.0`."""
        seen = set()
        for name, module in self._submodules():
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct submodules, each once."""
        for _, module in self.named_children():
            yield module

    def named_modules(self, memo: set | None = None, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, with dotted names; the module itself has the name `prefix`.

        Those in `memo` are left out, and those found are added to it.
        """
        for path, module in self._walk(prefix, seen={id(module) for module in memo or ()}):
            if isinstance(module, Module):
                if memo is not None:
                    memo.add(module)
                yield path, module

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """The buffers with dotted names, each once."""
        seen = set()
        for path, module in self.named_modules(prefix=prefix) if recurse else [(prefix, self)]:
            for name, buffer in module._own_buffers():
                if id(buffer) not in seen:
                    seen.add(id(buffer))
                    yield _join(path, name), buffer

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Set `self.name`, a tensor that moves with the module but does not learn; saved too if `persistent`.

        As for the other two: TypeError for a value or a name of another type, KeyError for a name that is empty, has a
        dot, or belongs to an attribute of another kind.
        """
        self._check_name("register_buffer", name, name in self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"register_buffer: '{name}' must be a Tensor or None, got {type(tensor).__name__}")
        self._forget(name)
        self.__dict__["_buffers"] = (*self._buffers, name)
        if not persistent:
            self.__dict__["_transient"] = (*self._transient, name)
        object.__setattr__(self, name, tensor)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Set `self.name`. None keeps the place for a parameter, and refuses anything else there."""
        self._check_name("register_parameter", name, self._kind(name) == "parameter")
        if param is not None and not isinstance(param, Parameter):
            got = type(param).__name__
            raise TypeError(f"register_parameter: '{name}' must be a Parameter or None, got {got}; use Parameter(...)")
        _register(self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Set `self.name`. None keeps the place for a module, and refuses anything else there."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"add_module: '{name}' must be a Module or None, got {type(module).__name__}")
        self._check_name("add_module", name, self._kind(name) == "module")
        setattr(self, name, module)
        if module is None:
            self._reserve(name, "module")

    def register_module(self, name: str, module: Module | None) -> None:
        """The same as `add_module`."""
        self.add_module(name, module)

    def _check_name(self, caller: str, name: Any, registered: bool) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{caller}: a name is a str, got {type(name).__name__}")
        if not name or "." in name:
            raise KeyError(f"{caller}: a name is not empty and has no dot, got {name!r}")
        if hasattr(self, name) and not registered:
            raise KeyError(f"{caller}: {type(self).__name__} has an attribute '{name}' already; choose another name")

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of this dotted name. AttributeError if there is none."""
        return self._find(target, Parameter)

    def get_submodule(self: Any, target: str) -> Module:
        """The module of this dotted name, "" for this one. AttributeError if there is none."""
        return self._find(target, Module) if target else self

    def set_submodule(self, target: str, module: Module) -> None:
        """Put `module` in the place of the one of this dotted name. AttributeError if there is none."""
        for name, child in self._submodules():
            if name == target:
                setattr(self, name, module)
                return
            if target.startswith(name + "."):
                with contextlib.suppress(AttributeError):  # the key of a dict may hold a dot: see `_find`
                    child.set_submodule(target[len(name) + 1 :], module)
                    return
        raise AttributeError(f"{type(self).__name__} has no module '{target}'")

    def _find(self, target: str, kind: type) -> Any:
        for name, member in self._members():
            if name == target and isinstance(member, kind):
                return member
            if isinstance(member, Module) and target.startswith(name + "."):
                try:
                    return member._find(target[len(name) + 1 :], kind)
                except AttributeError:
                    pass  # the key of a dict may hold a dot, so another name may begin alike
        raise AttributeError(f"{type(self).__name__} has no {kind.__name__.lower()} '{target}'")

    def _members(self) -> list[tuple[str, Any]]:
        """As in the core; but a parameter that is registered as a buffer is none, and no two parts have one name."""
        found = _members(self)
        if self._buffers:
            found = [(name, member) for name, member in found if name not in self._buffers]
        if len(dict(found)) < len(found):  # {1: ..., "1": ...} would be saved as one
            names = [name for name, _ in found]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{type(self).__name__}: two parts have the name '{twice}'; give them different keys")
        return found

    def _listed(self) -> Iterator[tuple[str, Any, Any, Any]]:
        """Parameters and modules inside lists, tuples and dicts: their names, they themselves, and where they lie."""
        for name, value in self.__dict__.items():
            if isinstance(value, (list, tuple, dict)) and not name.startswith("_"):
                yield from search(name, value)

    def _submodules(self) -> list[tuple[str, Module]]:
        """The direct submodules, shared ones under each name."""
        return [(name, member) for name, member in self._members() if isinstance(member, Module)]

    def _own_buffers(self) -> list[tuple[str, Any]]:
        """The buffers of this module without its parts."""
        return [(name, self.__dict__[name]) for name in self._buffers if self.__dict__.get(name) is not None]

    # --- State ---------------------------------------------------------------------------------------------------

    @_ends(lambda self: OrderedDict())
    def state_dict(self, prefix: str = "") -> OrderedDict[str, Tensor]:
        """Every parameter and saved buffer by name, sharing memory with the module. Tied ones under each name."""
        members = self._members()
        own = [(name, member) for name, member in members if isinstance(member, Parameter)]
        own += [(name, buffer) for name, buffer in self._own_buffers() if name not in self._transient]
        state = OrderedDict((_join(prefix, name), tensor.detach()) for name, tensor in own)
        for name, child in members:
            if isinstance(child, Module):
                state.update(child.state_dict(_join(prefix, name)))
        return state

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> IncompatibleKeys:
        """Copy the tensors of `state_dict` into the parameters and buffers of the same names.

        The Parameter objects stay, so optimizers that hold them go on working. RuntimeError names every missing,
        unexpected (both only if `strict`) and wrongly shaped key; then nothing has been changed.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"load_state_dict: expected a dict of tensors, got {type(state_dict).__name__}; see load()")
        own = self.state_dict()
        # A tied tensor has two names but one memory, and files made by torch hold it only once
        found = {id(tensor.memory) for name, tensor in own.items() if name in state_dict}
        missing = [name for name, tensor in own.items() if name not in state_dict and id(tensor.memory) not in found]
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

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def requires_grad_(self: _M, requires_grad: bool = True) -> _M:
        """Let all parameters learn, or freeze them. Returns self."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def apply(self: _M, fn: Callable[[Module], Any]) -> _M:
        """Call `fn` on every part, innermost first, then on this module. Returns self."""
        for module in self._inside_out():
            fn(module)
        return self

    @_ends(lambda self: [])
    def _inside_out(self: Any) -> list[Module]:
        return [*itertools.chain.from_iterable(child._inside_out() for child in self.children()), self]

    def to(self: _M, *args: Any, **kwargs: Any) -> _M:
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

    def cpu(self: _M) -> _M:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self: _M, device: Any = "cuda") -> _M:
        """Move to a GPU."""
        return self.to(device)

    def double(self: _M) -> _M:
        """Convert to float64."""
        return self.to(dtype="float64")

    def half(self: _M) -> _M:
        """Convert to float16."""
        return self.to(dtype="float16")

    def float(self: _M) -> _M:
        """Convert to float32."""
        return self.to(dtype="float32")

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after each forward; what it returns, if anything, replaces the output.

        `prepend`: before the hooks that are there. `with_kwargs`: as `hook(module, args, kwargs, output)`.
        `always_call`: also if forward or another hook raises; the output may then be None, and the error goes on.
        """
        check_hook(hook, "register_forward_hook")
        self._forward_hooks = self._forward_hooks or {}
        wide = _Wide(hook, with_kwargs, always_call) if with_kwargs or always_call else hook
        return RemovableHandle(self._forward_hooks, wide, prepend)

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before each forward; what it returns, if anything, replaces the arguments.

        `with_kwargs`: as `hook(module, args, kwargs)`, which returns both or None.
        """
        check_hook(hook, "register_forward_pre_hook")
        self._forward_pre_hooks = self._forward_pre_hooks or {}
        return RemovableHandle(self._forward_pre_hooks, _Wide(hook) if with_kwargs else hook, prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the module's inputs are there: tuples,
        with None for what is no tensor. What it returns, if anything, replaces grad_input.

        The inputs are the positional arguments; if none wants a gradient, the hook is called when those of the outputs
        are there. Outputs: a tensor or a tuple. Neither may then be written to in place.
        """
        check_hook(hook, "register_full_backward_hook")
        self._backward_hooks = self._backward_hooks or {}
        return RemovableHandle(self._backward_hooks, (False, hook), prepend)

    def register_full_backward_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_output)` when the gradients of the module's outputs are there; what it returns, if
        anything, replaces them."""
        check_hook(hook, "register_full_backward_pre_hook")
        self._backward_hooks = self._backward_hooks or {}
        return RemovableHandle(self._backward_hooks, (True, hook), prepend)

    # --- Printing ------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the brackets when printed."""
        return ""

    @_ends(lambda self: f"{type(self).__name__}(...)")
    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self._submodules()]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        return f"{type(self).__name__}({self.extra_repr()}\n  " + "\n  ".join(lines) + "\n)"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


TAKES["buffer"] = (Tensor, Module, type(None))
_members: Any = Module._members
_set: Any = Module.__setattr__
_kind: Any = Module._kind
_forget: Any = Module._forget
_register: Any = Module.register_parameter
attach(Parameter, ParameterMethods)
attach(Module, ModuleMethods)


class Identity(Module):
    """Returns its input."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def forward(self, input: Tensor) -> Tensor:
        """x"""
        return input
