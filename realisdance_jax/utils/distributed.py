"""One call that joins the processes of a job, whatever started them."""

import json
import os
import socket
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

CLUSTER_VARIABLES = (
    *("SLURM_JOB_ID", "OMPI_COMM_WORLD_SIZE"),
    *("TPU_WORKER_HOSTNAMES", "JOB_COMPLETION_INDEX"),
)
"""Any of these says that JAX can find the other processes by itself."""


def start_distributed(coordinator: str | None, processes: int, process: int) -> None:
    """Initialise `jax.distributed`: by hand, by the cluster's own facts, or for one process alone.

    Always done, since without it a preemption signal kills instead of saving.
    """
    if coordinator is not None:
        jax.distributed.initialize(coordinator, processes, process)
    elif any(name in os.environ for name in CLUSTER_VARIABLES):
        jax.distributed.initialize()
    else:
        # Collectives of one process need no network.
        jax.config.update("jax_cpu_collectives_implementation", None)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        jax.distributed.initialize(f"127.0.0.1:{port}", 1, 0)


def first_host(do: Callable[[], None], name: str) -> None:
    """Run `do` on the first host while the others wait; `name` is alike on all."""
    if jax.process_index() == 0:
        do()
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def gathered(value: dict[str, Any]) -> dict[str, Any]:
    """The union of all hosts' JSON dicts; earlier hosts win."""
    if jax.process_count() == 1:
        return value
    text = json.dumps(value).encode()
    longest = int(multihost_utils.process_allgather(np.int64(len(text))).max())
    padded = np.frombuffer(text.ljust(longest), np.uint8)
    parts = multihost_utils.process_allgather(padded)
    joined: dict[str, Any] = {}
    for part in reversed(list(parts)):
        joined |= json.loads(bytes(part))
    return joined
