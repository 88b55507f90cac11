"""Two processes of four devices train as one process of eight."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.data.images import read_image
from realisdance_jax.data.video_io import read_frames
from tests.e2e.conftest import ONE_LEVEL
from tests.e2e.test_train import draws, saved
from tests.e2e.train_call import ROOT, apart, command, free_port, train

pytestmark = pytest.mark.slow
LAST = 5
OPTIONS = ("--config.mesh.data=4", "--config.mesh.fsdp=2", f"--config.train.steps={LAST}")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """The run of one process and that of two, each from a stage-1 run that it exports first."""
    folder = tmp_path_factory.mktemp("processes")
    write_random_weights(folder / "weights", dataclasses.replace(ONE_LEVEL, motion=None))
    images = [folder / "image one", folder / "image two"]
    start = ("--init", str(folder / "weights"), "--config.train.steps=2")
    ended = train(1, images[0], *start, "--config.mesh.data=4", "--config.mesh.fsdp=2")
    assert ended.code == 0, ended.err[-3000:]
    shutil.copytree(*images)
    options = (*OPTIONS, f"--config.train.preview_every={LAST}")
    ended = train(2, folder / "one", *options, "--init", str(images[0]))
    assert ended.code == 0, ended.err[-3000:]
    options = (*options, "--init", str(images[1]))
    join = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2")
    logs = [(folder / f"{i}.log").open("w") for i in range(2)]
    processes = [
        subprocess.Popen(
            command(2, folder / "two", *options, *join, "--process", str(i)),
            cwd=ROOT,
            env=apart(4),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        for i, log in enumerate(logs)
    ]
    try:
        codes = [process.wait(400) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0, 0], (folder / "0.log").read_text()[-3000:]
    return folder / "one", folder / "two"


def test_batches_are_drawn_alike(runs):
    """The first process records its own rows, which are the first of every global batch."""
    one, two = (draws(run) for run in runs)
    assert one.keys() == two.keys() == {str(k) for k in range(1, LAST + 1)}
    for step in one:
        (whole,), (half,) = one[step], two[step]
        (rows, device), (own, same) = whole.split("\t"), half.split("\t")
        assert device == same
        assert len(rows) == 2 * len(own)
        assert rows.startswith(own)


def test_parameters_agree(runs):
    one, two = (saved(run, LAST) for run in runs)
    assert one.keys() == two.keys()
    moved = 0.0
    for name in one:
        if name.startswith("['trainable']"):
            np.testing.assert_allclose(two[name], one[name], atol=1e-5, rtol=0, err_msg=name)
            moved = max(moved, float(np.abs(one[name]).max()))
    assert moved > 0.1


def test_previews_agree(runs):
    """Both processes take part in sampling, the first one writes.

    Compared on the contact sheets, for a film is lossy, and x264 makes another one of the same
    small pictures now and then.
    """
    videos = [run / "samples" / f"{LAST:07d}.mp4" for run in runs]
    one, two = (list(read_frames(video)) for video in videos)
    assert len(one) == len(two) > 1
    one, two = (read_image(video.with_suffix(".png")).astype(int) for video in videos)
    assert one.shape == two.shape
    assert np.abs(one - two).max() <= 1


def test_losses_agree(runs):
    """As TensorBoard has them."""
    losses = []
    for run in runs:
        found = [values for values in read_scalars(run / "logs", "loss")]
        assert [step for step, _ in found] == list(range(1, LAST + 1))
        losses.append([value for _, value in found])
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-6)


def read_scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    """(step, value) of a scalar in TensorBoard's record files."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in folder.glob("events.*"):
        data, at = file.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            at += 16 + size
            values = [v for v in event.summary.value if v.tag == name]
            found += [(event.step, v.simple_value) for v in values]
    return sorted(found)
