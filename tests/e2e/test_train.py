"""The training command: both stages, resume after every kind of end, what a run is good for."""

import dataclasses
import errno
import importlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tensorboardX.event_file_writer import EventsWriter

import realisdance_jax.train as train_program
from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.checkpoints.weights import load_component, read_manifest
from realisdance_jax.data.video_io import probe_video
from realisdance_jax.training.loop import saved_form
from realisdance_jax.training.step import TrainState
from realisdance_jax.training.writer import RunWriter
from tests.commands import run_program
from tests.e2e.conftest import ONE_LEVEL
from tests.e2e.train_call import ROOT, command, environment, steps, train
from tests.refusals import refusal

LAST = 20
SPREAD = ("--config.mesh.data=2", "--config.mesh.fsdp=2", "--config.mesh.frames=2")


def saved(run: Path, step: int) -> dict[str, np.ndarray]:
    """Every leaf of a saved state by name."""
    item = (run / "checkpoints" / str(step) / "state").absolute()
    with ocp.PyTreeCheckpointer() as checkpointer:
        stored = checkpointer.metadata(item).item_metadata.tree
        host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored)
        tree = checkpointer.restore(item, args=ocp.args.PyTreeRestore(restore_args=host))
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def draws(run: Path) -> dict[str, set[str]]:
    """By step, the hashes that were ever recorded for it."""
    rows = [line.split("\t", 1) for line in (run / "draws.tsv").read_text().splitlines()]
    return {step: {row[1] for row in rows if row[0] == step} for step, _ in rows}


@pytest.fixture(scope="module")
def image_stage(tmp_path_factory) -> Path:
    """Two steps of stage 1 on data x fsdp = 4 x 2."""
    folder = tmp_path_factory.mktemp("image")
    write_random_weights(folder / "weights", dataclasses.replace(ONE_LEVEL, motion=None))
    mesh = ("--config.mesh.data=4", "--config.mesh.fsdp=2", "--config.train.steps=2")
    ended = train(1, folder / "run", "--init", str(folder / "weights"), *mesh)
    assert ended.code == 0, ended.err[-3000:]
    assert steps(ended.out) == [1, 2]
    return folder / "run"


@pytest.fixture(scope="module")
def video_stage(tmp_path_factory, image_stage) -> Path:
    """Twenty straight steps of stage 2 from it, on data x fsdp x frames = 2 x 2 x 2."""
    run = tmp_path_factory.mktemp("video") / "run"
    options = ("--config.train.save_every=20", "--config.train.preview_every=20")
    ended = train(
        2, run, "--init", str(image_stage), *SPREAD, f"--config.train.steps={LAST}", *options
    )
    assert ended.code == 0, ended.err[-3000:]
    assert steps(ended.out) == list(range(1, LAST + 1))
    return run


def test_what_a_run_leaves(video_stage):
    names = {path.name for path in video_stage.iterdir()}
    assert {"run.json", "base", "checkpoints", "logs", "samples", "draws.tsv"} <= names
    assert (video_stage / "first_batch.png").stat().st_size > 1000
    assert probe_video(video_stage / "samples" / "0000020.mp4").frames == 6
    assert (video_stage / "samples" / "0000020_gates.mp4").is_file()
    assert list((video_stage / "logs").glob("events.*"))
    config = json.loads((video_stage / "run.json").read_text())
    facts = video_stage / "checkpoints" / str(LAST) / "facts" / "metadata"
    assert json.loads(facts.read_text())["config"] == config
    assert config["stage"] == 2
    state = saved(video_stage, LAST)
    moments = [name for name in state if "opt_state" in name and "motion_modules" in name]
    trained = [name for name in state if name.startswith("['trainable']")]
    assert trained
    assert all("motion_modules" in name for name in trained)
    assert len(moments) == 2 * len(trained)


def test_only_motion_modules_changed(video_stage):
    """Against the weights that the run began with, which also say how they were trained."""
    folder = weights_of(video_stage, lambda line: None)
    manifest, before = read_manifest(folder), read_manifest(video_stage / "base")
    assert manifest.uncond == "image"
    assert manifest.origin.global_step == LAST
    for name in ("unet_main", "pose_guider", "unet_ref"):
        old = jax.tree_util.tree_flatten_with_path(
            load_component(video_stage / "base", before, name)
        )
        new = jax.tree.leaves(load_component(folder, manifest, name))
        for (path, x), y in zip(old[0], new, strict=True):
            moved = not np.array_equal(x, y)
            trains = "motion_modules" in str(path) and "pe" not in str(path[-1])
            assert moved == trains, path


def test_a_run_samples_and_converts(video_stage, clip, tmp_path):
    """`sample` and `convert to-torch` take the run's folder."""
    out = tmp_path / "out.mp4"
    words = ["-m", "realisdance_jax.sample", "--weights", video_stage, "--ref", clip.reference]
    words += ["--dwpose", clip.dwpose, "--size", "64x48", "--steps", "2", "--stride", "2"]
    back = ["-m", "realisdance_jax.convert", "to-torch", "--weights", video_stage]
    for call in ([*words, "--out", out], [*back, "--out", tmp_path / "back.safetensors"]):
        done = subprocess.run(
            [sys.executable, *map(str, call)],
            cwd=ROOT,
            env=environment(1),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert probe_video(out).frames == 3
    assert (tmp_path / "back.safetensors").stat().st_size > 10_000


def unfinished(run: Path) -> list[Path]:
    """What Orbax has begun to save; renamed when it is whole."""
    return list((run / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def complete(run: Path) -> int:
    """The last step whose save is whole."""
    return max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())


def stop_in_a_save(run: Path, process: subprocess.Popen) -> None:
    """Return with `process` stopped while it saves; a save that is over too soon is let pass."""
    while process.poll() is None:
        if unfinished(run):
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.02)
            if unfinished(run):
                return
            process.send_signal(signal.SIGCONT)
        time.sleep(0.001)
    raise AssertionError("every save was over too soon")


def hold_until_noticed(process: subprocess.Popen) -> None:
    """JAX looks for SIGTERM once a second, in which a tiny run may end: the second passes here."""
    time.sleep(0.05)  # the handler runs first
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    process.send_signal(signal.SIGCONT)


def interrupt(
    run: Path,
    at: int,
    number: int,
    *options: str,
    wait: Callable[[subprocess.Popen], None] = lambda process: None,
) -> tuple[int, str]:
    """Run until the line of step `at`, `wait`, send the signal; exit code and what was said."""
    process = subprocess.Popen(
        command(2, run, *options),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith(f"step {at}/"):
            wait(process)
            process.send_signal(number)
            if number == signal.SIGTERM:
                hold_until_noticed(process)
            break
    said += list(process.stdout)
    return process.wait(120), "".join(said)


def check_equal_to_straight(run: Path, straight: Path) -> None:
    recorded, expected = draws(run), draws(straight)
    for step, hashes in recorded.items():
        assert hashes == expected[step], f"step {step} was drawn differently"
    assert {str(step) for step in range(1, LAST + 1)} == set(recorded)
    ours, theirs = saved(run, LAST), saved(straight, LAST)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_killed_and_preempted_runs_end_the_same(video_stage, image_stage, tmp_path):
    """kill -9 during a save, SIGTERM later: draws and final state to the bit."""
    run = tmp_path / "run"
    options = ("--init", str(image_stage), *SPREAD, f"--config.train.steps={LAST}")
    code, _ = interrupt(run, 9, signal.SIGKILL, *options, wait=partial(stop_in_a_save, run))
    assert code == -signal.SIGKILL
    assert unfinished(run)
    kept = complete(run)
    code, said = interrupt(run, kept + 1, signal.SIGTERM, *options)
    assert code == 0, said
    assert f"resumed at step {kept}\n" in said
    assert said.splitlines()[-1].endswith("preempted")
    stopped = int(said.splitlines()[-1].split()[3].rstrip(":"))
    assert (run / "checkpoints" / str(stopped)).is_dir()
    ended = train(2, run, *options)
    assert ended.code == 0, ended.err[-3000:]
    assert f"resumed at step {stopped}" in ended.out
    check_equal_to_straight(run, video_stage)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_kill_at_any_moment(video_stage, image_stage, tmp_path, seed):
    """Five seeded moments, the first inside a save.

    Saving is asynchronous: a save is surely whole once the next has begun.
    """
    run, rng = tmp_path / "run", np.random.default_rng(seed)
    options = ("--init", str(image_stage), *SPREAD, f"--config.train.steps={LAST}")
    at, later = int(rng.integers(9, 13)), float(rng.random()) / 4
    wait = partial(stop_in_a_save, run) if seed == 0 else lambda process: time.sleep(later)
    code, _ = interrupt(run, at, signal.SIGKILL, *options, wait=wait)
    assert code == -signal.SIGKILL
    assert seed or unfinished(run)
    ended = train(2, run, *options)
    assert ended.code == 0, ended.err[-3000:]
    assert "resumed at step" in ended.out
    check_equal_to_straight(run, video_stage)


@pytest.mark.slow
def test_another_mesh_goes_on(video_stage, tmp_path):
    """A finished run on more steps and one device: restored onto a mesh of another shape."""
    run = tmp_path / "run"
    shutil.copytree(video_stage, run)
    ended = train(2, run, "--config.train.steps=21", "--config.train.save_every=20", devices=1)
    assert ended.code == 0, ended.err[-3000:]
    assert steps(ended.out) == [21]


def test_another_start_is_refused(video_stage, image_stage, tmp_path):
    """The same weights elsewhere are no other start."""
    write_random_weights(tmp_path / "other", dataclasses.replace(ONE_LEVEL, motion=None))
    options = (*SPREAD, "--config.train.steps=20", "--init")
    ended = train(2, video_stage, *options, str(tmp_path / "other"))
    assert "expected the source the run started from" in ended.refusal
    shutil.copytree(image_stage / "weights" / "2", tmp_path / "same")
    ended = train(2, video_stage, *options, str(tmp_path / "same"))
    assert ended.code == 0, ended.err[-2000:]
    assert "stopped at step 20" in ended.out


def test_a_changed_configuration_is_shown_and_refused(video_stage):
    ended = train(2, video_stage, *SPREAD, "--config.optim.lr=0.5", "--config.train.steps=25")
    assert "optim.lr: 5e-05 -> 0.5" in ended.refusal
    assert "--allow-config-change" in ended.refusal


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--config.mesh.fsdp=3",), "sizes that make 8 devices"),
        (("--config.data.batch=6",), "multiple of data x fsdp = 8"),
        (("--config.optim.lrate=1",), "lr"),
        (("--config.train.dtype=half",), "float32"),
        (("--config.train.steps=0",), "train.steps: expected at least 1"),
        (("--config.data.sources=('nowhere',)",), "nowhere"),
        (("--motion", "mm.ckpt"), "expected --init beside --motion"),
        (("--init", "nowhere"), "nowhere: expected a weights folder"),
        (("--config", "nowhere.py"), "expected a configuration in Python"),
    ],
)
def test_bad_input(tmp_path, options, expected, monkeypatch, capfd):
    """One line, exit code 2, nothing written that would pass for a run."""
    program = importlib.reload(train_program)  # a program's flags are parsed once
    monkeypatch.setattr(program, "start_distributed", lambda *_: None)
    words = command(2, tmp_path / "run", *options)[3:]
    assert expected in run_program(program.main, words, monkeypatch, capfd).refusal
    assert not (tmp_path / "run").exists()


def test_checkpoints_without_their_base_are_refused(tmp_path, monkeypatch, capfd):
    """Fresh networks in its place would be trained on as if they were the run's."""
    program = importlib.reload(train_program)
    monkeypatch.setattr(program, "start_distributed", lambda *_: None)
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True)
    (tmp_path / "run" / "base").mkdir()
    (tmp_path / "run" / "base" / "config.json").write_text("")
    words = command(2, tmp_path / "run")[3:]
    said = run_program(program.main, words, monkeypatch, capfd).refusal
    assert "base: expected weights beside the checkpoints, found none" in said


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "run").write_text("a file")
    assert f"{tmp_path / 'run'}: expected a folder to write" in train(2, tmp_path / "run").refusal


@pytest.mark.parametrize("allowed", [False, True])
def test_other_data_is_refused_or_allowed(monkeypatch, allowed):
    """What was unreadable in other data says nothing about these."""
    state = TrainState(0, {}, (), {}, 0)
    facts = {"data": "a" * 64, "unreadable": {"clip": "damaged"}}
    checkpoints = SimpleNamespace(
        latest=3, path="checkpoints", restore=lambda _: (saved_form(state), facts)
    )
    monkeypatch.setattr(train_program, "ALLOW_CHANGE", SimpleNamespace(value=allowed))
    resumed = partial(train_program._resumed, SimpleNamespace(state=state), checkpoints)
    assert resumed("a" * 64) == (state, {"clip": "damaged"})
    if allowed:
        assert resumed("b" * 64) == (state, {})
    else:
        line = "checkpoints: expected the data set aaaaaaaaaaaaaaaa, found bbbbbbbbbbbbbbbb"
        assert refusal(resumed, "b" * 64).startswith(line)


def broken(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_does_not_hide_an_earlier_error(tmp_path, monkeypatch):
    monkeypatch.setattr(EventsWriter, "close", broken)
    with pytest.raises(ZeroDivisionError), RunWriter(tmp_path, 10):
        raise ZeroDivisionError
    assert "logs: cannot write it (No space left" in refusal(RunWriter(tmp_path, 10).close)


@pytest.mark.parametrize("write", ["draws", "first_batch", "scalars"])
def test_a_full_disk_is_one_line(tmp_path, write, monkeypatch):
    """Before anything of Orbax's is in the way."""
    monkeypatch.setattr(EventsWriter, "flush", broken)
    (tmp_path / "draws.tsv").symlink_to("/dev/full")
    writer = RunWriter(tmp_path, 10)
    (tmp_path / "first_batch.png").mkdir()
    batch = {"conditions": np.zeros((1, 1, 4, 4, 9), np.float32)}
    names = ("loss", "grad_norm", "seconds_per_step", "data_wait", "eta_seconds")
    calls = {
        "draws": (1, np.zeros(1, np.int64), 0),
        "first_batch": (batch,),
        "scalars": (1, dict.fromkeys(names, 1.0)),
    }
    assert "cannot write it" in refusal(getattr(writer, write), *calls[write])


def test_weights_of_another_model_are_refused(tmp_path, image_stage):
    ended = train(2, tmp_path / "run", "--init", str(image_stage), "--config.model.dino.layers=2")
    assert "expected dino" in ended.refusal
