"""The pictures: one function a step, named as its script. It takes the flags and what is to be seen, saves NN_name.png
in --out, and does nothing with --no-plot."""

from .beyond import (
    compression,
    finetune,
    images,
    meaning,
    medicine,
    modern_block,
    newton,
    physics,
    race,
    real_model,
    tokens,
    translator,
)  # fmt: skip
from .letters import embedding_conv, gpt, lstm, next_letter, residual_blocks, reweight, self_attention
from .numbers import (
    autograd,
    backprop_by_hand,
    evolution,
    generalization,
    if_else,
    layers_and_classes,
    linear_regression,
    perceptron,
    random_search,
    side_effects,
    sine_layer,
)  # fmt: skip
