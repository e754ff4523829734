"""Mixed precision: what is computed in 16 bits, and what is not. It knows nothing of layers."""
