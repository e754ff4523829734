"""Data parallelism, where torch has it: see `parallel/processes.py`, which knows nothing of this."""

