"""One call that joins the processes of a job, whatever started them."""

import os
import socket

import jax

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
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        jax.distributed.initialize(f"127.0.0.1:{port}", 1, 0)
