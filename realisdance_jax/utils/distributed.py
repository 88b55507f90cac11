"""One call that joins the processes of a job, whatever started them."""

import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint.multihost import get_barrier_sync_fn

from realisdance_jax.utils.errors import UserError

Result = TypeVar("Result")
NO_CLUSTER = "coordinator_address should be defined"
"""What JAX says when nothing around it tells of other processes."""

LONGEST_MS = 4 * 3600 * 1000
"""For which hosts wait for the first one: it may copy weights over a slow network."""


def start_distributed(coordinator: str | None, processes: int, process: int) -> None:
    """Initialise `jax.distributed`: by hand, by the cluster's own facts, or for one process alone.

    Always done, since without it a preemption signal kills instead of saving. JAX itself knows
    clusters, some by environment variables, TPU VMs by asking a server. Raises `UserError` for a
    number of processes without a coordinator, and for a process that is none of them.
    """
    if coordinator is None and (processes, process) != (1, 0):
        found = f"--processes {processes} --process {process}"
        raise UserError(f"{found}: expected --coordinator HOST:PORT beside them, found none")
    if not 0 <= process < processes:
        raise UserError(f"--process: expected 0 to {processes - 1}, found {process}")
    if coordinator is not None:
        jax.distributed.initialize(coordinator, processes, process)
        return
    try:
        jax.distributed.initialize()
    except ValueError as error:
        if NO_CLUSTER not in str(error):
            raise
        _start_alone()


def _start_alone() -> None:
    # Collectives of one process need no network.
    jax.config.update("jax_cpu_collectives_implementation", None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    jax.distributed.initialize(f"127.0.0.1:{port}", 1, 0)


def first_host(do: Callable[[], None], name: str) -> None:
    """Run `do` on the first host while the others wait; `name` is alike on all, and used once.

    They wait without the devices, whose collectives would give up after a while. When `do` raises
    `UserError`, all raise it.
    """
    refused: dict[str, str] = {}
    if jax.process_index() == 0:
        try:
            do()
        except UserError as error:
            refused = {"refused": str(error)}
    get_barrier_sync_fn()(key=name, timeout_ms=LONGEST_MS)
    if refused := gathered(refused):
        raise UserError(refused["refused"])


def on_all(do: Callable[[], Result]) -> Result:
    """Run `do` on every host; when it raises `UserError` on one of them, all raise it.

    `do` itself has nothing for which hosts wait for each other.
    """
    refused: dict[str, str] = {}
    found: Any = None
    try:
        found = do()
    except UserError as error:
        refused = {"refused": str(error)}
    if refused := gathered(refused):
        raise UserError(refused["refused"])
    return found


def check_alike(what: str, value: Any) -> None:
    """Raise `UserError`, on all hosts, unless `value` (JSON) is the same on all of them."""
    seen = gathered({str(jax.process_index()): value})
    if other := [host for host in seen if seen[host] != seen["0"]]:
        raise UserError(
            f"hosts: expected the same {what} on all, found {seen['0']} on host 0 and "
            f"{seen[other[0]]} on host {other[0]}"
        )


def abandon(error: UserError) -> None:
    """End a job of several hosts at once with the line of `error`; does nothing on a single host.

    Other hosts may wait for this one, and a process that ends in order would wait for them.
    """
    if jax.process_count() > 1:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(2)


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
