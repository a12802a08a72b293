"""What `benchmarks.scaling` measures and predicts with."""
