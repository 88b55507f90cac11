#!/usr/bin/env bash
# A GKE JobSet through xpk, one slice or several:
# CLUSTER=name TPU_TYPE=v5litepod-16 SLICES=1 IMAGE=image launch/xpk.sh --config ... --workdir FOLDER (of a mounted bucket)
set -euo pipefail
: "${CLUSTER:?GKE cluster}" "${TPU_TYPE:?such as v5litepod-16}" "${IMAGE:?container image with this project}"
exec xpk workload create --cluster "$CLUSTER" --workload "${NAME:-realisdance}" \
    --tpu-type "$TPU_TYPE" --num-slices "${SLICES:-1}" --max-restarts "${RESTARTS:-100}" \
    --docker-image "$IMAGE" \
    --command "${PYTHON:-python} -m realisdance_jax.train $(printf '%q ' "$@") --preempt-exit-code=1"
