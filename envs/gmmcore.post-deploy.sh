#!/usr/bin/env bash
# Snakemake runs this once in the environment of gmmcore.yaml; rules/common.smk says which program.
set -euo pipefail
"$CONDA_PREFIX/bin/python" -m pip install --quiet --no-deps --no-build-isolation "$GMMCORE_SOURCE"
