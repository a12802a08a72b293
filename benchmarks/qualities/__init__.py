"""Parts of `python -m benchmarks.quality`."""
