"""The training command on a tiny model, as a process of its own."""

import dataclasses
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.devices import xla_flags

ROOT = Path(__file__).parents[2]
TINY = (
    *("--config.model.unet.widths=(8,)", "--config.model.unet.layers_per_block=1"),
    *("--config.model.unet.attention_levels=(True,)", "--config.model.unet.heads=(2,)"),
    *("--config.model.unet.context_dim=6", "--config.model.unet.norm_groups=4"),
    *("--config.model.pose.encoder_widths=(2,3,4,5)", "--config.model.pose.gate_width=3"),
    *("--config.model.dino.width=8", "--config.model.dino.layers=1", "--config.model.dino.heads=2"),
    *("--config.model.dino.table_size=3", "--config.model.vae.widths=(4,4,4,4)"),
    *("--config.model.vae.layers_per_block=1", "--config.model.vae.norm_groups=4"),
    *("--config.data.size=(32,32)", "--config.train.save_every=3"),
)
MOTION = ("--config.model.motion.heads=2", "--config.model.motion.max_frames=6")
STAGE = {
    1: ("configs/stage1.py:smoke", *TINY),
    2: ("configs/stage2.py:smoke", *TINY, *MOTION, "--config.data.frames=2"),
    "baseline": (
        *("configs/animate_anyone.py:stage2,smoke", *TINY, *MOTION),
        "--config.data.frames=2",
    ),
}


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The one line of a command that refused its input."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.code == 2, self
        assert len(lines) == 1, self
        return lines[0]


def environment(devices: int = 8) -> dict[str, str]:
    """Simulated devices and a compilation cache that all processes of the tests share."""
    cache = Path(tempfile.gettempdir()) / "realisdance_jax_test_cache"
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": xla_flags(devices),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONUNBUFFERED": "1",
    }


def apart(devices: int) -> dict[str, str]:
    """For one of several processes that train together.

    Only the first process reads kept programs on CPUs; it waits half a minute for the others.
    """
    return {**environment(devices), "JAX_ENABLE_COMPILATION_CACHE": "false"}


def free_port() -> int:
    """Where the processes may meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(stage: int | str, run: Path, *options: str) -> list[str]:
    """The words of the call."""
    config, *overrides = STAGE[stage]
    program = [sys.executable, "-m", "realisdance_jax.train", "--config", config]
    return [*program, "--workdir", str(run), *overrides, *options]


def train(stage: int | str, run: Path, *options: str, devices: int = 8) -> Ended:
    """Run to the end."""
    done = subprocess.run(
        command(stage, run, *options),
        cwd=ROOT,
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=600,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def steps(out: str) -> list[int]:
    """Numbers of the steps that the console lines tell of."""
    lines = [line for line in out.splitlines() if line.startswith("step ")]
    return [int(line.split()[1].split("/")[0]) for line in lines]
