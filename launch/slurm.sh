#!/usr/bin/env bash
# Slurm, one process per GPU: sbatch --nodes=2 launch/slurm.sh --config ... --workdir ...
#SBATCH --job-name=realisdance
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=12
#SBATCH --requeue
#SBATCH --signal=SIGTERM@120
set -euo pipefail
code=0
srun --kill-on-bad-exit=0 .venv/bin/python -m realisdance_jax.train "$@" --preempt-exit-code=99 || code=$?
if [ "$code" -eq 99 ]; then exec scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
