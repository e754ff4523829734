"""The words that the random programs of `against_torch.py` are made of: helpers, and templates of lines with holes."""

from __future__ import annotations

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

SHAPES = [(), (1,), (3,), (4,), (2, 2), (2, 3), (3, 2), (1, 3), (2, 1), (0, 3), (2, 3, 2), (2, 1, 3), (2, 2, 2), (4, 2)]

# Holes that are one word of these.
CHOICES = {
    "unary": "neg reciprocal square sqrt rsqrt exp expm1 log log1p log2 sin cos tan asin acos atan sinh cosh tanh "
    "sigmoid relu erf abs sign floor ceil round isnan isfinite logical_not",
    "binary": "add sub mul div maximum minimum remainder floor_divide pow eq ne lt le gt ge logical_and logical_or",
    "cast": "long int bool half double float",
    "number": "0.5 -0.5 2.0 1.5 -1.0 2 3 0.25 0",
    "rate": "0.1 0.5 0.01 0.0 1.0",
    "beta": "0.9 0.5 0.0 0.99",
    "small": "1 2 2 3",
    "offset": "0 1 -1",
    "bool": "True False",
    "operator": "+ - * / + - * / ** % //",
    "sign": "+ - * / **",
    "in_place": "add sub mul div",
    "reduction": "sum mean prod var std amax amin all any",
    "sums": "sum mean amax amin var std logsumexp",
    "running": "cumsum cumprod",
    "split": "1 2 [1,1] [1,2]",
    "bounds": "-0.5,1.0 min=0.25 max=0.5 0,1 None,1.5 2.0,1.0",
    "loss": "mse_loss l1_loss",
}

LAYERS = [
    "settled(nn.Linear(2, 2))", "settled(nn.Linear(2, 2))", "settled(nn.Linear(2, 2, bias=False))", "nn.ReLU()",
    "nn.Tanh()", "nn.LayerNorm(2)", "nn.Identity()", "nn.Sequential(nn.GELU(), nn.Softmax(-1))",
]  # fmt: skip

# One row a family of lines: how often, and the lines. A name is written `{new}`, so the same line may come twice.
TENSORS: list[tuple[int, list[str]]] = [
    (6, ["{new} = torch.tensor({literal}, dtype=torch.{float}, requires_grad={bool})",
         "{new} = torch.zeros({sizes}, dtype=torch.{float})", "{new} = torch.arange({small}, dtype=torch.{float})",
         "{new} = torch.tensor({literal}).{cast}()", "{new} = {x}.to(torch.{float})", "{new} = torch.ones_like({x})"]),
    (16, ["{new} = {x}.view({size})", "{new} = {x}.reshape({size})", "{new} = {x}.transpose({dim}, {dim})",
          "{new} = {x}.T", "{new} = {x}.mT", "{new} = {x}.permute({order})", "{new} = {x}.unsqueeze({new_dim})",
          "{new} = {x}.squeeze()", "{new} = {x}.squeeze({dim})", "{new} = {x}.expand({wider})",
          "{new} = {x}.flatten()", "{new} = {x}.flatten({dim})", "{new} = {x}.select({dim}, {row})",
          "{new} = {x}.narrow({dim}, {row}, 1)", "{new} = {x}.diagonal()",
          "{new} = {x}.diagonal({offset}, {dim}, {dim})", "{new} = {x}.movedim({dim}, {dim})",
          "{new} = {x}.split({split}, {dim})[0]", "{new} = {x}.chunk(2, {dim})[-1]", "{new} = {x}.unbind({dim})[0]",
          "{new} = {x}.unflatten({dim}, ({size_of_dim}))", "{new} = {x}.detach()", "{new} = {x}.contiguous()",
          "{new} = {x}.view_as({x})", "{new} = {x}.swapaxes({dim}, {dim})", "{new} = {x}.t()",
          "{new} = {x}.expand_as({x})", "{new} = {x}.broadcast_to(({wider}))"]),
    (10, ["{new} = {x}[{index}]", "{new} = {x}[{index}][{index}]", "{new} = {x}[{x} > {number}]",
          "{new} = {x}[{mask}]", "{new} = {x}.index_select({dim}, torch.tensor([{row}, {row}]))",
          "{new} = {x}.gather({dim}, {ids})", "{new} = {x}.take_along_dim({ids}, {dim})",
          "{new} = {x}.masked_select({mask})", "{new} = {x}.repeat_interleave({small}, {dim})",
          "{new} = {x}.repeat_interleave({small})", "{new} = {x}.scatter({dim}, {ids}, {number})",
          "{new} = {x}.scatter_add({dim}, {ids}, {x})"]),
    (10, ["{x}[{index}] = {number}", "{x}[{index}] = {x}", "{x}[{index}] += {number}", "{x}[{index}] *= {x}",
          "{x}[{index}].mul_({number})", "{x}[{index}][{index}] = {number}", "{x}[{mask}] = {number}",
          "{x}[{x} > {number}] = {x}", "{x}.t()[{index}] = {number}", "{x}.view(-1)[{row}] = {number}",
          "{x}.reshape(-1)[0] = {number}", "{x}.flatten().zero_()", "{x}.diagonal().fill_({number})"]),
    (12, ["{x}.{in_place}_({other})", "{x} {sign}= {other}", "{x}.copy_({other_tensor})", "{x}.zero_()",
          "{x}.fill_({number})", "{x}.clamp_({bounds})", "{x}.masked_fill_({mask}, {number})",
          "{x}.add_({other}, alpha={number})", "{x}.scatter_({dim}, {ids}, {number})",
          "{x}.scatter_add_({dim}, {ids}, {x})", "with torch.no_grad(): {x} {sign}= {other}",
          "with torch.no_grad(): {x}.copy_({other_tensor})", "with torch.no_grad(): {x}[{index}] = {number}",
          "for part in {x}.unbind(0): part.{in_place}_({number})", "{x}.detach().{in_place}_({number})"]),
    (12, ["{new} = {x}.{unary}()", "{new} = torch.{unary}({x})", "{new} = {x}.clamp({bounds})",
          "{new} = Cube.apply({x})", "{new} = F.gelu({x})", "{new} = F.gelu({x}, approximate='tanh')",
          "{new} = F.silu({x})", "{new} = F.softplus({x})", "{new} = F.leaky_relu({x}, {number})", "{new} = -{x}",
          "{new} = abs({x})", "{new} = {x}.clone()"]),
    (14, ["{new} = {x} {operator} {other}", "{new} = {number} {operator} {x}",
          "{new} = torch.{binary}({x}, {other_tensor})", "{new} = {x}.{binary}({other})",
          "{new} = {x}.where({mask}, {other})", "{new} = {x}.masked_fill({mask}, {number})",
          "{new} = {x}.lerp({same}, {number})", "{new} = torch.lerp({x}, {same}, {same})", "{new} = {x} ** {small}",
          "{new} = {x} == {other}", "{new} = {x} > {other}", "{new} = {x} + {any}", "{new} = {x} * {any}"]),
    (12, ["{new} = {x}.{reduction}()", "{new} = {x}.{reduction}({dim})",
          "{new} = {x}.{reduction}({dim}, keepdim={bool})", "{new} = {x}.{sums}(({dims}))",
          "{new} = {x}.{extreme}({dim}).values", "{new} = {x}.{extreme}({dim})[1]", "{new} = {x}.{arg}({dim})",
          "{new} = {x}.{arg}()", "{new} = {x}.norm({p}, {dim})", "{new} = {x}.{running}({dim})",
          "{new} = {x}.logsumexp({dim})", "{new} = {x}.softmax({dim})", "{new} = {x}.log_softmax({dim})",
          "{new} = {x}.sort({dim}).values", "{new} = {x}.sort({dim}, descending=True)[0]",
          "{new} = {x}.argsort({dim})", "{new} = {x}.topk(1, {dim}).values", "{new} = {x}.count_nonzero({dim})",
          "{new} = {x}.std({dim}, correction=0)", "{new} = {x}.sum({dim}, dtype=torch.{float})",
          "{new} = {x}.sum().item()", "{new} = {x}.tolist()"]),
    (10, ["{new} = torch.cat([{x}, {same}], {dim})", "{new} = torch.cat(({x}, {x}, {x}), dim={dim})",
          "{new} = torch.stack([{x}, {same}], {new_dim})", "{new} = torch.hstack([{x}, {same}])",
          "{new} = {x}.tile({small}, 1)", "{new} = torch.vstack([{x}, {same}])", "{new} = {x}.repeat({repeats})",
          "{new} = {x}.roll({row}, {dim})", "{new} = {x}.roll(1)", "{new} = {x}.flip({dim})", "{new} = {x}.tril()",
          "{new} = {x}.triu({offset})", "{new} = {x}.diag()", "{new} = F.pad({x}, ({offset}, {small}))",
          "{new} = F.pad({x}, (1, 0, {offset}, 1), value={number})", "{new} = torch.cat([{x}.T, {same}.T])"]),
    (8, ["{new} = {x} @ {product}", "{new} = torch.matmul({x}, {product})", "{new} = {x}.mm({product})",
         "{new} = {x}.bmm({product})", "{new} = {x}.mv({last})", "{new} = torch.outer({last}, {last})",
         "{new} = torch.einsum('...i,...i->...', {x}, {same})", "{new} = torch.einsum('ij,kj->ik', {x}, {same})",
         "{new} = torch.tensordot({x}, {product}, 1)", "{new} = F.linear({x}, {like_last})",
         "{new} = torch.dot({last}, {last})", "{new} = F.linear({x}, {like_last}, {last})"]),
    (7, ["{new} = F.layer_norm({x}, {x}.shape[-1:])", "{new} = F.layer_norm({x}, {x}.shape[-1:], {last}, {last})",
         "{new} = F.rms_norm({x}, {x}.shape[-1:], {last})", "{new} = F.normalize({x}, dim={dim})",
         "{new} = F.cosine_similarity({x}, {other_tensor}, dim={dim})", "{new} = F.conv1d({x}, {filters})",
         "{new} = F.conv1d({x}, {filters}, padding={small}, stride={small})",
         "{new} = F.conv2d({x}, {filters2}, padding=1)", "{new} = F.max_pool1d({x}, 2, {small})",
         "{new} = F.avg_pool1d({x}, 2, padding={offset})", "{new} = F.max_pool2d({x}, 2, 1, padding={offset})",
         "{new} = F.embedding({any}, {x})", "{new} = F.dropout({x}, 0.0)"]),
    (6, ["{new} = F.scaled_dot_product_attention({x}, {same}, {same})",
         "{new} = F.scaled_dot_product_attention({x}, {x}, {same})",
         "{new} = F.scaled_dot_product_attention({x}, {x}, {x}, is_causal={bool}, scale={number})",
         "{new} = F.scaled_dot_product_attention({x}, {same}, {same}, attn_mask={mask})",
         "{new} = F.scaled_dot_product_attention({x}, {same}, {same}, attn_mask={other_tensor})"]),
    (8, ["{new} = F.{loss}({x}, {same}{reduction_arg})", "{new} = F.{loss}({x}, {x}{reduction_arg})",
         "{new} = F.cross_entropy({x}, {classes}{reduction_arg})",
         "{new} = F.cross_entropy({x}, {same}.softmax(1){reduction_arg})",
         "{new} = F.cross_entropy({x}, {classes}, label_smoothing=0.25{reduction_arg})",
         "{new} = F.cross_entropy({x}, {classes}, ignore_index={row}{reduction_arg})",
         "{new} = F.cross_entropy({x}, {classes}, weight={like_classes}{reduction_arg})",
         "{new} = F.nll_loss({x}, {classes}{reduction_arg})", "{new} = F.nll_loss({x}, {classes}, {like_classes})",
         "{new} = F.binary_cross_entropy({x}.sigmoid(), {same}.sigmoid(){reduction_arg})",
         "{new} = F.one_hot({any}, 3)",
         "{new} = F.binary_cross_entropy_with_logits({x}, {same}, pos_weight={last}{reduction_arg})"]),
    (10, ["{x}.square().sum().backward()", "{x}.sum().backward(retain_graph=True)", "{x}.backward({same})",
          "{x}.retain_grad()", "{new} = torch.autograd.grad({x}.square().sum(), {x}, allow_unused=True)[0]",
          "{x}.requires_grad_({bool})", "{x}.grad = None", "{x}.grad = {other_tensor}.detach()",
          "{x}.register_hook(lambda g: g * 2)", "{x}.grad.zero_()"]),
]  # fmt: skip

MODULES: list[tuple[int, list[str]]] = [
    (6, ["{new} = nn.Sequential({layers})", "{new} = nn.ModuleList([{layers}])", "{new} = Tower({layers})",
         "{new} = nn.ModuleDict({{{key}: {layer}, {key}: {layer}}})", "{new} = Net({layers})", "{new} = {layer}"]),
    (16, ["{m}.add_module({key}, {layer})", "setattr({m}, {key}, {layer})", "{m}.register_module({key}, {layer})",
          "{m}[{i}] = {layer}", "{m}.append({layer})", "{m}.insert({i}, {layer})", "{m}.extend([{layers}])",
          "{m}[{key}] = {layer}", "{m}.update({{{key}: {layer}}})", "setattr({m}, {key}, {m})",
          "setattr({m}, {key}, {m}[{i}])", "{m}.add_module({key}, {junk})"]),
    (8, ["delattr({m}, {key})", "del {m}[{i}]", "{m}.pop({i})", "{m}.pop({key})", "del {m}[{key}]", "{m}.clear()",
         "setattr({m}, {key}, None)", "setattr({m}, {key}, {junk})", "{m}.add_module({key}, None)", "del {m}[0:2]"]),
    (6, ["for n, child in list({m}.named_children()): setattr({m}, n, {layer})",
         "for n, child in list({m}.named_children())[:1]: delattr({m}, n)",
         "for n, child in list({m}.named_modules())[1:2]: {m}.add_module(n, {layer})",
         "for child in {m}.children(): child.requires_grad_(False)"]),
    (8, ["{m}.register_buffer({key}, {junk})", "{m}.register_buffer({key}, torch.ones(2), persistent={bool})",
         "{m}.register_parameter({key}, {junk})", "{m}.register_parameter({key}, nn.Parameter(torch.ones(2)))",
         "setattr({m}, {key}, nn.Parameter(torch.ones(2)))", "setattr({m}, {key}, torch.ones(2))",
         "{m}.weight = {m}.weight", "{m}.weight = nn.Parameter(torch.ones(2, 2))",
         "{m}.weight.requires_grad_({bool})"]),
    (12, ["{new} = {m}(torch.tensor([[1.0, -0.5], [0.25, 2.0]]))",
          "{new} = {m}(torch.tensor([[1.0, -0.5]], requires_grad=True))",
          "{m}(torch.tensor([[1.0, -0.5]])).square().sum().backward()",
          "{new} = torch.tensor([[1.0, 0.5]])\nfor layer in {m}: {new} = layer({new})",
          "{m}.register_forward_hook(lambda module, args, out: out * 2)",
          "{m}.register_forward_pre_hook(lambda module, args: (args[0] + 1,))"]),
    (8, ["{new} = {m}.state_dict()", "{m}.load_state_dict({state})",
         "{new} = {m}.load_state_dict({state}, strict=False)", "{m}.load_state_dict({m}.state_dict())",
         "{new} = copy.deepcopy({m})", "{state}.popitem()"]),
    (8, ["{m}.train({bool})", "{m}.eval()", "{m}.double()", "{m}.float()", "{m}.to(torch.float64)", "{m}.zero_grad()",
         "{m}.requires_grad_({bool})", "{m}.apply(lambda child: setattr(child, 'seen', True))"]),
    (12, ["{new} = len({m})", "{new} = {m}[{i}]", "{new} = {m}[{i}:]", "{new} = {m}[{key}]", "{new} = {key} in {m}",
          "{new} = {m}.get_submodule({key})", "{new} = {m}.get_parameter({key})", "{new} = list({m}.keys())",
          "{new} = bool({m})", "{new} = list({m}.parameters())", "{new} = [n for n, p in {m}.named_parameters()]",
          "{new} = hasattr({m}, {key})", "{new} = [n for n, p in {m}.named_modules()]",
          "{new} = [n for n, p in {m}.named_parameters(recurse=False)]", "{new} = len(list({m}))",
          "{new} = list({m}.modules())", "{new} = getattr({m}, {key})", "{new} = list({m}.items())"]),
    (6, ["{new} = nn.MultiheadAttention(2, {small}, batch_first={bool})\nsettled({new})",
         "{new} = {m}({three}, {three}, {three}, key_padding_mask={pads}, need_weights={bool})[0]",
         "{new} = {m}({three}, {three}, {three}, attn_mask={pads}, is_causal={bool})[0]",
         "{new} = settled(nn.LSTM(2, 2, {small}, batch_first={bool}))", "{new} = {m}({three})",
         "{new} = settled(nn.GRU(2, 2, {small}, batch_first={bool}, bidirectional={bool}))",
         "{new} = settled(nn.RNN(2, 2, nonlinearity='relu', bias={bool}))", "{new} = settled(nn.GRUCell(2, 2))",
         "{new} = settled(nn.TransformerEncoderLayer(2, 1, 3, 0.0, norm_first={bool}, batch_first={bool}))",
         "{new} = settled(nn.LSTMCell(2, 2))", "{new} = settled(nn.Conv1d(3, 2, {small}, padding={offset}))",
         "{new} = settled(nn.Embedding(4, 2, padding_idx={row}))", "{new} = {m}(torch.tensor([0, 3, 1]))"]),
]  # fmt: skip

TRAINING: list[tuple[int, list[str]]] = [
    (2, ["{new} = torch.tensor({literal}, requires_grad=True)"]),
    (6, ["{new} = torch.optim.SGD({params}, lr={rate}, momentum={beta}, nesterov={bool}, weight_decay={rate})",
         "{new} = torch.optim.SGD({params}, {rate}, {beta}, {beta})", "{new} = torch.optim.Adam({params}, lr={rate})",
         "{new} = torch.optim.Adam({params}, lr={rate}, betas=({beta}, {beta}), eps={rate}, weight_decay={rate})",
         "{new} = torch.optim.AdamW({params}, lr={rate}, weight_decay={rate})"]),
    (6, ["{new} = torch.optim.lr_scheduler.StepLR({opt}, {small}, {beta})",
         "{new} = torch.optim.lr_scheduler.StepLR({opt}, {small})",
         "{new} = torch.optim.lr_scheduler.CosineAnnealingLR({opt}, {small}, {rate})",
         "{new} = torch.optim.lr_scheduler.CosineAnnealingLR({opt}, 4)",
         "{new} = torch.optim.lr_scheduler.LambdaLR({opt}, lambda t: {beta} ** t)",
         "{new} = torch.optim.lr_scheduler.LambdaLR({opt}, [lambda t: 1 / (t + 1), lambda t: {beta} ** t])"]),
    (24, ["{opt}.zero_grad()\n{loss_of}.backward()\n{opt}.step()",
          "{opt}.zero_grad()\n{loss_of}.backward()\n{opt}.step()\n{sched}.step()", "{sched}.step()", "{opt}.step()",
          "{loss_of}.backward()"]),
    (12, ["{opt}.param_groups[0]['lr'] = {rate}", "{opt}.add_param_group({{'params': [{p}], 'lr': {rate}}})",
          "{opt}.add_param_group({{'params': {p}}})", "{p}.requires_grad_({bool})",
          "{p}.grad = {p}.detach() * {number}", "{p}.grad = torch.tensor({literal})", "{p}.grad = None",
          "{opt}.zero_grad(set_to_none={bool})", "{opt}.param_groups[-1]['weight_decay'] = {rate}",
          "{new} = nn.utils.clip_grad_norm_([{p}, {p}], {rate})", "nn.utils.clip_grad_value_([{p}], {rate})",
          "{new} = {sched}.get_last_lr()", "{new} = {sched}.last_epoch",
          "with torch.no_grad(): {p}.copy_({p} * {number})", "{sched}.base_lrs = [{rate}]",
          "{p}.data = {p}.data * 2"]),
    (10, ["{new} = {opt}.state_dict()", "{new} = {sched}.state_dict()", "{opt}.load_state_dict({state})",
          "{sched}.load_state_dict({state})", "{opt}.load_state_dict({opt}.state_dict())",
          "{sched}.load_state_dict({sched}.state_dict())", "{new} = copy.deepcopy({state})"]),
]  # fmt: skip
