"""Random programs in torch's words, for `against_torch.py`: a line at a time, from templates with holes.

A `Writer` sees the variables of the library that counts as right, so that each line fits what is there: `{x}` is a
float tensor of the program, `{dim}` one of the dimensions of the x just chosen, and so on; each hole is the method of
`Writer` with that name. One line in ten is then spoiled (a number, a name or an argument changed), for what must be
refused.
"""

from __future__ import annotations

import ast
import itertools
import math
import random
import re
from collections.abc import Callable
from typing import Any

# What programs may use besides the library. `against_torch.py` puts the parts that are used above what it prints.
HELPERS = {
    "settled": """
def settled(module):
    with torch.no_grad():
        for p in module.parameters():
            p.copy_((torch.arange(p.numel(), dtype=p.dtype) * 0.375 % 1.25 - 0.5).reshape(p.shape))
    return module
""",
    "Net": """
class Net(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.fc = settled(nn.Linear(2, 2))
        self.rest = nn.ModuleList(layers)

    def forward(self, x):
        x = self.fc(x)
        for layer in self.rest:
            x = layer(x)
        return x
""",
    "Tower": """
class Tower(nn.Sequential):
    pass
""",
    "Cube": """
class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3 * x * x
""",
}

SHAPES = [(), (1,), (3,), (4,), (2, 2), (2, 3), (3, 2), (1, 3), (2, 1), (2, 3, 2), (2, 1, 3), (2, 2, 2), (0, 3), (4, 2, 3)]
UNARY = """neg reciprocal square sqrt rsqrt exp expm1 log log1p log2 sin cos tan asin acos atan sinh cosh tanh sigmoid relu
erf abs sign floor ceil round isnan isfinite logical_not""".split()
BINARY = "add sub mul div maximum minimum remainder floor_divide pow eq ne lt le gt ge logical_and logical_or".split()

# One row a family of lines: how often, and the lines. A name is written `{new}`, so the same line may come twice.
TENSORS: list[tuple[int, list[str]]] = [
    (6, ["{new} = torch.tensor({literal}, dtype=torch.{float}, requires_grad={bool})",
         "{new} = torch.zeros({sizes}, dtype=torch.{float})", "{new} = torch.arange({small}, dtype=torch.{float})",
         "{new} = torch.tensor({literal}).{cast}()", "{new} = {x}.to(torch.{float})", "{new} = torch.ones_like({x})"]),
    (16, ["{new} = {x}.view({size})", "{new} = {x}.reshape({size})", "{new} = {x}.transpose({dim}, {dim})", "{new} = {x}.T",
          "{new} = {x}.mT", "{new} = {x}.permute({order})", "{new} = {x}.unsqueeze({new_dim})", "{new} = {x}.squeeze()",
          "{new} = {x}.squeeze({dim})", "{new} = {x}.expand({wider})", "{new} = {x}.flatten()",
          "{new} = {x}.flatten({dim})", "{new} = {x}.select({dim}, {row})", "{new} = {x}.narrow({dim}, {row}, 1)",
          "{new} = {x}.diagonal()", "{new} = {x}.diagonal({offset}, {dim}, {dim})", "{new} = {x}.movedim({dim}, {dim})",
          "{new} = {x}.split({split}, {dim})[0]", "{new} = {x}.chunk(2, {dim})[-1]", "{new} = {x}.unbind({dim})[0]",
          "{new} = {x}.unflatten({dim}, ({size_of_dim}))", "{new} = {x}.detach()", "{new} = {x}.contiguous()",
          "{new} = {x}.view_as({x})", "{new} = {x}.swapaxes({dim}, {dim})", "{new} = {x}.t()",
          "{new} = {x}.expand_as({x})", "{new} = {x}.broadcast_to(({wider}))"]),
    (10, ["{new} = {x}[{index}]", "{new} = {x}[{index}][{index}]", "{new} = {x}[{x} > {number}]", "{new} = {x}[{mask}]",
          "{new} = {x}.index_select({dim}, torch.tensor([{row}, {row}]))", "{new} = {x}.gather({dim}, {ids})",
          "{new} = {x}.take_along_dim({ids}, {dim})", "{new} = {x}.masked_select({mask})",
          "{new} = {x}.repeat_interleave({small}, {dim})", "{new} = {x}.repeat_interleave({small})",
          "{new} = {x}.scatter({dim}, {ids}, {number})", "{new} = {x}.scatter_add({dim}, {ids}, {x})"]),
    (10, ["{x}[{index}] = {number}", "{x}[{index}] = {x}", "{x}[{index}] += {number}", "{x}[{index}] *= {x}",
          "{x}[{index}].mul_({number})", "{x}[{index}][{index}] = {number}", "{x}[{mask}] = {number}",
          "{x}[{x} > {number}] = {x}", "{x}.t()[{index}] = {number}", "{x}.view(-1)[{row}] = {number}",
          "{x}.reshape(-1)[0] = {number}", "{x}.flatten().zero_()", "{x}.diagonal().fill_({number})"]),
    (12, ["{x}.{in_place}_({other})", "{x} {sign}= {other}", "{x}.copy_({other_tensor})", "{x}.zero_()", "{x}.fill_({number})",
          "{x}.clamp_({bounds})", "{x}.masked_fill_({mask}, {number})", "{x}.add_({other}, alpha={number})",
          "{x}.scatter_({dim}, {ids}, {number})", "{x}.scatter_add_({dim}, {ids}, {x})",
          "with torch.no_grad(): {x} {sign}= {other}", "with torch.no_grad(): {x}.copy_({other_tensor})",
          "with torch.no_grad(): {x}[{index}] = {number}", "for part in {x}.unbind(0): part.{in_place}_({number})",
          "{x}.detach().{in_place}_({number})"]),
    (12, ["{new} = {x}.{unary}()", "{new} = torch.{unary}({x})", "{new} = {x}.clamp({bounds})", "{new} = Cube.apply({x})",
          "{new} = F.gelu({x})", "{new} = F.gelu({x}, approximate='tanh')", "{new} = F.silu({x})", "{new} = F.softplus({x})",
          "{new} = F.leaky_relu({x}, {number})", "{new} = -{x}", "{new} = abs({x})", "{new} = {x}.clone()"]),
    (14, ["{new} = {x} {operator} {other}", "{new} = {number} {operator} {x}", "{new} = torch.{binary}({x}, {other_tensor})",
          "{new} = {x}.{binary}({other})", "{new} = {x}.where({mask}, {other})", "{new} = {x}.masked_fill({mask}, {number})",
          "{new} = {x}.lerp({same}, {number})", "{new} = torch.lerp({x}, {same}, {same})", "{new} = {x} ** {small}",
          "{new} = {x} == {other}", "{new} = {x} > {other}", "{new} = {x} + {any}", "{new} = {x} * {any}"]),
    (12, ["{new} = {x}.{reduction}()", "{new} = {x}.{reduction}({dim})", "{new} = {x}.{reduction}({dim}, keepdim={bool})",
          "{new} = {x}.{sums}(({dims}))", "{new} = {x}.{extreme}({dim}).values", "{new} = {x}.{extreme}({dim})[1]",
          "{new} = {x}.{arg}({dim})", "{new} = {x}.{arg}()", "{new} = {x}.norm({p}, {dim})", "{new} = {x}.{running}({dim})",
          "{new} = {x}.logsumexp({dim})", "{new} = {x}.softmax({dim})", "{new} = {x}.log_softmax({dim})",
          "{new} = {x}.sort({dim}).values", "{new} = {x}.sort({dim}, descending=True)[0]", "{new} = {x}.argsort({dim})",
          "{new} = {x}.topk(1, {dim}).values", "{new} = {x}.count_nonzero({dim})", "{new} = {x}.std({dim}, correction=0)",
          "{new} = {x}.sum({dim}, dtype=torch.{float})", "{new} = {x}.sum().item()", "{new} = {x}.tolist()"]),
    (10, ["{new} = torch.cat([{x}, {same}], {dim})", "{new} = torch.cat(({x}, {x}, {x}), dim={dim})",
          "{new} = torch.stack([{x}, {same}], {new_dim})", "{new} = torch.hstack([{x}, {same}])", "{new} = {x}.tile({small}, 1)",
          "{new} = torch.vstack([{x}, {same}])", "{new} = {x}.repeat({repeats})", "{new} = {x}.roll({row}, {dim})",
          "{new} = {x}.roll(1)", "{new} = {x}.flip({dim})", "{new} = {x}.tril()", "{new} = {x}.triu({offset})",
          "{new} = {x}.diag()", "{new} = F.pad({x}, ({offset}, {small}))", "{new} = F.pad({x}, (1, 0, {offset}, 1), value={number})",
          "{new} = torch.cat([{x}.T, {same}.T])"]),
    (8, ["{new} = {x} @ {product}", "{new} = torch.matmul({x}, {product})", "{new} = {x}.mm({product})",
         "{new} = {x}.bmm({product})", "{new} = {x}.mv({last})", "{new} = torch.outer({last}, {last})",
         "{new} = torch.einsum('...i,...i->...', {x}, {same})", "{new} = torch.einsum('ij,kj->ik', {x}, {same})",
         "{new} = torch.tensordot({x}, {product}, 1)", "{new} = F.linear({x}, {like_last})", "{new} = torch.dot({last}, {last})",
         "{new} = F.linear({x}, {like_last}, {last})"]),
    (7, ["{new} = F.layer_norm({x}, {x}.shape[-1:])", "{new} = F.layer_norm({x}, {x}.shape[-1:], {last}, {last})",
         "{new} = F.rms_norm({x}, {x}.shape[-1:], {last})", "{new} = F.normalize({x}, dim={dim})",
         "{new} = F.cosine_similarity({x}, {other_tensor}, dim={dim})", "{new} = F.conv1d({x}, {filters})",
         "{new} = F.conv1d({x}, {filters}, padding={small}, stride={small})", "{new} = F.conv2d({x}, {filters2}, padding=1)",
         "{new} = F.max_pool1d({x}, 2, {small})", "{new} = F.avg_pool1d({x}, 2, padding={offset})",
         "{new} = F.max_pool2d({x}, 2, 1, padding={offset})", "{new} = F.embedding({any}, {x})", "{new} = F.dropout({x}, 0.0)"]),
    (6, ["{new} = F.scaled_dot_product_attention({x}, {same}, {same})", "{new} = F.scaled_dot_product_attention({x}, {x}, {same})",
         "{new} = F.scaled_dot_product_attention({x}, {x}, {x}, is_causal={bool}, scale={number})",
         "{new} = F.scaled_dot_product_attention({x}, {same}, {same}, attn_mask={mask})",
         "{new} = F.scaled_dot_product_attention({x}, {same}, {same}, attn_mask={other_tensor})"]),
    (8, ["{new} = F.{loss}({x}, {same}{reduction_arg})", "{new} = F.{loss}({x}, {x}{reduction_arg})",
         "{new} = F.cross_entropy({x}, {classes}{reduction_arg})", "{new} = F.cross_entropy({x}, {same}.softmax(1){reduction_arg})",
         "{new} = F.cross_entropy({x}, {classes}, label_smoothing=0.25{reduction_arg})",
         "{new} = F.cross_entropy({x}, {classes}, ignore_index={row}{reduction_arg})",
         "{new} = F.cross_entropy({x}, {classes}, weight={like_classes}{reduction_arg})",
         "{new} = F.nll_loss({x}, {classes}{reduction_arg})", "{new} = F.nll_loss({x}, {classes}, {like_classes})",
         "{new} = F.binary_cross_entropy({x}.sigmoid(), {same}.sigmoid(){reduction_arg})", "{new} = F.one_hot({any}, 3)",
         "{new} = F.binary_cross_entropy_with_logits({x}, {same}, pos_weight={last}{reduction_arg})"]),
    (10, ["{x}.square().sum().backward()", "{x}.sum().backward(retain_graph=True)", "{x}.backward({same})", "{x}.retain_grad()",
          "{new} = torch.autograd.grad({x}.square().sum(), {x}, allow_unused=True)[0]", "{x}.requires_grad_({bool})",
          "{x}.grad = None", "{x}.grad = {other_tensor}.detach()", "{x}.register_hook(lambda g: g * 2)", "{x}.grad.zero_()"]),
]  # fmt: skip

MODULES: list[tuple[int, list[str]]] = [
    (6, ["{new} = nn.Sequential({layers})", "{new} = nn.ModuleList([{layers}])", "{new} = Tower({layers})",
         "{new} = nn.ModuleDict({{{key}: {layer}, {key}: {layer}}})", "{new} = Net({layers})", "{new} = {layer}"]),
    (16, ["{m}.add_module({key}, {layer})", "setattr({m}, {key}, {layer})", "{m}.register_module({key}, {layer})",
          "{m}[{i}] = {layer}", "{m}.append({layer})", "{m}.insert({i}, {layer})", "{m}.extend([{layers}])", "{m}[{key}] = {layer}",
          "{m}.update({{{key}: {layer}}})", "setattr({m}, {key}, {m})", "setattr({m}, {key}, {m}[{i}])", "{m}.add_module({key}, {junk})"]),
    (8, ["delattr({m}, {key})", "del {m}[{i}]", "{m}.pop({i})", "{m}.pop({key})", "del {m}[{key}]", "{m}.clear()",
         "setattr({m}, {key}, None)", "setattr({m}, {key}, {junk})", "{m}.add_module({key}, None)", "del {m}[0:2]"]),
    (6, ["for n, child in list({m}.named_children()): setattr({m}, n, {layer})",
         "for n, child in list({m}.named_children())[:1]: delattr({m}, n)",
         "for n, child in list({m}.named_modules())[1:2]: {m}.add_module(n, {layer})",
         "for child in {m}.children(): child.requires_grad_(False)"]),
    (8, ["{m}.register_buffer({key}, {junk})", "{m}.register_buffer({key}, torch.ones(2), persistent={bool})",
         "{m}.register_parameter({key}, {junk})", "{m}.register_parameter({key}, nn.Parameter(torch.ones(2)))",
         "setattr({m}, {key}, nn.Parameter(torch.ones(2)))", "setattr({m}, {key}, torch.ones(2))", "{m}.weight = {m}.weight",
         "{m}.weight = nn.Parameter(torch.ones(2, 2))", "{m}.weight.requires_grad_({bool})"]),
    (12, ["{new} = {m}(torch.tensor([[1.0, -0.5], [0.25, 2.0]]))", "{new} = {m}(torch.tensor([[1.0, -0.5]], requires_grad=True))",
          "{m}(torch.tensor([[1.0, -0.5]])).square().sum().backward()",
          "{new} = torch.tensor([[1.0, 0.5]])\nfor layer in {m}: {new} = layer({new})",
          "{m}.register_forward_hook(lambda module, args, out: out * 2)",
          "{m}.register_forward_pre_hook(lambda module, args: (args[0] + 1,))"]),
    (8, ["{new} = {m}.state_dict()", "{m}.load_state_dict({state})", "{new} = {m}.load_state_dict({state}, strict=False)",
         "{m}.load_state_dict({m}.state_dict())", "{new} = copy.deepcopy({m})", "{state}.popitem()"]),
    (8, ["{m}.train({bool})", "{m}.eval()", "{m}.double()", "{m}.float()", "{m}.to(torch.float64)", "{m}.zero_grad()",
         "{m}.requires_grad_({bool})", "{m}.apply(lambda child: setattr(child, 'seen', True))"]),
    (12, ["{new} = len({m})", "{new} = {m}[{i}]", "{new} = {m}[{i}:]", "{new} = {m}[{key}]", "{new} = {key} in {m}",
          "{new} = {m}.get_submodule({key})", "{new} = {m}.get_parameter({key})", "{new} = list({m}.keys())", "{new} = bool({m})",
          "{new} = list({m}.parameters())", "{new} = [n for n, p in {m}.named_parameters()]", "{new} = hasattr({m}, {key})",
          "{new} = [n for n, p in {m}.named_modules()]", "{new} = [n for n, p in {m}.named_parameters(recurse=False)]",
          "{new} = len(list({m}))", "{new} = list({m}.modules())", "{new} = getattr({m}, {key})", "{new} = list({m}.items())"]),
    (6, ["{new} = nn.MultiheadAttention(2, {small}, batch_first={bool})\nsettled({new})",
         "{new} = {m}({three}, {three}, {three}, key_padding_mask={pads}, need_weights={bool})[0]",
         "{new} = {m}({three}, {three}, {three}, attn_mask={pads}, is_causal={bool})[0]",
         "{new} = settled(nn.LSTM(2, 2, {small}, batch_first={bool}))", "{new} = {m}({three})",
         "{new} = settled(nn.LSTMCell(2, 2))", "{new} = settled(nn.Conv1d(3, 2, {small}, padding={offset}))",
         "{new} = settled(nn.Embedding(4, 2, padding_idx={row}))", "{new} = {m}(torch.tensor([0, 3, 1]))"]),
]  # fmt: skip

TRAINING: list[tuple[int, list[str]]] = [
    (2, ["{new} = torch.tensor({literal}, requires_grad=True)"]),
    (6, ["{new} = torch.optim.SGD({params}, lr={rate}, momentum={beta}, nesterov={bool}, weight_decay={rate})",
         "{new} = torch.optim.SGD({params}, {rate}, {beta}, {beta})", "{new} = torch.optim.Adam({params}, lr={rate})",
         "{new} = torch.optim.Adam({params}, lr={rate}, betas=({beta}, {beta}), eps={rate}, weight_decay={rate})",
         "{new} = torch.optim.AdamW({params}, lr={rate}, weight_decay={rate})"]),
    (6, ["{new} = torch.optim.lr_scheduler.StepLR({opt}, {small}, {beta})", "{new} = torch.optim.lr_scheduler.StepLR({opt}, {small})",
         "{new} = torch.optim.lr_scheduler.CosineAnnealingLR({opt}, {small}, {rate})",
         "{new} = torch.optim.lr_scheduler.CosineAnnealingLR({opt}, 4)",
         "{new} = torch.optim.lr_scheduler.LambdaLR({opt}, lambda t: {beta} ** t)",
         "{new} = torch.optim.lr_scheduler.LambdaLR({opt}, [lambda t: 1 / (t + 1), lambda t: {beta} ** t])"]),
    (24, ["{opt}.zero_grad()\n{loss_of}.backward()\n{opt}.step()", "{opt}.zero_grad()\n{loss_of}.backward()\n{opt}.step()\n{sched}.step()",
          "{sched}.step()", "{opt}.step()", "{loss_of}.backward()"]),
    (12, ["{opt}.param_groups[0]['lr'] = {rate}", "{opt}.add_param_group({{'params': [{p}], 'lr': {rate}}})",
          "{opt}.add_param_group({{'params': {p}}})", "{p}.requires_grad_({bool})", "{p}.grad = {p}.detach() * {number}",
          "{p}.grad = torch.tensor({literal})", "{p}.grad = None", "{opt}.zero_grad(set_to_none={bool})",
          "{opt}.param_groups[-1]['weight_decay'] = {rate}", "{new} = nn.utils.clip_grad_norm_([{p}, {p}], {rate})",
          "nn.utils.clip_grad_value_([{p}], {rate})", "{new} = {sched}.get_last_lr()", "{new} = {sched}.last_epoch",
          "with torch.no_grad(): {p}.copy_({p} * {number})", "{sched}.base_lrs = [{rate}]", "{p}.data = {p}.data * 2"]),
    (10, ["{new} = {opt}.state_dict()", "{new} = {sched}.state_dict()", "{opt}.load_state_dict({state})",
          "{sched}.load_state_dict({state})", "{opt}.load_state_dict({opt}.state_dict())",
          "{sched}.load_state_dict({sched}.state_dict())", "{new} = copy.deepcopy({state})"]),
]  # fmt: skip


class Unfit(Exception):
    """A hole for which the program has nothing yet."""


class Writer:
    """Writes one program. `names` are the variables of the library that counts as right, as far as it has run."""

    def __init__(self, rng: random.Random, names: dict[str, Any]):
        self.rng, self.names = rng, names
        self.family = rng.choices([TENSORS, MODULES, TRAINING], [6, 3, 3])[0]
        self.types = rng.choice([["float64"], ["float64"], ["float32"], ["float32", "float64", "float16", "int64", "bool"]])
        self.counter = itertools.count()
        self.x_name = ""

    def start(self) -> list[str]:
        """The first lines: something to work with."""
        literal = "{new} = torch.tensor({literal}, dtype=torch.{float}, requires_grad=True)"
        first = {id(TENSORS): [literal] * 3, id(MODULES): MODULES[0][1][:1] + MODULES[0][1]}
        lines = first.get(id(self.family), ["{new} = torch.tensor({literal}, requires_grad=True)"] * 2)
        return [self.fill(line) for line in lines[:3]]

    def line(self) -> str:
        """The next line."""
        while True:
            _, lines = self.rng.choices(self.family, [weight for weight, _ in self.family])[0]
            try:
                line = self.fill(self.rng.choice(lines))
            except Unfit:
                continue
            return self.spoiled(line) if self.rng.random() < 0.1 else line

    def end(self) -> list[str]:
        """The last line: gradients through all that is left."""
        live = [n for n in self.tensors() if self.names[n].requires_grad and self.names[n].is_floating_point()]
        return [f"({' + '.join(f'{n}.square().sum()' for n in live)}).backward()"] if live else []

    def fill(self, template: str) -> str:
        def hole(match: re.Match) -> str:
            if match[0] in ("{{", "}}"):
                return match[0][0]
            found = str(getattr(self, match[1])())
            fresh.setdefault("new", found) if match[1] == "new" else None
            return fresh["new"] if match[1] == "new" else found

        fresh: dict[str, str] = {}
        return re.sub(r"\{\{|\}\}|\{(\w+)\}", hole, template)

    def spoiled(self, line: str) -> str:
        """The line with one number, name or argument changed."""
        tree = ast.parse(line)
        spots = [n for n in ast.walk(tree) if isinstance(n, (ast.Constant, ast.Call)) or isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
        spots = [n for n in spots if not isinstance(n, ast.Name) or n.id in self.names and n.id[0] == "v"]
        spots = [n for n in spots if not isinstance(n, ast.Call) or n.args or n.keywords]
        if not spots:
            return line
        spot = self.rng.choice(spots)
        if isinstance(spot, ast.Call):
            where = self.rng.choice([part for part in (spot.args, spot.keywords) if part])
            where.pop(self.rng.randrange(len(where)))
        elif isinstance(spot, ast.Name):
            spot.id = self.rng.choice([n for n in self.names if n[0] == "v"] + ["(None)", "(2)", "(True)"])
        elif not isinstance(spot.value, str):
            spot.value = self.rng.choice([-3, -2, -1, 0, 1, 2, 3, 5, 1.5, True, None])
        return ast.unparse(tree)

    # --- What there is ---------------------------------------------------------------------------------------------

    def some(self, wanted: Callable[[Any], bool]) -> str:
        """The name of a variable, one of the last more often."""
        fit = [n for n, value in self.names.items() if n[0] == "v" and n[1:].isdigit() and wanted(value)]
        if not fit:
            raise Unfit
        return fit[-1 - int(len(fit) * self.rng.random() ** 2)]

    def tensors(self) -> list[str]:
        return [n for n, value in self.names.items() if n[0] == "v" and self.is_tensor(value)]

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, self.names["torch"].Tensor)

    def x(self) -> str:
        self.x_name = self.some(lambda v: self.is_tensor(v) and v.dtype not in (self.names["torch"].bool,))
        return self.x_name

    @property
    def chosen(self) -> Any:
        if self.x_name not in self.names:  # a line that was dropped made it, or nothing was chosen yet
            raise Unfit
        return self.names[self.x_name]

    def shape(self) -> tuple[int, ...]:
        return tuple(self.chosen.shape)

    def fitting(self, wanted: Callable[[tuple], bool], otherwise: tuple | None = None) -> str:
        """A tensor whose shape is wanted, of x's type; or else a literal of the shape `otherwise`."""
        dtype = self.chosen.dtype
        try:
            return self.some(lambda v: self.is_tensor(v) and v.dtype == dtype and wanted(tuple(v.shape)))
        except Unfit:
            if otherwise is None:
                raise
            return f"torch.tensor({self.literal(otherwise)}, dtype=torch.{str(dtype).removeprefix('torch.')})"

    def any(self) -> str:
        return self.some(self.is_tensor)

    def same(self) -> str:
        return self.fitting(lambda s: s == self.shape(), self.shape())

    def other_tensor(self) -> str:
        def fits(s: tuple) -> bool:
            return all(a == b or a == 1 for a, b in zip(s[::-1], self.shape()[::-1], strict=False)) and len(s) <= len(self.shape())

        return self.fitting(fits, self.shape()[1:])

    def other(self) -> str:
        return self.number() if self.rng.random() < 0.3 else self.other_tensor()

    def last(self) -> str:
        return self.fitting(lambda s: s == self.shape()[-1:], self.shape()[-1:])

    def like_last(self) -> str:
        n = (*self.shape(), 1)[len(self.shape()) - 1]
        return self.fitting(lambda s: len(s) == 2 and s[1] == n, (n, n))

    def product(self) -> str:
        inner = self.shape()[-1:]
        return self.fitting(lambda s: s[-2:-1] == inner or s == inner, (*self.shape()[:-2], *inner, 2) if inner else (2,))

    def like_classes(self) -> str:
        return self.fitting(lambda s: s == self.shape()[1:2], self.shape()[1:2])

    def filters(self) -> str:
        channels = (*self.shape(), 1, 1)[len(self.shape()) - 2] if len(self.shape()) > 1 else 1
        return self.fitting(lambda s: len(s) == 3 and s[1] == channels, (2, channels, self.rng.choice([1, 2])))

    def filters2(self) -> str:
        channels = self.shape()[-3] if len(self.shape()) > 2 else 1
        return self.fitting(lambda s: len(s) == 4 and s[1] == channels, (1, channels, 2, 2))

    # --- Numbers, shapes and dimensions ----------------------------------------------------------------------------

    def new(self) -> str:
        taken = [n for n in self.names if re.fullmatch(r"v\d+", n)]
        return self.rng.choice(taken) if len(taken) > 6 and self.rng.random() < 0.5 else f"v{next(self.counter)}"

    def pick(self, text: str) -> str:
        return self.rng.choice(text.split())

    def literal(self, shape: tuple[int, ...] | None = None) -> str:
        """Nested lists of eighths, all different, so that simple arithmetic is exact and nothing ties."""
        shape = self.rng.choice(SHAPES) if shape is None else shape
        numbers = self.rng.sample(range(-24, 40), math.prod(shape)) if math.prod(shape) <= 64 else [0] * math.prod(shape)
        items: list[Any] = [n / 8 for n in numbers]
        if 0 in shape and len(shape) > 1:
            return str([[] for _ in range(shape[0])])
        for size in shape[:0:-1]:
            items = [items[i : i + size] for i in range(0, len(items), size)]
        return str(items if shape else items[0])

    def float(self) -> str:
        return self.rng.choice(self.types)

    def cast(self) -> str:
        return self.pick("long int bool half double float")

    def number(self) -> str:
        return self.pick("0.5 -0.5 2.0 1.5 -1.0 2 3 0.25 0")

    def rate(self) -> str:
        return self.pick("0.1 0.5 0.01 0.0 1.0")

    def beta(self) -> str:
        return self.pick("0.9 0.5 0.0 0.99")

    def small(self) -> str:
        return self.pick("1 2 2 3")

    def offset(self) -> str:
        return self.pick("0 1 -1")

    def bool(self) -> str:
        return self.pick("True False")

    def p(self) -> str:
        if self.family is TRAINING:
            return self.some(lambda v: self.is_tensor(v) and v.is_leaf)
        return self.pick("1 2 'inf'").replace("'inf'", "float('inf')")

    def unary(self) -> str:
        return self.rng.choice(UNARY)

    def binary(self) -> str:
        return self.rng.choice(BINARY)

    def operator(self) -> str:
        return self.pick("+ - * / + - * / ** % //")

    def sign(self) -> str:
        return self.pick("+ - * / **")

    def in_place(self) -> str:
        return self.pick("add sub mul div")

    def reduction(self) -> str:
        return self.pick("sum mean prod var std amax amin all any")

    def sums(self) -> str:
        return self.pick("sum mean amax amin var std logsumexp")

    def extreme(self) -> str:
        return "max" if self.distinct() and self.rng.random() < 0.5 else "min"

    def arg(self) -> str:
        return "arg" + self.extreme()

    def running(self) -> str:
        return self.pick("cumsum cumprod")

    def distinct(self) -> bool:
        """Whether no two numbers of x are equal: of equal ones torch may name any. Else the line is not written."""
        numbers = self.chosen.detach().flatten().tolist()
        if len(set(numbers)) < len(numbers):
            raise Unfit
        return True

    def dim(self) -> int:
        n = max(1, len(self.shape()))
        return self.rng.randrange(-n, n)

    def dims(self) -> str:
        order = self.rng.sample(range(len(self.shape())), self.rng.randint(0, len(self.shape())))
        return "".join(f"{d}, " for d in order)

    def new_dim(self) -> int:
        return self.rng.randint(-len(self.shape()) - 1, len(self.shape()))

    def order(self) -> str:
        return ", ".join(map(str, self.rng.sample(range(len(self.shape())), len(self.shape()))))

    def row(self) -> int:
        return self.rng.choice([0, 0, 1, -1])

    def split(self) -> str:
        return self.pick("1 2 [1,1] [1,2]")

    def sizes(self) -> str:
        return str(self.rng.choice(SHAPES))

    def size(self) -> str:
        return self.factors(math.prod(self.shape()))

    def size_of_dim(self) -> str:
        return self.factors(self.rng.choice(self.shape() or (1,)))

    def factors(self, n: int) -> str:
        """Sizes whose product is n, one of them perhaps -1."""
        sizes, rest = [], n
        while rest > 1 and len(sizes) < 3:
            sizes.append(self.rng.choice([d for d in range(1, rest + 1) if rest % d == 0]))
            rest //= sizes[-1]
        sizes.append(rest)
        if self.rng.random() < 0.4:
            sizes[self.rng.randrange(len(sizes))] = -1
        return ", ".join(map(str, sizes)) + ("," if len(sizes) == 1 else "")

    def wider(self) -> str:
        front = self.rng.choice([(), (), (2,)]) if self.shape() else (2,)
        return ", ".join(str(2 if n == 1 else self.rng.choice([n, -1])) for n in (*front, *self.shape())) + ","

    def repeats(self) -> str:
        return ", ".join(self.small() for _ in self.shape() or (1,))

    def bounds(self) -> str:
        return self.pick("-0.5,1.0 min=0.25 max=0.5 0,1 None,1.5 2.0,1.0")

    def index(self) -> str:
        """An index for x: numbers, slices, None, ..., lists, masks."""
        parts = []
        for size in self.shape()[: self.rng.randint(0, len(self.shape()))]:
            k = self.rng.randrange(-size, size) if size else 0
            parts.append(self.rng.choice([k, k, ":", "1:", ":-1", "::2", "None", [k, 0][: size + 1], f"torch.tensor([{k}, {k}])"]))
        if self.rng.random() < 0.2 or not parts:
            parts.insert(self.rng.randint(0, len(parts)), "...")
        return ", ".join(map(str, parts))

    def mask(self) -> str:
        return self.rng.choice([f"{self.x_name} > {self.number()}", f"({self.x_name} < 1)"])

    def ids(self) -> str:
        """Ids for gather and its kin: of x's shape, all within the smallest dimension."""
        low = min(self.shape(), default=1) or 1
        return f"torch.tensor({self.integers(self.shape(), low)}, dtype=torch.int64).reshape({self.shape()})"

    def classes(self) -> str:
        if len(self.shape()) < 1:
            raise Unfit
        count = self.shape()[1] if len(self.shape()) > 1 else self.shape()[0]
        return f"torch.tensor({self.integers(self.shape()[:1] if len(self.shape()) > 1 else (), count)}, dtype=torch.int64)"

    def integers(self, shape: tuple[int, ...], below: int) -> str:
        numbers = [self.rng.randrange(max(1, below)) for _ in range(math.prod(shape))]
        return str(numbers if shape else numbers[0])

    def loss(self) -> str:
        return self.pick("mse_loss l1_loss")

    def reduction_arg(self) -> str:
        return self.rng.choice(["", "", ", reduction='sum'", ", reduction='none'"])

    # --- Modules, optimizers, schedulers -----------------------------------------------------------------------------

    def m(self) -> str:
        return self.some(lambda v: isinstance(v, self.names["nn"].Module))

    def layer(self) -> str:
        return self.rng.choice(["settled(nn.Linear(2, 2))"] * 3 + ["nn.ReLU()", "nn.Tanh()", "nn.LayerNorm(2)", "nn.Identity()",
                                "nn.Sequential(nn.GELU(), nn.Softmax(-1))", "settled(nn.Linear(2, 2, bias=False))"])  # fmt: skip

    def layers(self) -> str:
        return ", ".join(self.layer() for _ in range(self.rng.randint(0, 3)))

    def key(self) -> str:
        names = ["a", "b", "fc", "0", "1", "2", "weight", "rest", "rest.0", "a.b", "", "training", "forward"]
        return repr(self.rng.choices(names, [4, 3, 3, 4, 3, 1, 1, 1, 0.5, 0.5, 0.3, 0.3, 0.3])[0])

    def junk(self) -> str:
        return self.rng.choice(["3", "None", "torch.ones(2)", "nn.Parameter(torch.ones(2))", "'text'", "nn.ReLU()"])

    def i(self) -> int:
        return self.rng.choice([0, 0, 1, -1, 2])

    def state(self) -> str:
        return self.some(lambda v: isinstance(v, dict))

    def three(self) -> str:
        return f"torch.tensor({self.literal((3, 2, 2))})"

    def pads(self) -> str:
        shape = self.rng.choice([(2, 3), (3, 2), (3, 3), (2, 2), (2,), (4, 3, 3)])
        return f"torch.tensor({self.literal(shape)}){self.rng.choice(['', ' > 1', ' > 3'])}"

    def opt(self) -> str:
        return self.some(lambda v: hasattr(v, "param_groups"))

    def sched(self) -> str:
        return self.some(lambda v: hasattr(v, "get_last_lr"))

    def params(self) -> str:
        a, b = self.p(), self.p()
        return self.rng.choice([f"[{a}]", f"[{a}, {b}]", f"[{{'params': [{a}]}}, {{'params': [{b}], 'lr': {self.rate()}}}]"])

    def loss_of(self) -> str:
        return f"({self.p()}.square().sum() + ({self.p()} * {self.number()}).sum())"

