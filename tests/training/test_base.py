"""The base of a run of two processes: the first one writes it, alone."""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.checkpoints.run import BASE, RunCheckpoints, store_config
from realisdance_jax.checkpoints.weights import load_component, read_manifest
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.utils.tree import flatten
from tests.e2e.train_call import ROOT, apart, free_port
from tests.training.pod import FRESH, constant
from tests.training.test_program import tiny

STEP, TRAINED = 3, 3.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run of stage 1 that trained its main UNet and was never exported."""
    run = tmp_path_factory.mktemp("pod") / "run"
    store_config(run, {})
    trained = constant(tiny(1), "unet_main", TRAINED)
    checkpoints = RunCheckpoints(run, STEP, 1)
    checkpoints.save(STEP, {"trainable": trained, "ema": {}, "step": jnp.int32(STEP)}, {})
    checkpoints.close()
    return run.parent


@pytest.fixture(scope="module")
def said(folder) -> list[str]:
    """What the two processes of `pod` say."""
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.pod", str(folder), str(i)],
            cwd=ROOT,
            env={**apart(2), "JAX_COORDINATOR_PORT": port, "PYTHONPATH": os.fspath(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    try:
        ended = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(ended)[-6000:]
    return ended


def leaves(folder: Path, component: str) -> dict[str, np.ndarray]:
    """Tensors by path."""
    flat = flatten(load_component(folder, read_manifest(folder), component))
    return {path: np.asarray(leaf) for path, leaf in flat.items()}


@pytest.mark.usefixtures("said")
def test_stage_2_begins_from_a_run_of_stage_1(folder):
    """The first process exports the run and adds motion modules."""
    assert (folder / "run" / "weights" / str(STEP)).is_dir()
    assert read_manifest(folder / "base").model == tiny(2).model
    for name in COMPONENTS:
        for path, leaf in leaves(folder / "base", name).items():
            trained = name == "unet_main" and "motion_modules" not in path
            assert np.all(leaf == (TRAINED if trained else FRESH)), path


@pytest.mark.usefixtures("said")
def test_new_networks(folder):
    base = folder / "run" / BASE
    assert read_manifest(base).model == tiny(1).model
    for name in COMPONENTS:
        assert all(np.all(leaf == FRESH) for leaf in leaves(base, name).values())


def test_a_refusal_reaches_all(folder, said):
    line = f"refused: {folder / 'none'}: expected a weights folder"
    for text in said:
        assert len([x for x in text.splitlines() if x.startswith(line)]) == 1, text
    assert not (folder / "no").exists()
