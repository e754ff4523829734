"""The package explains itself: `python -m tinygrad_z2g.learn`, and `learn softmax`, `learn path`, `learn why`.

Everything shown is read from the source when it is asked for. It knows nothing of any operation itself: formulas,
derivations and examples are docstrings. And the rest of the package knows nothing of it: no other file imports it.
"""
