#!/usr/bin/env bash
# Two processes of four simulated devices on this machine: launch/rehearsal.sh --config ...:smoke --workdir ...
set -euo pipefail
export JAX_PLATFORMS=cpu XLA_FLAGS="--xla_force_host_platform_device_count=4"
# Only the first process would find the programs of an earlier call, and it waits half a minute at most
# for the other one to compile them.
export JAX_ENABLE_COMPILATION_CACHE=false
python="${PYTHON:-.venv/bin/python}"
join=(--coordinator "127.0.0.1:${PORT:-12355}" --processes 2)
"$python" -m realisdance_jax.train "$@" "${join[@]}" --process 1 &
other=$!
trap 'kill "$other" 2>/dev/null || true' EXIT
"$python" -m realisdance_jax.train "$@" "${join[@]}" --process 0
wait "$other"
