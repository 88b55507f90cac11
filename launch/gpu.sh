#!/usr/bin/env bash
# One host, all its GPUs in one process: launch/gpu.sh --config ... --workdir ...
set -euo pipefail
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.95}"
# Within a Slurm step JAX would leave a process one GPU; this one is to have them all.
unset SLURM_JOB_ID
exec "${PYTHON:-.venv/bin/python}" -m realisdance_jax.train "$@"
