"""Parts of `python -m benchmarks.speed`."""
