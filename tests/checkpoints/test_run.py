"""Checkpoints of a run: what comes back, on which mesh, and what is refused."""

import json
import resource
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from realisdance_jax.checkpoints.run import (
    ADDED_KEYS,
    FREE_KEYS,
    RunCheckpoints,
    check_config,
    config_changes,
    flat_config,
    store_config,
)
from realisdance_jax.config import base_config
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.utils.errors import UserError
from tests.refusals import refusal

SIDE = 512


def state(value: float, mesh=None) -> dict:
    """A megabyte of noise that does not compress, cut along `fsdp` if there is a mesh."""
    rng = np.random.default_rng(int(value))
    table = jnp.asarray(rng.normal(size=(SIDE, SIDE)).astype(np.float32))
    if mesh is not None:
        table = jax.device_put(table, NamedSharding(mesh, PartitionSpec("fsdp")))
    return {"step": jnp.asarray(int(value)), "trainable": {"a": table}}


def shapes(of: dict) -> dict:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), of)


@contextmanager
def smallest_file(size: int):
    """No file may grow larger, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_it_comes_back_on_another_mesh(tmp_path):
    wide, narrow = make_mesh({"fsdp": 8}), make_mesh({"data": 4, "fsdp": 2})
    saved = RunCheckpoints(tmp_path, 2, 2)
    assert saved.latest is None
    for step in (2, 4, 6):
        assert saved.due(step)
        saved.save(step, state(step, wide), {"data": "abc"})
    saved.close()
    assert not saved.due(7)
    again = RunCheckpoints(tmp_path, 2, 2)
    assert again.latest == 6
    assert again.manager.all_steps() == [4, 6]
    wanted = state(6, narrow)
    found, facts = again.restore(shapes(wanted))
    assert facts["data"] == "abc"
    assert int(found["step"]) == 6
    table = found["trainable"]["a"]
    np.testing.assert_array_equal(table, wanted["trainable"]["a"])
    assert table.sharding == wanted["trainable"]["a"].sharding
    again.close()


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    saved = RunCheckpoints(tmp_path, 1, 3)
    saved.save(1, state(1), {})
    saved.finish()

    def save_and_wait() -> None:
        saved.save(2, state(2), {})
        saved.finish()

    with smallest_file(100_000):
        line = refusal(save_and_wait)
    assert line.startswith(f"{tmp_path / 'checkpoints'}: cannot save (")
    assert line.endswith("step 1 is intact")
    again = RunCheckpoints(tmp_path, 1, 3)
    assert again.latest == 1
    found, _ = again.restore(shapes(state(1)))
    np.testing.assert_array_equal(found["trainable"]["a"], state(1)["trainable"]["a"])
    again.save(2, state(2), {})  # once there is room again
    again.close()
    assert again.latest == 2


@pytest.fixture
def written(tmp_path):
    saved = RunCheckpoints(tmp_path, 1, 3)
    saved.save(1, state(1), {})
    saved.close()
    return tmp_path


def test_another_version_is_refused(written):
    path = written / "checkpoints" / "1" / "facts" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    line = refusal(RunCheckpoints(written, 1, 3).restore, shapes(state(1)))
    assert line == f"{written / 'checkpoints'}: expected checkpoints of format 1, found 2"


def test_another_model_is_refused(written):
    other = shapes(state(1))
    other["trainable"]["b"] = other["trainable"].pop("a")
    line = refusal(RunCheckpoints(written, 1, 3).restore, other)
    assert line.startswith(f"{written / 'checkpoints' / '1'}: expected a checkpoint of this config")


def test_a_damaged_checkpoint_is_refused(written):
    for path in (written / "checkpoints" / "1" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    line = refusal(RunCheckpoints(written, 1, 3).restore, shapes(state(1)))
    assert line.startswith(f"{written / 'checkpoints' / '1'}: expected a checkpoint of this config")


def test_what_may_change():
    old = {"mesh": {"data": 8}, "optim": {"lr": 1.0}, "train": {"steps": 5, "remat": "none"}}
    new = {"mesh": {"fsdp": 8}, "optim": {"lr": 2.0}, "train": {"steps": 9, "remat": "dots"}}
    assert config_changes(old, new) == ["optim.lr: 1.0 -> 2.0"]
    assert config_changes(old, old | {"mesh": {"data": 1}}) == []
    assert "mesh" in FREE_KEYS


def test_runs_older_than_a_key_resume_as_they_began():
    old = {"loss": {"drop": 0.1}}
    assert config_changes(old, {"loss": {"drop": 0.1, "least_timestep": 0}}) == []
    changed = {"loss": {"drop": 0.1, "least_timestep": 800}}
    assert config_changes(old, changed) == ["loss.least_timestep: 0 -> 800"]
    now = flat_config(base_config(2).to_dict())
    assert {key: now[key] for key in ADDED_KEYS} == ADDED_KEYS


def test_a_folder_of_such_a_run_is_gone_on_with(tmp_path):
    store_config(tmp_path, {"stage": 2, "loss": {"drop": 0.1}})
    (tmp_path / "base").mkdir()
    check_config(tmp_path, {"stage": 2, "loss": {"drop": 0.1, "least_timestep": 0}}, False)
    with pytest.raises(UserError, match="least_timestep: 0 -> 1"):
        check_config(tmp_path, {"stage": 2, "loss": {"drop": 0.1, "least_timestep": 1}}, False)


def test_another_stage_wants_another_folder(tmp_path):
    """With its weights this run is where that stage starts; no option makes one run of both."""
    (tmp_path / "base").mkdir()
    store_config(tmp_path, {"stage": 1})
    line = refusal(check_config, tmp_path, {"stage": 2}, True)
    assert "own stage, 1, found stage 2; take another --workdir" in line


def test_a_configuration_that_is_no_json(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "run.json").write_text("{")
    assert "run.json: expected JSON" in refusal(check_config, tmp_path, {}, False)
