#!/usr/bin/env bash
# Slurm, one process per GPU: sbatch --nodes=2 launch/slurm.sh --config ... --workdir ...
#SBATCH --job-name=realisdance
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --requeue
#SBATCH --signal=SIGTERM@120
set -euo pipefail
code=0
# Every process sees all GPUs of its node and takes the one of its rank there.
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-12}" --gpu-bind=none --kill-on-bad-exit=0 "${PYTHON:-.venv/bin/python}" -m realisdance_jax.train "$@" --preempt-exit-code=99 || code=$?
if [ "$code" -eq 99 ]; then exec scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
