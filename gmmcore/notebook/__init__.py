"""What a notebook uses: `train`, `GaussianMixtureModel` and `open_run`, over arrays and files.

They delegate to the core and the formats, which know nothing of them. `gmmcore` exports them.
"""
