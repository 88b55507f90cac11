"""Programs from a file: the same result with no network traced; refusals in one line."""

import dataclasses
import json
import zipfile
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.checkpoints.weights import Manifest
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.diffusion.solvers import make_solver
from realisdance_jax.models.config import MotionConfig, RealisDanceConfig
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.sampling.compiled import Compiled
from realisdance_jax.sampling.denoise import denoise_clip
from realisdance_jax.sampling.exported import INDEX, read_programs, write_programs
from realisdance_jax.sampling.pipeline import Pipeline, export_target
from realisdance_jax.sampling.programs import ClipState, Guidance
from realisdance_jax.sampling.shortcuts import Shortcuts, hold_windows, plan_steps
from realisdance_jax.sampling.windows import plan_windows
from realisdance_jax.utils.errors import UserError
from tests.sampling.test_shortcuts import SIZE, Toy

MANIFEST = Manifest(1, RealisDanceConfig())


def pipeline(devices: int, **options: Any) -> Pipeline:
    """Around a toy that remembers what of it is traced."""
    model: Any = Toy()
    none: Any = SimpleNamespace()
    mesh = make_mesh({"data": -1}, jax.devices()[:devices])
    made = Pipeline(MANIFEST, model, {}, none, {}, none, {}, mesh)
    variables = made.everywhere({"scale": jnp.float32(0.5), "idle": jnp.ones(3)})
    return dataclasses.replace(made, variables=variables, **options)


def sampled(run: Pipeline, window: int = 4) -> np.ndarray:
    """All sorts of steps over moving windows."""
    random = np.random.default_rng(0)
    latents, pose = (random.standard_normal((11, *SIZE)).astype(np.float32) for _ in range(2))
    solver = make_solver("ddim", ScheduleConfig(), 6)
    steps = plan_steps(solver.timesteps, 999, True, Shortcuts((0.4, 1.0), 2), 3)
    plan = hold_windows(plan_windows("official", 6, 11, window, 1, 1, 2), steps)
    seen, unseen = run.everywhere((jnp.full((1, 2, 5), 2.0), jnp.full((1, 2, 5), -1.0)))
    rest = (plan, solver, Guidance(1.5), 2, jax.random.key(0))
    clip = ClipState(seen, unseen, {}, pose)
    return np.asarray(denoise_clip(run, clip, latents, *rest, steps=steps)[0])


def target(run: Pipeline, dtype: str = "float32", manifest: Manifest = MANIFEST) -> Any:
    return export_target(manifest, dtype, run.mesh)


@pytest.mark.parametrize("devices", [1, 2])
def test_stored_programs_give_the_same_and_nothing_is_traced(devices, tmp_path):
    recording = pipeline(devices, recorded={})
    direct = sampled(recording)
    assert recording.recorded is not None
    assert len(recording.recorded) == 5  # four sorts of steps, and the guidance
    assert len(recording.model.traced) > 4
    file = tmp_path / "programs.zip"
    write_programs(file, target(recording), recording.recorded)
    again = pipeline(devices, stored=read_programs(file, target(recording)))
    np.testing.assert_array_equal(sampled(again), direct)
    assert again.model.traced == []
    if devices == 1:
        with pytest.raises(UserError) as caught:
            sampled(again, window=5)
        message = str(caught.value)
        assert message.startswith(f"{file}: expected the program model guide of float32[1,5,")
        assert "found model guide of float32[1,4," in message
        assert "\n" not in message


@pytest.fixture
def stored(tmp_path):
    """A file with one small program."""
    run = pipeline(1, recorded={})
    run.call("model", "guide", jnp.ones((1, 2)))
    file = tmp_path / "programs.zip"
    write_programs(file, target(run), run.recorded or {})
    return file, run


def test_weights_that_a_program_does_not_use_stay_on_the_host(tmp_path):
    """As of programs that are traced: the compiled one takes only what it uses."""
    run = pipeline(1, recorded={})
    weights = {"scale": np.ones(4, np.float32), "idle": np.ones(1000, np.float32)}
    arguments = weights, np.ones(4, np.float32)

    def program(weights, x):
        return weights["scale"] * x

    run.record("product", jax.jit(program), arguments, arguments[1:])
    file = tmp_path / "programs.zip"
    write_programs(file, target(run), run.recorded or {})
    again = pipeline(1, stored=read_programs(file, target(run)))
    compiled = again.jitted("product", program, arguments[1:]).lower(*arguments).compile()
    assert compiled.memory_analysis().argument_size_in_bytes == 2 * 4 * 4
    np.testing.assert_array_equal(compiled(*arguments), np.ones(4))


def test_programs_for_something_else(stored):
    file, run = stored
    other = Manifest(1, RealisDanceConfig(motion=MotionConfig()))
    for wanted, reason in (
        (target(run, "bfloat16"), "dtype: expected programs for bfloat16, found 'float32'"),
        (target(run, manifest=other), "model: expected programs for "),
        (target(pipeline(2)), "devices: expected programs for 2, found 1"),
        (
            dataclasses.replace(target(run), device_kind="NVIDIA A100"),
            "device kind: expected programs for NVIDIA A100, found 'cpu'",
        ),
        (dataclasses.replace(target(run), jax="9.9"), "jax: expected programs for 9.9, found "),
    ):
        with pytest.raises(UserError) as caught:
            read_programs(file, wanted)
        assert f"{file}: {reason}" in str(caught.value)
    with pytest.raises(UserError, match=r"model project of .* found none of 1 that is called so$"):
        dataclasses.replace(
            run, recorded=None, compiled=Compiled(), stored=read_programs(file, target(run))
        ).call("model", "project", jnp.ones((1, 2)))


def test_damaged_files(stored, tmp_path):
    file, run = stored
    with zipfile.ZipFile(file) as archive:
        index = json.loads(archive.read(INDEX))
        (blob,) = (archive.read(name) for name in archive.namelist() if name != INDEX)
    changed = {
        "cut": file.read_bytes()[:-100],
        "format": (json.dumps(index | {"format": 9}), blob),
        "blob": (json.dumps(index), blob[: len(blob) // 2]),
        "lost": (json.dumps(index | {"programs": {"7.bin": "x"}}), blob),
        "list": ("[]", blob),
    }
    for name, content in changed.items():
        damaged = tmp_path / f"{name}.zip"
        if isinstance(content, bytes):
            damaged.write_bytes(content)
        else:
            with zipfile.ZipFile(damaged, "w") as archive:
                archive.writestr(INDEX, content[0])
                archive.writestr("0.bin", content[1])
        with pytest.raises(UserError, match=f"{name}.zip: expected ") as caught:
            read_programs(damaged, target(run))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"none\.zip: expected programs"):
        read_programs(tmp_path / "none.zip", target(run))
