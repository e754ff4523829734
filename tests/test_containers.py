"""Containers under any sequence of edits: what runs, counts, lists, saves and names is the same modules, in one order.

A dict of names and modules is edited beside each container, by what the edits mean; after every edit all is compared.
"""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import tinygrad_z2g as z2g
from tinygrad_z2g import nn

NAMES = st.sampled_from(["fc", "act", "0", "1", "2", "7"])
WHERE = st.integers(-5, 5)
SLICES = st.builds(slice, *[st.none() | st.integers(-4, 4)] * 2, st.sampled_from([None, 1, 2, -1]))


class Part(nn.Module):
    """Adds a number of its own, and notes that it ran."""

    made = 0

    def __init__(self, ran):
        Part.made += 1
        self.weight, self._ran = nn.Parameter(z2g.tensor([float(Part.made)])), [ran]

    def forward(self, x):
        self._ran[0].append(self)
        return x + self.weight


class Own(nn.Sequential):
    """A subclass with a parameter, a setting and a module of its own, which runs after the others."""

    def __init__(self, *parts):
        super().__init__(*parts[:-1])
        self.scale, self.setting = nn.Parameter(z2g.ones(1)), (1, 2)
        self.last = parts[-1]


class Editing(RuleBasedStateMachine):
    """What every container has in common: its parts are its attributes."""

    own: tuple = ()  # names of parameters that belong to the container itself

    def __init__(self):
        super().__init__()
        self.ran: list = []
        self.net: Any = None
        self.parts: dict = {}

    def part(self):
        return Part(self.ran)

    def is_refused(self, error, edit):
        with pytest.raises(error):
            edit()

    @rule(name=NAMES, how=st.sampled_from(["add_module", "register_module", "__setattr__"]))
    def set_by_name(self, name, how):
        self.parts[name] = part = self.part()
        getattr(self.net, how)(name, part)

    @rule(data=st.data())
    def delete_by_name(self, data):
        name = data.draw(NAMES)
        if name in self.parts:
            del self.parts[name]
            delattr(self.net, name)
        else:
            self.is_refused(AttributeError, lambda: delattr(self.net, name))

    @rule()
    def replace_each(self):
        for name, _ in list(self.net.named_children()):
            self.parts[name] = part = self.part()
            setattr(self.net, name, part)

    @precondition(lambda self: self.parts)
    @rule(data=st.data())
    def share(self, data):
        """One module under a second name."""
        part = self.parts[data.draw(st.sampled_from(list(self.parts)))]
        name = data.draw(NAMES)
        self.parts[name] = part
        setattr(self.net, name, part)

    @rule(name=NAMES, wrong=st.sampled_from([3, "text", len]))
    def nothing_else_takes_its_place(self, name, wrong):
        self.is_refused(TypeError, lambda: self.net.add_module(name, wrong))
        if name in self.parts:
            self.is_refused(TypeError, lambda: setattr(self.net, name, wrong))

    @precondition(lambda self: self.parts)
    @rule(data=st.data())
    def take_away(self, data):
        """None leaves the name free for another module, in its old place."""
        name = data.draw(st.sampled_from(list(self.parts)))
        setattr(self.net, name, None)
        shown = [n for n, _ in self.net.named_children()]
        assert name not in shown and not any(key.startswith(name + ".") for key in self.net.state_dict())
        self.is_refused(TypeError, lambda: setattr(self.net, name, 5))
        self.parts[name] = part = self.part()
        setattr(self.net, name, part)

    @rule(mode=st.booleans())
    def settings_do_not_matter(self, mode):
        self.net.train(mode)
        self.net.note = [1, (2.0, "x"), {"key": 4}]
        assert all(part.training == mode for part in self.parts.values())

    @invariant()
    def everyone_sees_the_same_modules(self):
        if self.net is None:
            return
        parts, net = self.parts, self.net
        once = {id(part): (name, part) for name, part in reversed(parts.items())}
        once = [once.pop(id(part)) for part in parts.values() if id(part) in once]  # each under its first name
        assert list(net.named_children()) == once
        assert [m for m in net.modules() if m is not net] == [part for _, part in once]
        assert [n for n, _ in net.named_parameters()] == [*self.own, *(f"{name}.weight" for name, _ in once)]
        assert [id(p) for p in net.parameters()][len(self.own) :] == [id(part.weight) for _, part in once]
        assert list(net.state_dict()) == [*self.own, *(f"{name}.weight" for name in parts)]
        for name, part in parts.items():
            assert net.get_submodule(name) is part and net.get_parameter(f"{name}.weight") is part.weight
            assert net.state_dict()[f"{name}.weight"].item() == part.weight.item()
        assert [line.split("):")[0].strip(" (") for line in repr(net).splitlines()[1:-1]] == list(parts)
        seen: list = []
        net.apply(seen.append)
        assert seen == [*(part for _, part in once), net]
        self.runs()

    def runs(self):
        net, modules = self.net, list(self.parts.values())
        self.ran.clear()
        assert net(z2g.zeros(1)).item() == sum(part.weight.item() for part in modules)
        assert self.ran == modules and len(net) == len(modules) and list(net) == modules
        assert [net[i] for i in range(len(modules))] == modules == [net[i - len(modules)] for i in range(len(modules))]


class EditingASequential(Editing):
    def __init__(self, kind=nn.Sequential):
        super().__init__()
        self.kind = kind
        self.net = kind()

    def name_at(self, index):
        """A Sequential goes by place; in a list, as in torch's, a number is a name. None beyond both ends."""
        n = len(self.parts)
        if not -n <= index < n:
            return None
        return list(self.parts)[index] if self.kind is nn.Sequential else str(index % n)

    def numbered(self, modules):
        self.parts = {str(i): part for i, part in enumerate(modules)}

    def expect(self, parts):
        """The parts of a slice: a Sequential keeps names, a list counts."""
        return parts if self.kind is nn.Sequential else {str(i): part for i, part in enumerate(parts.values())}

    @rule(many=st.integers(0, 2), how=st.sampled_from(["append", "extend", "+="]))
    def put_at_the_end(self, many, how):
        new = [self.part() for _ in range(many)]
        for part in new:
            number = len(self.parts)
            while str(number) in self.parts:
                number += 1
            self.parts[str(number)] = part
        if how == "append":
            for part in new:
                assert self.net.append(part) is self.net
        elif how == "extend":
            assert self.net.extend(iter(new)) is self.net
        else:
            self.net += self.kind(*new) if self.kind is nn.Sequential else new

    @rule(index=WHERE)
    def insert(self, index):
        modules, part = list(self.parts.values()), self.part()
        if index > len(modules) and self.kind is nn.ModuleList:
            while str(index) in self.parts:
                index += 1
            self.parts[str(index)] = part
            self.net.insert(index, part)
            return
        if not -len(modules) <= index <= len(modules):
            self.is_refused(IndexError, lambda: self.net.insert(index, part))
            return
        modules.insert(index, part)
        self.numbered(modules)
        self.net.insert(index, part)

    @rule(index=WHERE, how=st.sampled_from(["pop", "del"]))
    def take_out(self, index, how):
        name = self.name_at(index)
        out = self.net.pop if how == "pop" else self.net.__delitem__
        if name not in self.parts:
            self.is_refused(IndexError if name is None else KeyError, lambda: out(index))
            return
        part = self.parts.pop(name)
        self.numbered(list(self.parts.values()))
        assert out(index) is (part if how == "pop" else None)

    @rule(index=WHERE)
    def replace(self, index):
        name, part = self.name_at(index), self.part()
        if name is None:
            self.is_refused(IndexError, lambda: self.net.__setitem__(index, part))
            return
        self.parts[name] = part
        self.net[index] = part

    @rule(cut=SLICES)
    def read_slice(self, cut):
        piece = self.net[cut]
        assert type(piece) is self.kind
        assert dict(piece._submodules()) == self.expect(dict(list(self.parts.items())[cut]))

    @rule(cut=SLICES)
    def delete_slice(self, cut):
        modules = list(self.parts.values())
        del modules[cut], self.net[cut]
        self.numbered(modules)

    @rule()
    def join(self):
        both = self.net + self.net
        assert type(both) is self.kind and list(both) == 2 * list(self.parts.values())
        assert [name for name, _ in both._submodules()] == [str(i) for i in range(2 * len(self.parts))]


class EditingAList(EditingASequential):
    def __init__(self):
        super().__init__(nn.ModuleList)

    def runs(self):
        modules = list(self.parts.values())
        assert list(self.net) == modules and len(self.net) == len(modules)
        for i in range(-len(modules), len(modules)):
            if (name := self.name_at(i)) in self.parts:
                assert self.net[i] is self.parts[name]
            else:
                self.is_refused(KeyError, lambda i=i: self.net[i])


class EditingASubclass(Editing):
    """`Own` starts with parts of which one has a name; edits by number work there too."""

    own = ("scale",)

    def __init__(self):
        super().__init__()
        modules = [self.part() for _ in range(3)]
        self.net = Own(*modules)
        self.parts = {"0": modules[0], "1": modules[1], "last": modules[2]}

    @rule(index=WHERE)
    def take_out(self, index):
        modules = list(self.parts.values())
        if -len(modules) <= index < len(modules):
            del modules[index], self.net[index]
            self.parts = {str(i): part for i, part in enumerate(modules)}

    @rule()
    def slice(self):
        assert list(self.net[1:]) == list(self.parts.values())[1:]  # a plain Sequential: Own is made in its own way
        assert type(self.net[1:]) is nn.Sequential


class EditingADict(Editing):
    def __init__(self):
        super().__init__()
        self.net = nn.ModuleDict()

    @rule(name=NAMES, how=st.sampled_from(["set", "update", "pairs"]))
    def put(self, name, how):
        self.parts[name] = part = self.part()
        if how == "set":
            self.net[name] = part
        else:
            self.net.update({name: part} if how == "update" else [(name, part)])

    @rule(name=NAMES, how=st.sampled_from(["pop", "del"]))
    def take_out(self, name, how):
        out = self.net.pop if how == "pop" else self.net.__delitem__
        if name not in self.parts:
            self.is_refused(KeyError, lambda: out(name))
            return
        part = self.parts.pop(name)
        assert out(name) is (part if how == "pop" else None)

    @rule()
    def clear(self):
        self.parts = {}
        self.net.clear()

    def runs(self):
        net = self.net
        assert list(net) == list(net.keys()) == list(self.parts) and list(net.items()) == list(self.parts.items())
        assert list(net.values()) == list(self.parts.values()) and len(net) == len(self.parts)
        assert all(name in net and net[name] is getattr(net, name) is part for name, part in self.parts.items())


class Lists(nn.Module):
    """A module that keeps its parts in a plain list and a dict in it."""

    def __init__(self):
        self.layers = [{}]

    def forward(self, x):
        for layer in [*self.layers[0].values(), *self.layers[1:]]:
            x = layer(x)
        return x


class EditingPlainLists(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.ran: list = []
        self.net = Lists()

    def parts(self):
        first, *rest = self.net.layers
        return {f"layers.0.{k}": part for k, part in first.items()} | {f"layers.{i}": p for i, p in enumerate(rest, 1)}

    @rule(key=NAMES)
    def into_the_dict(self, key):
        self.net.layers[0][key] = Part(self.ran)

    @rule()
    def append(self):
        self.net.layers.append(Part(self.ran))

    @rule()
    def pop(self):
        if len(self.net.layers) > 1:
            self.net.layers.pop()

    @rule()
    def replace_each(self):
        for name, _ in list(self.net.named_children()):
            part = Part(self.ran)
            setattr(self.net, name, part)
            assert self.net.get_submodule(name) is part

    @invariant()
    def everyone_sees_the_same_modules(self):
        net, parts = self.net, self.parts()
        assert dict(net.named_children()) == parts and list(net.state_dict()) == [f"{name}.weight" for name in parts]
        assert [id(p) for p in net.parameters()] == [id(part.weight) for part in parts.values()]
        self.ran.clear()
        net(z2g.zeros(1))
        assert self.ran == list(parts.values())


FEW = settings(max_examples=60, stateful_step_count=15, deadline=None)
MACHINES = [EditingASequential, EditingAList, EditingASubclass, EditingADict, EditingPlainLists]
for machine in MACHINES:
    machine.TestCase.settings = FEW
TestSequential, TestList, TestSubclass, TestDict, TestPlainLists = (machine.TestCase for machine in MACHINES)


# --- By hand -----------------------------------------------------------------------------------------------------


def test_modules_added_by_name_run():
    net, fc = nn.Sequential(), nn.Linear(2, 2)
    net.add_module("fc", fc)
    net.add_module("act", nn.ReLU())
    x = z2g.tensor([[1.0, -2.0]])
    assert len(net) == 2 and z2g.equal(net(x), fc(x).relu())


def test_modules_in_a_plain_list_of_a_container_are_not_run_in_silence():
    """They are parameters, but whether to run them is unclear."""

    class Heads(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(1, 1))
            self.heads = [nn.Linear(1, 1)]

    net = Heads()
    assert len(list(net.parameters())) == 4
    for use in (lambda: net(z2g.ones(1, 1)), lambda: len(net), lambda: list(net), lambda: net[0]):
        with pytest.raises(TypeError, match=r"heads\.0.*_heads"):
            use()
    net._heads, net.heads = net.heads, []
    assert len(net) == 1 and net(z2g.ones(1, 1)).shape == (1, 1)


def test_names_of_a_container_may_not_hide_its_methods():
    for name in ("keys", "forward", "training", "a.b", ""):
        with pytest.raises(KeyError):
            nn.ModuleDict({name: nn.ReLU()})
