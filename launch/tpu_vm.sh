#!/usr/bin/env bash
# All hosts of a TPU VM pod: TPU=name ZONE=zone REPO=folder-on-the-hosts launch/tpu_vm.sh --config ...
set -euo pipefail
: "${TPU:?name of the TPU VM}" "${ZONE:?its zone}" "${REPO:?folder of this project on the hosts}"
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=all \
    --command "cd $(printf %q "$REPO") && ${PYTHON:-.venv/bin/python} -m realisdance_jax.train $(printf '%q ' "$@")"
