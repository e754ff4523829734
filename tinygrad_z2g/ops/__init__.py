"""The operations on tensors, one family per file. Each is a function; `Tensor` offers most as methods too.

This file knows nothing of them: import the family.
"""
