"""The causal Transformer block, the part that a GPT repeats, where it is looked for: it stands in `core/layers.py`."""

from ..core.layers import CausalSelfAttention, TransformerBlock

__all__ = ["CausalSelfAttention", "TransformerBlock"]
