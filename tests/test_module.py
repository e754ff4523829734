"""Modules: how parameters are found, saved, loaded, moved and printed."""

import copy
import pickle
import subprocess
import sys

import fakecupy
import numpy as np
import pytest
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn


def names(module):
    return [name for name, _ in module.named_parameters()]


class Nested(nn.Module):
    """Parameters in every place where a user may put them, defined in an order that is not alphabetical."""

    def __init__(self):  # no super().__init__(): there is nothing to forget
        self.z = nn.Parameter(z2g.zeros(1))
        self.layers = [nn.Linear(1, 2, bias=False), (nn.Linear(2, 1), nn.Parameter(z2g.ones(2)))]
        self.by_name = {"query": nn.Linear(1, 1), "deep": {"list": [nn.Parameter(z2g.ones(3))]}}
        self.a = nn.Parameter(z2g.ones(1))
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())])
        self.width, self.name, self.plain = 3, "text", z2g.ones(5)  # none of these is a parameter


NESTED = [
    "z", "layers.1.1", "by_name.deep.list.0", "a",  # a module's own first, as in torch, then those of its parts
    "layers.0.weight", "layers.1.0.weight", "layers.1.0.bias", "by_name.query.weight", "by_name.query.bias",
    "blocks.0.0.weight",
]  # fmt: skip


# --- Finding parameters ------------------------------------------------------------------------------------------


def test_trap_31_parameters_are_found_wherever_they_are(device):
    module = Nested()
    assert names(module) == NESTED
    assert list(module.parameters()) == [p for _, p in module.named_parameters()]
    assert list(module.state_dict()) == NESTED
    assert len({id(p) for p in module.parameters()}) == len(NESTED)
    assert [name for name, _ in module.named_parameters(recurse=False)] == NESTED[:4]
    assert [name for name, _ in module.named_parameters(prefix="model")] == [f"model.{name}" for name in NESTED]


def test_trap_31_parameters_come_in_the_order_of_definition(device):
    class Ordered(nn.Module):
        def __init__(self):
            self.second = nn.Parameter(z2g.ones(1))
            self.first = nn.Parameter(z2g.ones(1))
            self.sub_b = nn.Linear(1, 1)
            self.sub_a = nn.Linear(1, 1)

    expected = ["second", "first", "sub_b.weight", "sub_b.bias", "sub_a.weight", "sub_a.bias"]
    assert names(Ordered()) == expected


class Tied(nn.Module):
    """One weight under two names, and one module under two names."""

    def __init__(self):
        self.read = nn.Embedding(4, 3)
        self.write = nn.Linear(3, 4, bias=False)
        self.write.weight = self.read.weight
        self.again = self.read


def test_trap_31_tied_parameters_appear_once(device):
    module = Tied()
    assert names(module) == ["read.weight"]
    assert [type(m).__name__ for m in module.modules()] == ["Tied", "Embedding", "Linear"]
    assert "write.weight" in module.state_dict()  # but the file has each name, as torch's


def test_a_shared_module_is_saved_under_each_name():
    assert list(Tied().state_dict()) == ["read.weight", "write.weight", "again.weight"]


def test_trap_31_unknown_attributes_raise(device):
    for module in [nn.Linear(1, 1), nn.Sequential(nn.ReLU()), nn.ModuleDict({"a": nn.ReLU()}), nn.ModuleList()]:
        with pytest.raises(AttributeError, match="nonsense"):
            module.nonsense  # noqa: B018


def test_a_parameter_can_be_removed_and_replaced():
    module = nn.Linear(2, 2)
    module.bias = None
    assert names(module) == ["weight"]
    assert module(z2g.ones(1, 2)).shape == (1, 2)
    module.weight = nn.Parameter(z2g.ones(3, 2))
    assert module(z2g.ones(1, 2)).tolist() == [[2.0] * 3]
    del module.weight
    assert names(module) == []
    module.register_parameter("extra", nn.Parameter(z2g.ones(1)))
    assert names(module) == ["extra"]


def test_setting_a_plain_value_over_a_parameter_is_refused():
    """`layer.weight = z2g.zeros(2, 2)` would leave the optimizer with a weight that nobody uses."""
    module = nn.Linear(2, 2)
    before = module.weight
    for wrong in [z2g.zeros(2, 2), np.zeros((2, 2)), 1.0]:
        with pytest.raises(TypeError, match="weight"):
            module.weight = wrong
    assert module.weight is before


def test_parameter():
    p = nn.Parameter(z2g.ones(2))
    assert p.requires_grad
    assert p.is_leaf
    assert isinstance(p, z2g.Tensor)
    assert not nn.Parameter(z2g.ones(2), requires_grad=False).requires_grad
    assert repr(p).startswith("Parameter containing:\ntensor([1., 1.]")
    assert (p * 2).grad_fn is not None
    assert not isinstance(p * 2, nn.Parameter)


def test_children_and_modules():
    module = Nested()
    children = ["layers.0", "layers.1.0", "by_name.query", "blocks"]
    assert [name for name, _ in module.named_children()] == children
    assert len(list(module.children())) == 4
    assert [name for name, _ in module.named_modules()] == ["", *children, "blocks.0", "blocks.0.0", "blocks.0.1"]
    assert next(module.modules()) is module


# --- The register of a module -------------------------------------------------------------------------------------


KINDS = {  # what can be registered, how, and what may be assigned to its name later (torch 2.13)
    "parameter": (lambda: nn.Parameter(z2g.ones(2)), "register_parameter", ["parameter"]),
    "module": (lambda: nn.Linear(1, 1), "add_module", ["module", "parameter"]),
    "buffer": (lambda: z2g.ones(2), "register_buffer", ["buffer", "module", "parameter"]),
}
PLAIN = {"number": lambda: 5, "text": lambda: "x", "array": lambda: np.ones(2), "list": lambda: [nn.Linear(1, 1)]}
MAKERS = {name: make for name, (make, _, _) in KINDS.items()} | PLAIN


def registered(module):
    """What each part of the register says, and how a file would look."""
    return {
        "parameter": [name for name, _ in module.named_parameters(recurse=False)],
        "module": [name for name, _ in module.named_children()],
        "buffer": [name for name, _ in module.named_buffers(recurse=False)],
    }


@pytest.mark.parametrize("emptied", [False, True], ids=["", "emptied"])
@pytest.mark.parametrize("way", ["register", "setattr"])
@pytest.mark.parametrize("new", MAKERS)
@pytest.mark.parametrize("old", KINDS)
def test_what_may_take_the_place_of_what(old, new, way, emptied):
    """By assignment, as the table says; by registration only the same kind. What is refused changes nothing."""
    module = nn.Module()
    getattr(module, KINDS[old][1])("a", MAKERS[old]())
    module.z = nn.Linear(1, 1)
    if emptied:
        module.a = None
    before, value, names = module.__dict__.get("a"), MAKERS[new](), registered(module)
    allowed = new in KINDS[old][2] if way == "setattr" else new == old
    if way == "setattr":
        error, put = TypeError, lambda: setattr(module, "a", value)
    else:
        error, put = KeyError, lambda: getattr(module, KINDS.get(new, KINDS[old])[1])("a", value)
        error = (KeyError, TypeError) if new in PLAIN else KeyError
    if allowed:
        put()
        assert module.a is value
        expected = {kind: (["a"] if kind == new else []) + (["z"] if kind == "module" else []) for kind in KINDS}
        found = registered(module)
        found["module"].sort()
        assert found == expected
        del module.a
        assert "a" not in {n for kind in registered(module).values() for n in kind} and not hasattr(module, "a")
        module.a = 5  # nothing is known of the name any more
    else:
        with pytest.raises(error):
            put()
        assert module.__dict__.get("a") is before and registered(module) == names


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_are_refused(kind):
    make, register, _ = KINDS[kind]
    module = nn.Linear(1, 1)
    module.setting = 3
    for name, error in [("", KeyError), ("a.b", KeyError), (3, TypeError), (None, TypeError), ("setting", KeyError),
                        ("forward", KeyError), ("training", KeyError)]:  # fmt: skip
        with pytest.raises(error):
            getattr(module, register)(name, make())
    if kind != "buffer":
        with pytest.raises(KeyError, match="dot"):
            setattr(module, "a.b", make())
    assert names(module) == ["weight", "bias"] and module.setting == 3


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_are_refused(kind):
    """A Tensor is no Parameter, a number no module."""
    module = nn.Module()
    for wrong in [3, "x", nn.Linear, np.ones(2), z2g.ones(2) if kind != "buffer" else [z2g.ones(2)]]:
        with pytest.raises(TypeError):
            getattr(module, KINDS[kind][1])("a", wrong)
    getattr(module, KINDS[kind][1])("a", None)
    assert module.a is None and list(module.state_dict()) == []
    with pytest.raises(TypeError):
        module.a = 3


def test_a_layer_without_bias_keeps_the_place_for_one():
    for layer in (nn.Linear(2, 2, bias=False), nn.Conv1d(1, 1, 1, bias=False), nn.LayerNorm(2, bias=False)):
        with pytest.raises(TypeError, match="bias"):
            layer.bias = z2g.zeros(2)
        layer.bias = nn.Parameter(z2g.zeros(2))
        assert names(layer)[-1] == "bias"


def test_a_parameter_must_be_a_leaf():
    p = nn.Parameter(z2g.ones(2), requires_grad=False)
    p += z2g.ones(2, requires_grad=True)
    for put in (lambda m: setattr(m, "a", p), lambda m: m.register_parameter("a", p)):
        with pytest.raises(ValueError, match="leaf"):
            put(nn.Module())


def test_new_parts_come_last_and_replaced_ones_keep_their_place():
    module = nn.Module()
    module.a = None
    module.b, module.c = nn.Parameter(z2g.ones(1)), nn.Parameter(z2g.ones(1))
    module.a = nn.Parameter(z2g.ones(1))
    module.b = nn.Parameter(z2g.zeros(1))
    assert names(module) == ["b", "c", "a"]  # as in torch, where None was no parameter


def test_a_shared_module_is_found_under_each_name():
    module = nn.Module()
    module.a = nn.Linear(1, 1)
    module.b, module.inner = module.a, nn.Sequential(module.a)
    for name in ("a", "b", "inner.0"):
        assert module.get_submodule(name) is module.a and module.get_parameter(f"{name}.bias") is module.a.bias
    assert [name for name, _ in module.named_children()] == ["a", "inner"]  # each once
    for missing in ("c", "a.b", "inner.1", "inner.", ".", "inner.0.weight"):
        with pytest.raises(AttributeError, match="no module"):
            module.get_submodule(missing)
        with pytest.raises(AttributeError, match="no parameter"):
            module.get_parameter(missing if missing != "inner.0.weight" else "inner.0")
    assert module.get_submodule("") is module


def test_a_shared_buffer_is_listed_once_and_saved_under_each_name():
    module, x = nn.Module(), z2g.ones(1)
    module.register_buffer("a", x)
    module.register_buffer("b", x)
    assert [name for name, _ in module.named_buffers()] == ["a"] and list(module.state_dict()) == ["a", "b"]


def test_a_parameter_that_is_registered_as_a_buffer_does_not_learn():
    module = nn.Module()
    module.register_buffer("a", nn.Parameter(z2g.ones(1)))
    assert names(module) == [] and [name for name, _ in module.named_buffers()] == ["a"]


def test_named_modules_takes_what_it_may_leave_out():
    module = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    memo = {module[0]}
    assert [m for _, m in module.named_modules(memo)] == [module, module[1]] and memo == {module, *module}


def test_parts_may_be_replaced_while_one_walks():
    module = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Linear(1, 1)), nn.ReLU())
    seen = []
    for part in module.modules():
        seen.append(type(part).__name__)
        for name, child in part.named_children():
            if isinstance(child, nn.ReLU):
                setattr(part, name, nn.GELU())
    assert seen == ["Sequential", "Sequential", "GELU", "Linear", "GELU"]


def test_load_state_dict_takes_dicts_only():
    for wrong in ("model.safetensors", [1], nn.Linear(1, 1), None):
        with pytest.raises(TypeError, match="dict"):
            nn.Linear(1, 1).load_state_dict(wrong)


def test_keys_that_would_be_saved_under_one_name():
    module = nn.Module()
    module.layers = {1: nn.Linear(1, 1), "1": nn.Linear(1, 1)}
    for use in (lambda: list(module.parameters()), module.state_dict, lambda: repr(module)):
        with pytest.raises(ValueError, match=r"layers\.1"):
            use()
    module.layers = {"a.b": nn.ReLU(), "a": {"b": nn.ReLU()}}
    with pytest.raises(ValueError, match=r"layers\.a\.b"):
        list(module.children())


# --- Modules that know each other ---------------------------------------------------------------------------------


def everyone_knows_everyone(n, put):
    net = [nn.Linear(1, 1, bias=False) for _ in range(n)]
    for module in net:
        put(module, net)
    return net


def as_lists(module, net):
    module.others = net


def as_attributes(module, net):
    for i, other in enumerate(net):
        setattr(module, f"other{i}", other)


def as_a_dict_in_a_tuple(module, net):
    module.others = ({"all": dict(enumerate(net))},)


@pytest.mark.parametrize("put", [as_lists, as_attributes, as_a_dict_in_a_tuple])
@pytest.mark.parametrize("n", [1, 2, 3, 12])
def test_modules_in_a_circle(n, put):
    """All walks end, and soon: among 12 that know each other there are 12! paths. Each is met once by each of them."""
    net = everyone_knows_everyone(n, put)
    for module in net:
        assert len(list(module.modules())) == len(list(module.parameters())) == n
        seen = []
        module.apply(seen.append)
        assert len(seen) == n and seen[-1] is module and {id(m) for m in seen} == {id(m) for m in net}
        state = module.state_dict()
        assert {id(t.memory) for t in state.values()} == {id(m.weight.memory) for m in net}
        assert len(state) <= n * n and module.load_state_dict(state) == ([], [])
        assert len(repr(module).splitlines()) <= 2 * n * n + 1
        module.eval().double().requires_grad_(False).zero_grad()
    assert not any(m.training for m in net) and {m.weight.dtype for m in net} == {z2g.float64}
    twin = copy.deepcopy(net[0])
    assert len(list(twin.modules())) == n and all(m not in net for m in twin.modules())


def test_a_child_that_knows_its_parent():
    parent = nn.Sequential(nn.Linear(2, 2))
    parent[0].parent = [parent]
    assert list(parent.state_dict()) == ["0.weight", "0.bias"]
    assert repr(parent) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=2, bias=True\n"
        "    (parent.0): Sequential(...)\n"
        "  )\n"
        ")"
    )
    seen = []
    parent.apply(seen.append)
    assert seen == [parent[0], parent]


def test_lists_inside_themselves():
    module = nn.Module()
    module.a = [nn.Linear(1, 1, bias=False)]
    module.a.append(module.a)
    module.b = {"self": None}
    module.b["self"] = module.b
    assert names(module) == ["a.0.weight"]


def test_a_walk_after_a_walk_that_failed_starts_anew():
    class Fragile(nn.Module):
        def extra_repr(self):
            raise RuntimeError("broken")

    module = nn.Sequential(Fragile())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            repr(module)
    module[0] = nn.ReLU()
    assert repr(module) == "Sequential(\n  (0): ReLU()\n)"


@pytest.mark.parametrize("hide", [lambda m: [m], lambda m: (m,), lambda m: {"m": m}, lambda m: [{"m": [m]}]])
def test_an_underscore_hides_what_lies_in_a_list(hide):
    """A teacher, a parent: known, but no part. By itself a module is one, whatever its name."""
    module, teacher = nn.Linear(1, 1), nn.Linear(3, 3)
    module._teacher = hide(teacher)
    assert names(module) == list(module.state_dict()) == ["weight", "bias"] and list(module.modules()) == [module]
    assert list(module.eval().children()) == [] and teacher.training
    module._part = teacher
    assert names(module) == ["weight", "bias", "_part.weight", "_part.bias"]


# --- Saving and loading ------------------------------------------------------------------------------------------


class WithBuffers(nn.Module):
    def __init__(self):
        self.weight = nn.Parameter(z2g.ones(2))
        self.register_buffer("mean", z2g.zeros(2))
        self.register_buffer("mask", z2g.ones(2), persistent=False)
        self.register_buffer("nothing", None)
        self.register_buffer("count", z2g.tensor(3))
        self.part = nn.Linear(2, 2)


def test_buffers_are_saved_if_persistent():
    module = WithBuffers()
    assert [name for name, _ in module.named_buffers()] == ["mean", "mask", "count"]
    assert [name for name, _ in nn.Sequential(module).named_buffers()] == ["0.mean", "0.mask", "0.count"]
    assert list(module.state_dict()) == ["weight", "mean", "count", "part.weight", "part.bias"]
    assert names(module) == ["weight", "part.weight", "part.bias"]
    module.mean = z2g.ones(2)  # assigning keeps it a buffer
    assert module.state_dict()["mean"].tolist() == [1.0, 1.0]


def test_a_buffer_can_be_registered_again():
    module = nn.Identity()
    module.register_buffer("x", z2g.zeros(1), persistent=False)
    module.register_buffer("x", z2g.ones(1))
    assert [b.tolist() for b in module.buffers()] == [[1.0]]
    assert list(module.state_dict()) == ["x"]


@pytest.mark.parametrize("make", [Nested, Tied, WithBuffers, lambda: nn.LSTM(2, 3, 2)])
def test_trap_32_state_dict_round_trip(device, make):
    source, target = make(), make()
    with z2g.no_grad():
        for i, tensor in enumerate([*source.parameters(), *source.buffers()]):
            tensor += i + 1
    objects = list(target.parameters())
    saved = {name: host(t) for name, t in source.state_dict().items()}
    assert target.load_state_dict(source.state_dict()) == ([], [])
    assert all(a is b for a, b in zip(objects, target.parameters(), strict=True))  # the optimizer holds these
    for name, tensor in target.state_dict().items():
        assert np.array_equal(host(tensor), saved[name])
        assert tensor.device.type == device
    for p in target.parameters():
        assert p.requires_grad
        assert p.is_leaf


def test_state_dict_shares_memory_and_loading_copies(device):
    source, target = nn.Linear(2, 2), nn.Linear(2, 2)
    state = source.state_dict()
    assert not any(t.requires_grad for t in state.values())
    with z2g.no_grad():
        source.weight.fill_(5)
    assert state["weight"].tolist() == [[5.0, 5.0]] * 2
    target.load_state_dict(state)
    with z2g.no_grad():
        source.weight.fill_(7)
    assert target.weight.tolist() == [[5.0, 5.0]] * 2


def test_loading_converts_dtype_and_device(device):
    target = nn.Linear(2, 2)
    state = nn.Linear(2, 2, dtype=z2g.float64, device="cpu").state_dict()
    target.load_state_dict(state)
    assert target.weight.dtype == z2g.float32
    assert target.weight.device.type == device
    np.testing.assert_allclose(host(target.weight), host(state["weight"]), rtol=1e-6)


BAD_STATES = {  # what is done to a good state, and what the error must name
    "missing": (lambda s: s.pop("0.bias"), ["missing", "0.bias"]),
    "unexpected": (lambda s: s.update({"2.weight": z2g.ones(1)}), ["unexpected", "2.weight"]),
    "shape": (lambda s: s.update({"1.bias": z2g.ones(5)}), ["1.bias", "(5,)", "(1,)"]),
    "shape that would broadcast": (lambda s: s.update({"0.bias": z2g.ones(1)}), ["0.bias", "(1,)", "(3,)"]),
    "all at once": (
        lambda s: s.update({"1.bias": z2g.ones(5), "2.weight": z2g.ones(1), "x": s.pop("0.bias")}),
        ["missing", "0.bias", "unexpected", "2.weight", "x", "1.bias"],
    ),
}


@pytest.mark.parametrize("spoil, words", BAD_STATES.values(), ids=BAD_STATES)
def test_trap_32_bad_states_are_refused_and_nothing_is_changed(device, spoil, words):
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {name: host(t) for name, t in module.state_dict().items()}
    state = {name: z2g.full(tuple(t.shape), 9.0) for name, t in module.state_dict().items()}
    spoil(state)
    with pytest.raises(RuntimeError) as error:
        module.load_state_dict(state)
    assert all(word in str(error.value) for word in words)
    assert all(np.array_equal(host(t), before[name]) for name, t in module.state_dict().items())


def test_trap_32_strict_false_loads_what_fits_by_name():
    module = nn.Linear(2, 1)
    bias = module.bias.item()
    result = module.load_state_dict({"weight": z2g.tensor([[1.0, 2.0]]), "other": z2g.ones(1)}, strict=False)
    assert result.missing_keys == ["bias"]
    assert result.unexpected_keys == ["other"]
    assert module.weight.tolist() == [[1.0, 2.0]]
    assert module.bias.item() == bias
    with pytest.raises(RuntimeError, match=r"weight.*\(3,\)"):  # a wrong shape is an error all the same, as in torch
        module.load_state_dict({"weight": z2g.ones(3)}, strict=False)


def test_loading_values_that_are_no_tensors_names_the_key():
    module = nn.Linear(1, 1)
    with pytest.raises((RuntimeError, TypeError), match="weight"):
        module.load_state_dict({"weight": np.ones((1, 1)), "bias": np.ones(1)})


# --- Changing all of it ------------------------------------------------------------------------------------------


def test_train_and_eval_reach_every_part():
    module = nn.Sequential(nn.Dropout(0.5), nn.ModuleDict({"a": nn.Sequential(nn.Dropout(0.5))}))
    assert all(m.training for m in module.modules())
    assert module.eval() is module
    assert not any(m.training for m in module.modules())
    assert module.train() is module
    assert all(m.training for m in module.modules())
    assert not module.train(False).training
    for wrong in (1, 0, None, "yes"):
        with pytest.raises(ValueError, match="True or False"):
            module.train(wrong)


def test_modes_are_not_shared_between_modules():
    one, two = nn.Dropout(), nn.Dropout()
    one.eval()
    assert two.training


def test_apply_visits_every_part_before_its_owner():
    module, seen = Nested(), []
    assert module.apply(seen.append) is module
    assert {id(m) for m in seen} == {id(m) for m in module.modules()}
    assert len(seen) == len(list(module.modules()))
    assert seen[-1] is module
    for i, m in enumerate(seen):
        assert all(any(child is s for s in seen[:i]) for child in m.children())


def test_apply_visits_sisters_in_order_of_definition():
    module, seen = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.ReLU()), nn.Tanh()), []
    module.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "ReLU", "Sequential", "Tanh", "Sequential"]


def test_zero_grad():
    module = nn.Linear(2, 1)
    module(z2g.ones(1, 2)).sum().backward()
    module.zero_grad(set_to_none=False)
    assert module.weight.grad.tolist() == [[0.0, 0.0]]
    module.zero_grad()
    assert module.weight.grad is None
    module.zero_grad(set_to_none=False)  # nothing to do


def test_requires_grad_freezes():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    assert module[0].requires_grad_(False) is module[0]
    module(z2g.ones(1, 2)).sum().backward()
    assert [p.grad is None for p in module.parameters()] == [True, True, False, False]


def test_to_dtype_keeps_the_parameter_objects_and_converts_gradients(device):
    module = WithBuffers()
    module.part(z2g.ones(1, 2)).sum().backward()
    objects, values = list(module.parameters()), [host(p) for p in module.parameters()]
    assert module.to(z2g.float64) is module
    assert all(a is b for a, b in zip(objects, module.parameters(), strict=True))
    assert {p.dtype for p in module.parameters()} == {z2g.float64}
    assert module.part.weight.grad.dtype == z2g.float64
    assert module.mean.dtype == z2g.float64
    assert module.mask.dtype == z2g.float64
    assert module.count.dtype == z2g.int64  # integers stay
    module.float()
    assert all(np.array_equal(host(p), v) for p, v in zip(objects, values, strict=True))
    assert module.double().weight.dtype == z2g.float64
    assert all(p.requires_grad and p.is_leaf for p in objects)


def test_to_an_integer_dtype_is_refused():
    module = WithBuffers()
    with pytest.raises(TypeError, match="float"):
        module.to(z2g.int64)
    assert {p.dtype for p in module.parameters()} == {z2g.float32}


def test_to_device_keeps_the_parameter_objects():
    with fakecupy.installed():
        module = nn.Sequential(WithBuffers(), Tied())
        objects, values = list(module.parameters()), [host(p) for p in module.parameters()]
        module[0].part(z2g.ones(1, 2)).sum().backward()
        grad = host(module[0].part.weight.grad)
        module.to("cuda")
        moved = [*module.parameters(), *module.buffers(), module[0].part.weight.grad]
        assert {str(t.device) for t in moved} == {"cuda:0"}
        assert all(a is b for a, b in zip(objects, module.parameters(), strict=True))
        assert module[1].write.weight is module[1].read.weight
        assert np.array_equal(host(module[0].part.weight.grad), grad)
        assert module[0].count.dtype == z2g.int64
        module.cpu()
        assert {str(t.device) for t in [*module.parameters(), *module.buffers()]} == {"cpu"}
        assert all(np.array_equal(host(p), v) for p, v in zip(objects, values, strict=True))
        assert module.cuda()[0].weight.device.type == "cuda"
        assert module.to("cpu", z2g.float64)[0].weight.dtype == z2g.float64


def test_deepcopy(device):
    module = nn.Sequential(Tied(), WithBuffers())
    module[1].part(z2g.ones(1, 2)).sum().backward()
    twin = copy.deepcopy(module)
    for (name, a), (twin_name, b) in zip(module.state_dict().items(), twin.state_dict().items(), strict=True):
        assert name == twin_name
        assert np.array_equal(host(a), host(b))
        assert a.device == b.device
    assert isinstance(twin[0].write.weight, nn.Parameter)
    assert twin[0].write.weight is twin[0].read.weight  # still tied
    assert twin[1].part.weight.grad is None  # as in torch
    with z2g.no_grad():
        for t in [*twin.parameters(), *twin.buffers()]:
            t += 1
    assert module[1].mean.tolist() == [0.0, 0.0]
    assert module[1].weight.tolist() == [1.0, 1.0]
    assert module[1].part.weight.grad.tolist() == [[1.0, 1.0]] * 2


def test_a_pickled_module_is_the_same_again(device):
    """Weights, what they are, ties, mode and buffers; no gradients. And `copy` shares the memory, as in torch."""
    module = nn.Sequential(Tied(), WithBuffers()).eval()
    module[1].part(z2g.ones(1, 2)).sum().backward()
    twin = pickle.loads(pickle.dumps(module))
    for (name, a), (twin_name, b) in zip(module.state_dict().items(), twin.state_dict().items(), strict=True):
        assert name == twin_name and np.array_equal(host(a), host(b)) and a.device == b.device
    assert twin[0].write.weight is twin[0].read.weight and isinstance(twin[0].write.weight, nn.Parameter)
    assert not twin.training and twin[1].part.weight.grad is None and twin[1].part.weight.requires_grad
    y = module[1].part.weight * 2  # computed, and pickled as a leaf
    again = pickle.loads(pickle.dumps(y))
    assert again.is_leaf and again.requires_grad and np.array_equal(host(again.detach()), host(y.detach()))
    x = z2g.ones(2)
    x.tag = "mine"
    shared = copy.copy(x)
    x += 1
    assert shared.tag == "mine" and shared.tolist() == [2, 2]


PAST = {  # as 6527e39 pickled them, before the modules moved into rooms
    "Size": b"ccopy_reg\n_reconstructor\n(ctinygrad_z2g.size\nSize\nc__builtin__\ntuple\n(I2\nI3\nttR.",
    "Device": (
        b"\x80\x04\x8c\x14tinygrad_z2g.backend\x8c\x06Device\x93)\x81N}(\x8c\x05indexN\x8c\x04type\x8c\x03cpuu\x86b."
    ),
    "Normal": (
        b"\x80\x04\x8c!tinygrad_z2g.distributions.normal\x8c\x06Normal\x93)\x81}(\x8c\x0c_batch_shape"
        b"\x8c\x11tinygrad_z2g.size\x8c\x04Size\x93)\x85\x81ub."
    ),
}


@pytest.mark.parametrize("name", PAST)
def test_pickles_of_before_the_modules_moved_load(name):
    command = f"import pickle; print(pickle.loads({PAST[name]!r}).__class__)"  # nothing was imported there before
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stdout.strip().endswith(f".{name}'>"), done.stderr


# --- Hooks, printing ---------------------------------------------------------------------------------------------


def test_hooks_see_and_replace_arguments_and_results():
    module, seen = nn.Linear(1, 1, bias=False), []
    nn.init.ones_(module.weight)

    def before(m, args):
        seen.append((m, args[0].item()))
        return args[0] * 10

    handles = [module.register_forward_pre_hook(before), module.register_forward_hook(lambda m, args, out: out + 1)]
    assert module(z2g.tensor([2.0])).item() == 21
    assert seen == [(module, 2.0)]
    for handle in [*handles, *handles]:  # twice does no harm
        handle.remove()
    assert module(z2g.tensor([2.0])).item() == 2
    assert len(seen) == 1
    assert nn.Linear(1, 1)._forward_hooks == {}  # hooks belong to one module, not to the class


def test_a_pre_hook_may_return_a_tuple_of_arguments():
    module = nn.MSELoss()
    module.register_forward_pre_hook(lambda m, args: (args[0], args[0]))
    assert module(z2g.ones(2), z2g.zeros(2)).item() == 0


class Weighted(nn.Module):
    def forward(self, x, weight=1.0, fail=False):
        if fail:
            raise ValueError("as it was asked to")
        return x * weight


def test_hooks_that_hear_of_keyword_arguments():
    module, heard, x = Weighted(), [], z2g.ones(1)
    module.register_forward_pre_hook(lambda m, args, kw: heard.append((args, dict(kw))), with_kwargs=True)
    module.register_forward_pre_hook(lambda m, args, kw: (args, {**kw, "weight": kw["weight"] + 1}), with_kwargs=True)
    module.register_forward_pre_hook(lambda m, args: (args[0] * 10,))
    handle = module.register_forward_hook(lambda m, args, kw, out: out + kw["weight"], with_kwargs=True)
    assert module(x, weight=2.0).item() == 33 and heard == [((x,), {"weight": 2.0})]
    handle.remove()
    assert copy.deepcopy(module)(x, weight=2.0).item() == 30
    module.register_forward_pre_hook(lambda m, args, kw: args, with_kwargs=True)
    with pytest.raises(RuntimeError, match=r"forward pre hook: returned \(tensor.*expected None or a tuple \(args, kw"):
        module(x, weight=2.0)


def test_hooks_are_put_before_others():
    module, heard = nn.Linear(1, 1), []
    for i, prepend in enumerate((False, False, True, True)):
        for register in REGISTER:
            getattr(module, f"register_{register}")(lambda *_, i=i, at=register: heard.append((at, i)), prepend=prepend)
    module(z2g.ones(1, 1, requires_grad=True)).sum().backward()
    for register in REGISTER:
        assert [i for at, i in heard if at == register] == [3, 2, 0, 1]


def test_hooks_that_are_always_called():
    """Also of a call that fails, as in torch; the error is forward's all the same."""
    module, heard, x = Weighted(), [], z2g.ones(1)
    module.register_forward_hook(lambda m, args, out: heard.append(("usual", out)))
    module.register_forward_hook(lambda m, args, out: heard.append(("always", out)), always_call=True)
    module.register_forward_hook(
        lambda m, args, kw, out: heard.append((sorted(kw), out)), with_kwargs=True, always_call=True
    )
    with pytest.raises(ValueError, match="as it was asked to"):
        module(x, fail=True)
    assert heard == [("always", None), (["fail"], None)]
    heard.clear()
    module(x)
    assert [what for what, _ in heard] == ["usual", "always", []]
    heard.clear()
    with module.register_forward_hook(lambda *_: [][0], prepend=True), pytest.raises(IndexError):
        module(x)
    assert [what for what, _ in heard] == ["always", []] and heard[0][1].item() == 1
    heard.clear()
    module.register_forward_hook(lambda *_: {}["key"], always_call=True)
    with pytest.warns(UserWarning, match="always_call=True raised, after another error: 'key'"), \
            pytest.raises(ValueError, match="as it was asked to"):  # fmt: skip
        module(x, fail=True)
    heard.clear()
    with pytest.raises(KeyError):  # each is called once
        module(x)
    assert [what for what, _ in heard] == ["usual", "always", []]


REGISTER = ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"]


@pytest.mark.parametrize("owner", ["tensor", "module", "optimizer"])
@pytest.mark.parametrize("hook", [None, 5])
def test_a_hook_that_cannot_be_called_is_refused_at_once(owner, hook):
    """As `register_hook(print(x))` would be, which hands over None; torch says so only when it is to be called."""
    x, module = z2g.ones(2, requires_grad=True), nn.Linear(2, 2)
    for name in {
        "tensor": ["hook", "post_accumulate_grad_hook"],
        "module": REGISTER,
        "optimizer": ["step_pre_hook", "step_post_hook"],
    }[owner]:
        taker = {"tensor": x, "module": module, "optimizer": z2g.optim.SGD([x])}[owner]
        register = getattr(taker, f"register_{name}")
        with pytest.raises(TypeError, match=f"^register_{name}: expected a function, got {type(hook).__name__}; name"):
            register(hook)
    z2g.optim.SGD([x]).step()
    module(x).sum().backward()  # nothing was left behind


@pytest.mark.parametrize("register", [f"register_{name}" for name in REGISTER])
def test_hooks_are_removed_in_any_order(register):
    module, seen = nn.Identity(), []
    first = getattr(module, register)(lambda *_: seen.append("first"))
    getattr(module, register)(lambda *_: seen.append("second"))
    first.remove()
    module(z2g.ones(1, requires_grad=True)).backward()
    assert seen == ["second"]


# --- Hooks on the backward pass ----------------------------------------------------------------------------------


def lists(gradients):
    return [None if g is None else g.tolist() for g in gradients]


def doubling(device="cpu"):
    """y = 2 a + 3 b as a layer, and what its hook hears."""
    layer, heard = nn.Linear(2, 1, bias=False, device=device), []
    with z2g.no_grad():
        layer.weight.copy_(z2g.tensor([[2.0, 3.0]], device=device))
    layer.register_full_backward_hook(lambda m, into, out: heard.append((m is layer, lists(into), lists(out))))
    return layer, heard


def test_a_backward_hook_hears_the_gradients_of_inputs_and_outputs(device):
    layer, heard = doubling(device)
    x = z2g.tensor([[1.0, 5.0]], device=device, requires_grad=True)
    layer(x).pow(2).sum().backward()  # y = 17, ∂y²/∂y = 34
    assert heard == [(True, [[[68, 102]]], [[[34]]])] and x.grad.tolist() == [[68, 102]]
    assert layer.weight.grad.tolist() == [[34, 170]]
    with z2g.no_grad():
        layer(x)
    assert len(heard) == 1


def test_backward_hooks_change_gradients(device):
    """The pre hook those of the outputs, so the weight's too; the other those of the inputs. Removed, none."""
    layer, heard = doubling(device)
    handles = [
        layer.register_full_backward_pre_hook(lambda m, out: (out[0] * 10,)),
        layer.register_full_backward_hook(lambda m, into, out: (into[0] + 1,)),
    ]
    for expected, weights in (([[21, 31]], [[10, 10]]), ([[2, 3]], [[1, 1]])):
        x, layer.weight.grad = z2g.ones(1, 2, device=device, requires_grad=True), None
        layer(x).sum().backward()
        assert x.grad.tolist() == expected and layer.weight.grad.tolist() == weights
        for handle in handles:
            handle.remove()
    assert [out for _, _, out in heard] == [[[[10]]], [[[1]]]]


def test_without_a_gradient_for_inputs_the_hook_hears_of_the_outputs():
    layer, heard = doubling()
    layer(z2g.ones(1, 2)).sum().backward()
    assert heard == [(True, [None], [[[1]]])]
    layer.register_full_backward_hook(lambda m, into, out: (out[0],))
    with pytest.raises(RuntimeError, match="no input of the module requires a gradient"):
        layer(z2g.ones(1, 2)).sum().backward()


class Several(nn.Module):
    def forward(self, a, k, b):
        return a * b, a + b, k


def test_several_inputs_and_outputs_of_which_some_are_no_tensors():
    """As in torch: None for these; zeros for a tensor that wants no gradient, or an output that got none."""
    module, heard = Several(), []
    module.register_full_backward_hook(lambda m, into, out: heard.append((lists(into), lists(out))))
    a, b = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.tensor([3.0, 4.0])
    product, total, k = module(a * 1, 5, b)
    assert k == 5 and not b.requires_grad
    (product.sum() + total.sum()).backward(retain_graph=True)
    product.sum().backward()
    assert heard == [([[4, 5], None, [0, 0]], [[1, 1], [1, 1], None]), ([[3, 4], None, [0, 0]], [[1, 1], [0, 0], None])]
    assert a.grad.tolist() == [7, 9]


def test_a_backward_hook_and_derivatives_of_derivatives():
    layer, heard = doubling()
    x = z2g.tensor([[1.0, 5.0]], requires_grad=True)
    (g,) = z2g.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)  # 3 y² (2, 3) = (1734, 2601)
    g.sum().backward()  # ∂ 15 y² / ∂x = 30 y (2, 3)
    assert heard[0] == (True, [[[1734, 2601]]], [[[867]]]) and x.grad.tolist() == [[1020, 1530]]


@pytest.mark.parametrize("register", ["full_backward_hook", "full_backward_pre_hook"])
@pytest.mark.parametrize(
    "change", [lambda g: g[:1], lambda g: g.expand(3, 2, 2), lambda g: g.double(), lambda g: g.long(), lambda g: 3.0]
)
def test_a_backward_hook_returns_gradients_of_the_same_kind(register, change):
    """They are neither summed nor cast, as in torch."""
    x, module = z2g.ones(2, 2, requires_grad=True), nn.Identity()
    getattr(module, f"register_{register}")(lambda *given: (change(given[1][0]),))
    loss = (module(x * 1) * 2).sum()
    with pytest.raises(RuntimeError, match=r"backward (pre )?hook: returned .* expected a gradient of shape \(2, 2\)"):
        loss.backward()
    assert x.grad is None


def test_what_a_backward_hook_must_not_do():
    layer, _ = doubling()
    x = z2g.ones(1, 2, requires_grad=True)
    layer.register_full_backward_hook(lambda m, into, out: (into[0], into[0]))
    with pytest.raises(RuntimeError, match="invalid number of grad_input, got 2, but expected 1"):
        layer(x).sum().backward()
    inplace = nn.ReLU(inplace=True)
    inplace.register_full_backward_hook(lambda *_: None)
    with pytest.raises(RuntimeError, match="view"):
        inplace(x * 1)
    again = pickle.loads(pickle.dumps(nn.utils.weight_norm(nn.Linear(1, 1))))  # hooks are pickled with their module
    assert again._forward_pre_hooks and not again._backward_hooks


def test_repr():
    assert repr(nn.Linear(2, 3)) == "Linear(in_features=2, out_features=3, bias=True)"
    assert repr(nn.Sequential(nn.Linear(2, 3, bias=False), nn.Sequential(nn.ReLU()))) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=False)\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "  )\n"
        ")"
    )
    assert repr(nn.ModuleDict({"a": nn.Dropout(0.1)})) == "ModuleDict(\n  (a): Dropout(p=0.1, inplace=False)\n)"
    assert repr(nn.Embedding(3, 2)) == "Embedding(3, 2)"
    assert repr(nn.LayerNorm(3)) == "LayerNorm((3,), eps=1e-05, elementwise_affine=True)"


def test_forward_must_be_written():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty"):
        Empty()(1)


# --- Containers --------------------------------------------------------------------------------------------------


def test_sequential():
    layers = [nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)]
    module = nn.Sequential(*layers)
    x = z2g.randn(3, 1)
    assert module(x).tolist() == layers[2](layers[1](layers[0](x))).tolist()
    assert names(module) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert len(module) == 3
    assert list(module) == layers
    assert module[-1] is layers[2]
    assert isinstance(module[:2], nn.Sequential)
    assert list(module[1:]) == layers[1:]
    assert module.append(nn.Tanh()) is module
    assert isinstance(module[3], nn.Tanh)
    module[1] = nn.GELU()
    assert isinstance(module[1], nn.GELU)
    assert len(module.extend([nn.ReLU(), nn.ReLU()])) == 6
    assert nn.Sequential()(x) is x


def test_sequential_with_names():
    module = nn.Sequential({"fc": nn.Linear(1, 1), "act": nn.ReLU()})
    assert names(module) == ["fc.weight", "fc.bias"]
    assert isinstance(module[1], nn.ReLU)


def test_sequential_offers_its_named_parts_as_attributes():
    fc = nn.Linear(1, 1)
    assert nn.Sequential({"fc": fc}).fc is fc


def test_module_list():
    layers = [nn.Linear(1, 1), nn.Linear(1, 1)]
    module = nn.ModuleList(layer for layer in layers)  # any iterable
    assert list(module) == layers
    assert isinstance(module[:1], nn.ModuleList)
    assert module[:1][0] is layers[0]
    assert len(module.append(nn.ReLU())) == 3
    module[0] = nn.Identity()
    assert names(module) == ["1.weight", "1.bias"]
    with pytest.raises(IndexError):
        module[5]
    with pytest.raises(NotImplementedError, match="ModuleList"):
        module(1)


@pytest.mark.parametrize("container", [nn.ModuleList, lambda layers: nn.Sequential(*layers)])
def test_in_asks_for_the_module(container):
    layer = nn.Linear(1, 1)
    assert layer in container([layer])
    assert layer not in container([nn.Linear(1, 1)])
    assert "0" not in container([layer])


def test_module_dict():
    a, b = nn.Linear(1, 1), nn.ReLU()
    module = nn.ModuleDict({"a": a})
    module["b"] = b
    assert module["a"] is a
    assert module.b is b
    assert list(module) == list(module.keys()) == ["a", "b"]
    assert list(module.values()) == [a, b]
    assert list(module.items()) == [("a", a), ("b", b)]
    assert "a" in module
    assert "c" not in module
    assert names(module) == ["a.weight", "a.bias"]
    with pytest.raises(KeyError):
        module["c"]


@pytest.mark.parametrize(
    "make", [lambda x: nn.Sequential(x), lambda x: nn.ModuleList([x]), lambda x: nn.ModuleDict({"a": x})]
)
def test_containers_hold_modules_only(make):
    for wrong in (z2g.ones(1), len, None):
        with pytest.raises(TypeError, match="Module"):
            make(wrong)


def test_a_subclass_of_a_container_may_have_parts_of_its_own():
    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(1, 1))
            self.scale = nn.Parameter(z2g.ones(1))

        def forward(self, x):
            return super().forward(x) * self.scale

    assert sorted(names(Net())) == ["0.bias", "0.weight", "scale"]
    assert Net()(z2g.ones(1, 1)).shape == (1, 1)
