"""The page API.md says what is offered: every name on it exists, and nothing offered is missing from it."""

import importlib
import inspect
import re
import types
from pathlib import Path

import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.methods import Methods
from tinygrad_z2g.tools import api

PAGE = (Path(z2g.__file__).parent / "API.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (tinygrad_z2g\S*)\n(.*?)(?=^## )", PAGE, re.M | re.S))


def space(name):
    """The module or class of this dotted name."""
    if name in ("tinygrad_z2g.Tensor", "tinygrad_z2g.nn.Module"):
        return getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
    return importlib.import_module(name)


def offered(name):
    """Its public names: those it lists, or else those that it defines, or re-exports if it is a package."""
    thing = space(name)
    if hasattr(thing, "__all__"):
        return set(thing.__all__)
    if thing is z2g.Tensor:
        return {n for part in (Methods, thing) for n in vars(part) if n[0] != "_"}
    names = {n for n, value in vars(thing).items() if n[0] != "_" and not isinstance(value, types.ModuleType)}
    if inspect.ismodule(thing) and not hasattr(thing, "__path__"):
        names = {n for n in names if getattr(getattr(thing, n), "__module__", "") == name}
    return names


@pytest.mark.parametrize("name", SECTIONS)
def test_the_page_lists_what_there_is(name):
    listed = re.findall(r"(?m)^- `(\w+)", SECTIONS[name])
    if name == "tinygrad_z2g.Tensor":
        listed += re.findall(r"`(\w+)`", SECTIONS[name].partition("\nAnd as methods what stands above")[2])
    assert sorted(listed) == sorted(offered(name))


def test_the_page_is_as_it_would_be_written_now():
    """If not: `python -m tinygrad_z2g.tools.api`. What stands beside the marks is left as it is."""
    assert api.page(PAGE) == PAGE
    older = re.sub(r"(?m)^- `softmax\(.*\n", "", PAGE)
    assert older != PAGE and api.page(older) == PAGE
    with pytest.raises(ValueError, match="expected the two marks"):
        api.page("# What is offered")


def test_each_name_has_its_signature_and_a_line():
    lines = [line for section in SECTIONS.values() for line in section.splitlines() if line.startswith("- ")]
    assert len(lines) > 900
    assert [line for line in lines if ": " not in line] == []
    assert "- `softmax(input, dim, dtype=None)`: pᵢ = e^xᵢ / Σⱼ e^xⱼ along `dim`" in PAGE
    assert "- `clip`: the same as `clamp`\n" in PAGE


def test_the_page_has_every_namespace():
    """Each file that users import from has a section."""
    assert set(SECTIONS) == {f"tinygrad_z2g{suffix}" for suffix in (
        "", ".Tensor", ".nn", ".nn.Module", ".nn.functional", ".nn.init", ".nn.utils", ".nn.utils.rnn", ".optim",
        ".optim.lr_scheduler", ".optim.swa_utils", ".amp", ".autograd", ".autograd.functional", ".func", ".linalg",
        ".distributions", ".random", ".utils.data", ".cuda", ".distributed", ".text", ".models",
    )}  # fmt: skip


SURFACE = {
    "tinygrad_z2g": """
        tensor as_tensor from_numpy zeros ones full empty eye arange linspace zeros_like ones_like full_like rand randn
        randint randperm rand_like randn_like multinomial bernoulli normal manual_seed Generator no_grad inference_mode
        enable_grad set_grad_enabled is_grad_enabled is_tensor float32 float64 float16 int64 long int32 bool device
        get_default_dtype set_default_dtype save load inf nan pi einsum tensordot cat concat stack hstack vstack""",
    "both": """
        add sub mul div true_divide floor_divide remainder pow neg abs sign sqrt rsqrt square reciprocal exp expm1 log
        log1p log2 sin cos tan tanh sinh cosh asin acos atan sigmoid relu erf floor ceil round clamp clip maximum
        minimum where lerp logical_and logical_or logical_not isnan isinf isfinite isclose allclose equal any all sum
        mean prod var std max min amax amin argmax argmin logsumexp norm cumsum cumprod topk sort argsort count_nonzero
        matmul mm bmm mv dot outer reshape flatten unflatten squeeze unsqueeze transpose t permute movedim swapaxes
        broadcast_to repeat_interleave tile roll flip split chunk unbind narrow select index_select gather scatter
        scatter_add take_along_dim masked_fill masked_select tril triu diag diagonal""",
    "tinygrad_z2g.Tensor": """
        view T mT expand expand_as repeat contiguous add_ sub_ mul_ div_ zero_ fill_ copy_ clamp_ masked_fill_ normal_
        uniform_ requires_grad_ shape size dim ndim numel dtype device requires_grad is_leaf grad_fn item tolist numpy
        detach clone to cpu cuda float double half long int bool type element_size backward register_hook retain_grad
        data""",
    "tinygrad_z2g.nn": """
        Parameter Module Sequential ModuleList ModuleDict Identity Linear Conv1d Conv2d MaxPool1d AvgPool1d MaxPool2d
        Embedding LayerNorm RMSNorm Dropout Flatten ReLU LeakyReLU GELU SiLU Tanh Sigmoid Softplus Softmax LogSoftmax
        Sine RNN GRU LSTM RNNCell GRUCell LSTMCell MultiheadAttention Transformer TransformerEncoder TransformerDecoder
        TransformerEncoderLayer TransformerDecoderLayer LazyLinear LazyConv1d LazyConv2d UninitializedParameter MSELoss
        L1Loss CrossEntropyLoss NLLLoss BCELoss BCEWithLogitsLoss""",
    "tinygrad_z2g.nn.Module": """
        forward parameters named_parameters modules named_modules children register_buffer register_parameter buffers
        state_dict load_state_dict apply train eval to zero_grad requires_grad_ extra_repr register_forward_hook""",
    "tinygrad_z2g.nn.functional": """
        relu leaky_relu gelu silu tanh sigmoid softplus softmax log_softmax mse_loss l1_loss cross_entropy nll_loss
        binary_cross_entropy binary_cross_entropy_with_logits layer_norm rms_norm dropout max_pool1d avg_pool1d
        max_pool2d conv2d scaled_dot_product_attention pad one_hot linear conv1d embedding normalize
        cosine_similarity""",
    "tinygrad_z2g.nn.init": """
        zeros_ ones_ constant_ normal_ uniform_ trunc_normal_ xavier_uniform_ xavier_normal_ kaiming_uniform_
        kaiming_normal_""",
    "tinygrad_z2g.nn.utils": "clip_grad_norm_ clip_grad_value_ parameters_to_vector",
    "tinygrad_z2g.nn.utils.rnn": "PackedSequence pack_padded_sequence pad_packed_sequence pad_sequence pack_sequence "
                                 "unpad_sequence unpack_sequence",
    "tinygrad_z2g.optim": "SGD Adam AdamW Muon RMSprop LBFGS Adadelta Adagrad NAdam",
    "tinygrad_z2g.optim.lr_scheduler": "StepLR CosineAnnealingLR LambdaLR",
    "tinygrad_z2g.cuda": "is_available device_count synchronize manual_seed compile_step",
    "tinygrad_z2g.utils.data": "Dataset TensorDataset DataLoader random_split ConcatDataset IterableDataset",
    "tinygrad_z2g.amp": "autocast GradScaler",
    "tinygrad_z2g.distributions": "Normal Categorical Bernoulli Uniform kl_divergence",
    "tinygrad_z2g.autograd": "Variable grad gradcheck gradgradcheck Function set_detect_anomaly",
    "tinygrad_z2g.autograd.functional": "jacobian hessian hvp vhp jvp vjp",
    "tinygrad_z2g.func": "grad grad_and_value vjp jvp jacrev jacfwd hessian vmap functional_call",
}  # fmt: skip


@pytest.mark.parametrize("name", SURFACE)
def test_the_surface_that_was_promised(name):
    """What the project set out to offer, independent of what the page says."""
    spaces = ["tinygrad_z2g", "tinygrad_z2g.Tensor"] if name == "both" else [name]
    missing = [(s, n) for s in spaces for n in SURFACE[name].split() if not hasattr(space(s), n)]
    assert missing == []


@pytest.mark.parametrize("call, keywords", [
    (nn.Linear, "in_features out_features bias device dtype"),
    (nn.Conv2d, "in_channels out_channels kernel_size stride padding dilation groups bias padding_mode device dtype"),
    (nn.MaxPool2d, "kernel_size stride padding dilation return_indices ceil_mode"),
    (nn.AvgPool1d, "kernel_size stride padding ceil_mode count_include_pad"),
    (nn.LayerNorm, "normalized_shape eps elementwise_affine bias device dtype"),
    (nn.RMSNorm, "normalized_shape eps elementwise_affine device dtype"),
    (nn.LSTM, "input_size hidden_size num_layers bias batch_first dropout bidirectional proj_size device dtype"),
    (nn.GRU, "input_size hidden_size num_layers bias batch_first dropout bidirectional device dtype"),
    (nn.RNN, "input_size hidden_size num_layers nonlinearity bias batch_first dropout bidirectional device dtype"),
    (nn.RNNCell, "input_size hidden_size bias nonlinearity device dtype"),
    (nn.utils.rnn.pack_padded_sequence, "input lengths batch_first enforce_sorted"),
    (nn.utils.rnn.pad_packed_sequence, "sequence batch_first padding_value total_length"),
    (nn.utils.rnn.pad_sequence, "sequences batch_first padding_value padding_side"),
    (nn.MultiheadAttention, "embed_dim num_heads dropout bias add_bias_kv add_zero_attn kdim vdim batch_first"),
    (nn.MultiheadAttention.forward,
     "query key value key_padding_mask need_weights attn_mask average_attn_weights is_causal"),
    (nn.Transformer, "d_model nhead num_encoder_layers num_decoder_layers dim_feedforward dropout activation "
                     "custom_encoder custom_decoder layer_norm_eps batch_first norm_first bias device dtype"),
    (nn.Transformer.forward, "src tgt src_mask tgt_mask memory_mask src_key_padding_mask tgt_key_padding_mask "
                             "memory_key_padding_mask src_is_causal tgt_is_causal memory_is_causal"),
    (nn.TransformerEncoderLayer, "d_model nhead dim_feedforward dropout activation layer_norm_eps batch_first "
                                 "norm_first bias device dtype"),
    (nn.TransformerEncoder, "encoder_layer num_layers norm enable_nested_tensor mask_check"),
    (nn.TransformerDecoderLayer.forward, "tgt memory tgt_mask memory_mask tgt_key_padding_mask "
                                         "memory_key_padding_mask tgt_is_causal memory_is_causal"),
    (nn.LazyLinear, "out_features bias device dtype"),
    (nn.LazyConv2d, "out_channels kernel_size stride padding dilation groups bias padding_mode device dtype"),
    (nn.Dropout, "p inplace"),
    (nn.LeakyReLU, "negative_slope inplace"),
    (z2g.optim.SGD, "params lr momentum dampening weight_decay nesterov"),
    (z2g.optim.AdamW, "params lr betas eps weight_decay"),
    (z2g.optim.Muon, "params lr weight_decay momentum nesterov ns_coefficients eps ns_steps adjust_lr_fn"),
    (z2g.add, "input other alpha"), (z2g.div, "input other rounding_mode"), (z2g.pow, "input exponent"),
    (z2g.where, "condition input other"), (z2g.clamp, "input min max"), (z2g.lerp, "input end weight"),
    (z2g.sum, "input dim keepdim dtype"), (z2g.topk, "input k dim largest sorted"), (z2g.mm, "input mat2"),
    (z2g.sort, "input dim descending stable"), (z2g.flatten, "input start_dim end_dim"), (z2g.cat, "tensors dim"),
    (z2g.split, "tensor split_size_or_sections dim"), (z2g.gather, "input dim index"),
    (z2g.scatter, "input dim index src value"), (z2g.diagonal, "input offset dim1 dim2"),
    (z2g.repeat_interleave, "input repeats dim"), (z2g.multinomial, "input num_samples replacement generator"),
    (z2g.nn.functional.cross_entropy, "input target weight ignore_index reduction label_smoothing"),
    (z2g.nn.functional.scaled_dot_product_attention, "query key value attn_mask dropout_p is_causal scale enable_gqa"),
    (z2g.nn.functional.layer_norm, "input normalized_shape weight bias eps"),
    (z2g.nn.functional.rms_norm, "input normalized_shape weight eps"),
    (z2g.autocast, "device_type dtype enabled"),
    (z2g.amp.GradScaler, "device init_scale growth_factor backoff_factor growth_interval enabled"),
    (z2g.autograd.grad, "outputs inputs grad_outputs retain_graph create_graph allow_unused"),
    (z2g.gradgradcheck, "fn inputs grad_outputs eps atol rtol"),
    (z2g.func.grad, "func argnums has_aux"), (z2g.func.jacrev, "func argnums has_aux"),
    (z2g.func.vmap, "func in_dims out_dims randomness"), (z2g.func.jvp, "func primals tangents has_aux"),
    (z2g.func.functional_call, "module parameter_and_buffer_dicts args kwargs tie_weights strict"),
    (z2g.autograd.functional.jacobian, "func inputs create_graph strict vectorize strategy"),
    (z2g.autograd.functional.hessian, "func inputs create_graph strict vectorize outer_jacobian_strategy"),
    (z2g.autograd.functional.hvp, "func inputs v create_graph strict"),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_parameters_have_torch_s_names_in_torch_s_order(call, keywords):
    parameters = [name for name in inspect.signature(call).parameters if name != "self"]
    assert parameters[: len(keywords.split())] == keywords.split()


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "amax", "argmax", "all", "any", "logsumexp", "std", "var"])
def test_numpy_s_words_are_understood(name):
    x = z2g.tensor([[1.0, 2.0], [3.0, 5.0]])
    x = x > 2 if name in ("all", "any") else x
    expected = getattr(z2g, name)(x, dim=1, keepdim=True)
    assert z2g.equal(getattr(z2g, name)(x, axis=1, keepdims=True), expected)
    assert z2g.equal(getattr(x, name)(axis=1, keepdims=True), expected)
    with pytest.raises(TypeError, match="both dim and axis"):
        getattr(x, name)(dim=1, axis=1)
    assert z2g.cat([x, x], axis=1).shape == (2, 4) and x.unsqueeze(axis=0).shape == (1, 2, 2)
