"""Speed and memory, beside torch and others where they are installed. Run `python -m benchmarks`."""
